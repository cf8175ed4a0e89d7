//! Where the socket of a folder is, and how a guest gets there.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::frame;

/// The most bytes of a socket's path on every system (`sun_path` has 104 to 108).
const LONGEST: usize = 100;
const NAME: &str = "owner.sock";

/// The path of the socket.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// A path to the socket that the operating system takes, as long as it lives.
pub(super) struct Short {
    path: PathBuf,
    /// What the path leads through.
    _folder: Option<std::fs::File>,
}

impl Short {
    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }
}

/// A path that is short enough, whatever the folder's is: through the open folder.
pub(super) fn short(folder: &Path) -> std::io::Result<Short> {
    use std::os::fd::AsRawFd as _;
    let path = path(folder);
    if path.as_os_str().len() <= LONGEST {
        return Ok(Short { path, _folder: None });
    }
    let folder = std::fs::File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
    Ok(Short { path, _folder: Some(folder) })
}

/// What came of knocking.
pub(super) enum Knock {
    /// The owner lets us in.
    In(UnixStream),
    /// Nobody is there, or not yet.
    Nobody,
    /// The owner does not, for that reason.
    Refused(String),
}

/// Asks the owner of a folder to be let in.
pub(super) async fn knock(folder: &Path) -> Knock {
    let hello = async || -> std::io::Result<Option<(UnixStream, Vec<u8>)>> {
        let mut stream = UnixStream::connect(short(folder)?.as_path()).await?;
        frame::write(&mut stream, &[&frame::hello()]).await?;
        Ok(frame::read(&mut stream).await?.map(|answer| (stream, answer)))
    };
    match hello().await {
        Ok(Some((stream, answer))) if answer.is_empty() => Knock::In(stream),
        Ok(Some((_, why))) => Knock::Refused(String::from_utf8_lossy(&why).into_owned()),
        Ok(None) | Err(_) => Knock::Nobody,
    }
}
