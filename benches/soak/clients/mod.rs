//! The clients of each protocol.

pub mod fastchat;
pub mod loudsync;
pub mod peerdrop;
pub mod peerjs;
pub mod workspace;
