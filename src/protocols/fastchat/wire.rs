//! FastChat's messages as they go over the wire ("Message Types").

use crate::json::{self, Malformed};
use crate::realm::Message;
use crate::text::{Quoted, sanitise};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use uuid::{Uuid, Variant, Version};

/// The most characters of a `message_id` (rulings).
const MESSAGE_ID_LENGTH: usize = 64;

/// What a client may say, and what it said wrong.
pub enum Command {
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
    /// None of these.
    Wrong(Mistake),
}

/// Who somebody says to be.
#[derive(Debug)]
pub struct Introduction {
    pub(super) user_id: Uuid,
    /// Sanitised and trimmed.
    pub(super) display_name: String,
}

/// A message for somebody.
pub struct Msg {
    pub(super) to: Uuid,
    /// Sanitised.
    pub(super) content: String,
    pub(super) message_id: Option<String>,
}

/// A change of whether somebody is typing.
pub struct Typing {
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
pub struct Mistake {
    pub(super) code: Code,
    pub(super) message: String,
    details: Details,
}

/// What a program can use of it.
#[derive(Debug, Default, Serialize)]
struct Details {
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

impl From<Malformed> for Mistake {
    fn from(malformed: Malformed) -> Self {
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

/// A message to clients.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Outgoing<'a> {
    HelloAck {
        user_id: Uuid,
        status: Status,
    },
    Presence {
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
        to: Uuid,
        content: &'a str,
        message_id: &'a str,
        timestamp: String,
    },
    MsgAck {
        message_id: &'a str,
        status: Status,
    },
    Typing {
        user_id: Uuid,
        is_typing: bool,
    },
    Pong {
        timestamp: String,
    },
    Error(Mistake),
}

/// One of the users in a `PRESENCE`.
#[derive(Serialize)]
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
struct Data<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    display_name: Option<&'a RawValue>,
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

/// Reads a message ("Message Format").
pub(super) fn read(message: Message) -> Result<Command, Mistake> {
    let Message::Text(text) = message else {
        let mistake = Mistake::new(Code::Validation, "messages are text, not binary");
        return Err(mistake);
    };
    let envelope: Envelope = json::object(&text)?;
    let kind: String = json::required(envelope.kind, "type", "a string")?;
    let data = json::object(envelope.data.map_or("{}", RawValue::get))
        .map_err(|_| Malformed::field("data", "is not an object, each key in it once"));
    match kind.as_str() {
        "HELLO" => Ok(Command::Hello(introduction(data))),
        "OPEN_CHAT" => Ok(Command::OpenChat {
            target: user_id(data?.target_user_id, "target_user_id")?,
        }),
        "MSG" => message_to(&data?).map(Command::Msg),
        "MSG_ACK" => Ok(Command::MsgAck),
        "TYPING" => {
            let data = data?;
            let is_typing = json::required(data.is_typing, "is_typing", "true or false")?;
            let to = data.to.map(|to| user_id(Some(to), "to")).transpose()?;
            Ok(Command::Typing(Typing { is_typing, to }))
        }
        "PING" => Ok(Command::Ping),
        other => {
            let known = "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING and PING";
            let message = format!("there is no type {}; there are {known}", Quoted(other));
            Err(Mistake::new(Code::Validation, message).at("type"))
        }
    }
}

fn introduction(data: Result<Data, Malformed>) -> Result<Introduction, Mistake> {
    let data = data?;
    let user_id = user_id(data.user_id, "user_id")?;
    let name: String = json::required(data.display_name, "display_name", "a string")?;
    Ok(Introduction {
        user_id,
        display_name: sanitise(&name).trim().to_owned(),
    })
}

fn message_to(data: &Data) -> Result<Msg, Mistake> {
    let message_id = message_id(data.message_id)?;
    let rest = || {
        let to = user_id(data.to, "to")?;
        let content: String = json::required(data.content, "content", "a string")?;
        Ok((to, sanitise(&content).into_owned()))
    };
    let about = |malformed: Malformed| Mistake::from(malformed).about(message_id.clone());
    let (to, content) = rest().map_err(about)?;
    Ok(Msg {
        to,
        content,
        message_id,
    })
}

/// A `message_id`, which others will see as it is: an id that was changed would be none.
fn message_id(value: Option<&RawValue>) -> Result<Option<String>, Malformed> {
    let name = "message_id";
    let id: Option<String> = json::optional(value, name, "a string")?;
    if let Some(id) = &id {
        json::of_length(id, name, 1, MESSAGE_ID_LENGTH)?;
        if sanitise(id) != id.as_str() {
            let problem = "has HTML tags or control characters in it";
            return Err(Malformed::field(name, problem));
        }
    }
    Ok(id)
}

/// A UUID of version 4, in either case ("User ID Format").
fn user_id(value: Option<&RawValue>, name: &'static str) -> Result<Uuid, Malformed> {
    let what = "a UUID of version 4, for example \"8f9fe5ea-6b1c-4f3a-9d0e-2b7a1c5d4e3f\"";
    let text: String = json::required(value, name, what)?;
    let uuid = Uuid::try_parse(&text).ok().filter(|uuid| {
        // Other spellings have other lengths.
        text.len() == uuid::fmt::Hyphenated::LENGTH
            && uuid.get_version() == Some(Version::Random)
            && uuid.get_variant() == Variant::RFC4122
    });
    uuid.ok_or_else(|| Malformed::field(name, format_args!("is not {what}")))
}
