//! What a server speaks: asked where a connection was not made and nobody said why.

use std::sync::Arc;
use std::time::Duration;

use redis::ConnectionAddr;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How an answer to the hello of TLS begins.
const HANDSHAKE: u8 = 22;

/// What to change in the URL where the server does not speak as that says.
pub(super) async fn mistaken(address: &ConnectionAddr) -> Option<&'static str> {
    match address {
        // A server that only speaks TLS cuts a connection without a word.
        ConnectionAddr::Tcp(host, port) => {
            let answer = ask(host, *port, &hello(host)?).await?;
            (answer == HANDSHAKE).then_some(
                "the server speaks TLS there, and nothing else; write `rediss://` or `valkeys://`",
            )
        }
        // A server that does not waits for the end of what it takes for a long word.
        ConnectionAddr::TcpTls { host, port, .. } => {
            let answer = ask(host, *port, b"PING\r\n").await?;
            matches!(answer, b'+' | b'-').then_some(
                "the server does not speak TLS there; name its port for TLS, or write `redis://` or `valkey://` if it has none",
            )
        }
        _ => None,
    }
}

/// The first byte of the answer.
async fn ask(host: &str, port: u16, said: &[u8]) -> Option<u8> {
    let ask = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(said).await?;
        stream.read_u8().await
    };
    tokio::time::timeout(PATIENCE, ask).await.ok()?.ok()
}

/// What a client of TLS says first.
fn hello(host: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let host = host.to_owned().try_into().ok()?;
    let mut said = Vec::new();
    ClientConnection::new(Arc::new(config), host).ok()?.write_tls(&mut said).ok()?;
    Some(said)
}
