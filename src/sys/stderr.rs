//! Standard error: for what is wrong before there is a log, and for panics.

use super::log_format::{self, LineFormat};
use super::streams::is_stderr_writable;
use super::{log_tokens, recent_warnings};
use log::Level;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};
use std::{iter, thread};

/// How long a message may wait for a standard error that takes none.
const PATIENCE: Duration = Duration::from_millis(500);

/// Characters of a panic's message that are reported, at most: it may quote what a client sent.
const MAX_PANIC_MESSAGE: usize = 200;

/// Prints a text to standard error without access tokens, if that can be written. `eprintln!` would panic if it cannot,
/// and wait without end if nothing reads it. In the journal each line is an error.
pub fn print(text: impl Display) {
    if is_stderr_writable(PATIENCE) {
        let mut text = without_tokens(&format!("{text}\n"));
        if log_format::is_journal(io::stderr()) {
            let lines = text.lines().map(|line| format!("<3>{line}\n"));
            text = lines.collect();
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Makes panics be reported in the format of the log, without waiting: on standard error, or in the log if nothing
/// reads that.
pub fn report_panics(format: LineFormat) {
    std::panic::set_hook(Box::new(move |panic| {
        // Captured only if `RUST_BACKTRACE` asks for it.
        let backtrace = Backtrace::capture();
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        if is_stderr_writable(Duration::ZERO) {
            let thread = thread::current();
            let thread = thread.name().unwrap_or("without a name");
            let message = panic_message(panic.payload());
            let message = format!("thread {thread} panicked at {place}: {message}");
            let backtrace = match backtrace.status() {
                BacktraceStatus::Captured => backtrace.to_string(),
                _ => String::new(),
            };
            let report = panic_report(format, SystemTime::now(), &message, &backtrace);
            let _ = io::stderr().write_all(report.as_bytes());
        } else {
            log::error!("panicked at {place}");
        }
    }));
}

/// Returns the lines about a panic: one, which is kept for the status port, too, and those of the backtrace.
fn panic_report(format: LineFormat, now: SystemTime, message: &str, backtrace: &str) -> String {
    let lines = iter::once(message).chain(backtrace.lines());
    let line = |text: &str| {
        let target = env!("CARGO_PKG_NAME");
        log_format::line(format, now, Level::Error, target, format_args!("{text}")) + "\n"
    };
    let lines: Vec<String> = lines.map(line).collect();
    if let Some(first) = lines.first() {
        recent_warnings::record(format, first.as_bytes());
    }
    lines.concat()
}

/// Returns the message of a panic, cut and without access tokens.
fn panic_message(payload: &dyn Any) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let formatted = || payload.downcast_ref::<String>().map(String::as_str);
    let message = literal.or_else(formatted).unwrap_or("without a message");
    let message: String = message.chars().take(MAX_PANIC_MESSAGE).collect();
    without_tokens(&message)
}

/// Returns a text without access tokens: what is written here is not written by the log, which leaves them out.
fn without_tokens(text: &str) -> String {
    let mut redacted = Vec::new();
    log_tokens::redact(text.as_bytes(), &mut redacted);
    String::from_utf8_lossy(&redacted).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_in_the_format_of_the_log() {
        let report =
            |format| panic_report(format, SystemTime::UNIX_EPOCH, "a\nb", "0: main\n1: start");
        assert_eq!(
            report(LineFormat::Journal),
            "<3>a\\nb\n<3>0: main\n<3>1: start\n"
        );
        assert!(report(LineFormat::Text).starts_with("1970-01-01T00:00:00.000Z ERROR a\\nb\n"));
        for line in report(LineFormat::Json).lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["level"], 50);
        }
    }

    #[test]
    fn a_panic_is_among_the_recent_warnings_without_its_backtrace() {
        panic_report(
            LineFormat::Json,
            SystemTime::now(),
            "a panic\nto show",
            "no line",
        );
        let recent = recent_warnings::recent();
        let has = |text| {
            recent
                .iter()
                .any(|it| it.level == Level::Error && it.message == text)
        };
        assert!(has("a panic\nto show") && !has("no line"));
    }

    #[test]
    fn the_message_of_a_panic_is_cut() {
        assert_eq!(panic_message(&"short"), "short");
        assert_eq!(panic_message(&"long".repeat(100)).len(), MAX_PANIC_MESSAGE);
        assert_eq!(panic_message(&5), "without a message");
    }

    #[test]
    fn the_message_of_a_panic_has_no_token() {
        assert_eq!(panic_message(&"got \"eyJhbGciOiJI.eyJzdWIi"), "got \"***");
    }
}
