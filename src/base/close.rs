//! Every way in which a connection can end: close code, close reason, and whether the client should
//! reconnect.
//!
//! Log lines, counters, tests and the README's table all use this list.
//!
//! A [`CloseReason`] says why the server closes a connection. A realm gives it in an effect, the broker for a
//! slow consumer, for the memory budget or on shutdown, and the connection itself for a violation of RFC
//! 6455. A [`DisconnectReason`] says how a connection actually ended, whichever side ended it. Realms,
//! counters and the log receive it.

use std::fmt;

/// The reason why the server closes a connection (RFC 6455 section 7.4; rulings, "close codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The other peer of the session disconnected, which ended the session.
    PeerLeft,
    /// The client asked to leave.
    ClientLeft,
    /// The client was not admitted to the session; an error sent before the Close frame says why.
    JoinRejected,
    /// The session has ended.
    SessionClosed,
    /// The daemon is shutting down.
    ShuttingDown,
    /// The client violated RFC 6455.
    ProtocolError,
    /// A text message was not valid UTF-8.
    InvalidUtf8,
    /// A message has begun, and no more of it comes.
    UnfinishedMessage,
    /// A message was larger than the listener's `max_message_size`.
    TooBig,
    /// A bug in the daemon ended this connection, and only this one.
    InternalError,
    /// The client reads more slowly than others send to it, and its outbox is full.
    TooSlow,
    /// The clients together use more memory than `memory_budget`, and this one uses the most.
    ShortOfMemory,
    /// A parameter of the request is missing or too long.
    BadParameters,
    /// The client did not identify itself in time.
    RegistrationTimeout,
    /// The host of the session removed the client.
    Kicked,
    /// The client gave another key than the server's.
    WrongKey,
    /// The session that the client asked for does not exist.
    SessionNotFound,
    /// The client did not send in time what keeps a connection open: a message or a heartbeat.
    TimedOut,
    /// The session has its maximum number of members.
    SessionFull,
    /// The user that the client claims to be has another connection, which answered a probe.
    UserConnected,
    /// The ID belongs to another client.
    IdTaken,
    /// The same user connected again, and this older connection did not answer a probe; on PeerJS, where
    /// the token identifies the client, without a probe.
    Replaced,
    /// The connection limit is reached.
    TooManyConnections,
    /// The client's address tried too many wrong codes.
    TooManyGuesses,
}

impl CloseReason {
    /// All close reasons, in the order of their codes.
    pub const ALL: [Self; 24] = [
        Self::PeerLeft,
        Self::ClientLeft,
        Self::JoinRejected,
        Self::SessionClosed,
        Self::ShuttingDown,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::UnfinishedMessage,
        Self::TooBig,
        Self::InternalError,
        Self::TooSlow,
        Self::ShortOfMemory,
        Self::BadParameters,
        Self::RegistrationTimeout,
        Self::Kicked,
        Self::WrongKey,
        Self::SessionNotFound,
        Self::TimedOut,
        Self::SessionFull,
        Self::UserConnected,
        Self::IdTaken,
        Self::Replaced,
        Self::TooManyConnections,
        Self::TooManyGuesses,
    ];

    /// Returns the status code for the Close frame.
    pub const fn code(self) -> u16 {
        match self {
            Self::PeerLeft | Self::ClientLeft | Self::JoinRejected | Self::SessionClosed => 1000,
            Self::ShuttingDown => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::UnfinishedMessage => 1008,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::TooSlow | Self::ShortOfMemory => 1013,
            Self::BadParameters => 4400,
            Self::RegistrationTimeout => 4401,
            Self::Kicked | Self::WrongKey => 4403,
            Self::SessionNotFound => 4404,
            Self::TimedOut => 4408,
            Self::SessionFull | Self::UserConnected | Self::IdTaken | Self::Replaced => 4409,
            Self::TooManyConnections | Self::TooManyGuesses => 4429,
        }
    }

    /// Returns the reason for the Close frame: a few words, at most 123 bytes (RFC 6455 section 5.5).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PeerLeft => "peer left",
            Self::ClientLeft => "goodbye",
            Self::JoinRejected => "join refused",
            Self::SessionClosed => "session closed",
            Self::ShuttingDown => "server going away",
            Self::ProtocolError => "protocol error",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::UnfinishedMessage => "unfinished message",
            Self::TooBig => "message too big",
            Self::InternalError => "internal error",
            Self::TooSlow => "too slow",
            Self::ShortOfMemory => "server is short of memory",
            Self::BadParameters => "bad parameters",
            Self::WrongKey => "wrong key",
            Self::IdTaken => "ID is taken",
            Self::TooManyConnections => "too many connections",
            Self::RegistrationTimeout => "no HELLO or JOIN in time",
            Self::Kicked => "removed by the host",
            Self::SessionNotFound => "no such session",
            Self::TimedOut => "timed out",
            Self::SessionFull => "session is full",
            Self::UserConnected => "user is connected",
            Self::Replaced => "connected again elsewhere",
            Self::TooManyGuesses => "too many wrong codes, wait a minute",
        }
    }

    /// Returns whether the same client may succeed by connecting again later, without any change.
    pub const fn should_reconnect(self) -> bool {
        matches!(
            self,
            Self::ShuttingDown
                | Self::UnfinishedMessage
                | Self::InternalError
                | Self::TooSlow
                | Self::ShortOfMemory
                | Self::TimedOut
                | Self::TooManyConnections
                | Self::TooManyGuesses
        )
    }

    /// Returns whether the frames in the outbox are discarded instead of sent before the Close frame.
    pub(crate) const fn discards_outbox(self) -> bool {
        matches!(self, Self::TooSlow | Self::ShortOfMemory)
    }

    /// Returns whether nothing more is read from the client, and what it has sent of a message is discarded at
    /// once instead of after the closing handshake.
    pub(crate) const fn discards_received(self) -> bool {
        matches!(self, Self::UnfinishedMessage | Self::ShortOfMemory)
    }
}

/// The reason why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server closed the connection for this reason.
    Closed(CloseReason),
    /// The client closed the connection, with this status code if its Close frame had one.
    ClosedByClient(Option<u16>),
    /// The connection broke without a Close frame.
    Lost,
    /// Nothing was received in time after a Ping, and the connection was dropped.
    Unresponsive,
}

impl DisconnectReason {
    /// Returns the name under which this end is counted, and summed up in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed(close) => close.reason(),
            Self::ClosedByClient(_) => "left",
            Self::Lost => "lost",
            Self::Unresponsive => "silent",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(close) => write!(f, "closed: {} ({})", close.reason(), close.code()),
            Self::ClosedByClient(Some(code)) => write!(f, "left ({code})"),
            Self::ClosedByClient(None) => f.write_str("left"),
            Self::Lost => f.write_str("lost: the connection broke without a Close frame"),
            Self::Unresponsive => f.write_str("silent: nothing was received after a Ping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_in_the_ranges_of_the_rfc() {
        let codes: Vec<u16> = CloseReason::ALL.iter().map(|close| close.code()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        assert!(
            codes
                .iter()
                .all(|code| matches!(code, 1000..=1014 | 4000..=4999))
        );
    }

    #[test]
    fn reasons_fit_a_close_frame_and_are_distinct() {
        for (index, close) in CloseReason::ALL.iter().enumerate() {
            assert!(close.reason().len() <= 123);
            assert!(
                CloseReason::ALL[index + 1..]
                    .iter()
                    .all(|other| other.reason() != close.reason())
            );
        }
    }
}
