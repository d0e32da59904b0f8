//! A WebSocket connection, from the 101 response to the last byte: one task that reads and writes.
//!
//! It does not depend on any protocol. Messages of the client are decoded and sent to the broker; frames in
//! the outbox are sent to the client, all of them before the task waits again.

mod broker_link;
mod closing;
mod connection_log;
mod exit;
mod large_message;
mod pings;
mod pump;
mod receive_memory;
mod turn;
mod websocket;

#[cfg(test)]
mod tests;

use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::broker::MAX_PONG_TIME;
use crate::config::ListenerSettings;
use crate::net::socket::ClientSocket;
use crate::realm::DecodeFn;
pub(crate) use broker_link::BrokerLink;
pub(crate) use connection_log::ConnectionLog;
use exit::PumpExit;
use futures::FutureExt;
use futures::future::poll_fn;
use pump::Pump;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use websocket::WebSocket;
pub(crate) use websocket::{allocate_readers, replace_readers};

/// The connection of an admitted client.
pub(crate) struct Connection {
    /// Boxed: moving it by value would store it twice in the task's future.
    pump: Box<Pump>,
}

impl Connection {
    /// Creates a connection that begins with the response to the client's handshake. The response is sent together
    /// with the first frames. `already_read` are bytes that the client sent right after its handshake.
    pub(crate) fn new(
        socket: ClientSocket,
        already_read: Vec<u8>,
        upgrade_response: &[u8],
        link: BrokerLink,
        decoder: DecodeFn,
        settings: &ListenerSettings,
        log: ConnectionLog,
    ) -> Self {
        let mut websocket = WebSocket::new(socket, already_read, settings.max_message_size);
        let response = Frame::encoded(upgrade_response);
        let writer = websocket.writer_mut();
        writer.queue_control(response);
        // What the broker writes, nobody would trace.
        if let Some(direct_writer) = writer
            .socket
            .direct_writer()
            .filter(|_| !log.traces_messages)
        {
            link.set_direct_writer(direct_writer);
        }
        Self {
            pump: Box::new(Pump::new(
                websocket,
                link,
                decoder,
                log,
                settings.close_timeout,
            )),
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        let poll = poll_fn(|cx| self.pump.poll(cx));
        // After a panic the pump's state is unknown, so nothing more is read from the client.
        let exit = AssertUnwindSafe(poll).catch_unwind().await;
        let exit = exit.unwrap_or(PumpExit::Fail(CloseReason::INTERNAL_ERROR));
        // Boxed, so that the connection's future does not reserve the memory for it.
        Box::pin(end(self.pump, exit)).await;
    }
}

/// Ends a connection. The end is reported to the broker and logged before the closing handshake, which may take the
/// `close_timeout`, extended by the time that a slow line needs for what was sent before.
async fn end(mut pump: Box<Pump>, exit: PumpExit) {
    // Nothing may follow a Close frame.
    let Pump {
        link, websocket, ..
    } = &mut *pump;
    link.stop_direct_writes(websocket.writer_mut());
    let reason = exit.disconnect_reason();
    if matches!(exit, PumpExit::Close(reason) if reason.discards_received()) {
        // Frees an incomplete message before the broker decides whether to evict more connections.
        pump.websocket.discard_received();
        pump.memory.release(pump.websocket.status());
    }
    pump.link.report_end(reason).await;
    pump.log_end(reason);
    let close_timeout = match exit {
        // The client gets what is on its way to it first, then the Close frame, then it answers.
        PumpExit::Close(reason) if !reason.discards_outbox() => {
            let status = pump.websocket.status();
            status.time_to_answer(pump.close_timeout, MAX_PONG_TIME)
        }
        _ => pump.close_timeout,
    };
    // Pinned, as `timeout` would hold it twice.
    let closing = pin!(closing::close(pump, exit));
    let _ = async_std::future::timeout(close_timeout, closing).await;
}
