//! Returning freed memory from glibc's malloc to the system.
//!
//! By default glibc keeps several times the memory that a few large messages needed. Without unsafe code an
//! environment variable is the only way to change that.

/// The variable that glibc reads when a process starts (mallopt(3), `M_TRIM_THRESHOLD`).
const VARIABLE: &str = "MALLOC_TRIM_THRESHOLD_";
/// Bytes of free memory that malloc may keep.
const BYTES: &str = "262144";

/// Executes the program again in the same process with the variable set. Does nothing if it is already set,
/// as by the packaged systemd unit, or if the C library is not glibc. If it fails, the process continues
/// without.
pub fn enable_trim() {
    if cfg!(all(target_os = "linux", target_env = "gnu")) && std::env::var_os(VARIABLE).is_none() {
        exec_again();
    }
}

#[cfg(unix)]
fn exec_again() {
    use std::os::unix::process::CommandExt;
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut again = std::process::Command::new(program);
        // Returns only if it fails.
        let _ = again.arg0(name).args(arguments).env(VARIABLE, BYTES).exec();
    }
}

#[cfg(not(unix))]
fn exec_again() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systemd_unit_sets_the_same_value() {
        let unit = include_str!("../../systemd/switchboard.service");
        assert!(unit.contains(&format!("Environment={VARIABLE}={BYTES}\n")));
    }
}
