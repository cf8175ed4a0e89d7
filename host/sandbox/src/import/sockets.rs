//! `wasi:sockets`: never granted. A guest may make a socket, so that what it wanted to reach can be named, but none of
//! them connects, listens, sends or receives, and no name is looked up.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSockets, WasiSocketsCtxView};

use self::network::{ErrorCode, IpAddress, IpAddressFamily, Network};
use super::State;
use crate::seam::Denials;

/// Sockets a call may make. Each is one of the process's file descriptors, and none is of any use.
const SOCKETS: u32 = 16;

const CAPABILITY: &str = "sockets";

/// What is known of a guest's sockets beside what the engine keeps.
#[derive(Debug)]
pub(crate) struct Sockets {
    denials: Denials,
    made: u32,
}

impl Sockets {
    pub fn new(denials: Denials) -> Self {
        Self { denials, made: 0 }
    }

    fn make(&mut self) -> Result<(), SocketError> {
        self.made = self.made.saturating_add(1);
        if self.made > SOCKETS { Err(ErrorCode::NewSocketLimit.into()) } else { Ok(()) }
    }
}

/// Refuses every use of an address, and notes it.
pub(crate) fn refuse(
    denials: Denials,
) -> impl Fn(SocketAddr, SocketAddrUse) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>>
+ Send
+ Sync
+ 'static {
    move |address, usage| {
        // Whoever connects is first asked about an address of its own, which says nothing; nobody can reach it there.
        let own = matches!(usage, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind);
        let allowed = own && address.ip().is_unspecified() && address.port() == 0;
        if !allowed {
            let verb = match usage {
                SocketAddrUse::TcpConnect => "connect to",
                SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => "bind",
                SocketAddrUse::TcpListen => "listen on",
                SocketAddrUse::TcpAccept => "accept from",
                SocketAddrUse::UdpSend => "send to",
                SocketAddrUse::UdpReceive => "receive from",
            };
            denials.note(CAPABILITY, format!("{verb} {address}"));
        }
        Box::pin(std::future::ready(allowed))
    }
}

/// The sockets of a guest while it calls one of their functions.
pub(crate) struct View<'a> {
    engine: WasiSocketsCtxView<'a>,
    sockets: &'a mut Sockets,
}

struct Data;

impl HasData for Data {
    type Data<'a> = View<'a>;
}

impl State {
    fn sockets(&mut self, interface: &'static str) -> View<'_> {
        self.seam.enter(interface);
        let wasi = self.wasi.as_mut().expect("a component that imports WASI has its context");
        View {
            engine: WasiSocketsCtxView { ctx: wasi.sockets(), table: &mut self.table },
            sockets: &mut self.sockets,
        }
    }
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = network::LinkOptions::default();
    network::add_to_linker::<State, WasiSockets>(linker, &options, |state| {
        state.sockets("wasi:sockets/network").engine
    })?;
    instance_network::add_to_linker::<State, WasiSockets>(linker, |state| {
        state.sockets("wasi:sockets/instance-network").engine
    })?;
    tcp::add_to_linker::<State, WasiSockets>(linker, |state| {
        state.sockets("wasi:sockets/tcp").engine
    })?;
    udp::add_to_linker::<State, WasiSockets>(linker, |state| {
        state.sockets("wasi:sockets/udp").engine
    })?;
    tcp_create_socket::add_to_linker::<State, Data>(linker, |state| {
        state.sockets("wasi:sockets/tcp-create-socket")
    })?;
    udp_create_socket::add_to_linker::<State, Data>(linker, |state| {
        state.sockets("wasi:sockets/udp-create-socket")
    })?;
    ip_name_lookup::add_to_linker::<State, Data>(linker, |state| {
        state.sockets("wasi:sockets/ip-name-lookup")
    })
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<tcp::TcpSocket>, SocketError> {
        self.sockets.make()?;
        self.engine.create_tcp_socket(family)
    }
}

impl udp_create_socket::Host for View<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<udp::UdpSocket>, SocketError> {
        self.sockets.make()?;
        self.engine.create_udp_socket(family).await
    }
}

impl ip_name_lookup::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        _: Resource<Network>,
        name: String,
    ) -> Result<Resource<ip_name_lookup::ResolveAddressStream>, SocketError> {
        self.sockets.denials.note(CAPABILITY, format!("look up {name}"));
        Err(ErrorCode::AccessDenied.into())
    }
}

impl ip_name_lookup::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        self.engine.resolve_next_address(stream)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        ip_name_lookup::HostResolveAddressStream::subscribe(&mut self.engine, stream)
    }

    fn drop(
        &mut self,
        stream: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<()> {
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.engine, stream)
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.engine, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.engine.network_error_code(error)
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.engine, network)
    }
}
