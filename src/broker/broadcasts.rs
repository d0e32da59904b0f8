//! Broadcasts: what goes to the same recipients one after another is gathered, and queued for each of them once.
//!
//! Only what a client's message causes waits, and only until another frame or a close for one of its recipients, an
//! event that is about more than messages, or the broker's next lane. So nobody can tell it from frames that are queued
//! one by one: the order towards each client is that of the effects, and what does not fit an outbox together is queued
//! one by one (`delivery.rs`).

use super::{Broker, WRITES_PER_LOOK};
use crate::base::frame::Frame;
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Recipients};

/// Largest size in bytes of frames that are joined. A larger frame is not copied.
const MAX_JOINED_BYTES: usize = 64 * 1024;

/// Lists of recipients for which frames wait, at most: one for each dialect of a room, and more than protocols have.
const MAX_GROUPS: usize = 8;

/// The broadcasts that wait. No connection is among the recipients of two groups.
#[derive(Default)]
pub(super) struct Broadcasts {
    groups: Vec<Group>,
    /// The group that is queued for some of its recipients. It is queued for the others before any other frame is.
    begun: Option<BegunGroup>,
}

/// Frames for the same recipients, in order.
struct Group {
    recipients: Recipients,
    broadcasts: Vec<Broadcast>,
    /// Length of all frames.
    bytes: usize,
}

/// A group to which no frame is added any more.
struct BegunGroup {
    group: Group,
    /// Number of the recipients for which it is queued.
    done: usize,
    /// The frames as one, if they are several.
    joined: Option<Frame>,
    /// Connections that are not sent all of the frames, in ascending order.
    excepted: Vec<ConnectionId>,
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

impl Group {
    fn begin(self) -> BegunGroup {
        let recipients = self.recipients.len();
        let frames = self.broadcasts.iter().map(|broadcast| &broadcast.frame);
        let joined = (self.broadcasts.len() > 1).then(|| Frame::join(frames.clone()));
        let frames = frames.chain(&joined);
        frames.for_each(|frame| frame.set_recipients(recipients));
        let excepted = self.broadcasts.iter().flat_map(|it| it.except.iter());
        let mut excepted: Vec<ConnectionId> = excepted.copied().collect();
        excepted.sort_unstable();
        BegunGroup {
            group: self,
            done: 0,
            joined,
            excepted,
        }
    }
}

impl BegunGroup {
    /// Returns the recipients for which it is not queued yet.
    fn left(&self) -> &[ConnectionId] {
        let recipients = self.group.recipients.as_slice();
        recipients.get(self.done..).unwrap_or_default()
    }
}

impl Broadcasts {
    /// Returns whether no broadcast waits.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.begun.is_none()
    }

    /// Returns the frames that wait for a connection.
    pub(super) fn frames_for(&self, conn: ConnectionId) -> impl Iterator<Item = &Frame> {
        let begun = self.begun.iter();
        let begun = begun.filter(move |begun| begun.left().binary_search(&conn).is_ok());
        let groups = self.groups.iter();
        let group = groups.filter(move |group| group.recipients.contains(conn));
        let group = begun.map(|begun| &begun.group).chain(group);
        let broadcasts = group.flat_map(|group| &group.broadcasts);
        let own = broadcasts.filter(move |broadcast| broadcast.is_for(conn));
        own.map(|broadcast| &broadcast.frame)
    }

    /// Removes and returns the first group that `matches`.
    fn take(&mut self, matches: impl Fn(&Group) -> bool) -> Option<Group> {
        let index = self.groups.iter().position(matches)?;
        Some(self.groups.remove(index))
    }

    /// Removes and returns what is begun, or else begins the first group.
    fn take_begun(&mut self) -> Option<BegunGroup> {
        let begun = self.begun.take();
        begun.or_else(|| self.take(|_| true).map(Group::begin))
    }
}

impl FreeSpare for Broadcasts {
    fn free_spare(&mut self) {
        // Nothing is begun then: a tick first has all broadcasts queued.
        let Self { groups, begun: _ } = self;
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
        self.finish_begun();
        let overlaps = |group: &Group| group.recipients.overlaps(&recipients);
        while let Some(group) = self.broadcasts.take(overlaps) {
            self.queue_group(group);
        }
        if may_wait && self.broadcasts.groups.len() == MAX_GROUPS {
            self.queue_all_broadcasts();
        }
        let group = Group {
            recipients,
            broadcasts: vec![broadcast],
            bytes,
        };
        if may_wait {
            self.broadcasts.groups.push(group);
        } else {
            self.queue_group(group);
        }
    }

    /// Queues the broadcasts that wait for a connection, before something else is done with it.
    pub(super) fn queue_broadcasts_to(&mut self, conn: ConnectionId) {
        self.finish_begun();
        let is_recipient = |group: &Group| group.recipients.contains(conn);
        if let Some(group) = self.broadcasts.take(is_recipient) {
            self.queue_group(group);
        }
    }

    /// Queues all broadcasts that wait.
    pub(super) fn queue_all_broadcasts(&mut self) {
        self.finish_begun();
        while let Some(group) = self.broadcasts.take(|_| true) {
            self.queue_group(group);
        }
    }

    /// Queues the first group for its next [`WRITES_PER_LOOK`] recipients, and writes to those sockets that the broker may
    /// write to. So each outbox is fetched from memory once.
    pub(super) fn write_some_broadcasts(&mut self) {
        if let Some(mut begun) = self.broadcasts.take_begun() {
            let first = self.wakeups.due();
            self.queue_for_some(&mut begun);
            self.wakeups.write_after(first);
            self.broadcasts.begun = Some(begun).filter(|begun| !begun.left().is_empty());
        }
    }

    /// Queues what is begun for the rest of its recipients.
    fn finish_begun(&mut self) {
        if let Some(begun) = self.broadcasts.begun.take() {
            self.queue_begun(begun);
        }
    }

    fn queue_group(&mut self, group: Group) {
        self.queue_begun(group.begin());
    }

    fn queue_begun(&mut self, mut begun: BegunGroup) {
        while !begun.left().is_empty() {
            self.queue_for_some(&mut begun);
        }
    }

    /// Queues broadcasts for the next of their recipients: several as one frame, for those that are sent all of them and
    /// whose outbox has capacity for it.
    fn queue_for_some(&mut self, begun: &mut BegunGroup) {
        let left = begun.left();
        let recipients = left.get(..WRITES_PER_LOOK).unwrap_or(left);
        // The lookups come before the first push, so that the processor waits for the memory of several connections at a
        // time. `send` checks again.
        let mut are_open = [false; WRITES_PER_LOOK];
        for (is_open, conn) in are_open.iter_mut().zip(recipients) {
            let connection = self.connections.get(conn);
            *is_open = connection.is_some_and(|connection| connection.is_open());
        }
        let open = recipients
            .iter()
            .zip(are_open)
            .filter(|(_, is_open)| *is_open);
        for (&conn, _) in open {
            let is_sent_all = begun.excepted.binary_search(&conn).is_err();
            let joined = begun.joined.as_ref().filter(|_| is_sent_all);
            if joined.is_some_and(|joined| self.send_joined(conn, joined)) {
                continue;
            }
            for broadcast in &begun.group.broadcasts {
                if is_sent_all || broadcast.is_for(conn) {
                    self.send(conn, broadcast.frame.clone(), broadcast.sender);
                }
            }
        }
        begun.done += recipients.len();
    }
}
