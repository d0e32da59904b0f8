//! The pump: one turn of a connection's task, which reads and writes at once.

use super::closing::PumpExit;
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::broker::{CloseOrder, Event, OutboxReceiver, PingReason};
use crate::net::frame_writer::FrameWriter;
use crate::protocols::Protocol;
use crate::realm::erased::{AnyCommand, AnyReader};
use crate::realm::{ConnectionId, Message};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Message as Received;
use futures::StreamExt;
use futures::channel::mpsc;
use std::task::{Context, Poll};
use std::time::Instant;
use uuid::Uuid;

/// Commands that go to the broker together at the most. What they were made from is bounded, too:
/// by what is read in one turn, or by one message.
const COMMANDS_PER_TURN: usize = 16;

/// While this many control frames wait to be written, nothing more is read: a client that sends
/// Pings and does not read the Pongs waits for itself. Enough for one turn's Pings.
const CONTROLS: usize = 16;

/// What the pump cannot do itself.
pub(super) enum PumpEvent {
    Exit(PumpExit),
    /// The read buffer is empty and of the wrong size.
    NewBuffer {
        large: bool,
    },
}

/// Moves messages in both directions.
pub(super) struct Pump {
    pub(super) socket: WebSocketStream<FrameWriter>,
    pub(super) outbox_receiver: OutboxReceiver,
    pub(super) inbox: mpsc::Sender<Event>,
    pub(super) conn: ConnectionId,
    pub(super) protocol: &'static Protocol,
    pub(super) reader: AnyReader,
    /// Decoded, and not yet with the broker.
    pub(super) commands: Vec<AnyCommand>,
    /// The broker waits to hear that the outbox has room, or has been written as far as it goes.
    pub(super) notify_broker: bool,
    /// The broker wants nothing to be read.
    pub(super) reading_paused: bool,
    /// The last Ping if it has not come back: its payload, which nobody can guess, and when it was
    /// sent.
    pub(super) pinged: Option<(Uuid, Instant)>,
    /// The client has been sent a Ping because nothing was heard of it.
    pub(super) quiet: bool,
    /// The broker waits to hear that the client is alive.
    pub(super) probing: bool,
    /// It is.
    pub(super) alive: bool,
    pub(super) large_buffer: bool,
    /// How the broker wants it to end, once what waits is sent.
    pub(super) end: Option<CloseReason>,
    /// How it ends, once the broker has what was decoded before.
    pub(super) exit: Option<PumpExit>,
    pub(super) received: u64,
    /// Octets of the messages that became those commands.
    pub(super) decoded: usize,
    /// Octets that are charged and have not been handed to the broker.
    pub(super) charged: usize,
    /// More is held than may be, and the broker has not been told.
    pub(super) budget_exceeded: bool,
    /// How often others have had their turn because of that.
    pub(super) yields: u32,
}

impl Pump {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PumpEvent> {
        loop {
            let directives = self
                .outbox_receiver
                .take(cx, &mut self.socket.get_mut().queue);
            self.reading_paused = directives.pause_reading;
            if let Some(why) = directives.ping {
                self.ping(why);
            }
            match directives.close {
                Some(CloseOrder::Abort) => return Poll::Ready(PumpEvent::Exit(PumpExit::Drop)),
                Some(CloseOrder::Graceful(close)) if close.discards_outbox() => {
                    return Poll::Ready(PumpEvent::Exit(PumpExit::Close(close)));
                }
                Some(CloseOrder::Graceful(close)) => {
                    self.end = Some(close);
                    // Whoever takes nothing of the rest must not live on by what it sends. It is
                    // read all the same: it may read nothing itself before all is sent.
                    self.socket.get_mut().stream.ignore_received_as_activity = true;
                }
                None => {}
            }

            let stopped_by_controls = self.receive(cx);

            self.notify_broker |=
                self.socket.get_mut().send(cx, &self.outbox_receiver) | directives.notify;
            let all_told = self.tell_broker(cx);

            if let Some(exit) = self.exit.take_if(|_| all_told) {
                return Poll::Ready(PumpEvent::Exit(exit));
            }
            if let Some(close) = self.end.take_if(|_| self.socket.get_ref().is_empty()) {
                return Poll::Ready(PumpEvent::Exit(PumpExit::Close(close)));
            }
            if let Some(large) = self.buffer_to_change() {
                return Poll::Ready(PumpEvent::NewBuffer { large });
            }
            if !(stopped_by_controls && self.socket.get_ref().waiting_controls() == 0) {
                return Poll::Pending;
            }
        }
    }

