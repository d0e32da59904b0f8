//! The devices whose clients have, or had, tokens that say that they are these devices.

use crate::base::spare::FreeSpare;
use crate::realm::{Access, ConnectionId};
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::proven::Proven;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// A device is protected by each of its connections, in whatever session, and afterwards for as long as it is remembered.
#[derive(Default)]
pub(super) struct ProvenDevices {
    /// The device of each connection that has proven one.
    by_connection: BTreeMap<ConnectionId, String>,
    /// The number of these connections by device: one for each session that the device is in.
    connected: BTreeMap<String, usize>,
    /// The memory of both.
    connected_bytes: usize,
    /// The devices whose connections have ended.
    gone: Proven<String>,
}

impl ProvenDevices {
    /// Records that the client of a connection has proven to be a device; more than once is the same as once.
    pub(super) fn connect(&mut self, conn: ConnectionId, device_id: &str) {
        if let Entry::Vacant(place) = self.by_connection.entry(conn) {
            let device_id = place.insert(device_id.to_owned());
            self.connected_bytes += cost(device_id);
            *self.connected.entry(device_id.clone()).or_default() += 1;
        }
    }

    /// Records that a connection has ended, for whatever reason. Its device is remembered from now on.
    pub(super) fn disconnect(&mut self, now: Duration, conn: ConnectionId) {
        let Some(device_id) = self.by_connection.remove(&conn) else {
            return;
        };
        self.connected_bytes -= cost(&device_id);
        if let Some(count) = self.connected.get_mut(&device_id) {
            *count -= 1;
            if *count == 0 {
                self.connected.remove(&device_id);
            }
        }
        self.gone.insert(now, device_id);
    }

    /// Returns whether a client has, or has had, a token that says that it is this device. Of those that are gone, the
    /// first are forgotten at some point.
    pub(super) fn contains(&self, device_id: &String) -> bool {
        self.connected.contains_key(device_id) || self.gone.contains(device_id)
    }

    /// Forgets the devices that are gone if tokens are no longer read: see [`Proven::forget_unprovable`].
    pub(super) fn forget_unprovable(&mut self, access: &Access) {
        self.gone.forget_unprovable(access);
    }

    /// Returns the memory of all devices, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.connected_bytes + self.gone.bytes()
    }

    /// Returns the memory of what a connection has proven, in bytes.
    pub(super) fn bytes_of(&self, conn: ConnectionId) -> usize {
        let device_id = self.by_connection.get(&conn);
        device_id.map_or(0, cost)
    }

    /// Forgets devices that are gone, oldest first, until `bytes` are freed. Returns the bytes freed.
    pub(super) fn shed(&mut self, bytes: usize) -> usize {
        self.gone.shed(bytes)
    }

    /// Returns whether no connection has proven a device.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_no_connection(&self) -> bool {
        self.by_connection.is_empty() && self.connected.is_empty() && self.connected_bytes == 0
    }
}

/// Returns the memory of a connection's device: its places in both maps, and its ID in each. The nodes of the first map
/// are half full, as connections come in ascending order, and those of the second about two thirds.
fn cost(device_id: &String) -> usize {
    let places = 2 * size_of::<(ConnectionId, String)>() + size_of::<(String, usize)>() * 3 / 2;
    places + 2 * device_id.heap_bytes()
}

impl FreeSpare for ProvenDevices {
    fn free_spare(&mut self) {
        let Self {
            by_connection,
            connected,
            connected_bytes: _,
            gone,
        } = self;
        by_connection.free_spare();
        connected.free_spare();
        gone.free_spare();
    }
}
