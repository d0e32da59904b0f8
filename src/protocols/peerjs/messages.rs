//! PeerJS's message types ("Protocol" in the document); [`codec`](super::codec) reads and writes them.

use crate::base::frame::TextEnd;
use serde::Serialize;
use std::ops::Range;

/// Longest id, in bytes (rulings, "PeerJS"): the server stores one for each client, and lists all.
pub(super) const MAX_ID_BYTES: usize = 256;

/// Longest token, in bytes (rulings, "PeerJS"): some applications use a JWT.
pub(super) const MAX_TOKEN_BYTES: usize = 2048;

/// A message from a client.
pub enum ClientMessage {
    /// `HEARTBEAT`, and any object that the server ignores. The realm counts it as a sign of life.
    KeepAlive,
    /// `LEAVE` without a destination: the client gives up its id.
    Leave,
    /// A message for another client.
    Transmit(Transmission),
}

/// A message that one client sends to another through the server (the document's "transmission").
pub struct Transmission {
    pub(super) message_type: TransmissionType,
    pub(super) dst: Dst,
    /// The JSON that is relayed behind `src`, up to the end of the object. The connection's task puts it
    /// together when it decodes the message, so that a large message costs the broker task no more
    /// than a small one.
    pub(super) after_src: TextEnd,
}

/// The id of the client that a message is for.
pub(super) enum Dst {
    /// It is this part of `after_src`.
    Part(Range<usize>),
    /// Its JSON is not the id between quotes.
    Decoded(String),
}

/// The message types that are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransmissionType {
    Offer,
    Answer,
    Candidate,
    Leave,
    Expire,
}

impl TransmissionType {
    const ALL: [Self; 5] = [
        Self::Offer,
        Self::Answer,
        Self::Candidate,
        Self::Leave,
        Self::Expire,
    ];

    /// Returns the type of this name, or `None` if messages of that name are not relayed.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Returns the name of the type.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Offer => "OFFER",
            Self::Answer => "ANSWER",
            Self::Candidate => "CANDIDATE",
            Self::Leave => "LEAVE",
            Self::Expire => "EXPIRE",
        }
    }

    /// Returns whether a message of this type is stored for a client that is not connected.
    pub(super) const fn is_stored(self) -> bool {
        matches!(self, Self::Offer | Self::Answer | Self::Candidate)
    }
}

/// A message from the server itself.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub(super) enum ServerMessage<'a> {
    /// The client is connected under its id.
    Open,
    /// The id belongs to a client with another token.
    #[serde(rename = "ID-TAKEN")]
    IdTaken { payload: ErrorPayload<'a> },
    /// The client is not admitted.
    Error { payload: ErrorPayload<'a> },
    /// Messages to `src` were not delivered.
    Expire { src: &'a str, dst: &'a str },
}

/// The reason why a client is not admitted.
#[derive(Serialize)]
pub(super) struct ErrorPayload<'a> {
    pub(super) msg: &'a str,
}