    /// Reads one turn's worth, as far as it may, and hands it over. Says whether it was Pongs
    /// waiting to be written that stopped it.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.exit.is_some() || self.reading_paused || !self.tell_broker(cx) || !self.may_read(cx)
        {
            return false;
        }
        let mut stopped_by_controls = false;
        while self.exit.is_none() && self.buffer_to_change().is_none() {
            let wire = self.socket.get_ref();
            if self.commands.len() >= COMMANDS_PER_TURN {
                // There may be more, but it is the others' turn now.
                cx.waker().wake_by_ref();
                break;
            }
            if wire.waiting_controls() >= CONTROLS {
                stopped_by_controls = true;
                break;
            }
            if !wire.stream.may_be_readable() {
                break;
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => self.received(message),
                Poll::Ready(Some(Err(error))) => self.exit = Some(PumpExit::from_error(&error)),
                Poll::Ready(None) => self.exit = Some(PumpExit::Lost),
                Poll::Pending => break,
            }
        }
        self.charge();
        self.tell_broker(cx);
        stopped_by_controls
    }

    fn ping(&mut self, why: PingReason) {
        let payload = Uuid::new_v4();
        self.pinged = Some((payload, Instant::now()));
        let frame = Frame::ping(payload.as_bytes());
        self.socket.get_mut().control(frame);
        self.quiet |= why == PingReason::Silence;
        self.probing |= why == PingReason::Probe;
    }

    fn received(&mut self, message: Received) {
        if let Received::Close(close) = message {
            self.exit = Some(PumpExit::Left(close.map(|close| close.code.into())));
            return;
        }
        self.quiet = false;
        self.alive |= std::mem::take(&mut self.probing);
        let message = match message {
            Received::Text(text) => Message::Text(text),
            Received::Binary(bytes) => Message::Binary(bytes),
            Received::Pong(payload) => {
                // Only the last Ping need be answered (RFC 6455 section 5.5.3).
                let is_last = |(sent, _): &mut (Uuid, Instant)| payload[..] == sent.as_bytes()[..];
                if let Some((_, since)) = self.pinged.take_if(is_last) {
                    let stream = &self.socket.get_ref().stream;
                    stream.record_rtt(since.elapsed());
                }
                return;
            }
            Received::Ping(_) | Received::Close(_) | Received::Frame(_) => return,
        };
        self.received += 1;
        if self.end.is_some() {
            return;
        }
        let bytes = message.len();
        match (self.protocol.decode)(&mut self.reader, message) {
            Some(command) => {
                self.commands.push(command);
                self.decoded += bytes;
            }
            None => log::debug!("{} #{}: ignored a message", self.protocol.name, self.conn.0),
        }
    }

    /// Hands over what the broker should know. Says whether that was possible; if it was not,
    /// `cx` is woken when it is.
    pub(super) fn tell_broker(&mut self, cx: &mut Context<'_>) -> bool {
        while self.notify_broker || self.alive || self.budget_exceeded || !self.commands.is_empty()
        {
            match self.inbox.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.exit = Some(PumpExit::Drop);
                    return true;
                }
                Poll::Pending => return false,
            }
            let event = if std::mem::take(&mut self.notify_broker) {
                Event::OutboxDrained(self.conn)
            } else if !self.commands.is_empty() {
                // Before the sign of life: it may be that the client leaves.
                let reserved_bytes = std::mem::take(&mut self.decoded).min(self.charged);
                self.charged -= reserved_bytes;
                Event::Commands {
                    conn: self.conn,
                    commands: std::mem::take(&mut self.commands),
                    reserved_bytes,
                }
            } else if std::mem::take(&mut self.alive) {
                Event::ProbeAnswered(self.conn)
            } else {
                self.budget_exceeded = false;
                Event::BudgetExceeded
            };
            // It has just been asked, and nobody else sends here.
            let _ = self.inbox.start_send(event);
        }
        true
    }
}
