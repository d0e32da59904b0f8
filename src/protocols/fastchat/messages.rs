//! FastChat's messages as they go over the wire ("Message Types").

use super::codec_flat;
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::sanitize;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::{Uuid, Variant, Version};

/// The most characters of a `message_id` (rulings).
const MESSAGE_ID_LENGTH: usize = 64;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As the protocol document has it, each message's fields in `data`.
    #[default]
    Document,
    /// As the published front end does, the fields beside `type`.
    Flat,
}

/// What a connection remembers of its client's messages: the dialect, once HELLO has decided it.
#[derive(Default)]
pub struct Reader {
    decided: Option<Dialect>,
}

#[cfg(any(test, fuzzing))]
impl Reader {
    /// The dialect, once it is decided.
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.decided
    }
}

/// A client's message, and the dialect to answer it in.
pub struct Command {
    pub(super) dialect: Dialect,
    pub(super) said: Said,
}

/// What a client may say, and what it said wrong.
pub(super) enum Said {
    /// `HELLO`, or what is wrong with it.
    Hello(Result<Introduction, Mistake>),
    /// `OPEN_CHAT`.
    OpenChat {
        /// With whom.
        target: Uuid,
    },
    /// `MSG`.
    Msg(Msg),
    /// `MSG_ACK`.
    MsgAck,
    /// `TYPING`.
    Typing(Typing),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// None of these.
    Wrong(Mistake),
}

/// Who somebody says to be.
#[derive(Debug)]
pub(super) struct Introduction {
    /// The server makes one where there is none.
    pub(super) user_id: Option<Uuid>,
    /// Sanitised and trimmed.
    pub(super) display_name: String,
    /// The fewest and the most characters of the name, where they are not the configured ones.
    pub(super) name_length: Option<(usize, usize)>,
}

/// A message for somebody.
pub(super) struct Msg {
    /// To whom, if not to the partner of the chat used last.
    pub(super) to: Option<Uuid>,
    /// Sanitised.
    pub(super) content: String,
    pub(super) message_id: Option<String>,
}

/// A change of whether somebody is typing.
pub(super) struct Typing {
    pub(super) is_typing: bool,
    /// To whom, if not to the partner of the chat used last.
    pub(super) to: Option<Uuid>,
}

/// The error codes ("Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    Validation,
    MessageFailed,
    UserNotFound,
    ChatNotOpened,
    RateLimited,
    Unauthorized,
}

/// Something that cannot be done, and why: an `ERROR`.
#[derive(Debug, Serialize)]
pub(super) struct Mistake {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) details: Details,
}

/// What a program can use of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// That of the message that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Mistake {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Details::default(),
        }
    }

    /// More than `limit` of something in a minute.
    pub(super) fn too_often(what: &str, limit: u32, wait: Duration) -> Self {
        Self::new(
            Code::RateLimited,
            format!("more than {limit} {what} in a minute"),
        )
        .retry_after(wait)
    }

    pub(super) fn at(mut self, field: &'static str) -> Self {
        self.details.field = Some(field);
        self
    }

    pub(super) fn about(mut self, message_id: Option<String>) -> Self {
        self.details.message_id = message_id;
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        // Rounded up, so that it is not too early.
        let millis = wait.as_micros().div_ceil(1000);
        self.details.retry_after_ms = u64::try_from(millis).ok();
        self
    }
}

impl From<InvalidMessage> for Mistake {
    fn from(malformed: InvalidMessage) -> Self {
        let mut mistake = Self::new(Code::Validation, malformed.to_string());
        mistake.details.field = malformed.name();
        mistake
    }
}

/// What has become of something.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Connected,
    Delivered,
}

/// A message to clients, as the document writes it. What it does not have is for other dialects.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Outgoing<'a> {
    HelloAck {
        user_id: Uuid,
        status: Status,
    },
    /// Everybody, and who has just gone.
    #[serde(rename = "PRESENCE")]
    Everybody {
        users: Vec<UserEntry<'a>>,
    },
    /// Who has come and who has gone.
    #[serde(rename = "PRESENCE")]
    Changes {
        users: Vec<UserEntry<'a>>,
    },
    ChatOpened {
        chat_id: Uuid,
        participants: [Uuid; 2],
        target_user_id: Uuid,
        target_display_name: &'a str,
    },
    Msg {
        from: Uuid,
        #[serde(skip)]
        from_name: &'a str,
        to: Uuid,
        content: &'a str,
        message_id: &'a str,
        timestamp: String,
    },
    MsgAck {
        message_id: &'a str,
        status: Status,
        #[serde(skip)]
        timestamp: String,
    },
    Typing {
        user_id: Uuid,
        #[serde(skip)]
        display_name: &'a str,
        is_typing: bool,
    },
    Pong {
        timestamp: String,
    },
    Error(Mistake),
}

impl Encode for Outgoing<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        match dialect {
            Dialect::Document => vec![Frame::json(self)],
            Dialect::Flat => codec_flat::encode(self),
        }
    }
}

/// One of the users in a `PRESENCE`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct UserEntry<'a> {
    pub(super) user_id: Uuid,
    pub(super) display_name: &'a str,
    pub(super) online: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The fields of all types.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) display_name: Option<&'a RawValue>,
    #[serde(borrow)]
    target_user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    is_typing: Option<&'a RawValue>,
}

