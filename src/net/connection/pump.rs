//! The pump: one poll of a connection's task, which reads and writes.

use super::exit::PumpExit;
use super::read_buffer::{ReadBufferSize, open_websocket};
use super::turn::{MAX_FRAMES, Turn};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::broker::{CloseOrder, Event, EventSender, OutboxReceiver, PingReason};
use crate::net::frame_writer::FrameWriter;
use crate::realm::{Command, ConnectionId, Decoder, Message, Protocol};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::Message as WebSocketMessage;
use futures::StreamExt;
use std::task::{Context, Poll};
use std::time::Instant;
use uuid::Uuid;

/// Number of queued control frames at which reading stops: a client that sends Pings and does not read the
/// Pongs delays itself. Enough for the Pings of one turn.
const MAX_QUEUED_CONTROLS: usize = MAX_FRAMES;

/// An action that the pump leaves to its connection.
pub(super) enum PumpEvent {
    /// The connection ends.
    Exit(PumpExit),
    /// The read buffer is empty, and is to be replaced by one of this size.
    ReplaceBuffer(ReadBufferSize),
}

/// Moves messages in both directions.
pub(super) struct Pump {
    pub(super) websocket: WebSocketStream<FrameWriter>,
    pub(super) outbox_receiver: OutboxReceiver,
    pub(super) inbox: EventSender,
    pub(super) conn: ConnectionId,
    pub(super) protocol: &'static Protocol,
    pub(super) decoder: Decoder,
    /// Decoded messages that are not yet sent to the broker.
    pub(super) commands: Vec<Command>,
    /// Bytes of the messages that `commands` were decoded from.
    pub(super) decoded_bytes: usize,
    /// Bytes of `receive_memory` that are reserved and not passed to the broker with a command.
    pub(super) reserved_bytes: usize,
    /// The broker is to be notified once as much is written as the socket accepts.
    pub(super) notify_when_flushed: bool,
    /// [`Event::OutboxDrained`] is to be sent.
    pub(super) outbox_drained: bool,
    /// [`Event::BudgetExceeded`] is to be sent.
    pub(super) budget_exceeded: bool,
    /// Number of times that this task has yielded since the budget was exceeded.
    pub(super) yields: u32,
    /// The broker has paused reading.
    pub(super) reading_paused: bool,
    /// The last Ping, if it is unanswered: its payload, which a client cannot guess, and the time at which it
    /// was sent.
    pub(super) last_ping: Option<(Uuid, Instant)>,
    /// The client was sent a Ping for its silence, and has sent nothing since.
    pub(super) is_silent: bool,
    /// The client was probed, and has sent nothing since.
    pub(super) is_probed: bool,
    /// [`Event::ProbeAnswered`] is to be sent.
    pub(super) probe_answered: bool,
    pub(super) buffer_size: ReadBufferSize,
    /// Size of the read buffer that replaces the current one at the end of this poll. Until then nothing more is
    /// read.
    pub(super) replacement: Option<ReadBufferSize>,
    /// Reason for which the broker closes the connection, once all frames are sent.
    pub(super) closing: Option<CloseReason>,
    /// End of the connection, which takes effect once all pending events are sent to the broker.
    pub(super) exit: Option<PumpExit>,
    pub(super) messages_received: u64,
}

impl Pump {
    /// Replaces the read buffer by an empty one. What was in it is lost.
    pub(super) fn with_new_buffer(
        self: Box<Self>,
        buffer_size: ReadBufferSize,
        max_message_size: usize,
    ) -> Box<Self> {
        let pump = *self;
        let mut writer = pump.websocket.into_inner();
        writer.tracker.largest_payload = 0;
        Box::new(Self {
            websocket: open_websocket(writer, Vec::new(), buffer_size, max_message_size),
            buffer_size,
            ..pump
        })
    }

    /// Returns the new size if the read buffer should be replaced now.
    fn replacement_buffer(&self) -> Option<ReadBufferSize> {
        self.buffer_size
            .replacement(self.websocket.get_ref(), self.is_silent)
    }

