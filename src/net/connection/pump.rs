//! The pump: one poll of a connection's task, which reads and writes.

use super::broker_link::{BrokerGone, BrokerLink};
use super::connection_log::ConnectionLog;
use super::exit::PumpExit;
use super::pings::Pings;
use super::receive_memory::ReceiveMemory;
use super::turn::{MAX_FRAMES, Turn};
use super::websocket::WebSocket;
use crate::base::close::DisconnectReason;
use crate::broker::{CloseOrder, Directives};
use crate::realm::{DecodeFn, Message};
use async_tungstenite::tungstenite::Message as WebSocketMessage;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Number of queued control frames at which reading stops: a client that sends Pings and does not read the
/// Pongs delays itself. Enough for the Pings of one turn.
const MAX_QUEUED_CONTROLS: usize = MAX_FRAMES;

/// The reason for which reading stopped in a poll.
#[derive(PartialEq)]
enum ReadStop {
    /// Something wakes the task when there may be more to read, or the connection ends.
    Waits,
    /// Too many control frames are queued.
    QueuedControls,
}

/// Moves messages in both directions.
pub(super) struct Pump {
    pub(super) websocket: WebSocket,
    pub(super) link: BrokerLink,
    pub(super) memory: ReceiveMemory,
    pings: Pings,
    decoder: DecodeFn,
    /// End of the connection, which takes effect once all pending events are sent to the broker.
    exit: Option<PumpExit>,
    log: ConnectionLog,
    opened_at: Instant,
    /// Time for the closing handshake: `close_timeout`.
    pub(super) close_timeout: Duration,
}

impl Pump {
    pub(super) fn new(
        websocket: WebSocket,
        link: BrokerLink,
        decoder: DecodeFn,
        log: ConnectionLog,
        close_timeout: Duration,
    ) -> Self {
        Self {
            websocket,
            link,
            memory: ReceiveMemory::default(),
            pings: Pings::default(),
            decoder,
            exit: None,
            log,
            opened_at: Instant::now(),
            close_timeout,
        }
    }

    /// Moves messages in both directions as far as possible without waiting, in this order:
    ///
    /// 1. take the frames and the broker's directives from the outbox; a close that discards the outbox ends
    ///    the poll here;
    /// 2. read and decode messages, as many as one turn may;
    /// 3. write, first control frames (Pongs for the messages just read among them), then data frames. The reply to a
    ///    Close frame is left to the closing handshake, as nothing may follow it;
    /// 4. send the pending events to the broker;
    /// 5. report an end of the connection that was found by reading, once all events before it are sent;
    /// 6. report a close by the broker, once all frames are written.
    ///
    /// If reading stopped because of queued control frames and these are written now, another turn follows:
    /// tungstenite may hold messages that it has already read, for which the socket would not wake the task.
    /// In all other cases a waker is registered.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PumpExit> {
        let is_closed_by_client = self.is_closed_by_client();
        let writer = self.websocket.writer_mut();
        let queued = writer.queue.len();
        let directives = self.link.take(cx, writer);
        if self.log.traces_messages {
            let taken = writer.queue.iter().skip(queued);
            taken.for_each(|frame| self.log.trace_sent(frame));
        }
        if let Some(reason) = directives.ping.filter(|_| !is_closed_by_client) {
            writer.queue_control(self.pings.ping(reason));
        }
        // The outbox repeats this order in each poll.
        let closing = match directives.close {
            Some(CloseOrder::Abort) => return Poll::Ready(PumpExit::Abort),
            Some(CloseOrder::Graceful(reason)) if reason.discards_outbox() => {
                return Poll::Ready(PumpExit::Close(reason));
            }
            Some(CloseOrder::Graceful(reason)) => {
                // A client that does not read its last frames must not keep the connection open by
                // sending. Reading continues, since a client may write all its messages before it
                // reads.
                writer.socket.ignore_received_as_activity = true;
                Some(reason)
            }
            None => None,
        };

        let stop = self.receive(cx, directives);

        if !self.is_closed_by_client() {
            self.link.write(cx, self.websocket.writer_mut());
        }
        let all_sent = self.send_events(cx);

