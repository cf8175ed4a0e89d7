//! Real servers for tests of the backends: private, on this machine, gone with the test.
//!
//! [`postgres`], [`pgbouncer`], [`redis`], [`valkey`], [`nats`], [`s3`], [`azure`] and [`google`] each give one server for the
//! whole test process, started when it is first asked for. A test that kills, stops or fills its server starts one of its own with
//! [`Server::start`]; one that breaks connections puts a [`Proxy`] before a server, one that fills a bucket a [`Quota`].
//! `scripts/services` does the starting, and ends what it started when this process does, however it ends.

mod family;
mod google;
mod proxy;
mod quota;
mod server;

use std::sync::OnceLock;

pub use google::Google;
pub use proxy::{Mode, Proxy};
pub use quota::{Quota, Room};
pub use server::{Kind, Server};

/// The PostgreSQL server of this process, such as `postgres://omniq@127.0.0.1:24411/omniq`. Every acknowledged commit is on
/// the disk.
///
/// # Panics
/// It does not start; the message has its log.
pub fn postgres() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Postgres, &[]))
}

/// PgBouncer of this process in transaction mode, with three connections to a PostgreSQL server of its own. Stores want
/// `?pgbouncer=true` behind its URL.
///
/// # Panics
/// It does not start; the message has its log.
pub fn pgbouncer() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Postgres, &[("pooler", "3")]))
}

/// The Redis server of this process, such as `redis://127.0.0.1:25172`, with `appendfsync always` and `noeviction`.
///
/// # Panics
/// It does not start; the message has its log.
pub fn redis() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Redis, &[]))
}

/// The Valkey server of this process, set as that of [`redis`] is.
///
/// # Panics
/// It does not start; the message has its log.
pub fn valkey() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Valkey, &[]))
}

/// The NATS server of this process, such as `nats://127.0.0.1:25977`, with JetStream and `sync_interval: always`.
///
/// # Panics
/// It does not start; the message has its log.
pub fn nats() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Nats, &[]))
}

/// The S3 server of this process, with the empty bucket `omniq`; its URL is
/// `s3://omniq?endpoint=http://127.0.0.1:PORT&region=…&allow_http=true&access_key_id=…&secret_access_key=…`.
///
/// # Panics
/// It does not start; the message has its log.
pub fn s3() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::S3, &[]))
}

/// Azurite of this process, with the empty container `omniq`; its URL is
/// `az://omniq?endpoint=http://127.0.0.1:PORT/ACCOUNT&account_name=ACCOUNT&access_key=…`.
///
/// # Panics
/// It does not start; the message has its log.
pub fn azure() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Kind::Azure, &[("memory", "on")]))
}

/// The endpoint of this process that stands for Google.
///
/// # Panics
/// It does not start; the message says why.
pub fn google() -> &'static Google {
    static SERVER: OnceLock<Google> = OnceLock::new();
    SERVER.get_or_init(Google::start)
}
