//! The connection to the server or cluster: made when it is needed, given up when it breaks, made again with pauses of
//! random length. Every call has a deadline, and may be under way beside any number of others.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, RedisError, RedisResult, TlsCertificates,
    Value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::config::{Config, TLS};
use super::fault::{Advice, Fault, Result};
use super::probe;
use super::script::Script;
use crate::tls::{self, TlsFiles};

/// A connection, of which there may be copies.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        let value = match self {
            Self::One(connection) => connection.req_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        value.extract_error()
    }

    /// Asks every node that takes something in; of one server, that.
    async fn query_all(&mut self, command: &Cmd) -> RedisResult<Vec<Value>> {
        const PRIMARIES: RoutingInfo =
            RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let Self::Cluster(connection) = self else {
            return Ok(vec![self.query(command).await?]);
        };
        match connection.route_command(command.clone(), PRIMARIES).await?.extract_error()? {
            Value::Map(nodes) => Ok(nodes.into_iter().map(|(_, answer)| answer).collect()),
            answer => Ok(vec![answer]),
        }
    }
}

/// The connection as it is now.
#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    /// How many connections there were before.
    generation: u64,
    /// Attempts in a row that failed.
    failed: u32,
}

/// The way to the server.
pub(super) struct Link {
    config: Config,
    current: Mutex<Current>,
    /// Whether the servers are nodes of a cluster; known once one was asked.
    cluster: std::sync::OnceLock<bool>,
    /// How many connections were made: each may lead to another server than the one before.
    pub connected: AtomicU64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(config: Config) -> crate::Result<Self> {
        if config.is_encrypted() {
            tls::provide();
        }
        let link = Self {
            config,
            current: Mutex::default(),
            cluster: std::sync::OnceLock::new(),
            connected: AtomicU64::new(0),
        };
        let prepared = link.clients();
        prepared
            .map_err(|fault| fault.into_error(link.config.place(), "prepare a connection to it"))?;
        Ok(link)
    }

