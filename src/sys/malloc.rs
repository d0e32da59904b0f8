//! What the C library does with memory that was freed.
//!
//! glibc keeps what a few large messages needed, several times over, unless its environment says
//! otherwise; it can be told in no other way without unsafe code.

/// The variable that glibc reads at the start (mallopt(3), `M_TRIM_THRESHOLD`), and how many bytes
/// may stay free.
const VARIABLE: &str = "MALLOC_TRIM_THRESHOLD_";
const BYTES: &str = "262144";

/// Starts the program anew in its place, the same process, with that variable. Where it is set
/// already, as in the packaged unit, or that cannot be done, all stays as it is.
pub fn enable_trim() {
    if cfg!(all(target_os = "linux", target_env = "gnu")) && std::env::var_os(VARIABLE).is_none() {
        start_anew();
    }
}

#[cfg(unix)]
fn start_anew() {
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
fn start_anew() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_says_the_same() {
        let unit = include_str!("../../systemd/switchboard.service");
        assert!(unit.contains(&format!("Environment={VARIABLE}={BYTES}\n")));
    }
}
