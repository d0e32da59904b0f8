//! The pump: one turn of a connection's task, which reads and writes at once.

use super::closing::Stop;
use crate::base::close::Close;
use crate::base::frame::Frame;
use crate::broker::{End, Event, Outgoing, Ping};
use crate::net::frame_writer::Wire;
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
const COMMANDS_A_TURN: usize = 16;

/// While this many control frames wait to be written, nothing more is read: a client that sends
/// Pings and does not read the Pongs waits for itself. Enough for one turn's Pings.
const CONTROLS: usize = 16;

/// What the pump cannot do itself.
pub(super) enum Step {
    Stop(Stop),
    /// The read buffer is empty and of the wrong size.
    NewBuffer {
        large: bool,
    },
}

/// Moves messages in both directions.
pub(super) struct Pump {
    pub(super) socket: WebSocketStream<Wire>,
    pub(super) outgoing: Outgoing,
    pub(super) inbox: mpsc::Sender<Event>,
    pub(super) who: ConnectionId,
    pub(super) protocol: &'static Protocol,
    pub(super) reader: AnyReader,
    /// Decoded, and not yet with the broker.
    pub(super) commands: Vec<AnyCommand>,
    /// The broker waits to hear that the outbox has room, or has been written as far as it goes.
    pub(super) room: bool,
    /// The broker wants nothing to be read.
    pub(super) held: bool,
    /// The last Ping if it has not come back: its payload, which nobody can guess, and when it was
    /// sent.
    pub(super) pinged: Option<(Uuid, Instant)>,
    /// The client has been sent a Ping because nothing was heard of it.
    pub(super) quiet: bool,
    /// The broker waits to hear that the client is alive.
    pub(super) probed: bool,
    /// It is.
    pub(super) alive: bool,
    pub(super) large_buffer: bool,
    /// How the broker wants it to end, once what waits is sent.
    pub(super) end: Option<Close>,
    /// How it ends, once the broker has what was decoded before.
    pub(super) stop: Option<Stop>,
    pub(super) received: u64,
    /// Octets of the messages that became those commands.
    pub(super) decoded: usize,
    /// Octets that are charged and have not been handed to the broker.
    pub(super) charged: usize,
    /// More is held than may be, and the broker has not been told.
    pub(super) overdrawn: bool,
    /// How often others have had their turn because of that.
    pub(super) turns_given: u32,
}

impl Pump {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let orders = self.outgoing.take(cx, &mut self.socket.get_mut().queue);
            self.held = orders.hold;
            if let Some(why) = orders.ping {
                self.ping(why);
            }
            match orders.end {
                Some(End::Drop) => return Poll::Ready(Step::Stop(Stop::Drop)),
                Some(End::Close(close)) if close.discards_outbox() => {
                    return Poll::Ready(Step::Stop(Stop::Close(close)));
                }
                Some(End::Close(close)) => {
                    self.end = Some(close);
                    // Whoever takes nothing of the rest must not live on by what it sends. It is
                    // read all the same: it may read nothing itself before all is sent.
                    self.socket.get_mut().stream.is_deaf = true;
                }
                None => {}
            }

            let stopped_by_controls = self.receive(cx);

            self.room |= self.socket.get_mut().send(cx, &self.outgoing) | orders.report;
            let all_told = self.tell_broker(cx);

            if let Some(stop) = self.stop.take_if(|_| all_told) {
                return Poll::Ready(Step::Stop(stop));
            }
            if let Some(close) = self.end.take_if(|_| self.socket.get_ref().is_empty()) {
                return Poll::Ready(Step::Stop(Stop::Close(close)));
            }
            if let Some(large) = self.buffer_to_change() {
                return Poll::Ready(Step::NewBuffer { large });
            }
            if !(stopped_by_controls && self.socket.get_ref().waiting_controls() == 0) {
                return Poll::Pending;
            }
        }
    }

    /// Reads one turn's worth, as far as it may, and hands it over. Says whether it was Pongs
    /// waiting to be written that stopped it.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stop.is_some() || self.held || !self.tell_broker(cx) || !self.may_read(cx) {
            return false;
        }
        let mut stopped_by_controls = false;
        while self.stop.is_none() && self.buffer_to_change().is_none() {
            let wire = self.socket.get_ref();
            if self.commands.len() >= COMMANDS_A_TURN {
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
                Poll::Ready(Some(Err(error))) => self.stop = Some(Stop::from_error(&error)),
                Poll::Ready(None) => self.stop = Some(Stop::Lost),
                Poll::Pending => break,
            }
        }
        self.charge();
        self.tell_broker(cx);
        stopped_by_controls
    }

    fn ping(&mut self, why: Ping) {
        let payload = Uuid::new_v4();
        self.pinged = Some((payload, Instant::now()));
        let frame = Frame::ping(payload.as_bytes());
        self.socket.get_mut().control(frame);
        self.quiet |= why == Ping::Silence;
        self.probed |= why == Ping::Probe;
    }

    fn received(&mut self, message: Received) {
        if let Received::Close(close) = message {
            self.stop = Some(Stop::Left(close.map(|close| close.code.into())));
            return;
        }
        self.quiet = false;
        self.alive |= std::mem::take(&mut self.probed);
        let message = match message {
            Received::Text(text) => Message::Text(text),
            Received::Binary(octets) => Message::Binary(octets),
            Received::Pong(payload) => {
                // Only the last Ping need be answered (RFC 6455 section 5.5.3).
                let is_last = |(sent, _): &mut (Uuid, Instant)| payload[..] == sent.as_bytes()[..];
                if let Some((_, since)) = self.pinged.take_if(is_last) {
                    let stream = &self.socket.get_ref().stream;
                    stream.came_back_after(since.elapsed());
                }
                return;
            }
            Received::Ping(_) | Received::Close(_) | Received::Frame(_) => return,
        };
        self.received += 1;
        if self.end.is_some() {
            return;
        }
        let octets = message.len();
        match (self.protocol.decode)(&mut self.reader, message) {
            Some(command) => {
                self.commands.push(command);
                self.decoded += octets;
            }
            None => log::debug!("{} #{}: ignored a message", self.protocol.name, self.who.0),
        }
    }

    /// Hands over what the broker should know. Says whether that was possible; if it was not,
    /// `cx` is woken when it is.
    pub(super) fn tell_broker(&mut self, cx: &mut Context<'_>) -> bool {
        while self.room || self.alive || self.overdrawn || !self.commands.is_empty() {
            match self.inbox.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.stop = Some(Stop::Drop);
                    return true;
                }
                Poll::Pending => return false,
            }
            let event = if std::mem::take(&mut self.room) {
                Event::Room(self.who)
            } else if !self.commands.is_empty() {
                // Before the sign of life: it may be that the client leaves.
                let charged = std::mem::take(&mut self.decoded).min(self.charged);
                self.charged -= charged;
                Event::Commands {
                    who: self.who,
                    commands: std::mem::take(&mut self.commands),
                    charged,
                }
            } else if std::mem::take(&mut self.alive) {
                Event::Alive(self.who)
            } else {
                self.overdrawn = false;
                Event::Overdrawn
            };
            // It has just been asked, and nobody else sends here.
            let _ = self.inbox.start_send(event);
        }
        true
    }
}
