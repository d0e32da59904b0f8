//! The daemon as its users meet it: the built program, its ports, its exit status.
//!
//! Each file is about one thing; `common` has what they need for it. No test sleeps, but where
//! pauses are the attack: what is waited for is a frame, a line of the log or the end of the process,
//! and a deadline far beyond any slow machine turns a lost one into a failure. For the same reason the
//! daemon's own time-outs are off, or as good as off, but for the one that a test is about.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by a panic"
)]

mod backpressure;
mod common;
mod configuration;
mod documents;
mod fastchat;
mod hostile;
mod http;
mod lifecycle;
mod liveness;
mod loudsync;
mod memory;
mod peerdrop;
mod peerjs;
mod together;
mod transcripts;
mod workspace;
