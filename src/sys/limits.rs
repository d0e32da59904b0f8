//! The limits of the process that follow from its settings and from the machine.

use super::capacity::{Capacity, DecidedBy, capacity, connections_in};
use super::memory::AvailableMemory;
use std::fmt;

/// The available memory divided by this is the default memory budget. The rest is for memory that the budget
/// does not count (tasks, small read buffers, the allocator's overhead, socket buffers) and for other
/// processes.
const MEMORY_BUDGET_DIVISOR: usize = 4;

/// Default memory budget, in bytes, if the system does not report its memory: a
/// quarter of the 512 MiB of a small machine.
const FALLBACK_BUDGET: usize = 128 << 20;

/// The limits of the process. They are displayed as a line for each.
pub struct Limits {
    /// Limit of open files.
    open_files: usize,
    /// The setting `max_connections`.
    wanted_connections: usize,
    memory: Option<AvailableMemory>,
    /// Memory that is not available to idle connections: the budget, or the default one where there is no limit.
    expected_memory: usize,
    pub(crate) capacity: Capacity,
    /// Limit of the memory that clients make the process use, in bytes; 0: no limit.
    pub(crate) memory_budget: usize,
}

impl Limits {
    /// Returns the limits for the settings `max_connections` and `memory_budget`. `reserved_files` are the descriptors
    /// that connections cannot have.
    pub(crate) fn new(
        max_connections: usize,
        memory_budget: Option<usize>,
        memory: Option<AvailableMemory>,
        open_files: usize,
        reserved_files: usize,
    ) -> Self {
        let default_budget = memory.map_or(FALLBACK_BUDGET, |memory| {
            memory.bytes / MEMORY_BUDGET_DIVISOR
        });
        let memory_budget = memory_budget.unwrap_or(default_budget);
        // Without a limit clients may make the process hold any amount; count with the usual one.
        let expected_memory = if memory_budget == 0 {
            default_budget
        } else {
            memory_budget
        };
        Self {
            open_files,
            wanted_connections: max_connections,
            memory,
            expected_memory,
            capacity: capacity(
                max_connections,
                open_files,
                reserved_files,
                memory,
                expected_memory,
            ),
            memory_budget,
        }
    }

    /// Returns the memory budget in words.
    pub(crate) fn budget_text(&self) -> String {
        match self.memory_budget {
            0 => "no limit".to_owned(),
            bytes => format!("{} MiB", bytes >> 20),
        }
    }

    /// Returns what to say if `max_connections` is more than the open-files limit or the memory allows.
    pub fn warnings(&self) -> Vec<String> {
        let (wanted, possible) = (self.wanted_connections, self.capacity.connections);
        let mut warnings = Vec::new();
        if wanted > possible {
            warnings.push(format!(
                "max_connections is {wanted}, but the open-files limit allows {possible}"
            ));
        }
        let is_set = self.capacity.decided_by == DecidedBy::Setting;
        if let Some(memory) = self.memory.filter(|_| is_set) {
            let possible = connections_in(memory.bytes, self.expected_memory);
            if wanted > possible {
                warnings.push(format!(
                    "max_connections is {wanted}, but the memory of {} suffices for about {possible} beside the \
                     memory budget",
                    memory.source
                ));
            }
        }
        warnings
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capacity {
            connections,
            decided_by,
        } = &self.capacity;
        writeln!(f, "open files: at most {}", self.open_files)?;
        writeln!(
            f,
            "connections: at most {connections}, because of {decided_by}"
        )?;
        writeln!(f, "memory budget: {}", self.budget_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits with 1000 open files, none of them reserved, and 128 MiB.
    fn limits(max_connections: usize, memory_budget: Option<usize>) -> Limits {
        let memory = AvailableMemory {
            bytes: 128 << 20,
            source: "the test",
        };
        Limits::new(max_connections, memory_budget, Some(memory), 1000, 0)
    }

    #[test]
    fn each_limit_is_a_line() {
        assert_eq!(
            limits(10, None).to_string(),
            "open files: at most 1000\nconnections: at most 10, because of max_connections\nmemory budget: 32 MiB\n"
        );
        let unlimited = limits(0, Some(0)).to_string();
        assert!(
            unlimited.ends_with("memory budget: no limit\n"),
            "{unlimited}"
        );
        assert!(
            unlimited.contains("at most 1000, because of the open-files limit"),
            "{unlimited}"
        );
    }

    #[test]
    fn more_connections_than_there_can_be_are_warned_of() {
        assert_eq!(limits(1000, None).warnings(), [""; 0]);
        assert_eq!(
            limits(1001, None).warnings(),
            ["max_connections is 1001, but the open-files limit allows 1000"]
        );
        // 128 MiB without the budget and 8 MiB, in pieces of 16 KiB.
        assert_eq!(
            limits(1000, Some(112 << 20)).warnings(),
            [
                "max_connections is 1000, but the memory of the test suffices for about 512 beside the memory budget"
            ]
        );
    }
}
