//! The partner of a user: the recipient of its messages that name none.
//!
//! The user's own actions choose it. Otherwise a stranger could make words that are meant for another user
//! go to itself. The actions of other users count only while the user has chosen none.

use super::UserState;
use super::messages::Dialect;
use uuid::Uuid;

/// The user that the page of the flat dialect shows, as far as the server knows (dialects).
///
/// The page selects a user at the click, before the answer to its OPEN_CHAT; it switches to the other user
/// of each CHAT_OPENED that it is sent; it keeps its selection when it reloads or reconnects. It tells the
/// server only about the click, and on a connection of its own dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    /// No user: the page was sent no CHAT_OPENED, and has asked for none.
    #[default]
    NoUser,
    /// The other user of the last CHAT_OPENED that the page was sent, also after that chat has ended.
    User(Uuid),
    /// A user that the server does not know, since an OPEN_CHAT failed after the page had selected it.
    Unknown,
}

/// What decides about the partner of a user.
#[derive(Debug, Default)]
pub(super) struct Partner {
    shown: Shown,
    /// The other user of the chat that the user opened or wrote in last, also after that chat has ended.
    used: Option<Uuid>,
    /// The other user of the oldest open chat, for a user that has used none. `None`: to be looked up.
    oldest: Option<Uuid>,
}

impl Partner {
    /// Records that the user was sent CHAT_OPENED in answer to its own OPEN_CHAT.
    pub(super) fn record_opened(&mut self, dialect: Dialect, other: Uuid) {
        self.used = Some(other);
        self.record_shown(dialect, other);
    }

    /// Records that the user was sent a CHAT_OPENED.
    pub(super) fn record_shown(&mut self, dialect: Dialect, other: Uuid) {
        if dialect == Dialect::Flat {
            self.shown = Shown::User(other);
        }
    }

    /// Records that the page may show another user than the server knows of.
    pub(super) fn record_unknown(&mut self, dialect: Dialect) {
        if dialect == Dialect::Flat {
            self.shown = Shown::Unknown;
        }
    }

    /// Records that the user wrote in a chat.
    pub(super) fn record_written(&mut self, other: Uuid) {
        self.used = Some(other);
    }

    /// Removes a user whose chats have ended.
    pub(super) fn forget(&mut self, other: Uuid) {
        self.oldest.take_if(|oldest| *oldest == other);
    }

    /// Returns whether the client is to be sent the CHAT_OPENED of a chat that another user asked for. It
    /// would turn a page that shows a user, and with it the words that are just being typed, to a stranger.
    pub(super) fn follows_others(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Document || self.shown == Shown::NoUser
    }
}

impl UserState {
    /// Returns the recipient of a MSG or TYPING that names none and comes in this dialect.
    pub(super) fn partner(&mut self, dialect: Dialect) -> Option<Uuid> {
        match dialect {
            Dialect::Flat => match self.partner.shown {
                Shown::User(other) => Some(other),
                Shown::NoUser | Shown::Unknown => None,
            },
            Dialect::Document => self.partner.used.or_else(|| self.oldest_chat()),
        }
    }

    /// Returns the other user of the oldest open chat. The result is kept, so that a client that repeats
    /// TYPING does not make the server search all chats for each.
    fn oldest_chat(&mut self) -> Option<Uuid> {
        if self.partner.oldest.is_none() {
            let oldest = self.chats.iter().min_by_key(|(_, chat)| chat.number);
            self.partner.oldest = oldest.map(|(&other, _)| other);
        }
        self.partner.oldest
    }
}
