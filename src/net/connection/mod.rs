//! A WebSocket connection, from the 101 response to the last byte: one task that reads and writes.
//!
//! It does not depend on any protocol. Messages of the client are decoded and sent to the broker; frames in
//! the outbox are sent to the client, all of them before the task waits again.

mod closing;
mod exit;
mod pump;
mod read_buffer;
mod receive_memory;
mod turn;

#[cfg(test)]
mod tests;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::broker::{Event, EventSender, MAX_PONG_TIME, OutboxReceiver};
use crate::net::frame_writer::FrameWriter;
use crate::net::socket::ClientSocket;
use crate::realm::{ConnectionId, Protocol};
use exit::PumpExit;
use futures::FutureExt;
use futures::future::poll_fn;
use pump::{Pump, PumpEvent};
use read_buffer::{ReadBufferSize, open_websocket};
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
    max_message_size: usize,
    close_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut writer = FrameWriter::new(parts.socket, &parts.already_read);
        writer.queue_control(Frame::encoded(&parts.upgrade_response));
        let buffer_size = ReadBufferSize::Small;
        let pump = Pump {
            websocket: open_websocket(
                writer,
                parts.already_read,
                buffer_size,
                parts.max_message_size,
            ),
            outbox_receiver: parts.outbox_receiver,
            inbox: parts.inbox,
            conn: parts.conn,
            protocol: parts.protocol,
            decoder: (parts.protocol.new_decoder)(),
            commands: Vec::new(),
            decoded_bytes: 0,
            reserved_bytes: 0,
            notify_when_flushed: false,
            outbox_drained: false,
            budget_exceeded: false,
            yields: 0,
            reading_paused: false,
            last_ping: None,
            is_silent: false,
            is_probed: false,
            probe_answered: false,
            buffer_size,
            replacement: None,
            closing: None,
            exit: None,
            messages_received: 0,
        };
        Self {
            pump: Box::new(pump),
            max_message_size: parts.max_message_size,
            close_timeout: parts.close_timeout,
        }
    }

    /// Returns the id of the connection in the broker.
    pub(crate) fn id(&self) -> ConnectionId {
        self.pump.conn
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
                    self.pump = self.pump.with_new_buffer(size, self.max_message_size);
                }
                // The pump's state is unknown, so nothing more is read from the client.
                Err(_panic) => break PumpExit::Fail(CloseReason::INTERNAL_ERROR),
            }
        };
        let Self {
            mut pump,
            max_message_size,
            close_timeout,
        } = self;
        let reason = exit.disconnect_reason();
        if matches!(exit, PumpExit::Close(reason) if reason.discards_received()) {
            // Frees an incomplete message before the broker decides whether to evict more connections.
            pump = pump.with_new_buffer(ReadBufferSize::Small, max_message_size);
            pump.release_reservation();
        }
        // Fails only if the broker is gone; then there is no need to notify it.
        let _ = poll_fn(|cx| pump.inbox.poll_ready(cx)).await;
        let _ = pump
            .inbox
            .start_send(Event::Disconnected(pump.conn, reason));
        let writer = pump.websocket.get_ref();
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
                let status = pump.websocket.get_ref().socket.status();
                status.time_to_answer(close_timeout, MAX_PONG_TIME)
            }
            _ => close_timeout,
        };
        // Boxed, so that the connection's future does not reserve the memory for it.
        let closing = Box::pin(closing::close(pump, exit));
        let _ = async_std::future::timeout(close_timeout, closing).await;
    }
}
