//! One port's accept loop: it admits or turns away, and spawns; it never waits for a client.

use crate::net::connection::Summary;
use crate::net::handshake::{self, AcceptedClient};
use crate::net::listener::{Admission, ListenerState};
use async_std::net::{TcpListener, TcpStream};
use async_std::task;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long accepting rests after it failed, which is mostly for want of file descriptors:
/// doubled each time it fails again, up to the longest.
const SHORTEST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Accepts connections until its task is cancelled.
pub(crate) async fn run(socket: TcpListener, listener: Arc<ListenerState>) {
    let mut rest = Duration::ZERO;
    loop {
        match socket.accept().await {
            Ok((tcp, peer)) => {
                if !rest.is_zero() {
                    log::info!("{}: can accept connections again", listener.address);
                    rest = Duration::ZERO;
                }
                if let Some(admission) = listener.admit() {
                    task::spawn(serve(tcp, peer.ip(), Arc::clone(&listener), admission));
                }
            }
            Err(error) => {
                if rest.is_zero() {
                    log::warn!(
                        "{}: cannot accept connections: {error}; if these are too many open \
                         files, raise the limit (LimitNOFILE) or lower max_connections",
                        listener.address,
                    );
                }
                rest = (2 * rest).clamp(SHORTEST_REST, LONGEST_REST);
                task::sleep(rest).await;
            }
        }
    }
}

/// Serves one client from its first byte to its last.
async fn serve(tcp: TcpStream, peer: IpAddr, listener: Arc<ListenerState>, admission: Admission) {
    // In a box of its own, so that a connection does not carry the handshake's memory for life.
    let accepted = Box::pin(handshake::accept_client(tcp, peer, &listener, &admission)).await;
    let Some(AcceptedClient {
        connection,
        address,
        permit: _permit,
    }) = accepted
    else {
        return;
    };
    let (name, conn, since) = (listener.name(), connection.id().0, Instant::now());
    log::info!("{name} #{conn}: opened from {address}");
    let report = |Summary {
                      ending,
                      received,
                      sent,
                      bytes_received,
                      bytes_sent,
                  }| {
        let seconds = since.elapsed().as_secs_f64();
        log::info!(
            "{name} #{conn}: {ending}; {seconds:.1} s, \
             {received} messages ({bytes_received} bytes) in, {sent} ({bytes_sent} bytes) out"
        );
    };
    connection.run(report).await;
    drop(admission);
}
