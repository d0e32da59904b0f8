//! The runtime's own reactor, which all threads share.

use async_executor::StaticExecutor;
use std::future::pending;
use std::io;

/// Waits in the runtime's reactor.
pub(crate) struct Reactor;

impl Reactor {
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the other implementation can fail"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Runs the tasks of an executor on the current thread, for ever.
    pub(crate) fn run(&self, executor: &StaticExecutor) {
        async_io::block_on(executor.run(pending::<()>()));
    }
}
