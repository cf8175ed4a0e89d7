//! WASI 0.2: clocks, randomness, stdio and the environment; [files](super::files) and [sockets](super::sockets) are
//! linked there. Nothing is granted unless [`Grants`] says so.

use std::time::Duration;

use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder};

use super::State;
use super::sockets;
use super::stdio::Capture;
use crate::call::Command;
use crate::grant::{Grants, Random};
use crate::seam::Denials;

/// Sets up what the grants allow.
pub(crate) fn context(
    grants: &Grants,
    command: Command,
    stdout: &Capture,
    stderr: &Capture,
    denials: &Denials,
) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.stdout(stdout.clone()).stderr(stderr.clone()).args(&command.args);
    if !command.stdin.is_empty() {
        builder.stdin(MemoryInputPipe::new(command.stdin));
    }
    for (name, value) in &grants.env {
        builder.env(name, value);
    }
    if let Some(now) = grants.clock.frozen() {
        builder.wall_clock(Frozen(now)).monotonic_clock(Frozen(Duration::ZERO));
    }
    if let Random::Seeded(seed) = grants.random {
        builder.secure_random(Seeded(seed)).insecure_random(Seeded(!seed));
        builder.insecure_random_seed(u128::from(seed));
    }
    // Nothing is allowed to any of them; see there.
    builder.allow_tcp(true).allow_udp(true).socket_addr_check(sockets::refuse(denials.clone()));
    builder.build()
}

/// A clock that stands still.
struct Frozen(Duration);

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same bytes for the same seed on every machine.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl rand::TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

impl State {
    fn wasi(&mut self, interface: &'static str) -> (&mut WasiCtx, &mut ResourceTable) {
        self.seam.enter(interface);
        let wasi = self.wasi.as_mut().expect("a component that imports WASI has its context");
        (wasi, &mut self.table)
    }
}

/// Links one interface through the seam: its name, its bindings, and which part of the context it is served from.
macro_rules! serve {
    ($linker:ident, $($name:literal: $interface:path => $part:ident;)+) => {
        $(serve!(@$part $linker, $name, $interface);)+
    };
    (@io $linker:ident, $name:literal, $interface:path) => {{
        use $interface as interface;
        interface::add_to_linker::<State, Io>($linker, |state| state.wasi($name).1)?;
    }};
    (@cli $linker:ident, $name:literal, $interface:path) => {{
        use $interface as interface;
        interface::add_to_linker::<State, WasiCli>($linker, |state| {
            let (wasi, table) = state.wasi($name);
            WasiCliCtxView { ctx: wasi.cli(), table }
        })?;
    }};
    (@clocks $linker:ident, $name:literal, $interface:path) => {{
        use $interface as interface;
        interface::add_to_linker::<State, WasiClocks>($linker, |state| {
            let (wasi, table) = state.wasi($name);
            WasiClocksCtxView { ctx: wasi.clocks(), table }
        })?;
    }};
    (@random $linker:ident, $name:literal, $interface:path) => {{
        use $interface as interface;
        interface::add_to_linker::<State, WasiRandom>($linker, |state| -> &mut WasiRandomCtx {
            state.wasi($name).0.random()
        })?;
    }};
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    serve! { linker,
        "wasi:io/error": io::error => io;
        "wasi:io/poll": io::poll => io;
        "wasi:io/streams": io::streams => io;
        "wasi:cli/environment": cli::environment => cli;
        "wasi:cli/exit": cli::exit => cli;
        "wasi:cli/stdin": cli::stdin => cli;
        "wasi:cli/stdout": cli::stdout => cli;
        "wasi:cli/stderr": cli::stderr => cli;
        "wasi:cli/terminal-input": cli::terminal_input => cli;
        "wasi:cli/terminal-output": cli::terminal_output => cli;
        "wasi:cli/terminal-stdin": cli::terminal_stdin => cli;
        "wasi:cli/terminal-stdout": cli::terminal_stdout => cli;
        "wasi:cli/terminal-stderr": cli::terminal_stderr => cli;
        "wasi:clocks/wall-clock": clocks::wall_clock => clocks;
        "wasi:clocks/monotonic-clock": clocks::monotonic_clock => clocks;
        "wasi:random/random": random::random => random;
        "wasi:random/insecure": random::insecure => random;
        "wasi:random/insecure-seed": random::insecure_seed => random;
    }
    Ok(())
}
