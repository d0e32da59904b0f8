//! A connection's link to the broker: events to it, frames and directives from it.

use super::receive_memory::ReceiveMemory;
use crate::base::close::DisconnectReason;
use crate::broker::{DirectWriter, Directives, Event, EventSender, OpenEvent, OutboxReceiver};
use crate::net::frame_writer::FrameWriter;
use crate::realm::{Command, Commands, ConnectionId};
use futures::SinkExt;
use futures::future::poll_fn;
use std::task::{Context, Poll, ready};

/// The error of a connection whose broker has ended.
pub(super) struct BrokerGone;

/// The link of one connection to the broker. Events that are to be sent wait here until the broker has taken the
/// last one.
pub(crate) struct BrokerLink {
    conn: ConnectionId,
    inbox: EventSender,
    outbox: OutboxReceiver,
    /// Decoded messages that are not yet sent to the broker.
    commands: Commands,
    /// The broker is to be notified once as much is written as the socket accepts.
    notify_when_flushed: bool,
    /// Whether nothing is to be written here, as the outbox has it: it then changes that when something is left for the
    /// task.
    is_idle: bool,
    /// [`Event::OutboxDrained`] is to be sent.
    outbox_drained: bool,
    /// [`Event::ProbeAnswered`] is to be sent.
    probe_answered: bool,
    /// [`Event::BudgetExceeded`] is to be sent.
    budget_exceeded: bool,
}

impl BrokerLink {
    /// Creates the link of a connection that the broker does not know of before [`BrokerLink::open`].
    pub(crate) fn new(conn: ConnectionId, inbox: EventSender, outbox: OutboxReceiver) -> Self {
        Self {
            conn,
            inbox,
            outbox,
            commands: Commands::default(),
            notify_when_flushed: false,
            is_idle: false,
            outbox_drained: false,
            probe_answered: false,
            budget_exceeded: false,
        }
    }

    /// Has the broker open the connection, and waits until it has taken the request.
    pub(crate) async fn open(&mut self, event: OpenEvent) {
        // If the broker is gone, the reply is cancelled.
        let _ = self.inbox.send(Event::Open(Box::new(event))).await;
    }

    /// Moves the frames in the outbox to the end of the writer's queue and returns the broker's directives. The task
    /// of `cx` is woken on the next change.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, writer: &mut FrameWriter) -> Directives {
        let directives = self.outbox.take(cx, &mut writer.queue);
        writer.resume(directives.written, &self.outbox);
        self.is_idle &= writer.is_empty();
        self.notify_when_flushed |= directives.notify;
        directives
    }

    /// Has the broker write to the socket whenever nothing is to be written here.
    pub(super) fn set_direct_writer(&self, writer: DirectWriter) {
        self.outbox.set_direct_writer(writer);
    }

    /// Has the broker write nothing any more, and takes what it has left.
    pub(super) fn stop_direct_writes(&mut self, writer: &mut FrameWriter) {
        self.claim_socket(writer);
        self.outbox.drop_direct_writer();
    }

    /// Has the broker write nothing before what is queued here, if anything is.
    pub(super) fn hold_back_broker(&mut self, writer: &mut FrameWriter) {
        if self.is_idle && !writer.is_empty() {
            self.claim_socket(writer);
        }
    }

    /// Has the broker write nothing until all is written here, and takes what it has left.
    fn claim_socket(&mut self, writer: &mut FrameWriter) {
        self.is_idle = false;
        let written = self.outbox.claim_socket(&mut writer.queue);
        writer.resume(written, &self.outbox);
    }

    /// Writes queued frames, and frees their capacity in the outbox. What the broker is to be notified of is then
    /// among the pending events.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, writer: &mut FrameWriter) {
        self.hold_back_broker(writer);
        self.outbox_drained |= writer.send(cx, &self.outbox);
        if writer.is_empty() || writer.socket.status().is_write_blocked() {
            self.outbox_drained |= std::mem::take(&mut self.notify_when_flushed);
        }
        if writer.is_empty() && !self.is_idle {
            self.is_idle = true;
            self.outbox.set_task_idle();
        }
    }

    /// Discards the queued data frames of which nothing is written.
    pub(super) fn discard_frames(&self, writer: &mut FrameWriter) {
        writer.discard_queue(&self.outbox);
    }

    /// Returns whether the broker aborts the connection. The task of `cx` is woken if it does so later.
    pub(super) fn is_aborted(&mut self, cx: &mut Context<'_>) -> bool {
        self.outbox.is_aborted(cx)
    }

    /// Adds a command to the pending events.
    pub(super) fn push_command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Adds an [`Event::ProbeAnswered`] to the pending events.
    pub(super) fn report_probe_answered(&mut self) {
        self.probe_answered = true;
    }

    /// Adds an [`Event::BudgetExceeded`] to the pending events.
    pub(super) fn report_budget_exceeded(&mut self) {
        self.budget_exceeded = true;
    }

    /// Sends all pending events to the broker. The reservation of the commands passes to the broker with them.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        memory: &mut ReceiveMemory,
    ) -> Poll<Result<(), BrokerGone>> {
        while self.has_event() {
            ready!(self.inbox.poll_ready(cx)).map_err(|_| BrokerGone)?;
            let event = self.next_event(memory);
            // Cannot fail: the channel is ready, and this is the only user of the sender.
            let _ = self.inbox.start_send(event);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the broker has taken the last event that was sent to it.
    pub(super) fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The channel has capacity for the next event once the broker has taken the last one.
        self.inbox.poll_ready(cx).map(|_| ())
    }

    /// Reports the end of the connection, after which the broker is sent nothing.
    pub(crate) async fn report_end(&mut self, reason: DisconnectReason) {
        // Fails only if the broker is gone; then there is no need to notify it.
        let _ = poll_fn(|cx| self.inbox.poll_ready(cx)).await;
        let event = Event::Disconnected(self.conn, reason);
        let _ = self.inbox.start_send(event);
    }

    fn has_event(&self) -> bool {
        self.outbox_drained
            || self.probe_answered
            || self.budget_exceeded
            || !self.commands.is_empty()
    }

    /// Removes and returns the next of the pending events, of which there must be one.
    fn next_event(&mut self, memory: &mut ReceiveMemory) -> Event {
        if std::mem::take(&mut self.outbox_drained) {
            Event::OutboxDrained(self.conn)
        } else if !self.commands.is_empty() {
            // Before the answer to a probe: with these commands the client may leave.
            Event::Commands {
                conn: self.conn,
                commands: std::mem::take(&mut self.commands),
                reserved_bytes: memory.pass_on_decoded(),
            }
        } else if std::mem::take(&mut self.probe_answered) {
            Event::ProbeAnswered(self.conn)
        } else {
            self.budget_exceeded = false;
            Event::BudgetExceeded
        }
    }
}
