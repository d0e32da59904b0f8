//! By what right a connection has its username, and how long.

use crate::realm::{ConnectionId, Context};
use crate::toolkit::sanitize::name_key;
use std::time::Duration;

/// By what right a connection has its username.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no token.
    #[default]
    Tokenless,
    /// Its token names no user: it has the username that it asked for.
    Admitted,
    /// Its token is for this username.
    Proven,
}

/// What a client may have by its token, or without one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Right {
    pub(super) standing: Standing,
    /// The end of its token since the Unix epoch, the leeway included, if it has one.
    pub(super) end: Option<Duration>,
}

/// The username that a client is to have, and by what right.
pub(super) struct Entitlement {
    /// The key of the user: [`name_key`].
    pub(super) key: String,
    /// The username as this client writes it, or its token.
    pub(super) name: String,
    pub(super) right: Right,
}

impl Entitlement {
    /// Creates the entitlement of a client to a username.
    pub(super) fn new(name: String, right: Right) -> Self {
        Self {
            key: name_key(&name),
            name,
            right,
        }
    }
}

impl Right {
    /// Returns whether the client's token is for the username that it is to have.
    pub(super) fn is_proven(self) -> bool {
        self.standing == Standing::Proven
    }

    /// Has a connection end with its client's token, if it has one.
    pub(super) fn limit(self, cx: &mut Context, conn: ConnectionId) {
        if self.standing != Standing::Tokenless {
            cx.expire_at(conn, self.end);
        }
    }
}
