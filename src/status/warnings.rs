//! The last warnings of the log, as `/status` has them.

use crate::sys::recent_warnings::{self, Warning};
use humantime::format_rfc3339_millis;
use serde::Serialize;

/// A warning or an error of the log.
#[derive(Serialize)]
pub(super) struct WarningEntry {
    /// When it was logged, as RFC 3339 has it.
    time: String,
    level: String,
    message: String,
}

/// Returns the last warnings, oldest first.
pub(super) fn entries() -> Vec<WarningEntry> {
    recent_warnings::recent().into_iter().map(entry).collect()
}

fn entry(warning: Warning) -> WarningEntry {
    WarningEntry {
        time: format_rfc3339_millis(warning.time).to_string(),
        level: warning.level.as_str().to_lowercase(),
        message: warning.message,
    }
}
