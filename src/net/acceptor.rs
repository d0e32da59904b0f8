//! A listening socket whose clients are accepted on a thread of the executor.
//!
//! On Linux it is watched by that thread's own epoll instance, so that no other thread has to be woken for a client.

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
pub(crate) use edge::Acceptor;
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
pub(crate) use runtime::Acceptor;

#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
mod runtime {
    use crate::base::ip::ClientAddress;
    use crate::net::listen_socket::ListenSocket;
    use crate::net::stream::AcceptedStream;
    use std::io;

    /// Accepts the clients of one socket.
    pub(crate) struct Acceptor(ListenSocket);

    impl Acceptor {
        pub(crate) fn new(socket: ListenSocket) -> Self {
            Self(socket)
        }

        /// Waits for the next client.
        ///
        /// # Errors
        /// Those of accept(2), usually too many open files.
        pub(crate) async fn accept(&mut self) -> io::Result<(AcceptedStream, ClientAddress)> {
            self.0.accept().await
        }
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
mod edge {
    use crate::base::ip::ClientAddress;
    use crate::net::listen_socket::ListenSocket;
    use crate::net::stream::AcceptedStream;
    use crate::sys::executor;
    use crate::sys::reactor::{Readiness, Registration, Source};
    use futures::future::poll_fn;
    use futures::task::AtomicWaker;
    use std::io::{self, ErrorKind};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    /// Accepts the clients of one socket.
    pub(crate) struct Acceptor {
        socket: ListenSocket,
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

    impl Acceptor {
        pub(crate) fn new(socket: ListenSocket) -> Self {
            Self {
                socket,
                told: Arc::default(),
                registration: None,
            }
        }

        /// Waits for the next client.
        ///
        /// # Errors
        /// Those of accept(2), usually too many open files, and those of watching the socket.
        pub(crate) async fn accept(&mut self) -> io::Result<(AcceptedStream, ClientAddress)> {
            if self.registration.is_none() {
                let told = Arc::clone(&self.told);
                self.registration = Some(executor::reactor().register(&self.socket, told)?);
                // No edge tells of those who came before.
                self.told.has_arrived.store(true, Ordering::Release);
            }
            poll_fn(|cx| self.poll_accept(cx)).await
        }

        fn poll_accept(
            &self,
            cx: &Context<'_>,
        ) -> Poll<io::Result<(AcceptedStream, ClientAddress)>> {
            self.told.waker.register(cx.waker());
            // Taken before the socket is looked at, so that an edge that comes meanwhile is not lost.
            if !self.told.has_arrived.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            match self.socket.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
                accepted => {
                    self.told.has_arrived.store(true, Ordering::Release);
                    Poll::Ready(accepted)
                }
            }
        }
    }

    impl AsFd for ListenSocket {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match self {
                Self::Tcp(tcp) | Self::PassedTcp(tcp) => tcp.as_fd(),
                Self::Unix { socket, .. } => socket.as_fd(),
            }
        }
    }

    /// The socket may be a copy of one that stays open: systemd's, which another listener may take.
    impl Drop for Acceptor {
        fn drop(&mut self) {
            if let Some(registration) = self.registration.take() {
                registration.end(&self.socket);
            }
        }
    }
}
