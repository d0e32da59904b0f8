//! One port's accept loop: it admits or turns away, and spawns; it never waits for a client.

use crate::net::connection::Summary;
use crate::net::handshake::{self, Guest};
use crate::net::listener::{Admission, Port};
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
pub(crate) async fn run(listener: TcpListener, port: Arc<Port>) {
    let mut rest = Duration::ZERO;
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                if !rest.is_zero() {
                    log::info!("{}: can accept connections again", port.address);
                    rest = Duration::ZERO;
                }
                if let Some(admission) = port.admit() {
                    task::spawn(serve(tcp, peer.ip(), Arc::clone(&port), admission));
                }
            }
            Err(error) => {
                if rest.is_zero() {
                    log::warn!(
                        "{}: cannot accept connections: {error}; if these are too many open \
                         files, raise the limit (LimitNOFILE) or lower max_connections",
                        port.address,
                    );
                }
                rest = (2 * rest).clamp(SHORTEST_REST, LONGEST_REST);
                task::sleep(rest).await;
            }
        }
    }
}

/// Serves one client from its first byte to its last.
async fn serve(tcp: TcpStream, peer: IpAddr, port: Arc<Port>, admission: Admission) {
    // In a box of its own, so that a connection does not carry the handshake's memory for life.
    let greeted = Box::pin(handshake::greet(tcp, peer, &port, &admission)).await;
    let Some(Guest {
        connection,
        address,
        place: _place,
    }) = greeted
    else {
        return;
    };
    let (name, who, since) = (port.name(), connection.id().0, Instant::now());
    log::info!("{name} #{who}: opened from {address}");
    let report = |Summary {
                      ending,
                      received,
                      sent,
                      octets_received,
                      octets_sent,
                  }| {
        let seconds = since.elapsed().as_secs_f64();
        log::info!(
            "{name} #{who}: {ending}; {seconds:.1} s, \
             {received} messages ({octets_received} bytes) in, {sent} ({octets_sent} bytes) out"
        );
    };
    connection.run(report).await;
    drop(admission);
}
