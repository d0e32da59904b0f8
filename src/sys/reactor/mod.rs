//! What a thread of the executor waits in while it has no task to run.
//!
//! On Linux that is an epoll instance of the thread, in which the sockets of its clients are registered once, for edges.
//! The runtime's reactor, which does for all else and for all other systems, arms each socket anew after each event, and
//! wakes the thread from another one. The feature `portable-sockets` is that reactor on Linux, too, for tests.

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
mod epoll;
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
mod runtime;

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
pub(crate) use epoll::{Reactor, Readiness, Registration, Source};
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
pub(crate) use runtime::Reactor;
