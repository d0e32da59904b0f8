//! The ways in which a connection can end: close code, close reason, and whether the client should reconnect.
//!
//! A [`CloseReason`] says why the server closes a connection. A realm gives it in an effect, the broker for a
//! slow consumer, for the memory budget or on shutdown, and the connection itself for a violation of RFC
//! 6455. A [`DisconnectReason`] says how a connection actually ended, whichever side ended it. Realms,
//! counters and the log receive it.

use std::fmt;

/// The reason why the server closes a connection (RFC 6455 section 7.4; rulings, "close codes"). A protocol defines
/// its own as constants in its folder, and lists them in `Protocol::close_reasons`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason(&'static CloseProperties);

/// What a close reason means to the client.
#[derive(Debug, PartialEq, Eq)]
pub struct CloseProperties {
    /// Status code for the Close frame.
    pub code: u16,
    /// Reason for the Close frame: a few words, at most 123 bytes (RFC 6455 section 5.5).
    pub reason: &'static str,
    /// Whether the same client may succeed by connecting again later, without any change.
    pub should_reconnect: bool,
}

/// The close reasons that the connection, the broker and the handshake give, on every protocol.
impl CloseReason {
    /// The operator removed the client. The code is the one after which the published clients of FastChat and LOUDSYNC
    /// do not connect again by themselves.
    pub const REMOVED: Self = Self::new(&CloseProperties {
        code: 1000,
        reason: "removed by the operator",
        should_reconnect: false,
    });

    /// The daemon is shutting down.
    pub const SHUTTING_DOWN: Self = Self::new(&CloseProperties {
        code: 1001,
        reason: "server going away",
        should_reconnect: true,
    });

    /// The client violated RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self::new(&CloseProperties {
        code: 1002,
        reason: "protocol error",
        should_reconnect: false,
    });

    /// A text message was not valid UTF-8.
    pub const INVALID_UTF8: Self = Self::new(&CloseProperties {
        code: 1007,
        reason: "invalid UTF-8",
        should_reconnect: false,
    });

    /// A message has begun, and no more of it comes.
    pub const UNFINISHED_MESSAGE: Self = Self::new(&CloseProperties {
        code: 1008,
        reason: "unfinished message",
        should_reconnect: true,
    });

    /// The client's access token has expired. A fresh one is admitted.
    pub const TOKEN_EXPIRED: Self = Self::new(&CloseProperties {
        code: 1008,
        reason: "token expired",
        should_reconnect: true,
    });

    /// A message was larger than the listener's `max_message_size`.
    pub const TOO_BIG: Self = Self::new(&CloseProperties {
        code: 1009,
        reason: "message too big",
        should_reconnect: false,
    });

    /// A bug in the daemon ended this connection, and only this one.
    pub const INTERNAL_ERROR: Self = Self::new(&CloseProperties {
        code: 1011,
        reason: "internal error",
        should_reconnect: true,
    });

    /// The client reads more slowly than others send to it, and its outbox is full.
    pub const TOO_SLOW: Self = Self::new(&CloseProperties {
        code: 1013,
        reason: "too slow",
        should_reconnect: true,
    });

    /// The clients together use more memory than `memory_budget`, and this one uses the most.
    pub const SHORT_OF_MEMORY: Self = Self::new(&CloseProperties {
        code: 1013,
        reason: "server is short of memory",
        should_reconnect: true,
    });

    /// The client has no access token where one is demanded, or one that is refused.
    pub const UNAUTHORIZED: Self = Self::new(&CloseProperties {
        code: 4401,
        reason: "unauthorized",
        should_reconnect: false,
    });

    /// The client did not send in time what keeps a connection open, or did not answer a probe.
    pub const TIMED_OUT: Self = Self::new(&CloseProperties {
        code: 4408,
        reason: "timed out",
        should_reconnect: true,
    });

    /// The connection limit is reached.
    pub const TOO_MANY_CONNECTIONS: Self = Self::new(&CloseProperties {
        code: 4429,
        reason: "too many connections",
        should_reconnect: true,
    });

    /// A reason of the tests, as protocols have them.
    #[cfg(test)]
    pub(crate) const GOODBYE: Self = Self::new(&CloseProperties {
        code: 1000,
        reason: "goodbye",
        should_reconnect: false,
    });

    /// All of these, in the order of their codes.
    pub const COMMON: [Self; 13] = [
        Self::REMOVED,
        Self::SHUTTING_DOWN,
        Self::PROTOCOL_ERROR,
        Self::INVALID_UTF8,
        Self::UNFINISHED_MESSAGE,
        Self::TOKEN_EXPIRED,
        Self::TOO_BIG,
        Self::INTERNAL_ERROR,
        Self::TOO_SLOW,
        Self::SHORT_OF_MEMORY,
        Self::UNAUTHORIZED,
        Self::TIMED_OUT,
        Self::TOO_MANY_CONNECTIONS,
    ];

    /// Creates a close reason.
    pub const fn new(properties: &'static CloseProperties) -> Self {
        Self(properties)
    }

    /// Returns the status code for the Close frame.
    pub const fn code(self) -> u16 {
        self.0.code
    }

    /// Returns the reason for the Close frame.
    pub const fn reason(self) -> &'static str {
        self.0.reason
    }

    /// Returns whether the same client may succeed by connecting again later, without any change.
    pub const fn should_reconnect(self) -> bool {
        self.0.should_reconnect
    }

    /// Returns whether the frames in the outbox are discarded instead of sent before the Close frame.
    pub(crate) fn discards_outbox(self) -> bool {
        matches!(self, Self::REMOVED | Self::TOO_SLOW | Self::SHORT_OF_MEMORY)
    }

    /// Returns whether nothing more is read from the client, and what it has sent of a message is discarded at
    /// once instead of after the closing handshake.
    pub(crate) fn discards_received(self) -> bool {
        matches!(
            self,
            Self::REMOVED | Self::UNFINISHED_MESSAGE | Self::SHORT_OF_MEMORY
        )
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
