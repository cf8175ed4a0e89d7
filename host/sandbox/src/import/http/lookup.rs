//! Resolves the names of hosts, on threads that nobody can stop.
//!
//! The system's resolver cannot be interrupted: whoever gives a look-up up leaves a thread behind that is still busy with
//! it. Those threads are the ones that files are read on too. So what a look-up holds, a slot of its guest and a place
//! among all look-ups of the process, is given back when its thread is done, however early its guest was.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::Error;

/// Look-ups of the whole process at once.
const MOST: usize = 32;

type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves names, a bounded number of them at once.
pub(super) struct Lookup {
    places: Arc<Semaphore>,
    resolve: Box<Resolve>,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Lookup {
    pub fn new(
        most: usize,
        resolve: impl Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(most)), resolve: Box::new(resolve) })
    }

    /// The one of the process, which asks the system.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Lookup>> = LazyLock::new(|| Lookup::new(MOST, ask));
        Arc::clone(&SHARED)
    }

    /// The addresses of a name, and the slot again. Dropped early, it keeps the slot until the system has answered.
    pub async fn run(
        self: Arc<Self>,
        name: String,
        port: u16,
        slot: OwnedSemaphorePermit,
    ) -> Result<(Vec<IpAddr>, OwnedSemaphorePermit), Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| failed(&error))?;
        let (found, slot) = tokio::task::spawn_blocking(move || {
            let found = (self.resolve)(&name, port);
            drop(place);
            (found, slot)
        })
        .await
        .map_err(|error| failed(&error))?;
        Ok((found.map_err(|error| failed(&error))?, slot))
    }
}

fn ask(name: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let found = (name, port).to_socket_addrs()?;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

fn failed(error: &dyn std::error::Error) -> Error {
    Error::DnsError { rcode: Some(error.to_string()), info_code: None }
}
