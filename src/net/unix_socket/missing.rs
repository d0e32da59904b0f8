//! A system without Unix sockets. The configuration cannot name one (`config/named_socket.rs`).

use async_io::Async;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::windows::io::AsSocket;
use std::path::PathBuf;
use std::time::Duration;

/// The file of a socket, of which there is none.
pub(crate) enum SocketFile {}

/// A listening socket, of which there is none.
pub(crate) enum UnixListener {}

/// A client's socket, of which there is none.
pub(crate) enum UnixStream {}

impl AsSocket for UnixListener {
    fn as_socket(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl AsSocket for UnixStream {
    fn as_socket(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

impl UnixStream {
    pub(crate) fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        match *self {}
    }
}

impl Read for &UnixStream {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match **self {}
    }
}

impl Write for &UnixStream {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match **self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match **self {}
    }
}

fn unsupported() -> io::Error {
    let problem = "Unix sockets are not available on this system";
    io::Error::new(ErrorKind::Unsupported, problem)
}

/// Fails: there are no such sockets.
pub(crate) fn bind(_path: &str, _backlog: i32) -> io::Result<(SocketFile, Async<UnixListener>)> {
    Err(unsupported())
}

/// Fails: there are no such sockets.
pub(crate) fn connect(_path: &str, _timeout: Duration) -> io::Result<impl Read + Write + use<>> {
    Err::<io::Empty, _>(unsupported())
}

/// Fails: there are no such sockets.
pub(crate) fn from_passed(_socket: OwnedFd) -> io::Result<Async<UnixListener>> {
    Err(unsupported())
}

pub(crate) fn accept(listener: &Async<UnixListener>) -> io::Result<UnixStream> {
    match *listener.get_ref() {}
}

pub(crate) fn path(listener: &UnixListener) -> Option<PathBuf> {
    match *listener {}
}
