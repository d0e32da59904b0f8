//! The log is written by threads of its own, so that nothing waits for its reader.
//!
//! A logger prints to standard output from the thread that logs, and waits there while the output is full; femme
//! panics if it cannot be written. So standard output is replaced by a pipe, which one thread always empties
//! into a bounded queue. Another one writes from the queue to the real output.

use super::log_format::LineFormat;
use super::log_lines::{LineSource, Output};
use super::log_queue::{LineQueue, MAX_LINE};
use super::log_thread;
use super::log_tokens;
use super::recent_warnings;
use super::stderr;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long the end of the process may wait for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The threads that write the log. On drop the lines that wait are written, for half a second at most.
#[must_use = "on drop the log ends"]
pub struct LogWriter {
    source: LineSource,
    /// Disconnected when the last line is written.
    finished: Receiver<()>,
}

/// Moves the lines of the log to a queue and a thread that writes them to standard output. They have this format.
///
/// # Errors
/// Those of the system, if it gives no more descriptors or threads.
pub fn start(format: LineFormat) -> io::Result<LogWriter> {
    let output = Output::current()?;
    let queue = Arc::new(LineQueue::new());
    let (finish, finished) = channel();
    let (from, to, closing) = (Arc::clone(&queue), Arc::clone(&queue), queue);
    // The threads allocate next to nothing themselves: they may have no heap (see `executor::start`).
    let mut batch = Vec::with_capacity(MAX_LINE + 1);
    log_thread::spawn("log writer", move || {
        // Disconnects the channel at the end.
        let _finish = finish;
        run_writer(output, &mut batch, &from);
    })?;
    let mut redacted = Vec::with_capacity(MAX_LINE + 1);
    recent_warnings::allocate();
    let take = move |line: &[u8]| {
        log_tokens::redact(line, &mut redacted);
        recent_warnings::record(format, &redacted);
        to.push(&redacted);
    };
    let source = LineSource::start(take, move || closing.close())?;
    Ok(LogWriter { source, finished })
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if self.source.end().is_ok() {
            let _ = self.finished.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Writes the queue to the output. Ends the process if the output is a pipe whose reader is gone, as in
/// `switchboard | head`.
fn run_writer(mut output: Output, batch: &mut Vec<u8>, queue: &LineQueue) {
    let ends_with_reader = output.is_pipe;
    let written = write_lines(&mut output, batch, ends_with_reader, queue, |dropped| {
        let level = log::max_level().to_level().unwrap_or(log::Level::Error);
        log::log!(
            level.min(log::Level::Warn),
            "{dropped} lines of the log were dropped, as standard output could not be written or was not read"
        );
    });
    if written.is_err() {
        stderr::print(
            "switchboard: standard output, to which the log is written, has no reader; exiting",
        );
        signal_hook::low_level::exit(1);
    }
}

/// Writes lines until the queue is closed and empty. Lines that cannot be written are dropped and counted; when
/// lines can be written again, `report` is called with their number.
///
/// # Errors
/// [`ErrorKind::BrokenPipe`], if `ends_with_reader`.
fn write_lines(
    output: &mut impl Write,
    batch: &mut Vec<u8>,
    ends_with_reader: bool,
    queue: &LineQueue,
    report: impl Fn(u64),
) -> io::Result<()> {
    // Whether the last line was written in part.
    let mut within_line = false;
    while queue.pop(batch) {
        let mut rest = batch.as_slice();
        let ended = if within_line {
            write_all(output, &mut b"\n".as_slice())
        } else {
            Ok(())
        };
        match ended.and_then(|()| write_all(output, &mut rest)) {
            Err(error) if ends_with_reader && error.kind() == ErrorKind::BrokenPipe => {
                return Err(error);
            }
            Err(_) => {
                let written = batch.len() - rest.len();
                let last = written.checked_sub(1).and_then(|at| batch.get(at));
                within_line = last.map_or(within_line, |byte| *byte != b'\n');
                let lines = rest.iter().filter(|byte| **byte == b'\n').count();
                queue.add_dropped(lines as u64);
            }
            Ok(()) => {
                within_line = false;
                let dropped = queue.take_dropped();
                if dropped > 0 {
                    report(dropped);
                }
            }
        }
    }
    Ok(())
}

/// Writes `bytes`, and leaves in it what could not be written.
fn write_all(output: &mut impl Write, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => *bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::log_queue::BATCH;
    use std::cell::RefCell;
    use std::collections::VecDeque;

    /// An output whose writes have these results: so many bytes, or this error. Without one, all bytes.
    #[derive(Default)]
    struct MockOutput {
        results: VecDeque<Result<usize, ErrorKind>>,
        written: String,
    }

    impl Write for MockOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.results.pop_front().unwrap_or(Ok(usize::MAX))?;
            let length = length.min(bytes.len());
            self.written
                .push_str(std::str::from_utf8(&bytes[..length]).unwrap());
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes each of `batches` on its own. Returns what was written, the reports, and whether the writer goes
    /// on.
    fn write(
        results: &[Result<usize, ErrorKind>],
        ends_with_reader: bool,
        batches: &[&str],
    ) -> (String, Vec<u64>, bool) {
        let mut output = MockOutput {
            results: results.iter().copied().collect(),
            ..MockOutput::default()
        };
        let queue = LineQueue::new();
        for batch in batches {
            // So long that no two share a batch.
            let padding = " ".repeat(BATCH - 20);
            queue.push(format!("{batch}{padding}\n").as_bytes());
        }
        queue.close();
        let reports = RefCell::new(Vec::new());
        let report = |dropped| reports.borrow_mut().push(dropped);
        let result = write_lines(
            &mut output,
            &mut Vec::new(),
            ends_with_reader,
            &queue,
            report,
        );
        let written = output.written.replace(' ', "");
        (written, reports.into_inner(), result.is_ok())
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_do_not_fit_and_they_are_reported_when_it_has_space_again() {
        for error in [
            ErrorKind::StorageFull,
            ErrorKind::Other,
            ErrorKind::PermissionDenied,
        ] {
            let results = [Ok(usize::MAX), Err(error)];
            let (written, reports, goes_on) = write(&results, true, &["one", "two", "three"]);
            assert!(goes_on);
            assert_eq!(
                (written.as_str(), reports),
                ("one\nthree\n", vec![1]),
                "{error}"
            );
        }
    }

    #[test]
    fn a_line_of_which_a_part_was_written_is_ended_before_the_next() {
        let results = [Ok(2), Err(ErrorKind::StorageFull)];
        let (written, reports, goes_on) = write(&results, true, &["one", "two", "three"]);
        assert!(goes_on);
        assert_eq!((written.as_str(), reports), ("on\ntwo\nthree\n", vec![1]));
    }

    #[test]
    fn only_a_pipe_without_a_reader_ends_the_writer() {
        let broken = [Err(ErrorKind::BrokenPipe)];
        assert_eq!(
            write(&broken, true, &["one", "two"]),
            (String::new(), vec![], false)
        );
        // A socket, such as the journal's.
        let (written, reports, goes_on) = write(&broken, false, &["one", "two"]);
        assert_eq!(
            (written.as_str(), reports, goes_on),
            ("two\n", vec![1], true)
        );
    }

    #[test]
    fn an_interrupted_write_is_repeated() {
        let results = [
            Err(ErrorKind::Interrupted),
            Ok(1),
            Err(ErrorKind::Interrupted),
        ];
        assert_eq!(
            write(&results, true, &["one"]),
            ("one\n".to_owned(), vec![], true)
        );
    }
}