    /// A client for each server. The files of certificates are read anew, since they may have been renewed.
    fn clients(&self) -> Result<Vec<Client>> {
        let certificates = self.certificates()?;
        let client = |server: &redis::ConnectionInfo| match &certificates {
            Some(certificates) => Client::build_with_tls(server.clone(), certificates.clone()),
            None => Client::open(server.clone()),
        };
        Ok(self.config.servers().iter().map(client).collect::<RedisResult<_>>()?)
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>> {
        if self.config.tls == TlsFiles::default() {
            return Ok(None);
        }
        let files = self.config.tls.read(&TLS);
        let files = files.map_err(|error| self.unusable(error.to_string()))?;
        let identity = |(client_cert, client_key)| ClientTlsConfig { client_cert, client_key };
        let client_tls = files.identity.map(identity);
        Ok(Some(TlsCertificates { client_tls, root_cert: files.authority }))
    }

    /// What keeps a connection from being made until somebody does something. Where there was one before, they may be about it.
    fn unusable(&self, reason: String) -> Fault {
        match self.connected.load(Ordering::Acquire) {
            0 => Fault::Config(reason),
            _ => Fault::Unreached(reason),
        }
    }

    /// Why a connection was not made.
    async fn refused(&self, client: &Client, error: RedisError) -> Fault {
        if let Some(reason) = tls::explain(&error, &TLS) {
            return self.unusable(reason);
        }
        // A URL that was right once is right still.
        let first = self.connected.load(Ordering::Acquire) == 0;
        let silent = error.is_connection_dropped() || error.is_timeout();
        if first
            && silent
            && !error.is_connection_refusal()
            && let Some(mistake) = probe::mistaken(client.get_connection_info().addr()).await
        {
            return Fault::Config(mistake.to_owned());
        }
        error.into()
    }

    /// Until when a call that begins now may take.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Runs a script.
    pub(super) async fn run<A: AsRef<[u8]>>(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        args: impl IntoIterator<Item = A> + Clone,
    ) -> Result<Value> {
        let command = |call: &str, script: &str| {
            let mut command = redis::cmd(call);
            command.arg(script).arg(keys.len()).arg(keys);
            args.clone().into_iter().for_each(|arg| {
                command.arg(arg.as_ref());
            });
            command
        };
        let short = command("EVALSHA", &script.hash);
        let answer = match self.send(&short).await {
            // The whole text teaches it the script again; in a cluster it reaches the node that has the keys.
            Err((Advice::SendText, _)) => self.query(&command("EVAL", &script.text)).await,
            other => other.map_err(|(_, fault)| fault),
        };
        if answer.is_ok() && script.changes() {
            super::server::changed();
        }
        answer
    }

    /// Runs a command.
    pub(super) async fn query(&self, command: &Cmd) -> Result<Value> {
        self.send(command).await.map_err(|(_, fault)| fault)
    }

    /// Runs a command on the server, or on every node of a cluster that takes something in.
    pub(super) async fn query_all(&self, command: &Cmd) -> Result<Vec<Value>> {
        let deadline = self.deadline();
        let (mut connection, _) = self.connection(deadline).await?;
        match timeout_at(deadline, connection.query_all(command)).await {
            Ok(answers) => Ok(answers?),
            Err(_) => Err(Fault::Lost(format!("no answer within {:?}", self.config.timeout))),
        }
    }

    /// Sends a command; again while the server says that it has done nothing and will soon be able to.
    async fn send(&self, command: &Cmd) -> Result<Value, (Advice, Fault)> {
        let deadline = self.deadline();
        let mut tries = 0;
        loop {
            let tell = |fault| (Advice::Tell, fault);
            let (mut connection, generation) = self.connection(deadline).await.map_err(tell)?;
            let answer = timeout_at(deadline, connection.query(command)).await;
            let error = match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.give_up(generation).await;
                    let reason = format!("no answer within {:?}", self.config.timeout);
                    return Err((Advice::Broken, Fault::Lost(reason)));
                }
            };
            let advice = Advice::of(&error);
            if matches!(advice, Advice::Reconnect | Advice::Broken) {
                self.give_up(generation).await;
            }
            let fault = Fault::from(error);
            if !matches!(advice, Advice::TryAgain | Advice::Reconnect) {
                return Err((advice, fault));
            }
            tries += 1;
            let pause = jitter(tries);
            if Instant::now() + pause >= deadline {
                return Err((advice, Fault::Unreached(fault.to_string())));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The connection, made if there is none; and which one it is.
    async fn connection(&self, deadline: Instant) -> Result<(Connection, u64)> {
        loop {
            // Somebody else may be connecting, for as long as that may take.
            let Ok(mut current) = timeout_at(deadline, self.current.lock()).await else {
                return Err(self.too_late());
            };
            if let Some(connection) = &current.connection {
                return Ok((connection.clone(), current.generation));
            }
            match timeout_at(deadline, self.connect(deadline)).await {
                Ok(Ok(connection)) => {
                    current.failed = 0;
                    current.connection = Some(connection.clone());
                    self.connected.fetch_add(1, Ordering::Release);
                    return Ok((connection, current.generation));
                }
                Ok(Err(fault @ (Fault::Config(_) | Fault::Denied(_)))) => return Err(fault),
                Ok(Err(fault)) => {
                    current.failed = current.failed.saturating_add(1);
                    let pause = jitter(current.failed);
                    if Instant::now() + pause >= deadline {
                        return Err(Fault::Unreached(fault.to_string()));
                    }
                    drop(current);
                    tokio::time::sleep(pause).await;
                }
                Err(_) => return Err(self.too_late()),
            }
        }
    }

    fn too_late(&self) -> Fault {
        // There was no time to ask what it speaks.
        let first = self.connected.load(Ordering::Acquire) == 0;
        let hint = if first && self.config.is_encrypted() {
            "; make sure that it speaks TLS there"
        } else {
            ""
        };
        Fault::Unreached(format!("no connection within {:?}{hint}", self.config.timeout))
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection> {
        let mut last = Fault::Unreached("no server is named".to_owned());
        if self.cluster.get() != Some(&true) {
            for client in &self.clients()? {
                match self.connect_one(client, deadline).await {
                    Ok(connection) if !self.is_cluster(client, &connection).await? => {
                        match self.check_role(connection.clone()).await {
                            Ok(()) => return Ok(Connection::One(connection)),
                            Err(fault) => last = fault,
                        }
                    }
                    Ok(_) => return self.connect_cluster().await,
                    Err(fault @ (Fault::Config(_) | Fault::Denied(_))) => return Err(fault),
                    Err(fault) => last = fault,
                }
            }
            return Err(last);
        }
        self.connect_cluster().await
    }

    async fn connect_one(
        &self,
        client: &Client,
        deadline: Instant,
    ) -> Result<MultiplexedConnection> {
        const MOST: Duration = Duration::from_secs(3);
        let left = deadline.saturating_duration_since(Instant::now()).min(MOST);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(left))
            .set_response_timeout(None); // each call has its own deadline
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.refused(client, error).await),
        }
    }

