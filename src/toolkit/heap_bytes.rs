//! The memory behind a value, for what realms store and count in the memory budget.

use crate::realm::Claims;
use std::sync::Arc;
use uuid::Uuid;

/// Bytes that the allocator takes for each allocation besides those that were asked for (glibc: a header, and
/// the size rounded up).
pub const ALLOCATION_OVERHEAD: usize = 16;

/// A value that knows how much memory it has allocated.
pub trait HeapBytes {
    /// Returns the bytes of the value's allocations, the value itself not included. Cheap: it is called
    /// whenever a stored value changes.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Returns the bytes of an allocation of this size.
pub const fn allocation(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        bytes + ALLOCATION_OVERHEAD
    }
}

impl HeapBytes for String {
    fn heap_bytes(&self) -> usize {
        allocation(self.capacity())
    }
}

impl HeapBytes for Arc<str> {
    /// Counts the text for each that shares it, as the others may go first. Two counters precede it.
    fn heap_bytes(&self) -> usize {
        allocation(self.len() + 2 * size_of::<usize>())
    }
}

impl HeapBytes for Uuid {}

/// The audience is the listener's, and shared.
impl HeapBytes for Claims {
    fn heap_bytes(&self) -> usize {
        let texts = [&self.subject, &self.name, &self.username];
        let texts = texts.into_iter().flatten().map(String::heap_bytes);
        let roles = self.roles.as_ref().map_or(0, |roles| {
            let texts = roles.iter().map(String::heap_bytes);
            allocation(roles.capacity() * size_of::<String>()) + texts.sum::<usize>()
        });
        texts.sum::<usize>() + roles
    }
}

impl HeapBytes for () {}
