//! The TLS handshake of a connection, before its first request.

use super::connection::{HttpConnection, Wait, in_time};
use super::response::Response;
use crate::base::log_escape::escape;
use crate::base::memory_budget::MemoryReservation;
use crate::net::notice_log::Notice;
use crate::net::socket::ClientSocket;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Instant;

/// The type of the record that TLS begins with (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How a connection to a listener with TLS has begun.
enum Beginning {
    /// The client has disconnected without a byte, as health checks do.
    Unused,
    /// It does not speak TLS.
    Plain(ClientSocket),
    /// The handshake is over.
    Handshake(io::Result<ClientSocket>),
}

impl HttpConnection<'_> {
    /// Completes the TLS handshake, if the listener speaks TLS. It is a part of the `handshake_timeout`. Returns `None` if
    /// the connection is to be closed, or is closed: the client has failed, or speaks plain HTTP.
    pub(crate) async fn start_tls(mut self) -> Option<Self> {
        let listener = self.listener;
        let Some(tls) = listener.shared.tls.get() else {
            return Some(self);
        };
        let start = Instant::now();
        let wait = Wait {
            time: self.time_left,
            silent: Some((self.address, "TLS handshake")),
        };
        let already_read = std::mem::take(&mut self.already_read);
        let memory = MemoryReservation::new(&listener.server.request_budget, 0);
        let mut socket = self.socket;
        let begin = pin!(async {
            let first = match already_read.first() {
                Some(first) => Some(*first),
                None => socket.peek_first().await,
            };
            Ok(match first {
                None => Beginning::Unused,
                Some(TLS_HANDSHAKE) => {
                    let accept = socket.accept_tls(already_read, tls.server_config(), memory);
                    Beginning::Handshake(accept.await)
                }
                Some(_) => Beginning::Plain(socket),
            })
        });
        match in_time(begin, wait, listener).await.ok()? {
            Beginning::Unused => None,
            Beginning::Plain(socket) => {
                Self { socket, ..self }.refuse_plain().await;
                None
            }
            Beginning::Handshake(Ok(socket)) => Some(Self {
                socket,
                time_left: self.time_left.saturating_sub(start.elapsed()),
                ..self
            }),
            Beginning::Handshake(Err(error)) => {
                listener.log_notice(Notice::TlsHandshake, self.address, || failure(&error));
                None
            }
        }
    }

    /// Tells a client that speaks plain HTTP what to do. Another one reads an answer that it does not understand.
    async fn refuse_plain(self) {
        self.listener.log_notice(Notice::PlainHttp, self.address, || {
            "it speaks plain HTTP to a port for TLS; connect with https:// or wss://, or set \"tls\": null for this listener \
             if a proxy in front ends TLS"
                .to_owned()
        });
        let text =
            "this port speaks TLS: connect with https:// or wss:// instead of http:// or ws://";
        self.close_with(None, Response::new(400, text)).await;
    }
}

/// Returns why a handshake has failed.
fn failure(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "it disconnected within the handshake".to_owned(),
        _ => escape(&error.to_string()),
    }
}
