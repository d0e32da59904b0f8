//! The signals that stop the daemon.

use futures::AsyncReadExt;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Done at the first SIGTERM or SIGINT. The second ends the process at once, whatever it is at.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let (signalled, signaller) = UnixStream::pair()?;
    signalled.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
        signal_hook::low_level::pipe::register(signal, signaller.try_clone()?)?;
    }
    let mut signalled = async_std::os::unix::net::UnixStream::from(signalled);
    Ok(async move {
        let mut byte = [0];
        // An error would mean that signals cannot be heard; then stopping is right, too.
        let _ = signalled.read(&mut byte).await;
    })
}
