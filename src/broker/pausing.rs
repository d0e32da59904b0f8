//! Pauses: connections that are not read from, because an outbox is full or because their realm wants it, and
//! the commands that arrive all the same.
//!
//! A connection has sent at most two batches of commands when it learns of the pause: the rest of the one that
//! caused it, and the one in its slot of the inbox.

use super::{Broker, Now};
use crate::base::spare::FreeSpare;
use crate::realm::{Command, ConnectionId};
use std::collections::{BTreeMap, VecDeque};

/// The pauses that realms want. How many reasons there are to pause a connection, full outboxes among them, is in
/// its `pause_count`.
#[derive(Default)]
pub(super) struct Pausing {
    /// Connections that their realm has paused, with the commands that have arrived since.
    held: BTreeMap<ConnectionId, HeldCommands>,
    /// Held commands of connections that were resumed during the current event.
    resumed: VecDeque<(ConnectionId, HeldCommands)>,
}

/// Commands of a connection that its realm has paused, in order. They are handled when it is resumed.
#[derive(Default)]
struct HeldCommands {
    commands: Vec<Command>,
    /// Bytes of the connection's `receive_memory` to release once the commands are handled.
    reserved_bytes: usize,
}

impl Pausing {
    /// Drops the held commands of a connection that has ended.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        self.held.remove(&conn);
    }

    /// Returns whether no connection is paused by its realm.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl FreeSpare for Pausing {
    fn free_spare(&mut self) {
        let Self { held, resumed } = self;
        held.free_spare();
        resumed.free_spare();
    }
}

impl Broker {
    /// Pauses reading from a connection, and holds its commands, until its realm resumes it.
    pub(super) fn pause_for_realm(&mut self, conn: ConnectionId) {
        let is_open = self.connections.get(&conn).is_some_and(|it| !it.closing);
        if is_open && !self.pausing.held.contains_key(&conn) {
            self.pausing.held.insert(conn, HeldCommands::default());
            self.add_pause(conn);
        }
    }

    /// Ends the pause of [`Broker::pause_for_realm`]. The held commands are handled after the current call.
    pub(super) fn resume_for_realm(&mut self, conn: ConnectionId) {
        if let Some(held) = self.pausing.held.remove(&conn) {
            self.remove_pause(conn);
            self.pausing.resumed.push_back((conn, held));
        }
    }

    /// Passes the commands of a connection to its realm, up to the one that closes or pauses the connection.
    /// Returns the units of work.
    pub(super) fn commands(
        &mut self,
        now: Now,
        conn: ConnectionId,
        commands: impl IntoIterator<Item = Command>,
        reserved_bytes: usize,
    ) -> usize {
        let mut work = 0;
        let mut commands = commands.into_iter();
        // Looked up again for each command: the one before may have closed or paused the connection.
        while let Some(connection) = self.connections.get(&conn).filter(|it| !it.closing) {
            let listener_index = connection.listener_index;
            if let Some(held) = self.pausing.held.get_mut(&conn) {
                held.commands.extend(commands);
                held.reserved_bytes += reserved_bytes;
                return work.max(1);
            }
            let Some(command) = commands.next() else {
                break;
            };
            work += self.run_realm(now, listener_index, Some(conn), |realm, cx| {
                realm.command(cx, conn, command);
            });
        }
        self.release_received(conn, reserved_bytes);
        work.max(1)
    }

    /// Handles the held commands of connections that have been resumed. Returns the units of work.
    pub(super) fn handle_resumed(&mut self, now: Now) -> usize {
        let mut work = 0;
        while let Some((conn, held)) = self.pausing.resumed.pop_front() {
            work += self.commands(now, conn, held.commands, held.reserved_bytes);
        }
        work
    }

    /// Drops the held commands of a connection that closes, which is no longer paused then.
    pub(super) fn drop_held(&mut self, conn: ConnectionId) {
        if let Some(held) = self.pausing.held.remove(&conn) {
            self.remove_pause(conn);
            self.release_received(conn, held.reserved_bytes);
        }
    }

    fn release_received(&self, conn: ConnectionId, bytes: usize) {
        if let Some(connection) = self.connections.get(&conn) {
            connection.status.receive_memory.shrink(bytes);
        }
    }

    /// Counts one more reason not to read from a connection.
    pub(super) fn add_pause(&mut self, conn: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.pause_count += 1;
            connection
                .outbox
                .set_reading_paused(true, &mut self.wakeups);
        }
    }

    /// Counts one reason less, and reads from the connection again if it was the last.
    pub(super) fn remove_pause(&mut self, conn: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.pause_count -= 1;
            if connection.pause_count == 0 {
                connection.liveness.resume();
                connection
                    .outbox
                    .set_reading_paused(false, &mut self.wakeups);
            }
        }
    }

    /// Resumes reading from the connections that were paused for this one, unless they are paused
    /// for another reason, too.
    pub(super) fn resume_senders_of(&mut self, conn: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        for sender in std::mem::take(&mut connection.paused_senders) {
            self.remove_pause(sender);
        }
    }
}
