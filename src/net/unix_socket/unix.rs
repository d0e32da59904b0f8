//! Unix sockets, those that the daemon makes itself with their files.

use crate::net::{socket_options, system};
use async_io::Async;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
pub(crate) use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// Who may connect: the daemon's user and group.
const MODE: u32 = 0o660;

/// The file of a socket that this process has bound. It is removed on drop, unless something else is at its path by
/// then.
///
/// It must be dropped before the socket: while that is open, no other file can have its inode.
pub(crate) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// Device and inode of a file.
type FileId = (u64, u64);

impl SocketFile {
    fn new(path: &str) -> io::Result<Self> {
        let path = PathBuf::from(path);
        let id = file_id(&fs::symlink_metadata(&path)?);
        Ok(Self { path, id })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| file_id(&found) == self.id) {
            if let Err(error) = fs::remove_file(&self.path) {
                log::warn!("cannot remove {}: {error}", self.path.display());
            }
        }
    }
}

fn file_id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Binds a socket at a path and listens on it. A socket on which no process listens any more is replaced.
///
/// # Errors
/// The path is in use ([`ErrorKind::AddrInUse`]), is something else than a socket, or cannot be written.
pub(crate) fn bind(path: &str, backlog: i32) -> io::Result<(SocketFile, Async<UnixListener>)> {
    remove_stale(path)?;
    let socket = new_socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::new(path)?;
    // Before it listens nobody can connect, whatever the umask was.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    rustix::net::listen(&socket, backlog)?;
    Ok((file, Async::new_nonblocking(UnixListener::from(socket))?))
}

/// Has the runtime watch a listening socket that another process has opened.
///
/// # Errors
/// Those of epoll_ctl(2), or what the system has in its place.
pub(crate) fn from_passed(socket: OwnedFd) -> io::Result<Async<UnixListener>> {
    Async::new(UnixListener::from(socket))
}

fn new_socket() -> io::Result<OwnedFd> {
    system::new_socket(AddressFamily::UNIX)
}

/// Accepts a client if one waits, and sets its options: it has none from the listening socket.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] if none waits, and those of accept(2).
pub(crate) fn accept(listener: &Async<UnixListener>) -> io::Result<UnixStream> {
    let (stream, _) = system::accept(listener)?;
    // Fails only on a dead socket, as the next read will.
    let _ = socket_options::set_buffers(&stream);
    Ok(stream.into())
}

/// Returns the path at which a socket listens, if it has one.
pub(crate) fn path(listener: &UnixListener) -> Option<PathBuf> {
    let address = listener.local_addr().ok()?;
    address.as_pathname().map(PathBuf::from)
}

/// Connects. Each read and each write of the stream has this time.
///
/// # Errors
/// Those of connect(2).
pub(crate) fn connect(path: &str, timeout: Duration) -> io::Result<impl Read + Write + use<>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// Removes a socket that a process has left behind.
///
/// # Errors
/// Something else is there: a socket of a living process, or no socket.
fn remove_stale(path: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "something that is not a socket is there, and stays",
            ));
        }
        Ok(_) => {}
    }
    // It does not wait: a living process whose queue is full is one, too.
    match rustix::net::connect(new_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(error.into()),
        // Whatever listens there, perhaps with sockets of another kind.
        Ok(()) | Err(_) => Err(Errno::ADDRINUSE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// Returns a new path of a socket; the test removes what it leaves there.
    fn path(name: &str) -> String {
        let path = std::env::temp_dir().join(format!("switchboard-{}-{name}", std::process::id()));
        path.to_str().unwrap().to_owned()
    }

    fn bind(path: &str) -> io::Result<(SocketFile, Async<UnixListener>)> {
        super::bind(path, 16)
    }

    fn kind(path: &str) -> ErrorKind {
        bind(path).map(|_| ()).unwrap_err().kind()
    }

    #[test]
    fn a_socket_has_its_mode_and_its_file_is_removed_with_it() {
        let path = path("bound");
        let bound = bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(bound);
        assert!(fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn a_socket_on_which_nobody_listens_is_replaced() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let _bound = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_on_which_somebody_listens_is_in_use() {
        let path = path("used");
        let bound = bind(&path).unwrap();
        assert_eq!(kind(&path), ErrorKind::AddrInUse);
        drop(bound);
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert_eq!(kind(&path), ErrorKind::AddrInUse);
        drop(datagrams);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_in_use() {
        let path = path("full");
        let listener = new_socket().unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let connect = || {
            let client = new_socket().unwrap();
            rustix::net::connect(&client, &address).map(|()| client)
        };
        let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!queued.is_empty());
        assert_eq!(kind(&path), ErrorKind::AddrInUse);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let path = path("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(kind(&path), ErrorKind::AlreadyExists);
        let link = format!("{path}-link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(kind(&link), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&link).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_not_the_socket_s_any_more_is_not_removed() {
        let path = path("another");
        let bound = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(bound);
        UnixStream::connect(&path).unwrap();
        drop(other);
        fs::remove_file(&path).unwrap();
    }
}
