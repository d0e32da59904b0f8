//! switchboard: one small daemon that speaks five WebSocket protocols, each on its own port.
//!
//! # The way of a message
//!
//! ```text
//!             one per port       one per connection                           the one broker task
//!  socket ──> accept ──> http ──> connection ── frame ──> decode ── command ──> broker ──> realm
//!                         │           ^                   (protocol)               │      (protocol)
//!                         │           └───────────── outbox <── frame, close ──────┘
//!                         └──> plain HTTP answers (PeerJS API, 404, 426, …)
//! ```
//!
//! [`accept`] takes connections on one port, admits or turns away, and spawns a task for each;
//! it never waits for a client. That task reads a bounded, timed request head ([`http`]), checks
//! it and asks the broker ([`handshake`]), and from 101 on is a [`connection`]. A plain request is
//! answered there and then ([`answer`]), by the realm where the protocol has an HTTP API.
//!
//! A connection is one task and one socket. It knows no protocol by name: each message goes
//! through its protocol's `decode`, and the commands that come out go to the broker over a channel
//! on which every connection has one place. So a turn's worth of a client's commands is on its way
//! at a time, fairness needs no scheduler, and TCP slows the sender.
//!
//! A protocol module ([`protocols`]) is one document made code. Its [`realm`] is the state and the
//! rules of the protocol on one listener, as a pure state machine: no socket, task, channel, log,
//! clock or random source of its own.
//!
//! The [`broker`] hosts the realms and owns what they share and must not know: connections,
//! outboxes, liveness, counters. It awaits its inbox and nothing else, ever; a tick comes over the
//! inbox once a second. Commands, effects and frames are plain data, and a connection is a number
//! to it.
//!
//! What realms have in common and is no protocol's own are small tools: [`json`] reads messages with
//! errors that name the field, [`doorstep`] holds those who have not been let in, [`remembered`]
//! those who have just gone, [`rate`] counts, [`dialect`] speaks to clients each in its own way,
//! [`handed_out`] bounds what slow readers of large answers hold, [`jwt`] reads tokens.
//!
//! An [`outbox`] is the queue towards one connection, bounded in bytes. A [`frame`] is encoded
//! once, and shared by all who get it.
//!
//! # Where data frames leave tungstenite's path
//!
//! Reading, Pongs and the closing handshake are tungstenite's. Outgoing data frames are octets
//! already, so they go past it to the socket ([`wire`]), many in one system call. And since
//! tungstenite keeps its read buffer as large as the largest message ever, a connection that has
//! read a large one gets a new buffer at the next moment when the old one is empty ([`boundary`]).
//!
//! # Limits
//!
//! Nothing is unbounded. Each connection has limits of its own, and what all of them make the
//! process hold has one, the [`budget`], a part of what the [`machine`] has: beyond it the broker
//! closes those who hold most. What an operator may want to change is in [`config`]; the other
//! limits are constants with their reason beside them.
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
    reason = "this page is for whoever works here, too"
)]

pub mod base;
mod broker;
pub mod cli;
pub mod config;
mod net;
pub mod protocols;
pub mod realm;
pub mod server;
pub mod sys;
#[cfg(any(test, fuzzing))]
pub mod testing;
mod toolkit;
