//! PeerJS's messages as they go over the wire ("Protocol").

use super::ID_SIZE;
use crate::base::frame::Frame;
use crate::realm::Message;
use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The most bytes of `dst` as JSON that can be an id: two quotes, and six for each byte of one.
const LONGEST_DST: usize = 2 + 6 * ID_SIZE;

/// What a client may say.
pub enum Command {
    /// `HEARTBEAT`, and whatever is ignored: all of it says that the client is alive.
    Alive,
    /// `LEAVE` without a destination.
    Leave,
    /// A message for another client.
    Transmit(Transmission),
}

/// A message for another client.
pub struct Transmission {
    pub(super) kind: Kind,
    pub(super) dst: String,
    /// The message as it goes on, from behind `src` to its end: put together where it was read, so
    /// that the realm's task has no more to do for a large one than for a small one.
    rest: Utf8Bytes,
}

/// The types that are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    Offer,
    Answer,
    Candidate,
    Leave,
    Expire,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "OFFER" => Self::Offer,
            "ANSWER" => Self::Answer,
            "CANDIDATE" => Self::Candidate,
            "LEAVE" => Self::Leave,
            "EXPIRE" => Self::Expire,
            _ => return None,
        })
    }

    /// Whether a message of this type is kept for a client that is not there.
    pub(super) const fn is_stored(self) -> bool {
        matches!(self, Self::Offer | Self::Answer | Self::Candidate)
    }
}

/// A message to clients.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub(super) enum Outgoing<'a> {
    Open,
    #[serde(rename = "ID-TAKEN")]
    IdTaken {
        payload: ErrorPayload<'a>,
    },
    Error {
        payload: ErrorPayload<'a>,
    },
    Expire {
        src: &'a str,
        dst: &'a str,
    },
}

#[derive(Serialize)]
pub(super) struct ErrorPayload<'a> {
    pub(super) msg: &'a str,
}

#[derive(Serialize)]
struct Beginning<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    src: &'a str,
}

impl Transmission {
    /// The frame for its destination: `{type, src, dst, payload}`.
    pub(super) fn from(&self, src: &str) -> Frame {
        let kind = self.kind;
        let object = serde_json::to_string(&Beginning { kind, src }).expect("strings are JSON");
        let beginning = object.strip_suffix('}').expect("an object ends so");
        Frame::text_in_two(beginning, self.rest.clone())
    }
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    dst: Option<&'a RawValue>,
    // `null` is a payload, too.
    #[serde(borrow, default, deserialize_with = "whatever")]
    payload: Option<&'a RawValue>,
}

fn whatever<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// Reads a message; what is none is ignored (rulings).
pub(super) fn read(message: &Message) -> Option<Command> {
    let text = match message {
        Message::Text(text) => text.as_str(),
        // As the reference server reads them.
        Message::Binary(bytes) => std::str::from_utf8(bytes).ok()?,
    };
    let incoming = crate::toolkit::json::object(text).ok()?;
    Some(understand(&incoming).unwrap_or(Command::Alive))
}

fn understand(incoming: &Incoming) -> Option<Command> {
    let string = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
    let kind = Kind::named(&string(incoming.kind?)?)?;
    // `null` reads as missing, and so does "": nobody has that id.
    let Some(dst) = incoming.dst.filter(|dst| dst.get() != r#""""#) else {
        return (kind == Kind::Leave).then_some(Command::Leave);
    };
    if dst.get().len() > LONGEST_DST {
        return None;
    }
    let rest = match incoming.payload {
        Some(payload) => [
            r#","dst":"#,
            dst.get(),
            r#","payload":"#,
            payload.get(),
            "}",
        ]
        .concat(),
        None => [r#","dst":"#, dst.get(), "}"].concat(),
    };
    Some(Command::Transmit(Transmission {
        kind,
        dst: string(dst)?,
        rest: rest.into(),
    }))
}