    /// Moves messages in both directions as far as possible without waiting, in this order:
    ///
    /// 1. take the frames and the broker's directives from the outbox; a close that discards the outbox ends
    ///    the poll here;
    /// 2. read and decode messages, as many as one turn may;
    /// 3. write, first control frames (Pongs for the messages just read among them), then data frames;
    /// 4. send the pending events to the broker;
    /// 5. report an end of the connection that was found by reading, once all events before it are sent;
    /// 6. request a new read buffer if the current one should be replaced;
    /// 7. report a close by the broker, once all frames are written.
    ///
    /// If reading stopped because of queued control frames and these are written now, another turn follows:
    /// tungstenite may hold messages that it has already read, for which the socket would not wake the task.
    /// In all other cases a waker is registered.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PumpEvent> {
        let directives = self
            .outbox_receiver
            .take(cx, &mut self.websocket.get_mut().queue);
        self.reading_paused = directives.pause_reading;
        if let Some(reason) = directives.ping {
            self.ping(reason);
        }
        match directives.close {
            Some(CloseOrder::Abort) => return Poll::Ready(PumpEvent::Exit(PumpExit::Abort)),
            Some(CloseOrder::Graceful(reason)) if reason.discards_outbox() => {
                return Poll::Ready(PumpEvent::Exit(PumpExit::Close(reason)));
            }
            Some(CloseOrder::Graceful(reason)) => {
                self.closing = Some(reason);
                // A client that does not read its last frames must not keep the connection open by
                // sending. Reading continues, since a client may write all its messages before it
                // reads.
                self.websocket.get_mut().socket.ignore_received_as_activity = true;
            }
            None => {}
        }

        let stopped_by_controls = self.receive(cx);

        let writer = self.websocket.get_mut();
        self.outbox_drained |= writer.send(cx, &self.outbox_receiver);
        self.notify_when_flushed |= directives.notify;
        let is_flushed = writer.is_empty() || writer.socket.status().is_write_blocked();
        if is_flushed && std::mem::take(&mut self.notify_when_flushed) {
            self.outbox_drained = true;
        }
        let all_sent = self.send_events(cx);