/// Reads a message in the dialect of its connection; HELLO decides that.
pub(super) fn read(reader: &mut Reader, message: &Message) -> Command {
    let Message::Text(text) = message else {
        let mistake = Mistake::new(Code::Validation, "messages are text, not binary");
        return Command {
            dialect: reader.decided.unwrap_or_default(),
            said: Said::Wrong(mistake),
        };
    };
    let (looks, decides) = match reader.decided {
        Some(decided) => (Some(decided), true),
        None => shape(text),
    };
    let dialect = looks.unwrap_or_default();
    reader.decided = looks.filter(|_| decides);
    let said = read_text(dialect, text).unwrap_or_else(Said::Wrong);
    Command { dialect, said }
}

/// The dialect that a message looks like, if it does, and whether it is a HELLO that decides for it.
/// What is wrong with the message otherwise, also a key that stands twice, does not matter here.
fn shape(text: &str) -> (Option<Dialect>, bool) {
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        return (None, false);
    };
    let is = |key: &str, start: &str| {
        fields
            .get(key)
            .is_some_and(|value| value.get().starts_with(start))
    };
    let has_any = |keys: &[&str]| keys.iter().any(|key| fields.contains_key(*key));
    let is_hello = is("type", r#""HELLO""#);
    if is("data", "{") {
        (Some(Dialect::Document), is_hello)
    } else if has_any(&["user_id", "display_name"]) {
        (Some(Dialect::Flat), is_hello)
    } else if has_any(&["target_user_id", "to", "content", "message_id", "is_typing"]) {
        (Some(Dialect::Flat), false)
    } else {
        (None, false)
    }
}

/// Reads a message ("Message Format").
fn read_text(dialect: Dialect, text: &str) -> Result<Said, Mistake> {
    let envelope: Envelope = json::object(text)?;
    let kind: String = json::required(envelope.kind, "type", "a string")?;
    let fields = match dialect {
        Dialect::Document => json::object(envelope.data.map_or("{}", RawValue::get))
            .map_err(|_| InvalidMessage::field("data", "is not an object, each key in it once")),
        Dialect::Flat => json::object(text),
    };
    match kind.as_str() {
        "HELLO" => Ok(Said::Hello(fields.map_err(Mistake::from).and_then(
            |fields| match dialect {
                Dialect::Document => introduction(&fields),
                Dialect::Flat => codec_flat::introduction(&fields),
            },
        ))),
        "OPEN_CHAT" => Ok(Said::OpenChat {
            target: uuid(fields?.target_user_id, "target_user_id")?,
        }),
        "MSG" => msg(dialect, &fields?).map(Said::Msg),
        "MSG_ACK" => Ok(Said::MsgAck),
        "TYPING" => {
            let fields = fields?;
            let is_typing = json::required(fields.is_typing, "is_typing", "true or false")?;
            let to = fields.to.map(|to| uuid(Some(to), "to"));
            let to = to.transpose()?;
            Ok(Said::Typing(Typing { is_typing, to }))
        }
        "PING" => Ok(Said::Ping),
        "PONG" if dialect == Dialect::Flat => Ok(Said::Pong),
        other => {
            let known = match dialect {
                Dialect::Document => "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING and PING",
                Dialect::Flat => "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING, PING and PONG",
            };
            let message = format!("there is no type {}; there are {known}", Quoted(other));
            Err(Mistake::new(Code::Validation, message).at("type"))
        }
    }
}

fn introduction(fields: &Fields) -> Result<Introduction, Mistake> {
    Ok(Introduction {
        user_id: Some(own_id(fields.user_id)?),
        display_name: display_name(fields)?,
        name_length: None,
    })
}

/// The name in a HELLO, sanitised and trimmed.
pub(super) fn display_name(fields: &Fields) -> Result<String, InvalidMessage> {
    let name: String = json::required(fields.display_name, "display_name", "a string")?;
    Ok(sanitize(&name).trim().to_owned())
}

fn msg(dialect: Dialect, fields: &Fields) -> Result<Msg, Mistake> {
    let message_id = json::check_id(fields.message_id, "message_id", MESSAGE_ID_LENGTH)?;
    let rest = || {
        let to = match (dialect, fields.to) {
            (Dialect::Flat, None) => None,
            (_, to) => Some(uuid(to, "to")?),
        };
        let content: String = json::required(fields.content, "content", "a string")?;
        Ok((to, sanitize(&content).into_owned()))
    };
    let about = |malformed: InvalidMessage| Mistake::from(malformed).about(message_id.clone());
    let (to, content) = rest().map_err(about)?;
    Ok(Msg {
        to,
        content,
        message_id,
    })
}

/// The id that somebody has, in either case ("User ID Format").
fn own_id(value: Option<&RawValue>) -> Result<Uuid, InvalidMessage> {
    let id = uuid(value, "user_id")?;
    if id.get_version() == Some(Version::Random) && id.get_variant() == Variant::RFC4122 {
        Ok(id)
    } else {
        Err(InvalidMessage::field(
            "user_id",
            "is not a UUID of version 4",
        ))
    }
}

/// A UUID in its usual spelling. Others may have one of any version, in other dialects.
pub(super) fn uuid(value: Option<&RawValue>, name: &'static str) -> Result<Uuid, InvalidMessage> {
    let what = "a UUID, for example \"8f9fe5ea-6b1c-4f3a-9d0e-2b7a1c5d4e3f\"";
    let text: String = json::required(value, name, what)?;
    // Other spellings have other lengths.
    let usual = Some(&text).filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    let uuid = usual.and_then(|text| Uuid::try_parse(text).ok());
    uuid.ok_or_else(|| InvalidMessage::field(name, format_args!("is not {what}")))
}
