//! Standard output cannot be replaced: the loggers hand their lines over, and what else is printed is no line of the log.

use crate::sys::log_queue::LineSplitter;
use std::io::{self, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether what is printed to standard output are lines of the log.
pub(in crate::sys) const TAKES_STANDARD_OUTPUT: bool = false;

/// The log while there is one.
static TAKER: Mutex<Option<Taker>> = Mutex::new(None);

/// What is called with each line.
type Take = Box<dyn FnMut(&[u8]) + Send>;

/// Who takes the lines.
struct Taker {
    splitter: LineSplitter,
    take: Take,
    close: Box<dyn FnOnce() + Send>,
}

/// Takes the lines that are written.
pub(in crate::sys) struct LineSource;

impl LineSource {
    /// Has `take` called with each line that is written, and `close` after the last.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the other implementation can fail"
    )]
    pub(in crate::sys) fn start(
        take: impl FnMut(&[u8]) + Send + 'static,
        close: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        *lock() = Some(Taker {
            splitter: LineSplitter::default(),
            take: Box::new(take),
            close: Box::new(close),
        });
        Ok(Self)
    }

    /// Ends the log. What is written later is lost.
    #[allow(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "the other implementation can fail, and has state"
    )]
    pub(in crate::sys) fn end(&self) -> io::Result<()> {
        if let Some(mut taker) = lock().take() {
            taker.splitter.finish(&mut taker.take);
            (taker.close)();
        }
        Ok(())
    }
}

fn lock() -> MutexGuard<'static, Option<Taker>> {
    // No code that holds the lock can panic in the middle of a change.
    TAKER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes lines of the log.
pub(in crate::sys) fn write(lines: &[u8]) {
    if let Some(taker) = lock().as_mut() {
        taker.splitter.push(lines, &mut taker.take);
    }
}

/// The real standard output, which the standard library writes to a console as it must be.
pub(in crate::sys) struct Output {
    stdout: Stdout,
    /// Whether the process ends with its reader. Only that of a pipe can be gone.
    pub(in crate::sys) is_pipe: bool,
}

impl Output {
    /// Returns standard output.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the other implementation can fail"
    )]
    pub(in crate::sys) fn current() -> io::Result<Self> {
        let stdout = io::stdout();
        Ok(Self {
            stdout,
            is_pipe: true,
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Standard output keeps what follows the last end of a line. What it is given are whole lines.
        self.stdout.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}