    /// Asks the server whether it is a node of a cluster. Several servers in a URL are one anyway.
    async fn is_cluster(
        &self,
        client: &Client,
        connection: &MultiplexedConnection,
    ) -> Result<bool> {
        if let Some(known) = self.cluster.get() {
            return Ok(*known);
        }
        let info = redis::cmd("INFO").arg("cluster").to_owned();
        let said = match connection.clone().req_packed_command(&info).await {
            Ok(said) => said.extract_error()?,
            Err(error) => return Err(self.refused(client, error).await),
        };
        let text = super::reply::bytes(said)?;
        let is = String::from_utf8_lossy(&text).contains("cluster_enabled:1");
        Ok(*self.cluster.get_or_init(|| is))
    }

    /// A server may have become a copy since it was checked when the store was opened. It lets itself be read, and lags behind.
    async fn check_role(&self, mut connection: MultiplexedConnection) -> Result<()> {
        if self.connected.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let info = redis::cmd("INFO").arg("replication").to_owned();
        let said = connection.req_packed_command(&info).await?.extract_error()?;
        let text = super::reply::bytes(said)?;
        let text = String::from_utf8_lossy(&text);
        let says = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        match says("role:").map(str::trim) {
            Some("slave") => Err(Fault::Unreached(format!(
                "it has become a copy of `{}:{}`, which may lag behind; name that one, or wait for it to be found",
                says("master_host:").unwrap_or_default().trim(),
                says("master_port:").unwrap_or_default().trim()
            ))),
            _ => Ok(()),
        }
    }

    async fn connect_cluster(&self) -> Result<Connection> {
        let mut builder = ClusterClient::builder(self.config.servers().to_vec())
            .connection_timeout(Duration::from_secs(3))
            .response_timeout(self.config.timeout)
            .retries(8);
        if let Some(certificates) = self.certificates()? {
            builder = builder.certs(certificates);
        }
        Ok(Connection::Cluster(builder.build()?.get_async_connection().await?))
    }

    /// Lets a connection go that does not work, unless that was done already.
    async fn give_up(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            current.generation += 1;
            current.connection = None;
        }
    }

    /// A connection of its own that hears what is published on `channel`.
    pub(super) async fn listen(&self, channel: &[u8]) -> Result<redis::aio::PubSub> {
        let mut last = Fault::Unreached("no server is named".to_owned());
        for client in &self.clients()? {
            let listen = async {
                let mut listening = client.get_async_pubsub().await?;
                listening.subscribe(channel).await?;
                RedisResult::Ok(listening)
            };
            match tokio::time::timeout(Duration::from_secs(3), listen).await {
                Ok(Ok(listening)) => return Ok(listening),
                Ok(Err(error)) => last = error.into(),
                Err(_) => last = Fault::Unreached("no connection within 3 s".to_owned()),
            }
        }
        Err(last)
    }

    /// Lets go.
    pub(super) async fn close(&self) {
        self.current.lock().await.connection = None;
    }
}

/// A pause of random length, the longer the more often something failed: those who wait do not come back together.
pub(super) fn jitter(failed: u32) -> Duration {
    const BASE: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(1);
    let ceiling = BASE.saturating_mul(1 << failed.min(10)).min(MOST);
    ceiling.mul_f64(roll())
}

/// A random number from 0 to 1: the keys of the standard library's hash maps are random.
fn roll() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Random bytes.
pub(super) fn random() -> [u8; 8] {
    RandomState::new().build_hasher().finish().to_be_bytes()
}
