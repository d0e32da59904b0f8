//! How a connection ends: why, and the closing handshake (RFC 6455 section 7).

use super::pump::Pump;
use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::{Frame, close_frame};
use crate::net::socket::ClientSocket;
use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::error::ProtocolError;
use futures::StreamExt;
use futures::future::poll_fn;
use std::task::Poll;

/// Why a connection's work is done.
#[derive(Clone, Debug)]
pub(super) enum PumpExit {
    /// The server closes it, with a Close frame.
    Close(CloseReason),
    /// The client broke the protocol: a Close frame, but nothing that it sends is read any more.
    Fail(CloseReason),
    /// The client sent a Close frame.
    Left(Option<u16>),
    /// It broke.
    Lost,
    /// The broker gave it up.
    Drop,
}

impl PumpExit {
    pub(super) const fn ending(&self) -> DisconnectReason {
        match *self {
            Self::Close(close) | Self::Fail(close) => DisconnectReason::Closed(close),
            Self::Left(code) => DisconnectReason::Left(code),
            Self::Lost => DisconnectReason::Lost,
            Self::Drop => DisconnectReason::Silent,
        }
    }

    pub(super) fn from_error(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Fail(CloseReason::TooBig),
            Error::Utf8(_) => Self::Fail(CloseReason::InvalidUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Fail(CloseReason::ProtocolError),
            _ => Self::Lost,
        }
    }
}

impl Pump {
    /// Writes all that waits, unless the broker gives the connection up.
    async fn flush(&mut self) {
        let Self {
            socket,
            outbox_receiver,
            ..
        } = self;
        poll_fn(|cx| {
            let wire = socket.get_mut();
            wire.send(cx, outbox_receiver);
            if wire.is_empty() || outbox_receiver.is_aborted(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Reads until the client has sent its Close frame, or what comes instead, or came before, is more
    /// than fits the buffer that everybody has.
    async fn hear_close(&mut self) {
        poll_fn(|cx| {
            loop {
                match self.socket.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(message))) if !message.is_close() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            self.charge();
            if self.charged > 0 || self.outbox_receiver.is_aborted(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The socket alone: what was received and not done is given up, and what was not sent.
    fn into_socket(mut self: Box<Self>) -> ClientSocket {
        self.uncharge();
        self.socket.into_inner().stream
    }
}

/// Ends a connection as its `exit` asks: the Close frame, the client's answer to it, and then
/// nothing until the client is gone, too. The caller sets a limit.
pub(super) async fn say_goodbye(mut pump: Box<Pump>, exit: PumpExit) {
    let wire = pump.socket.get_mut();
    match exit {
        PumpExit::Drop | PumpExit::Lost => return,
        // The rest of that frame would have to come before the Close frame.
        PumpExit::Close(CloseReason::ShortOfMemory) if wire.is_within_a_frame() => return,
        PumpExit::Left(_) | PumpExit::Fail(_) => wire.discard(&pump.outbox_receiver),
        PumpExit::Close(close) if close.discards_outbox() => wire.discard(&pump.outbox_receiver),
        PumpExit::Close(_) => {}
    }
    match exit {
        // Nothing that it sends is of interest any more.
        PumpExit::Fail(close) | PumpExit::Close(close @ CloseReason::ShortOfMemory) => {
            wire.control(Frame::close(close));
            pump.flush().await;
        }
        PumpExit::Close(close) => {
            let _ = pump.socket.close(Some(close_frame(close))).await;
            pump.flush().await;
            pump.hear_close().await;
        }
        _ => {
            // The answer to the client's own Close frame is still with tungstenite.
            let _ = poll_fn(|cx| Poll::Ready(pump.socket.poll_next_unpin(cx).is_ready())).await;
            pump.flush().await;
        }
    }
    pump.into_socket().linger().await;
}