        if let Some(exit) = self.exit.take_if(|_| all_sent) {
            return Poll::Ready(exit);
        }
        let writer = self.websocket.writer_mut();
        if let Some(reason) = closing.filter(|_| writer.is_empty()) {
            return Poll::Ready(PumpExit::Close(reason));
        }
        if stop == ReadStop::QueuedControls && writer.queued_controls() == 0 {
            writer.socket.end_read_turn(cx);
        }
        Poll::Pending
    }

    /// Reads messages, as many as one turn may, and sends the commands to the broker. Reserves memory for what
    /// this connection then holds.
    fn receive(&mut self, cx: &mut Context<'_>, directives: Directives) -> ReadStop {
        if self.exit.is_some() {
            return ReadStop::Waits;
        }
        let is_unread = directives.pause_reading
            || !self.send_events(cx)
            || self.poll_budget(cx).is_pending()
            || !self.websocket.writer_mut().socket.may_read(cx);
        // This time does not count as silence of the client.
        self.websocket.status().set_unread(is_unread);
        if is_unread {
            return ReadStop::Waits;
        }
        let stop = self.read_messages(cx, directives.close.is_some());
        let writer = self.websocket.writer_mut();
        // The broker may answer a message on another thread before this task writes, and the Pong for an earlier Ping is to
        // come first (RFC 6455 section 5.5.3).
        self.link.hold_back_broker(writer);
        let progress = writer.take_progress();
        writer.socket.status().record_progress(progress);
        // Of an ended message nothing is counted but what is decoded: counting its buffer, too, would evict a client for
        // a single message larger than half the budget.
        self.websocket.release_reader();
        let buffered_bytes = self.websocket.buffered_bytes();
        let status = self.websocket.status();
        if self.memory.reserve(buffered_bytes, status) {
            self.link.report_budget_exceeded();
        }
        self.send_events(cx);
        let status = self.websocket.status();
        if self.memory.reserve_all(buffered_bytes, status) {
            self.link.report_budget_exceeded();
        }
        self.send_events(cx);
        stop
    }

    /// Returns whether the client has sent a Close frame, the reply to which is queued.
    fn is_closed_by_client(&self) -> bool {
        matches!(self.exit, Some(PumpExit::ClosedByClient(_)))
    }

    /// Waits until the memory budget allows reading. While it is exceeded, first notifies the broker, and then
    /// yields to the connections that it evicts: otherwise all connections would read on before any memory is
    /// freed.
    fn poll_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let budget = self.websocket.status().receive_memory.budget();
        if !budget.is_exceeded() {
            self.memory.reset_yields();
            return Poll::Ready(());
        }
        if !self.memory.has_yielded() {
            self.link.report_budget_exceeded();
        }
        if !self.send_events(cx) || self.link.poll_taken(cx).is_pending() {
            return Poll::Pending;
        }
        if self.memory.count_yield() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Reads and decodes messages until the turn is over, the connection ends, or nothing more can be read now.
    /// While the broker is closing the connection, data messages are only counted.
    fn read_messages(&mut self, cx: &mut Context<'_>, is_closing: bool) -> ReadStop {
        let mut turn = Turn::default();
        while self.exit.is_none() {
            let writer = self.websocket.writer_mut();
            if turn.is_over() {
                // There may be more to read, but other tasks run first.
                writer.socket.end_read_turn(cx);
                break;
            }
            if writer.queued_controls() >= MAX_QUEUED_CONTROLS {
                return ReadStop::QueuedControls;
            }
            match self.websocket.poll_message(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    turn.count(message.len());
                    if let Some(message) = self.handle_message(message) {
                        let traffic = &self.websocket.status().traffic;
                        traffic.counts.messages_in.add(1);
                        if self.log.traces_messages {
                            self.log.trace_received(&message);
                        }
                        if !is_closing {
                            self.decode(message, &mut turn);
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => self.exit = Some(PumpExit::from_error(&error)),
                Poll::Ready(None) => self.exit = Some(PumpExit::Lost),
                Poll::Pending => break,
            }
        }
        ReadStop::Waits
    }

    /// Handles a received message, and returns it if it is a data message. Any message but Close ends the
    /// client's silence and answers a probe; a Pong also completes the measurement of the round trip if it
    /// answers the last Ping.
    fn handle_message(&mut self, message: WebSocketMessage) -> Option<Message> {
        let data = match message {
            WebSocketMessage::Text(text) => Some(Message::Text(text)),
            WebSocketMessage::Binary(bytes) => Some(Message::Binary(bytes)),
            WebSocketMessage::Pong(payload) => {
                if let Some(rtt) = self.pings.round_trip(&payload) {
                    self.websocket.status().record_rtt(rtt);
                }
                None
            }
            WebSocketMessage::Ping(_) | WebSocketMessage::Frame(_) => None,
            WebSocketMessage::Close(close) => {
                let code = close.map(|close| close.code.into());
                self.exit = Some(PumpExit::ClosedByClient(code));
                return None;
            }
        };
        if self.pings.record_message() {
            self.link.report_probe_answered();
        }
        data
    }

    /// Decodes a data message into a command for the broker.
    fn decode(&mut self, message: Message, turn: &mut Turn) {
        let bytes = message.len();
        match turn.decode(bytes, || (self.decoder)(message)) {
            Some(command) => {
                self.link.push_command(command);
                self.memory.add_decoded(bytes);
            }
            None => {
                self.log.log_ignored();
            }
        }
    }

    /// Sends all pending events to the broker, and returns whether that was possible. If it was not, the
    /// task of `cx` is woken once it is.
    fn send_events(&mut self, cx: &mut Context<'_>) -> bool {
        let sent = self.link.poll_send(cx, &mut self.memory);
        if let Poll::Ready(Err(BrokerGone)) = sent {
            self.exit = Some(PumpExit::Abort);
        }
        sent.is_ready()
    }

    /// Logs how the connection ended, and its traffic.
    pub(super) fn log_end(&self, reason: DisconnectReason) {
        let traffic = self.websocket.status().traffic.counts.get();
        self.log.log_end(reason, self.opened_at.elapsed(), traffic);
    }
}
