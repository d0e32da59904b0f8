//! Where the lines of the log come from, and the output that they are written to.

#[cfg(not(unix))]
mod direct;
#[cfg(unix)]
mod pipe;

#[cfg(not(unix))]
pub(super) use direct::{LineSource, Output, TAKES_STANDARD_OUTPUT, write};
#[cfg(unix)]
pub(super) use pipe::{LineSource, Output, TAKES_STANDARD_OUTPUT, write};
