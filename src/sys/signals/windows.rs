//! Ctrl-C of Windows.

use super::Request;
use async_std::task;
use futures::stream::{self, Stream};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the flag is looked at that Ctrl-C sets: there is no pipe that a handler could write to.
const INTERVAL: Duration = Duration::from_millis(100);

/// Returns a stream of what signals ask for. After the first Ctrl-C the second ends the process at once with status 1.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn requests() -> io::Result<impl Stream<Item = Request>> {
    let stopping = Arc::<AtomicBool>::default();
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    let next = async |stopping: Arc<AtomicBool>| {
        while !stopping.load(Ordering::Relaxed) {
            task::sleep(INTERVAL).await;
        }
        Some((Request::Stop, stopping))
    };
    Ok(stream::unfold(stopping, next))
}
