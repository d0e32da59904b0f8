//! Limits and units of Unix.

use super::Units;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// The largest limit of open files that macOS lets a process set (`OPEN_MAX`, setrlimit(2)).
#[cfg(target_vendor = "apple")]
const OPEN_MAX: u64 = 10_240;

/// Returns the memory of the machine in bytes, if the system reports it.
#[cfg(target_os = "linux")]
pub(in crate::sys) fn installed_memory() -> Option<usize> {
    let system = rustix::system::sysinfo();
    let unit = usize::try_from(system.mem_unit).ok()?;
    usize::try_from(system.totalram).ok()?.checked_mul(unit)
}

/// Returns nothing: other systems do not report it in a way that rustix knows.
#[cfg(not(target_os = "linux"))]
pub(in crate::sys) fn installed_memory() -> Option<usize> {
    None
}

/// Returns the list of the control groups of this process, empty where there are none.
pub(in crate::sys) fn own_control_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Returns the limit of the address space in bytes.
pub(in crate::sys) fn address_space() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Returns the limit of open files; `None`: there is none.
pub(in crate::sys) fn max_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns the units of `/proc/PID/stat`.
#[allow(clippy::unnecessary_wraps, reason = "Windows has none")]
pub(in crate::sys) fn units() -> Option<Units> {
    Some(Units {
        ticks_per_second: clock_ticks_per_second(),
        page_size: page_size(),
    })
}

/// Raises the soft limit of open files to the hard limit, or to what the system allows. Returns the limit that then
/// applies.
pub(in crate::sys) fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = possible(maximum);
    if current != wanted {
        let limits = Rlimit {
            current: wanted,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, limits) {
            log::warn!("cannot raise the open-files limit from {current:?} to {wanted:?}: {error}");
        }
    }
    max_open_files()
}

/// Returns the soft limit that is possible with this hard limit.
#[cfg(target_vendor = "apple")]
#[allow(clippy::unnecessary_wraps, reason = "the other systems have no limit")]
fn possible(maximum: Option<u64>) -> Option<u64> {
    Some(maximum.map_or(OPEN_MAX, |maximum| maximum.min(OPEN_MAX)))
}

/// Returns the soft limit that is possible with this hard limit.
#[cfg(not(target_vendor = "apple"))]
fn possible(maximum: Option<u64>) -> Option<u64> {
    maximum
}
