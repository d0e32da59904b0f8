//! Every way in which a connection can end: code, reason, and whether the client may come back.
//!
//! Log lines, counters, tests and the README's table all use this one list.
//!
//! A [`CloseReason`] is a reason for the server to end a connection; whoever decides names it: a realm in
//! an effect, the broker for a slow reader or a stop, the connection for what breaks RFC 6455. An
//! [`DisconnectReason`] is what became of a connection in the end; realms, counters and the log are told.

use std::fmt;

/// Why the server closes a connection (RFC 6455 section 7.4; rulings, "close codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The other side of the session is gone, and the session with it.
    PeerLeft,
    /// The client said that it leaves.
    Goodbye,
    /// The client was not let into the session that it asked for, and has been told why.
    JoinRefused,
    /// The session is over.
    SessionClosed,
    /// The daemon stops.
    ShuttingDown,
    /// The client broke RFC 6455.
    ProtocolError,
    /// A text message was not UTF-8.
    InvalidUtf8,
    /// A message was larger than the listener's `max_message_size`.
    TooBig,
    /// A bug of ours ended this connection, and only this one.
    InternalError,
    /// The client reads slower than others write, and its outbox is full.
    TooSlow,
    /// What clients make the daemon hold is more than its `memory_budget`, and this one holds most.
    ShortOfMemory,
    /// The request lacks a parameter, or one is too long.
    BadParameters,
    /// The client did not say in time who it is.
    NotIntroduced,
    /// The session's host removed the client.
    Kicked,
    /// The client names another key than the server's.
    WrongKey,
    /// There is no session of the name that the client asked for.
    UnknownSession,
    /// The client did not do in time what keeps its connection.
    Idle,
    /// The session has all the members that it may have.
    SessionFull,
    /// The user as whom the client came is connected, and alive.
    UserConnected,
    /// The id is another client's.
    IdTaken,
    /// The same user came again, and this older connection gave no sign of life; or, on PeerJS, need
    /// not be asked for one.
    Replaced,
    /// There are as many clients as there may be.
    TooManyConnections,
    /// The client's address guessed too often.
    TooManyGuesses,
}

impl CloseReason {
    /// The whole list, in the order of the codes.
    pub const ALL: [Self; 23] = [
        Self::PeerLeft,
        Self::Goodbye,
        Self::JoinRefused,
        Self::SessionClosed,
        Self::ShuttingDown,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::TooBig,
        Self::InternalError,
        Self::TooSlow,
        Self::ShortOfMemory,
        Self::BadParameters,
        Self::NotIntroduced,
        Self::Kicked,
        Self::WrongKey,
        Self::UnknownSession,
        Self::Idle,
        Self::SessionFull,
        Self::UserConnected,
        Self::IdTaken,
        Self::Replaced,
        Self::TooManyConnections,
        Self::TooManyGuesses,
    ];

    /// The code in the Close frame.
    pub const fn code(self) -> u16 {
        match self {
            Self::PeerLeft | Self::Goodbye | Self::JoinRefused | Self::SessionClosed => 1000,
            Self::ShuttingDown => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::TooSlow | Self::ShortOfMemory => 1013,
            Self::BadParameters => 4400,
            Self::NotIntroduced => 4401,
            Self::Kicked | Self::WrongKey => 4403,
            Self::UnknownSession => 4404,
            Self::Idle => 4408,
            Self::SessionFull | Self::UserConnected | Self::IdTaken | Self::Replaced => 4409,
            Self::TooManyConnections | Self::TooManyGuesses => 4429,
        }
    }

    /// The reason in the Close frame: a few words, at most 123 bytes (RFC 6455 section 5.5).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PeerLeft => "peer left",
            Self::Goodbye => "goodbye",
            Self::JoinRefused => "join refused",
            Self::SessionClosed => "session closed",
            Self::ShuttingDown => "server going away",
            Self::ProtocolError => "protocol error",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::TooBig => "message too big",
            Self::InternalError => "internal error",
            Self::TooSlow => "too slow",
            Self::ShortOfMemory => "server is short of memory",
            Self::BadParameters => "bad parameters",
            Self::WrongKey => "wrong key",
            Self::IdTaken => "ID is taken",
            Self::TooManyConnections => "too many connections",
            Self::NotIntroduced => "no HELLO or JOIN in time",
            Self::Kicked => "removed by the host",
            Self::UnknownSession => "no such session",
            Self::Idle => "timed out",
            Self::SessionFull => "session is full",
            Self::UserConnected => "user is connected",
            Self::Replaced => "connected again elsewhere",
            Self::TooManyGuesses => "too many wrong codes, wait a minute",
        }
    }

    /// Whether the same client may hope for better by simply connecting again.
    pub const fn should_reconnect(self) -> bool {
        matches!(
            self,
            Self::ShuttingDown
                | Self::InternalError
                | Self::TooSlow
                | Self::ShortOfMemory
                | Self::Idle
                | Self::TooManyConnections
                | Self::TooManyGuesses
        )
    }

    /// Whether what waits in the outbox is thrown away rather than sent before the Close frame.
    pub(crate) const fn discards_outbox(self) -> bool {
        matches!(self, Self::TooSlow | Self::ShortOfMemory)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server closed it.
    Closed(CloseReason),
    /// The client closed it, with this code where it gave one.
    Left(Option<u16>),
    /// The connection broke without a Close frame.
    Lost,
    /// Nothing came back in time after a Ping; it was dropped.
    Silent,
}

impl DisconnectReason {
    /// The name of its counter, and its name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed(close) => close.reason(),
            Self::Left(_) => "left",
            Self::Lost => "lost",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(close) => write!(f, "closed: {} ({})", close.reason(), close.code()),
            Self::Left(Some(code)) => write!(f, "left ({code})"),
            Self::Left(None) => f.write_str("left"),
            Self::Lost => f.write_str("lost: the connection broke without a Close frame"),
            Self::Silent => f.write_str("silent: no sign of life after a Ping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_in_the_ranges_of_the_rfc() {
        let codes: Vec<u16> = CloseReason::ALL.iter().map(|close| close.code()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        assert!(
            codes
                .iter()
                .all(|code| matches!(code, 1000..=1014 | 4000..=4999))
        );
    }

    #[test]
    fn reasons_fit_a_close_frame_and_differ() {
        for (at, close) in CloseReason::ALL.iter().enumerate() {
            assert!(close.reason().len() <= 123);
            assert!(
                CloseReason::ALL[at + 1..]
                    .iter()
                    .all(|other| other.reason() != close.reason())
            );
        }
    }

    #[test]
    fn the_readme_lists_them_all() {
        let readme = include_str!("../../README.md");
        for close in CloseReason::ALL {
            let again = if close.should_reconnect() {
                "yes"
            } else {
                "no"
            };
            let row = format!("| {} | `{}` | {again} |", close.code(), close.reason());
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
    }
}
