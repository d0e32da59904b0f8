//! The reason why a connection's pump stops, and the disconnect reason that follows from it.

use crate::base::close::{CloseReason, DisconnectReason};
use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::error::ProtocolError;

/// The reason why the pump has stopped.
#[derive(Clone, Debug)]
pub(super) enum PumpExit {
    /// The server closes the connection with a Close frame.
    Close(CloseReason),
    /// The client broke the protocol (RFC 6455 section 7.1.7): it is sent a Close frame, but nothing more
    /// is read from it.
    Fail(CloseReason),
    /// The client sent a Close frame, with this code if it has one.
    ClosedByClient(Option<u16>),
    /// The connection broke.
    Lost,
    /// The broker aborted the connection, or is gone.
    Abort,
}

impl PumpExit {
    pub(super) const fn disconnect_reason(&self) -> DisconnectReason {
        match *self {
            Self::Close(reason) | Self::Fail(reason) => DisconnectReason::Closed(reason),
            Self::ClosedByClient(code) => DisconnectReason::ClosedByClient(code),
            Self::Lost => DisconnectReason::Lost,
            // The broker aborts a connection that is not yet closing only for silence. If the broker is gone,
            // the reason reaches only the log line of the connection.
            Self::Abort => DisconnectReason::Unresponsive,
        }
    }

    /// Returns the exit for an error of tungstenite: a fault of the client, or the end of its socket.
    pub(super) fn from_error(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Fail(CloseReason::TOO_BIG),
            Error::Utf8(_) => Self::Fail(CloseReason::INVALID_UTF8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Fail(CloseReason::PROTOCOL_ERROR),
            _ => Self::Lost,
        }
    }
}
