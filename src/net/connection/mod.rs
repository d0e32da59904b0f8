//! A WebSocket connection, from the 101 response to the last byte: one task that reads and writes.
//!
//! It does not depend on any protocol. Messages of the client are decoded and sent to the broker; frames in
//! the outbox are sent to the client, all of them before the task waits again.

mod broker_link;
mod closing;
mod exit;
mod pings;
mod pump;
mod read_buffer;
mod receive_memory;
mod turn;

#[cfg(test)]
mod tests;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::broker::{EventSender, MAX_PONG_TIME, OutboxReceiver};
use crate::net::socket::ClientSocket;
use crate::realm::{ConnectionId, Protocol};
use broker_link::BrokerLink;
use exit::PumpExit;
use futures::FutureExt;
use futures::future::poll_fn;
use pump::{Pump, PumpEvent};
use read_buffer::{BufferedWebSocket, ReadBufferSize};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// The parts that a connection is made of after its handshake.
pub(crate) struct Parts {
    pub(crate) conn: ConnectionId,
    pub(crate) socket: ClientSocket,
    /// The response to the handshake. It is sent together with the first frames.
    pub(crate) upgrade_response: Vec<u8>,
    /// Bytes that the client sent right after its handshake.
    pub(crate) already_read: Vec<u8>,
    pub(crate) outbox_receiver: OutboxReceiver,
    pub(crate) inbox: EventSender,
    pub(crate) protocol: &'static Protocol,
    pub(crate) max_message_size: usize,
    pub(crate) close_timeout: Duration,
}

/// The traffic of a connection, and how it ended.
pub(crate) struct Summary {
    pub(crate) reason: DisconnectReason,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// The connection of an admitted client.
pub(crate) struct Connection {
    /// Boxed: moving it by value would store it twice in the task's future.
    pump: Box<Pump>,
    close_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut websocket =
            BufferedWebSocket::new(parts.socket, parts.already_read, parts.max_message_size);
        let response = Frame::encoded(&parts.upgrade_response);
        websocket.writer_mut().queue_control(response);
        let link = BrokerLink::new(parts.conn, parts.inbox, parts.outbox_receiver);
        Self {
            pump: Box::new(Pump::new(websocket, link, parts.protocol)),
            close_timeout: parts.close_timeout,
        }
    }

    /// Returns the id of the connection in the broker.
    pub(crate) fn id(&self) -> ConnectionId {
        self.pump.link.conn()
    }

    /// Runs the connection to its end. The end is reported to the broker, and `summarize` is called, before
    /// the closing handshake, which may take as long as the `close_timeout`, and as long as what was sent
    /// before may need.
    pub(crate) async fn run(mut self, summarize: impl FnOnce(Summary)) {
        let exit = loop {
            let poll = poll_fn(|cx| self.pump.poll(cx));
            match AssertUnwindSafe(poll).catch_unwind().await {
                Ok(PumpEvent::Exit(exit)) => break exit,
                Ok(PumpEvent::ReplaceBuffer(size)) => {
                    self.pump = self.pump.with_new_buffer(size);
                }
                // The pump's state is unknown, so nothing more is read from the client.
                Err(_panic) => break PumpExit::Fail(CloseReason::INTERNAL_ERROR),
            }
        };
        let Self {
            mut pump,
            close_timeout,
        } = self;
        let reason = exit.disconnect_reason();
        if matches!(exit, PumpExit::Close(reason) if reason.discards_received()) {
            // Frees an incomplete message before the broker decides whether to evict more connections.
            pump = pump.with_new_buffer(ReadBufferSize::Small);
            pump.memory.release(pump.websocket.status());
        }
        pump.link.report_end(reason).await;
        let writer = pump.websocket.writer();
        summarize(Summary {
            reason,
            messages_received: pump.messages_received,
            messages_sent: writer.frames_sent,
            bytes_received: writer.socket.bytes_received,
            bytes_sent: writer.socket.bytes_sent,
        });
        let close_timeout = match exit {
            // The client gets what is on its way to it first, then the Close frame, then it answers.
            PumpExit::Close(reason) if !reason.discards_outbox() => {
                let status = pump.websocket.status();
                status.time_to_answer(close_timeout, MAX_PONG_TIME)
            }
            _ => close_timeout,
        };
        // Boxed, so that the connection's future does not reserve the memory for it.
        let closing = Box::pin(closing::close(pump, exit));
        let _ = async_std::future::timeout(close_timeout, closing).await;
    }
}
