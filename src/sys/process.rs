//! What the system says of this process (proc_pid_stat(5), proc_pid_fd(5)).

use super::machine::{self, Units};
use std::fs;

/// The figures of this process. Those that the system does not report are `None`: off Linux, all but `max_fds`, if that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessFigures {
    /// What the process uses, and what follows from the same line of the system.
    pub(crate) usage: Option<Usage>,
    /// Open file descriptors.
    pub(crate) open_fds: Option<u64>,
    /// Limit of open file descriptors; `None`: there is none.
    pub(crate) max_fds: Option<u64>,
}

/// What the process uses of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// User and system time in seconds.
    pub(crate) cpu_seconds: f64,
    pub(crate) threads: u64,
    pub(crate) virtual_memory_bytes: u64,
    pub(crate) resident_memory_bytes: u64,
}

/// Returns the figures of this process now.
pub(crate) fn figures() -> ProcessFigures {
    ProcessFigures {
        usage: fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|stat| parse_stat(&stat, &machine::units()?)),
        open_fds: open_fds(),
        max_fds: machine::max_open_files(),
    }
}

/// Returns the usage in a line of `/proc/PID/stat`.
fn parse_stat(stat: &str, units: &Units) -> Option<Usage> {
    // The second field is the program's name in brackets, in which anything may stand.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // By its number in proc_pid_stat(5); the third is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / units.ticks_per_second as f64,
        threads: field(20)?,
        virtual_memory_bytes: field(23)?,
        resident_memory_bytes: field(24)? * units.page_size as u64,
    })
}

/// Returns the number of open file descriptors. Linux says it as the size of their directory from 6.2 on; before, they
/// are counted.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        // Without the one by which the directory is read.
        0 => Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_system_is_read_whatever_the_program_is_called() {
        let name = "42 (a) b (c)) S 1 42 42 0 -1 4194560 500 0 0 0";
        let stat = format!("{name} 250 50 0 0 20 0 6 0 12345 10485760 300 184467 1 1");
        let units = Units {
            ticks_per_second: 100,
            page_size: 4096,
        };
        let expected = Usage {
            cpu_seconds: 3.0,
            threads: 6,
            virtual_memory_bytes: 10_485_760,
            resident_memory_bytes: 300 * 4096,
        };
        assert_eq!(parse_stat(&stat, &units), Some(expected));
        for broken in ["", "42 (a", "42 (a) S 1 2 3"] {
            assert_eq!(parse_stat(broken, &units), None, "{broken:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_threads_and_open_files() {
        let figures = figures();
        let usage = figures.usage.unwrap();
        assert!(
            usage.resident_memory_bytes > 1 << 20 && usage.threads > 0,
            "{usage:?}"
        );
        assert!(figures.open_fds.unwrap() >= 3, "{figures:?}");
    }
}
