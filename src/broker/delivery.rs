//! Carrying out what realms want done: frames into outboxes, and what happens when one is full.

use super::outbox::NotifyWhen;
use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Effect, SlowConsumerPolicy};

impl Broker {
    pub(super) fn apply(&mut self, now: Now, effect: Effect, sender: Option<ConnectionId>) {
        match effect {
            Effect::Send(to, frame) => self.send(to, frame, sender),
            Effect::Deliver(to, frame, receipt) => {
                let news = if self.deliver(to, frame, sender) {
                    receipt.delivered
                } else {
                    receipt.failed
                };
                news.into_iter()
                    .for_each(|news| self.send(receipt.to, news, sender));
            }
            Effect::Close(conn, why) => self.close(conn, why),
            Effect::Probe(conn, patience) => self.probe(now, conn, patience),
        }
    }

    /// Puts a frame into an outbox; what is to be done if there is no room is the realm's policy.
    pub(super) fn send(&mut self, to: ConnectionId, frame: Frame, sender: Option<ConnectionId>) {
        let Some(connection) = self.connections.get(&to).filter(|it| !it.closing) else {
            return;
        };
        if self.opening == Some(to) {
            connection.outbox.push_initial(frame, &mut self.wakers);
            return;
        }
        let Err(frame) = connection.outbox.push(frame, &mut self.wakers) else {
            return;
        };
        let Some(slot) = self.slots.get(connection.listener) else {
            return;
        };
        match slot.slow_consumer_policy {
            SlowConsumerPolicy::Backpressure if sender.is_some() => {
                self.push_past_limit(to, frame, NotifyWhen::LowWatermark, sender);
            }
            SlowConsumerPolicy::Disconnect if connection.is_unscheduled() => {
                self.push_past_limit(to, frame, NotifyWhen::Flushed, sender);
            }
            _ => self.close(to, CloseReason::TooSlow),
        }
    }

    /// Puts a frame into an outbox if there is room, and says whether there was. Nobody is closed
    /// for what a single other one sends.
    pub(super) fn deliver(
        &mut self,
        to: ConnectionId,
        frame: Frame,
        sender: Option<ConnectionId>,
    ) -> bool {
        let Some(connection) = self.connections.get(&to).filter(|it| !it.closing) else {
            return false;
        };
        match connection.outbox.push_relayed(frame, &mut self.wakers) {
            Ok(()) => true,
            Err(frame) if connection.is_unscheduled() => {
                self.push_past_limit(to, frame, NotifyWhen::Flushed, sender);
                true
            }
            Err(_) => false,
        }
    }

    /// Puts a frame into an outbox although there is no room, while its sender, if there is one,
    /// waits for a report.
    pub(super) fn push_past_limit(
        &mut self,
        to: ConnectionId,
        frame: Frame,
        report: NotifyWhen,
        sender: Option<ConnectionId>,
    ) {
        if let Some(connection) = self.connections.get_mut(&to) {
            connection
                .outbox
                .push_past_limit(frame, report, &mut self.wakers);
            connection.paused_senders.extend(sender);
            sender
                .into_iter()
                .for_each(|sender| self.pause_reading(sender));
        }
    }

    pub(super) fn pause_reading(&mut self, conn: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.paused_by += 1;
            connection.outbox.pause_reading(true, &mut self.wakers);
        }
    }

    pub(super) fn resume_senders_of(&mut self, conn: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        for sender in std::mem::take(&mut connection.paused_senders) {
            if let Some(connection) = self.connections.get_mut(&sender) {
                connection.paused_by -= 1;
                if connection.paused_by == 0 {
                    connection.pinged = None;
                    connection.status.record_activity();
                    connection.outbox.pause_reading(false, &mut self.wakers);
                }
            }
        }
    }
}
