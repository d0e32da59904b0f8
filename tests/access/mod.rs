//! Access tokens: whom the daemon admits, as whom and until when, and what operators see of it.
//!
//! | file | subject |
//! | --- | --- |
//! | `peerdrop`, `fastchat`, `workspace`, `loudsync`, `peerjs` | clients of the protocol with tokens, without, and with wrong ones |
//! | `reload` | secrets that change while the daemon runs |
//! | `log` | no token in the log, nor in what the status port says |
//! | `command` | `switchboard token`, which makes and checks them |
//! | `examples` | the examples that make them |
//!
//! Tokens are signed by `tests/common/tokens.rs`. What is wrong with the setting `access` is told in `tests/configuration_errors.rs`.

mod command;
mod examples;
mod fastchat;
mod log;
mod loudsync;
mod peerdrop;
mod peerjs;
mod reload;
mod workspace;
