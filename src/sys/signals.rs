//! The signals that stop the daemon.

use futures::AsyncReadExt;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Returns a future that completes at the first SIGTERM or SIGINT. The second ends the process at once with
/// status 1.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let (receiver, sender) = UnixStream::pair()?;
    receiver.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    let mut receiver = async_std::os::unix::net::UnixStream::from(receiver);
    Ok(async move {
        let mut byte = [0];
        // After an error no signal could be received any more, so it stops the daemon, too.
        let _ = receiver.read(&mut byte).await;
    })
}
