//! The last warnings of the log, as `/status` has them.

use crate::sys::recent_warnings;
use humantime::format_rfc3339_millis;
use serde_json::{Value, json};

/// Returns the last warnings, oldest first.
pub(super) fn value() -> Value {
    let object = |warning: recent_warnings::Warning| {
        json!({
            "time": format_rfc3339_millis(warning.time).to_string(),
            "level": warning.level.as_str().to_lowercase(),
            "message": warning.message,
        })
    };
    recent_warnings::recent().into_iter().map(object).collect()
}
