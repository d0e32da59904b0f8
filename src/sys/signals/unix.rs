//! Signals of Unix, each of which wakes the server through a socket.

use super::Request;
use async_std::future::timeout;
use async_std::os::unix::net::UnixStream;
use futures::AsyncReadExt;
use futures::stream::{self, Stream};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shortest time between two reloads. Requests that come sooner are one together, so that a thousand signals a second
/// neither fill the log nor take the time of clients.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The terminal of the session that the process is in.
const TERMINAL: &str = "/dev/tty";

/// Returns a stream of what signals ask for. After the first SIGTERM or SIGINT the second ends the process at once with
/// status 1. A SIGHUP that is ignored at the start stays ignored, as nohup(1) wants it.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn requests() -> io::Result<impl Stream<Item = Request>> {
    let (receiver, sender) = StdUnixStream::pair()?;
    receiver.set_nonblocking(true)?;
    let (stopping, hung_up) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    if !is_ignored(SIGHUP) {
        signal_hook::flag::register(SIGHUP, Arc::clone(&hung_up))?;
        signal_hook::low_level::pipe::register(SIGHUP, sender)?;
    }
    let signals = Signals {
        wakes: UnixStream::from(receiver),
        stopping,
        hung_up,
        has_terminal: is_terminal_there(),
        next_reload: Instant::now(),
    };
    let next = async |mut signals: Signals| Some((signals.next().await, signals));
    Ok(stream::unfold(signals, next))
}

/// The state of the stream.
struct Signals {
    /// Each signal writes a byte. Which one it was is in the flags.
    wakes: UnixStream,
    /// Whether SIGTERM or SIGINT has come.
    stopping: Arc<AtomicBool>,
    /// Whether SIGHUP has come since the last reload.
    hung_up: Arc<AtomicBool>,
    /// Whether there was a terminal at the start.
    has_terminal: bool,
    /// The time before which there is no other reload.
    next_reload: Instant,
}

impl Signals {
    /// Waits for the next request.
    async fn next(&mut self) -> Request {
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return Request::Stop;
            }
            let now = Instant::now();
            let is_hung_up = self.hung_up.load(Ordering::Relaxed);
            if is_hung_up && now >= self.next_reload {
                self.hung_up.store(false, Ordering::Relaxed);
                self.next_reload = now + RELOAD_INTERVAL;
                return self.reload_or_stop();
            }
            let mut bytes = [0; 64];
            let wake = self.wakes.read(&mut bytes);
            let is_broken = if is_hung_up {
                let woken = timeout(self.next_reload - now, wake).await;
                woken.is_ok_and(|read| read.is_err())
            } else {
                wake.await.is_err()
            };
            if is_broken {
                // No signal could be received any more.
                return Request::Stop;
            }
        }
    }

    /// Returns what SIGHUP asks for. The kernel sends it, too, when the terminal is closed.
    fn reload_or_stop(&self) -> Request {
        if !self.has_terminal || is_terminal_there() {
            return Request::Reload;
        }
        log::info!("the terminal is gone");
        // The next SIGTERM is the second signal.
        self.stopping.store(true, Ordering::Relaxed);
        Request::Stop
    }
}

fn is_terminal_there() -> bool {
    File::open(TERMINAL).is_ok()
}

/// Returns whether this process ignores a signal, as far as it can be known.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

/// Returns whether the process with this `/proc/PID/status` ignores a signal (proc_pid_status(5)).
fn ignores(status: &str, signal: i32) -> bool {
    let mut masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigIgn:"));
    let mask = masks
        .next()
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_has_a_bit_for_each() {
        let status = |mask: &str| format!("Name:\tswitchboard\nSigIgn:\t{mask}\nSigCgt:\tffff\n");
        assert!(ignores(&status("0000000000000001"), SIGHUP));
        assert!(!ignores(&status("0000000000001000"), SIGHUP));
        assert!(ignores(&status("0000000000005001"), SIGTERM));
        assert!(!ignores("", SIGHUP));
    }
}
