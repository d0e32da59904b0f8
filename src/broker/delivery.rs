//! Applies effects of realms: puts frames into outboxes, and handles full ones.

use super::broadcasts::Broadcast;
use super::outbox::NotifyWhen;
use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Effect, SlowConsumerPolicy};

impl Broker {
    /// Applies one effect. `sender` is the connection whose message caused it, if any. Returns how many effects it
    /// counts as: a broadcast as one for each recipient.
    pub(super) fn apply(
        &mut self,
        now: Now,
        effect: Effect,
        sender: Option<ConnectionId>,
    ) -> usize {
        match effect {
            Effect::Send(recipient, frame) => {
                self.queue_broadcasts_to(recipient);
                self.send(recipient, frame, sender);
            }
            Effect::Broadcast { to, except, frame } => {
                let recipients = to.len();
                let broadcast = Broadcast {
                    frame,
                    except,
                    sender,
                };
                self.broadcast(to, broadcast);
                return recipients;
            }
            Effect::Deliver(recipient, frame) => {
                self.queue_broadcasts_to(recipient);
                self.deliver(recipient, frame, sender);
            }
            Effect::Close(conn, reason) => self.close(conn, reason),
            Effect::ExpireAt(conn, end) => self.expire_at(conn, end),
            Effect::Probe(conn, timeout) => self.probe(now, conn, timeout),
            Effect::Defer(conn) => self.defer(now, conn),
            Effect::Admit(conn) => self.admit(conn),
            Effect::Reject(conn, rejection) => self.reject(conn, rejection),
            Effect::PauseReading(conn) => self.pause_for_realm(conn),
            Effect::ResumeReading(conn) => self.resume_for_realm(conn),
        }
        1
    }

    /// Queues a frame of several messages for a connection. Returns whether nothing is left to do: if not, the
    /// messages are to be sent one by one.
    pub(super) fn send_joined(&mut self, recipient: ConnectionId, frame: &Frame) -> bool {
        let Some(connection) = self.connections.get(&recipient).filter(|it| !it.closing) else {
            return true;
        };
        connection.outbox.push_joined(frame, &mut self.wakeups)
    }

    /// Queues a frame for a connection. If its outbox is full, the listener's
    /// [`SlowConsumerPolicy`] decides.
    pub(super) fn send(
        &mut self,
        recipient: ConnectionId,
        frame: Frame,
        sender: Option<ConnectionId>,
    ) {
        let Some(connection) = self.connections.get(&recipient).filter(|it| !it.closing) else {
            return;
        };
        if self.admission.is_undecided(recipient) {
            connection.outbox.push_initial(frame, &mut self.wakeups);
            return;
        }
        let Err(frame) = connection.outbox.push(frame, &mut self.wakeups) else {
            return;
        };
        let Some(slot) = self.slots.get(connection.listener_index) else {
            return;
        };
        match slot.realm.protocol().slow_consumer_policy {
            SlowConsumerPolicy::Backpressure if sender.is_some() => {
                self.push_past_limit(recipient, frame, NotifyWhen::LowWatermark, sender);
            }
            SlowConsumerPolicy::Disconnect if connection.is_unscheduled() => {
                self.push_past_limit(recipient, frame, NotifyWhen::Flushed, sender);
            }
            _ => self.close(recipient, CloseReason::TOO_SLOW),
        }
    }

    /// Queues a frame for a connection whose outbox had capacity for it when the realm asked. If it has none, the
    /// connection's task was only not scheduled then. The socket may have become blocked since, but the realm may
    /// have told the sender that its message is delivered.
    fn deliver(&mut self, recipient: ConnectionId, frame: Frame, sender: Option<ConnectionId>) {
        let Some(connection) = self.connections.get(&recipient).filter(|it| !it.closing) else {
            return;
        };
        if let Err(frame) = connection.outbox.push_relayed(frame, &mut self.wakeups) {
            self.push_past_limit(recipient, frame, NotifyWhen::Flushed, sender);
        }
    }

    /// Queues a frame above the outbox's limit, and pauses its sender, if it has one, until the
    /// recipient's connection reports that the outbox has drained.
    fn push_past_limit(
        &mut self,
        recipient: ConnectionId,
        frame: Frame,
        notify: NotifyWhen,
        sender: Option<ConnectionId>,
    ) {
        let Some(connection) = self.connections.get_mut(&recipient) else {
            return;
        };
        connection
            .outbox
            .push_past_limit(frame, notify, &mut self.wakeups);
        if let Some(sender) = sender {
            connection.paused_senders.push(sender);
            self.add_pause(sender);
        }
    }
}
