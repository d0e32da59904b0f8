//! A listening socket whose clients are accepted on a thread of the executor.
//!
//! On Linux it is watched by that thread's own epoll instance, so that no other thread has to be woken for a client.

use super::listen_socket::ListenSocket;
use super::stream::AcceptedStream;
use crate::base::ip::ClientAddress;
#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
use edge::Arrivals;
use std::io;

/// Accepts the clients of one socket.
pub(crate) struct Acceptor {
    socket: ListenSocket,
    #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
    arrivals: Arrivals,
}

impl Acceptor {
    pub(crate) fn new(socket: ListenSocket) -> Self {
        Self {
            socket,
            #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
            arrivals: Arrivals::default(),
        }
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// Those of accept(2), usually too many open files, and those of watching the socket.
    pub(crate) async fn accept(&mut self) -> io::Result<(AcceptedStream, ClientAddress)> {
        #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
        return self.arrivals.accept(&self.socket).await;
        #[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
        return self.socket.accept().await;
    }
}

/// The socket may be a copy of one that stays open: systemd's, which another listener may take.
#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
impl Drop for Acceptor {
    fn drop(&mut self) {
        self.arrivals.end(&self.socket);
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
mod edge {
    use super::{AcceptedStream, ClientAddress, ListenSocket};
    use crate::sys::executor;
    use crate::sys::reactor::{Readiness, Registration, Source};
    use futures::future::poll_fn;
    use futures::task::AtomicWaker;
    use std::io::{self, ErrorKind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    /// The clients that wait at one socket.
    #[derive(Default)]
    pub(super) struct Arrivals {
        told: Arc<Told>,
        /// Made on the thread that accepts, when it first does.
        registration: Option<Registration>,
    }

    /// What the epoll instance tells of a socket.
    #[derive(Default)]
    struct Told {
        /// Whether a client has come since the socket was last found empty.
        has_arrived: AtomicBool,
        waker: AtomicWaker,
    }

    impl Source for Told {
        fn ready(&self, _readiness: Readiness) {
            self.has_arrived.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    impl Arrivals {
        pub(super) async fn accept(
            &mut self,
            socket: &ListenSocket,
        ) -> io::Result<(AcceptedStream, ClientAddress)> {
            if self.registration.is_none() {
                let told = Arc::clone(&self.told);
                self.registration = Some(executor::reactor().register(socket, told)?);
                // No edge tells of those who came before.
                self.told.has_arrived.store(true, Ordering::Release);
            }
            poll_fn(|cx| self.poll_accept(cx, socket)).await
        }

        /// Stops watching the socket.
        pub(super) fn end(&mut self, socket: &ListenSocket) {
            if let Some(registration) = self.registration.take() {
                registration.end(socket);
            }
        }

        fn poll_accept(
            &self,
            cx: &Context<'_>,
            socket: &ListenSocket,
        ) -> Poll<io::Result<(AcceptedStream, ClientAddress)>> {
            self.told.waker.register(cx.waker());
            // Taken before the socket is looked at, so that an edge that comes meanwhile is not lost.
            if !self.told.has_arrived.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            match socket.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
                accepted => {
                    self.told.has_arrived.store(true, Ordering::Release);
                    Poll::Ready(accepted)
                }
            }
        }
    }
}
