//! The flat dialect, which FastChat's published React front end speaks: the fields of a message are
//! next to `type`, without `data`.

use super::fields::{Fields, display_name, optional_uuid};
use super::messages::{ChatOpened, Details, ErrorCode, Hello, ServerMessage, Status, UserEntry};
use crate::base::frame::Frame;
use crate::toolkit::message_token::MessageToken;
use serde::Serialize;
use uuid::Uuid;

/// The least and the greatest number of characters of a display name. `display_name_length` does not
/// apply here: the front end allows these.
pub(super) const NAME_LENGTH: (usize, usize) = (1, 100);

/// Reads a HELLO.
pub(super) fn hello(fields: &Fields, token: MessageToken) -> Hello {
    Hello {
        user_id: optional_uuid(fields, "user_id"),
        display_name: display_name(fields),
        name_length: Some(NAME_LENGTH),
        token,
    }
}

/// The JSON of a message to a client.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
enum Flat<'a> {
    HelloAck {
        user_id: Uuid,
        message: &'a str,
        status: Status,
    },
    Presence {
        action: Action,
        users: Vec<UserEntry<'a>>,
    },
    ChatOpened(&'a ChatOpened<'a>),
    Msg {
        sender_id: Uuid,
        sender_name: &'a str,
        content: &'a str,
        message_id: &'a str,
        timestamp: &'a str,
    },
    MsgAck {
        message_id: &'a str,
        status: Status,
        timestamp: &'a str,
    },
    Typing {
        user_id: Uuid,
        display_name: &'a str,
        is_typing: bool,
    },
    Pong {
        timestamp: &'a str,
    },
    Error {
        error_code: ErrorCode,
        message: &'a str,
        details: &'a Details,
    },
}

/// The use that a client makes of the users in a PRESENCE.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Adds them.
    Connect,
    /// Removes them.
    Disconnect,
    /// Replaces its list by them.
    Update,
}

/// Encodes a message, as one frame. A PRESENCE with changes is one frame for each [`Action`].
pub(super) fn encode(message: &ServerMessage) -> Vec<Frame> {
    let message = match message {
        ServerMessage::HelloAck { user_id, status } => Flat::HelloAck {
            user_id: *user_id,
            message: "connected",
            status: *status,
        },
        // The client replaces its list, so users that have disconnected are left out.
        ServerMessage::PresenceList { users } => presence(Action::Update, users, true),
        ServerMessage::PresenceUpdate { users } => return encode_presence_update(users),
        ServerMessage::ChatOpened(chat) => Flat::ChatOpened(chat),
        ServerMessage::Msg {
            from,
            from_name,
            to: _,
            content,
            message_id,
            timestamp,
        } => Flat::Msg {
            sender_id: *from,
            sender_name: from_name,
            content,
            message_id,
            timestamp,
        },
        ServerMessage::MsgAck {
            message_id,
            status,
            timestamp,
        } => Flat::MsgAck {
            message_id,
            status: *status,
            timestamp,
        },
        ServerMessage::Typing {
            user_id,
            display_name,
            is_typing,
        } => Flat::Typing {
            user_id: *user_id,
            display_name,
            is_typing: *is_typing,
        },
        ServerMessage::Pong { timestamp } => Flat::Pong { timestamp },
        ServerMessage::Error(error) => Flat::Error {
            error_code: error.code,
            message: &error.message,
            details: &error.details,
        },
    };
    vec![Frame::json(&message)]
}

/// Encodes the users that connected and those that disconnected, each as one frame if there are any.
fn encode_presence_update(users: &[UserEntry]) -> Vec<Frame> {
    let connected = presence(Action::Connect, users, true);
    let disconnected = presence(Action::Disconnect, users, false);
    let is_empty =
        |message: &Flat| matches!(message, Flat::Presence { users, .. } if users.is_empty());
    [connected, disconnected]
        .iter()
        .filter(|message| !is_empty(message))
        .map(Frame::json)
        .collect()
}

fn presence<'a>(action: Action, users: &[UserEntry<'a>], online: bool) -> Flat<'a> {
    let users = users.iter().filter(|entry| entry.online == online);
    Flat::Presence {
        action,
        users: users.copied().collect(),
    }
}
