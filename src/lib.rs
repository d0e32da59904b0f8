#![doc = include_str!("ARCHITECTURE.md")]
#![cfg_attr(
    any(test, fuzzing),
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may fail by a panic"
    )
)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "ARCHITECTURE.md is for maintainers and links to private items"
)]

pub mod base;
mod broker;
pub mod cli;
pub mod config;
mod net;
pub mod protocols;
pub mod realm;
pub mod server;
mod status;
pub mod sys;
#[cfg(any(test, fuzzing))]
pub mod testing;
mod toolkit;
