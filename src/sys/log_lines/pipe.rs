//! Standard output is replaced by a pipe: whatever a logger prints to it is a line of the log.

use crate::sys::log_queue::{BATCH, LineSplitter};
use crate::sys::log_thread;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::dup2_stdout;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

/// Whether what is printed to standard output are lines of the log.
pub(in crate::sys) const TAKES_STANDARD_OUTPUT: bool = true;

/// Bytes that are read from the pipe at once.
const READ_SIZE: usize = 16 * 1024;

/// Takes the lines that are printed.
pub(in crate::sys) struct LineSource {
    /// The reading end of the pipe.
    pipe: File,
}

impl LineSource {
    /// Replaces standard output. `take` is called with each line that is printed, and `close` after the last.
    ///
    /// # Errors
    /// Those of the system, if it gives no more descriptors or threads.
    pub(in crate::sys) fn start(
        take: impl FnMut(&[u8]) + Send + 'static,
        close: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (pipe, writing_end) = rustix::pipe::pipe()?;
        let pipe = File::from(pipe);
        let from = pipe.try_clone()?;
        let mut buffer = vec![0; READ_SIZE];
        let mut splitter = LineSplitter::default();
        log_thread::spawn("log reader", move || {
            read_lines(from, &mut buffer, &mut splitter, take);
            close();
        })?;
        dup2_stdout(writing_end)?;
        Ok(Self { pipe })
    }

    /// Ends the pipe: nothing has it open for writing then, and the reader comes to its end. What is printed later gets
    /// EBADF, which the standard library ignores for standard output.
    ///
    /// # Errors
    /// Those of dup2(2).
    pub(in crate::sys) fn end(&self) -> io::Result<()> {
        let _ = io::stdout().flush();
        Ok(dup2_stdout(&self.pipe)?)
    }
}

/// Writes lines of the log.
pub(in crate::sys) fn write(lines: &[u8]) {
    // Without a log there is nowhere to report an error of it.
    let _ = io::stdout().write_all(lines);
}

/// Empties the pipe, line by line, until no descriptor is left that could write to it. This thread must never
/// log: it would wait for itself.
fn read_lines(
    mut pipe: File,
    buffer: &mut [u8],
    splitter: &mut LineSplitter,
    mut take: impl FnMut(&[u8]),
) {
    loop {
        match pipe.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(length) => splitter.push(buffer.get(..length).unwrap_or_default(), &mut take),
        }
    }
    splitter.finish(&mut take);
}

/// The real standard output.
pub(in crate::sys) struct Output {
    file: File,
    /// Whether it is a pipe: then the process ends with its reader.
    pub(in crate::sys) is_pipe: bool,
}

impl Output {
    /// Returns what standard output is now.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    pub(in crate::sys) fn current() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let file_type = file.metadata().map(|metadata| metadata.file_type());
        let is_pipe = file_type.is_ok_and(|file_type| file_type.is_fifo());
        Ok(Self { file, is_pipe })
    }
}

impl Write for Output {
    /// Writes, and waits while an output that another process made non-blocking is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Where poll(2) says that a pipe is writable, this fits.
        let bytes = bytes.get(..BATCH).unwrap_or(bytes);
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
