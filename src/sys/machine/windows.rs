//! Windows: none of what Unix says of a process can be asked for without calls that rustix does not have.

use super::Units;

/// Sockets for which a daemon plans: Windows has no limit of its own below its memory, which is not known here.
const PLANNED_SOCKETS: u64 = 10_240;

/// Returns nothing: it is not known.
pub(in crate::sys) fn installed_memory() -> Option<usize> {
    None
}

/// Returns an empty list: there are no control groups.
pub(in crate::sys) fn own_control_groups() -> String {
    String::new()
}

/// Returns nothing: there is no such limit.
pub(in crate::sys) fn address_space() -> Option<u64> {
    None
}

/// Returns nothing: there is no such limit.
pub(in crate::sys) fn max_open_files() -> Option<u64> {
    None
}

/// Returns nothing: there is no `/proc`.
pub(in crate::sys) fn units() -> Option<Units> {
    None
}

/// Returns the number of sockets for which a daemon plans: there is no limit to raise.
#[allow(clippy::unnecessary_wraps, reason = "Unix may have no limit")]
pub(in crate::sys) fn raise_open_files() -> Option<u64> {
    Some(PLANNED_SOCKETS)
}
