//! How a connection ends: why, and the closing handshake (RFC 6455 section 7).

use super::pump::Pump;
use crate::base::close::{Close, Ending};
use crate::base::frame::{Frame, close_frame};
use crate::net::socket::Stream;
use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::error::ProtocolError;
use futures::StreamExt;
use futures::future::poll_fn;
use std::task::Poll;

/// Why a connection's work is done.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// The server closes it, with a Close frame.
    Close(Close),
    /// The client broke the protocol: a Close frame, but nothing that it sends is read any more.
    Fail(Close),
    /// The client sent a Close frame.
    Left(Option<u16>),
    /// It broke.
    Lost,
    /// The broker gave it up.
    Drop,
}

impl Stop {
    pub(super) const fn ending(&self) -> Ending {
        match *self {
            Self::Close(close) | Self::Fail(close) => Ending::Closed(close),
            Self::Left(code) => Ending::Left(code),
            Self::Lost => Ending::Lost,
            Self::Drop => Ending::Silent,
        }
    }

    pub(super) fn from_error(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Fail(Close::TooBig),
            Error::Utf8(_) => Self::Fail(Close::InvalidUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Fail(Close::ProtocolError),
            _ => Self::Lost,
        }
    }
}

impl Pump {
    /// Writes all that waits, unless the broker gives the connection up.
    async fn flush(&mut self) {
        let Self {
            socket, outgoing, ..
        } = self;
        poll_fn(|cx| {
            let wire = socket.get_mut();
            wire.send(cx, outgoing);
            if wire.is_empty() || outgoing.is_given_up(cx) {
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
            if self.charged > 0 || self.outgoing.is_given_up(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The socket alone: what was received and not done is given up, and what was not sent.
    fn into_stream(mut self: Box<Self>) -> Stream {
        self.uncharge();
        self.socket.into_inner().stream
    }
}

/// Ends a connection as its `stop` asks: the Close frame, the client's answer to it, and then
/// nothing until the client is gone, too. The caller sets a limit.
pub(super) async fn say_goodbye(mut pump: Box<Pump>, stop: Stop) {
    let wire = pump.socket.get_mut();
    match stop {
        Stop::Drop | Stop::Lost => return,
        // The rest of that frame would have to come before the Close frame.
        Stop::Close(Close::ShortOfMemory) if wire.is_within_a_frame() => return,
        Stop::Left(_) | Stop::Fail(_) => wire.discard(&pump.outgoing),
        Stop::Close(close) if close.discards_outbox() => wire.discard(&pump.outgoing),
        Stop::Close(_) => {}
    }
    match stop {
        // Nothing that it sends is of interest any more.
        Stop::Fail(close) | Stop::Close(close @ Close::ShortOfMemory) => {
            wire.control(Frame::close(close));
            pump.flush().await;
        }
        Stop::Close(close) => {
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
    pump.into_stream().linger().await;
}
