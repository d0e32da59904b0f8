//! Broadcasts: what goes to the same recipients one after another is gathered, and queued for each of them once.
//!
//! Only what a client's message causes waits, and only until another frame or a close for one of its recipients, an
//! event that is about more than messages, or the broker's next lane. So nobody can tell it from frames that are queued
//! one by one: the order towards each client is that of the effects, and what does not fit an outbox together is queued
//! one by one (`delivery.rs`).

use super::Broker;
use crate::base::frame::Frame;
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Recipients};
use std::slice;

/// Largest size in bytes of frames that are joined. A larger frame is not copied.
const MAX_JOINED_BYTES: usize = 64 * 1024;

/// Lists of recipients for which frames wait, at most: one for each dialect of a room, and more than protocols have.
const MAX_GROUPS: usize = 8;

/// The broadcasts that wait. No connection is among the recipients of two groups.
#[derive(Default)]
pub(super) struct Broadcasts {
    groups: Vec<Group>,
}

/// Frames for the same recipients, in order.
struct Group {
    recipients: Recipients,
    broadcasts: Vec<Broadcast>,
    /// Length of all frames.
    bytes: usize,
}

/// A frame for all recipients of its group.
pub(super) struct Broadcast {
    pub(super) frame: Frame,
    /// Connections that are not sent it, in ascending order.
    pub(super) except: Box<[ConnectionId]>,
    /// The connection whose message caused it, if any.
    pub(super) sender: Option<ConnectionId>,
}

impl Broadcast {
    fn is_for(&self, conn: ConnectionId) -> bool {
        self.except.binary_search(&conn).is_err()
    }
}

impl Broadcasts {
    /// Returns whether no broadcast waits.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the frames that wait for a connection.
    pub(super) fn frames_for(&self, conn: ConnectionId) -> impl Iterator<Item = &Frame> {
        let groups = self.groups.iter();
        let group = groups.filter(move |group| group.recipients.contains(conn));
        let broadcasts = group.flat_map(|group| &group.broadcasts);
        let own = broadcasts.filter(move |broadcast| broadcast.is_for(conn));
        own.map(|broadcast| &broadcast.frame)
    }

    /// Removes and returns the first group that `matches`.
    fn take(&mut self, matches: impl Fn(&Group) -> bool) -> Option<Group> {
        let index = self.groups.iter().position(matches)?;
        Some(self.groups.remove(index))
    }
}

impl FreeSpare for Broadcasts {
    fn free_spare(&mut self) {
        let Self { groups } = self;
        groups.free_spare();
    }
}

impl Broker {
    /// Queues a broadcast, at once or with those that follow it to the same recipients.
    pub(super) fn broadcast(&mut self, recipients: Recipients, broadcast: Broadcast) {
        // What is sent to a client before its admission is exempt from the limit of its outbox, so it cannot wait.
        let may_wait = broadcast.sender.is_some()
            && recipients.is_kept()
            && !self.admission.has_deferred(&recipients);
        let mut groups = self.broadcasts.groups.iter_mut();
        let same = groups.find(|group| group.recipients.is_same_list(&recipients));
        let bytes = broadcast.frame.len();
        if let Some(group) =
            same.filter(|group| may_wait && group.bytes + bytes <= MAX_JOINED_BYTES)
        {
            group.bytes += bytes;
            group.broadcasts.push(broadcast);
            return;
        }
        let overlaps = |group: &Group| group.recipients.overlaps(&recipients);
        while let Some(group) = self.broadcasts.take(overlaps) {
            self.queue_broadcasts(&group.recipients, &group.broadcasts);
        }
        if !may_wait {
            self.queue_broadcasts(&recipients, slice::from_ref(&broadcast));
            return;
        }
        if self.broadcasts.groups.len() == MAX_GROUPS {
            self.queue_all_broadcasts();
        }
        self.broadcasts.groups.push(Group {
            recipients,
            broadcasts: vec![broadcast],
            bytes,
        });
    }

    /// Queues the broadcasts that wait for a connection, before something else is done with it.
    pub(super) fn queue_broadcasts_to(&mut self, conn: ConnectionId) {
        let is_recipient = |group: &Group| group.recipients.contains(conn);
        if let Some(group) = self.broadcasts.take(is_recipient) {
            self.queue_broadcasts(&group.recipients, &group.broadcasts);
        }
    }

    /// Queues all broadcasts that wait.
    pub(super) fn queue_all_broadcasts(&mut self) {
        while let Some(group) = self.broadcasts.take(|_| true) {
            self.queue_broadcasts(&group.recipients, &group.broadcasts);
        }
    }

    /// Queues broadcasts for their recipients: several as one frame, for those that are sent all of them and whose
    /// outbox has capacity for it.
    fn queue_broadcasts(&mut self, recipients: &Recipients, broadcasts: &[Broadcast]) {
        let mut excepted: Vec<ConnectionId> = Vec::new();
        for broadcast in broadcasts {
            broadcast.frame.set_recipients(recipients.len());
            excepted.extend(&broadcast.except);
        }
        excepted.sort_unstable();
        let frames = broadcasts.iter().map(|broadcast| &broadcast.frame);
        let joined = (broadcasts.len() > 1).then(|| Frame::join(frames));
        if let Some(joined) = &joined {
            joined.set_recipients(recipients.len());
        }
        for conn in recipients.iter() {
            let is_sent_all = excepted.binary_search(&conn).is_err();
            let joined = joined.as_ref().filter(|_| is_sent_all);
            if joined.is_some_and(|joined| self.send_joined(conn, joined)) {
                continue;
            }
            for broadcast in broadcasts {
                if is_sent_all || broadcast.is_for(conn) {
                    self.send(conn, broadcast.frame.clone(), broadcast.sender);
                }
            }
        }
    }
}
