//! One WebSocket, from 101 to the last byte: a single task that reads and writes at once.
//!
//! It knows no protocol by name. What the client says is decoded and goes to the broker; what
//! the outbox holds goes to the client, all of it before the task sleeps again.

mod closing;
mod pump;
mod read_buffer;
mod receive_memory;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::broker::{Event, OutboxReceiver};
use crate::net::frame_writer::FrameWriter;
use crate::net::socket::ClientSocket;
use crate::protocols::Protocol;
use crate::realm::ConnectionId;
use closing::{PumpExit, say_goodbye};
use futures::FutureExt;
use futures::channel::mpsc;
use futures::future::poll_fn;
use pump::{Pump, PumpEvent};
use read_buffer::{SMALL_BUFFER, config, open};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// What a connection is made of, after its handshake.
pub(crate) struct Parts {
    pub(crate) conn: ConnectionId,
    pub(crate) stream: ClientSocket,
    /// The answer to the handshake. It leaves together with the first frames.
    pub(crate) switching: Vec<u8>,
    /// What the client sent right behind its handshake.
    pub(crate) already_read: Vec<u8>,
    pub(crate) outbox_receiver: OutboxReceiver,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) protocol: &'static Protocol,
    pub(crate) max_message_size: usize,
    pub(crate) close_timeout: Duration,
}

/// What went through a connection, and how it ended.
pub(crate) struct Summary {
    pub(crate) ending: DisconnectReason,
    /// Messages.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// A client that has been let in.
pub(crate) struct Connection {
    /// In a box, since a task would otherwise carry it twice.
    pump: Box<Pump>,
    max_message_size: usize,
    close_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut wire = FrameWriter::new(parts.stream, &parts.already_read);
        wire.control(Frame::encoded(&parts.switching));
        let config = config(SMALL_BUFFER, parts.max_message_size);
        let pump = Pump {
            socket: open(wire, parts.already_read, config),
            outbox_receiver: parts.outbox_receiver,
            inbox: parts.inbox,
            conn: parts.conn,
            protocol: parts.protocol,
            reader: (parts.protocol.reader)(),
            commands: Vec::new(),
            notify_broker: false,
            reading_paused: false,
            pinged: None,
            quiet: false,
            probing: false,
            alive: false,
            large_buffer: false,
            end: None,
            exit: None,
            received: 0,
            decoded: 0,
            charged: 0,
            budget_exceeded: false,
            yields: 0,
        };
        Self {
            pump: Box::new(pump),
            max_message_size: parts.max_message_size,
            close_timeout: parts.close_timeout,
        }
    }

    /// The number by which the broker knows it.
    pub(crate) fn id(&self) -> ConnectionId {
        self.pump.conn
    }

    /// Lives through it. The broker is told of its end before the goodbyes, which may take as
    /// long as `close_timeout`.
    pub(crate) async fn run(mut self, report: impl FnOnce(Summary)) {
        let exit = loop {
            let step = poll_fn(|cx| self.pump.poll(cx));
            match AssertUnwindSafe(step).catch_unwind().await {
                Ok(PumpEvent::Exit(exit)) => break exit,
                Ok(PumpEvent::NewBuffer { large }) => {
                    self.pump = self.pump.with_new_buffer(large, self.max_message_size);
                }
                // Nobody knows what it was at, so nothing more is read or sent.
                Err(_panic) => break PumpExit::Fail(CloseReason::InternalError),
            }
        };
        let Self {
            mut pump,
            max_message_size,
            close_timeout,
        } = self;
        let ending = exit.ending();
        if let PumpExit::Close(CloseReason::ShortOfMemory) = exit {
            // Before the broker looks for the next one: what there is of a message is given up.
            pump = pump.with_new_buffer(false, max_message_size);
            pump.uncharge();
        }
        // Fails only when the broker is gone, and then there is nobody to tell.
        let _ = poll_fn(|cx| pump.inbox.poll_ready(cx)).await;
        let _ = pump
            .inbox
            .start_send(Event::Disconnected(pump.conn, ending));
        let wire = pump.socket.get_ref();
        report(Summary {
            ending,
            received: pump.received,
            sent: wire.frames_sent,
            bytes_received: wire.stream.received,
            bytes_sent: wire.stream.sent,
        });
        // In a box, so that a connection does not carry the memory for its end for life.
        let goodbye = Box::pin(say_goodbye(pump, exit));
        let _ = async_std::future::timeout(close_timeout, goodbye).await;
    }
}
