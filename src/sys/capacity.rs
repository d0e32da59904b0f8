//! The number of connections that the process can serve.

use crate::sys::memory::AvailableMemory;
use std::fmt;

/// Memory that the process takes without connections, in bytes: the program, its threads, tables and the log.
const BASE_MEMORY: usize = 8 << 20;

/// Memory of a connection beside the memory budget, in bytes: an idle one takes 3 KB in the process and 4 KB in the
/// kernel (measured in a control group), and one that is busy up to as much again, for a request head, what is
/// being read, and the kernel's buffers.
const CONNECTION_MEMORY: usize = 16 << 10;

/// The largest number of connections, and what decided about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) connections: usize,
    pub(crate) decided_by: DecidedBy,
}

/// What decided about the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecidedBy {
    /// `max_connections`.
    Setting,
    /// The limit of open files, and the descriptors that are needed for other purposes.
    OpenFiles,
    /// The memory, from this source, without the memory budget.
    Memory(&'static str),
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("max_connections"),
            Self::OpenFiles => f.write_str("the open-files limit"),
            Self::Memory(source) => write!(f, "the memory of {source}"),
        }
    }
}

/// Returns the capacity for the setting `max_connections`, of which 0 means as many as possible. `reserved_files`
/// are the descriptors that connections cannot have. Memory limits only where the setting does not: the operator
/// may know that not all clients are busy at once.
pub(crate) fn capacity(
    max_connections: usize,
    open_files: usize,
    reserved_files: usize,
    memory: Option<AvailableMemory>,
    memory_budget: usize,
) -> Capacity {
    let by_files = Capacity {
        connections: open_files.saturating_sub(reserved_files).max(1),
        decided_by: DecidedBy::OpenFiles,
    };
    let other = match (max_connections, memory) {
        (0, None) => return by_files,
        (0, Some(memory)) => Capacity {
            connections: connections_in(memory.bytes, memory_budget),
            decided_by: DecidedBy::Memory(memory.source),
        },
        (connections, _) => Capacity {
            connections,
            decided_by: DecidedBy::Setting,
        },
    };
    if other.connections <= by_files.connections {
        other
    } else {
        by_files
    }
}

/// Returns the number of connections for which this memory suffices while the budget is used up.
pub(crate) fn connections_in(memory: usize, memory_budget: usize) -> usize {
    let left = memory.saturating_sub(memory_budget + BASE_MEMORY);
    (left / CONNECTION_MEMORY).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: usize) -> Option<AvailableMemory> {
        Some(AvailableMemory {
            bytes,
            source: "the test",
        })
    }

    fn decided(connections: usize, decided_by: DecidedBy) -> Capacity {
        Capacity {
            connections,
            decided_by,
        }
    }

    #[test]
    fn descriptors_of_listeners_are_not_available_to_connections() {
        assert_eq!(
            capacity(0, 1024, 664, memory(1 << 40), 0),
            decided(360, DecidedBy::OpenFiles)
        );
        assert_eq!(
            capacity(0, 10, 64, None, 0),
            decided(1, DecidedBy::OpenFiles)
        );
    }

    #[test]
    fn the_smallest_of_the_limits_decides() {
        assert_eq!(
            capacity(100, 1064, 64, memory(1 << 40), 0),
            decided(100, DecidedBy::Setting)
        );
        assert_eq!(
            capacity(5000, 1064, 64, memory(1 << 40), 0),
            decided(1000, DecidedBy::OpenFiles)
        );
        // (128 - 32 - 8) MiB in pieces of 16 KiB.
        assert_eq!(
            capacity(0, 65_536, 64, memory(128 << 20), 32 << 20),
            decided(5632, DecidedBy::Memory("the test"))
        );
    }

    #[test]
    fn a_number_that_was_set_is_not_lowered_for_memory() {
        assert_eq!(
            capacity(20_000, 65_536, 64, memory(128 << 20), 32 << 20),
            decided(20_000, DecidedBy::Setting)
        );
    }

    #[test]
    fn too_little_memory_leaves_one_connection() {
        assert_eq!(connections_in(1 << 20, 1 << 20), 1);
    }
}
