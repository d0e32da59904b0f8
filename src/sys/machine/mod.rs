//! What the system says of the machine, and of the limits of this process.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{
    address_space, installed_memory, max_open_files, own_control_groups, raise_open_files, units,
};
#[cfg(windows)]
pub(super) use windows::{
    address_space, installed_memory, max_open_files, own_control_groups, raise_open_files, units,
};

/// The units of the figures of a process.
pub(super) struct Units {
    pub(super) ticks_per_second: u64,
    pub(super) page_size: usize,
}
