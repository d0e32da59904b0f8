//! The accept loop of one listener. It acquires the permits of each connection and spawns a
//! task for it; it never waits for a client.

use crate::base::ip::ClientAddress;
use crate::net::acceptor::Acceptor;
use crate::net::connection::Connection;
use crate::net::connection_limits::Permits;
use crate::net::handshake::admit_client;
use crate::net::listen_socket::ListenSocket;
use crate::net::listener::ListenerState;
use crate::net::listener_set::ListenerHandle;
use crate::net::notice_log::Notice;
use crate::net::stream::AcceptedStream;
use crate::sys::executor;
use async_std::task;
use std::sync::Arc;
use std::time::Duration;

/// Time to wait before accepting again after a failure, usually too few file descriptors. Doubled with each
/// failure, from the minimum to the maximum.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Number of clients that are accepted before other tasks run: those who have connected wait no longer because others
/// connect.
const MAX_AT_ONCE: u32 = 32;

/// Accepts connections until its task is cancelled.
pub(crate) async fn run(socket: ListenSocket, handle: Arc<ListenerHandle>) {
    let mut acceptor = Acceptor::new(socket);
    let mut backoff = Duration::ZERO;
    for count in (1..=MAX_AT_ONCE).cycle() {
        if count == MAX_AT_ONCE {
            task::yield_now().await;
        }
        let accepted = acceptor.accept().await;
        let listener = handle.current();
        match accepted {
            Ok((stream, peer)) => {
                if !backoff.is_zero() {
                    log::info!("{}: can accept connections again", listener.address);
                    backoff = Duration::ZERO;
                }
                let is_banned = listener.is_banned(peer);
                if let Some(permits) = listener.acquire_permits(is_banned) {
                    executor::spawn_connection(serve(stream, peer, listener, permits));
                } else {
                    log_unanswered(&listener, peer, is_banned);
                }
            }
            Err(error) => {
                if backoff.is_zero() {
                    log::warn!(
                        "{}: cannot accept connections: {error}; if too many files are open, \
                         raise the limit (LimitNOFILE) or lower max_connections",
                        listener.address,
                    );
                }
                backoff = (2 * backoff).clamp(MIN_BACKOFF, MAX_BACKOFF);
                task::sleep(backoff).await;
            }
        }
    }
}

/// Logs that a connection is closed without a response.
fn log_unanswered(listener: &ListenerState, peer: ClientAddress, is_banned: bool) {
    let (status, reason) = match is_banned {
        true => (403, "its address is banned"),
        false => (503, "the server is full (max_connections)"),
    };
    listener.log_notice(Notice::Refused(status), peer, || {
        format!("closed without a response, as {reason}")
    });
}

/// Serves one client from its first byte to its last.
///
/// An async block that has captured no more than it needs until its end: an async function keeps its arguments for as
/// long as it runs, beside what has become of them.
fn serve(
    stream: AcceptedStream,
    peer: ClientAddress,
    listener: Arc<ListenerState>,
    permits: Permits,
) -> impl Future<Output = ()> + Send {
    let server = Arc::clone(&listener.server);
    // Boxed, so that the connection's future does not keep the handshake's memory.
    let admitted = Box::pin(admit(stream, peer, listener, permits));
    async move {
        // Not `if let`: the future would keep a place for what that matches beside the variables.
        let Some((connection, permits)) = admitted.await else {
            return;
        };
        connection.run().await;
        drop(permits);
        // Ends after the socket is closed.
        drop(server);
    }
}

/// Admits a client. Settings that no client connects with any more are freed with the end of this.
async fn admit(
    stream: AcceptedStream,
    peer: ClientAddress,
    listener: Arc<ListenerState>,
    mut permits: Permits,
) -> Option<(Connection, Permits)> {
    let connection = admit_client(stream, peer, &listener, &mut permits).await?;
    permits.set_answered();
    Some((connection, permits))
}
