//! Carrying out what realms want done: frames into outboxes, and what happens when one is full.

use super::outbox::Report;
use super::{Broker, Moment};
use crate::base::close::Close;
use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Effect, WhenFull};

impl Broker {
    pub(super) fn apply(&mut self, moment: Moment, effect: Effect, sender: Option<ConnectionId>) {
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
            Effect::Close(who, why) => self.close(who, why),
            Effect::Probe(who, patience) => self.probe(moment, who, patience),
        }
    }

    /// Puts a frame into an outbox; what is to be done if there is no room is the realm's policy.
    pub(super) fn send(&mut self, to: ConnectionId, frame: Frame, sender: Option<ConnectionId>) {
        let Some(connection) = self.connections.get(&to).filter(|it| !it.closing) else {
            return;
        };
        if self.entering == Some(to) {
            connection.outbox.push_first(frame, &mut self.wakers);
            return;
        }
        let Err(frame) = connection.outbox.push(frame, &mut self.wakers) else {
            return;
        };
        let Some(host) = self.hosts.get(connection.listener) else {
            return;
        };
        match host.when_full {
            WhenFull::HoldSender if sender.is_some() => {
                self.push_over(to, frame, Report::Room, sender);
            }
            WhenFull::CloseReader if connection.has_had_no_turn() => {
                self.push_over(to, frame, Report::Turn, sender);
            }
            _ => self.close(to, Close::TooSlow),
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
        match connection.outbox.push_to_half(frame, &mut self.wakers) {
            Ok(()) => true,
            Err(frame) if connection.has_had_no_turn() => {
                self.push_over(to, frame, Report::Turn, sender);
                true
            }
            Err(_) => false,
        }
    }

    /// Puts a frame into an outbox although there is no room, while its sender, if there is one,
    /// waits for a report.
    pub(super) fn push_over(
        &mut self,
        to: ConnectionId,
        frame: Frame,
        report: Report,
        sender: Option<ConnectionId>,
    ) {
        if let Some(connection) = self.connections.get_mut(&to) {
            connection.outbox.push_over(frame, report, &mut self.wakers);
            connection.holds.extend(sender);
            sender.into_iter().for_each(|sender| self.hold(sender));
        }
    }

    pub(super) fn hold(&mut self, who: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&who) {
            connection.held += 1;
            connection.outbox.hold(true, &mut self.wakers);
        }
    }

    pub(super) fn release_held_by(&mut self, who: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&who) else {
            return;
        };
        for held in std::mem::take(&mut connection.holds) {
            if let Some(connection) = self.connections.get_mut(&held) {
                connection.held -= 1;
                if connection.held == 0 {
                    connection.pinged = None;
                    connection.pulse.beat();
                    connection.outbox.hold(false, &mut self.wakers);
                }
            }
        }
    }
}