        if let Some(exit) = self.exit.take_if(|_| all_sent) {
            return Poll::Ready(PumpEvent::Exit(exit));
        }
        // Before a close by the broker, since the closing handshake may last long with what a buffer holds.
        if let Some(size) = self.replacement.take() {
            return Poll::Ready(PumpEvent::ReplaceBuffer(size));
        }
        let writer = self.websocket.get_ref();
        if let Some(reason) = self.closing.take_if(|_| writer.is_empty()) {
            return Poll::Ready(PumpEvent::Exit(PumpExit::Close(reason)));
        }
        let writer = self.websocket.get_mut();
        if stopped_by_controls && writer.queued_controls() == 0 {
            writer.socket.end_read_turn(cx);
        }
        Poll::Pending
    }

    /// Reads messages, as many as one turn may, and sends the commands to the broker. Returns whether it
    /// stopped because of queued control frames.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.exit.is_some() {
            return false;
        }
        let is_unread = self.reading_paused
            || !self.send_events(cx)
            || !self.may_read(cx)
            || !self.websocket.get_mut().socket.may_read(cx);
        // This time does not count as silence of the client.
        let status = self.websocket.get_ref().socket.status();
        status.set_unread(is_unread);
        if is_unread {
            return false;
        }
        let mut stopped_by_controls = false;
        let mut turn = Turn::default();
        while self.exit.is_none() && self.replacement_buffer().is_none() {
            let writer = self.websocket.get_ref();
            if turn.is_over() {
                // There may be more to read, but other tasks run first.
                self.websocket.get_mut().socket.end_read_turn(cx);
                break;
            }
            if writer.queued_controls() >= MAX_QUEUED_CONTROLS {
                stopped_by_controls = true;
                break;
            }
            if !writer.socket.may_be_readable() {
                break;
            }
            match self.websocket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    turn.count(message.len());
                    self.handle_message(message, &mut turn);
                }
                Poll::Ready(Some(Err(error))) => self.exit = Some(PumpExit::from_error(&error)),
                Poll::Ready(None) => self.exit = Some(PumpExit::Lost),
                Poll::Pending => break,
            }
        }
        self.replacement = self.replacement_buffer();
        let writer = self.websocket.get_mut();
        let progress = writer.tracker.take_progress();
        writer.socket.status().record_progress(progress);
        self.update_reservation();
        self.send_events(cx);
        self.reserve_all();
        self.send_events(cx);
        stopped_by_controls
    }

    /// Queues a Ping, which replaces the last one as the Ping that measures the round trip. A Ping for
    /// silence or for a probe also starts waiting for the next message.
    fn ping(&mut self, reason: PingReason) {
        let payload = Uuid::new_v4();
        self.last_ping = Some((payload, Instant::now()));
        let frame = Frame::ping(payload.as_bytes());
        self.websocket.get_mut().queue_control(frame);
        self.is_silent |= reason == PingReason::Silence;
        self.is_probed |= reason == PingReason::Probe;
    }

    /// Handles a received message. Any message but Close ends the client's silence and answers a probe; a
    /// Pong also completes the measurement of the round trip if it answers the last Ping.
    fn handle_message(&mut self, message: WebSocketMessage, turn: &mut Turn) {
        if let WebSocketMessage::Close(close) = message {
            self.exit = Some(PumpExit::ClosedByClient(
                close.map(|close| close.code.into()),
            ));
            return;
        }
        self.is_silent = false;
        self.probe_answered |= std::mem::take(&mut self.is_probed);
        match message {
            WebSocketMessage::Text(text) => self.decode(Message::Text(text), turn),
            WebSocketMessage::Binary(bytes) => self.decode(Message::Binary(bytes), turn),
            WebSocketMessage::Pong(payload) => {
                // A client may answer the last of several Pings only (RFC 6455 section 5.5.3).
                let is_last = |(sent, _): &mut (Uuid, Instant)| payload[..] == sent.as_bytes()[..];
                if let Some((_, sent_at)) = self.last_ping.take_if(is_last) {
                    let status = self.websocket.get_ref().socket.status();
                    status.record_rtt(sent_at.elapsed());
                }
            }
            WebSocketMessage::Ping(_) | WebSocketMessage::Close(_) | WebSocketMessage::Frame(_) => {
            }
        }
    }

    /// Decodes a data message into a command for the broker. While the broker is closing the connection, the
    /// message is only counted.
    fn decode(&mut self, message: Message, turn: &mut Turn) {
        self.messages_received += 1;
        if self.closing.is_some() {
            return;
        }
        let bytes = message.len();
        match turn.decode(bytes, || (self.decoder)(message)) {
            Some(command) => {
                self.commands.push(command);
                self.decoded_bytes += bytes;
            }
            None => log::debug!("{} #{}: ignored a message", self.protocol.name, self.conn.0),
        }
    }

    /// Sends all pending events to the broker, and returns whether that was possible. If it was not, the
    /// task of `cx` is woken once it is.
    pub(super) fn send_events(&mut self, cx: &mut Context<'_>) -> bool {
        while self.has_event() {
            match self.inbox.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.exit = Some(PumpExit::Abort);
                    return true;
                }
                Poll::Pending => return false,
            }
            let event = self.next_event();
            // Cannot fail: the channel is ready, and this is the only user of the sender.
            let _ = self.inbox.start_send(event);
        }
        true
    }

    fn has_event(&self) -> bool {
        self.outbox_drained
            || self.probe_answered
            || self.budget_exceeded
            || !self.commands.is_empty()
    }

    /// Removes and returns the next of the pending events, of which there must be one.
    fn next_event(&mut self) -> Event {
        if std::mem::take(&mut self.outbox_drained) {
            Event::OutboxDrained(self.conn)
        } else if !self.commands.is_empty() {
            // Before the answer to a probe: with these commands the client may leave.
            let reserved_bytes = std::mem::take(&mut self.decoded_bytes).min(self.reserved_bytes);
            self.reserved_bytes -= reserved_bytes;
            Event::Commands {
                conn: self.conn,
                commands: std::mem::take(&mut self.commands),
                reserved_bytes,
            }
        } else if std::mem::take(&mut self.probe_answered) {
            Event::ProbeAnswered(self.conn)
        } else {
            self.budget_exceeded = false;
            Event::BudgetExceeded
        }
    }
}
