//! Unix sockets. A system without them has types of the same names, of which there are no values.

#[cfg(not(unix))]
mod missing;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(crate) use missing::{
    SocketFile, UnixListener, UnixStream, accept, bind, connect, from_passed, path,
};
#[cfg(unix)]
pub(crate) use unix::{
    SocketFile, UnixListener, UnixStream, accept, bind, connect, from_passed, path,
};
