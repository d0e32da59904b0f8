//! The closing handshake of a connection (RFC 6455 section 7).

use super::exit::PumpExit;
use super::pump::Pump;
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::net::socket::ClientSocket;
use futures::future::poll_fn;
use std::task::Poll;

impl Pump {
    /// Writes all queued frames, unless the broker aborts the connection.
    async fn flush(&mut self) {
        let Self {
            websocket, link, ..
        } = self;
        poll_fn(|cx| {
            let writer = websocket.writer_mut();
            // The end of this connection is reported already, so the broker needs no other notification.
            link.write(cx, writer);
            if writer.is_empty() || link.is_aborted(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Sends the Close frame after all queued frames.
    async fn close_without_reading(&mut self, reason: CloseReason) {
        let writer = self.websocket.writer_mut();
        writer.queue_control(Frame::close(reason));
        self.flush().await;
    }

    /// Reads until the client has sent its Close frame. Gives up when the client sends a message that does not fit
    /// the buffer, and when the broker aborts the connection.
    async fn await_close_frame(&mut self) {
        poll_fn(|cx| {
            loop {
                match self.websocket.poll_message(cx) {
                    Poll::Ready(Some(Ok(message))) if !message.is_close() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            let buffered_bytes = self.websocket.buffered_bytes();
            // The broker counts this connection as closing, and needs no notification about the budget.
            let _ = self.memory.reserve(buffered_bytes, self.websocket.status());
            if self.websocket.has_outgrown_buffer() || self.link.is_aborted(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Returns the socket alone. Frees the received messages that were not handled, and the frames that
    /// were not sent.
    fn into_socket(mut self: Box<Self>) -> ClientSocket {
        self.memory.release(self.websocket.status());
        self.websocket.into_socket()
    }
}

/// Closes a connection as its `exit` demands: sends the Close frame, reads the client's, and waits until
/// the client has closed its socket. The caller limits the time.
pub(super) async fn close(mut pump: Box<Pump>, exit: PumpExit) {
    let writer = pump.websocket.writer_mut();
    match exit {
        PumpExit::Abort | PumpExit::Lost => return,
        // The rest of the partial frame, or of a record, would have to be sent before the Close frame.
        PumpExit::Close(CloseReason::SHORT_OF_MEMORY)
            if writer.has_partial_frame() || !writer.socket.is_flushed() =>
        {
            return;
        }
        PumpExit::ClosedByClient(_) | PumpExit::Fail(_) => {
            pump.link.discard_frames(writer);
        }
        PumpExit::Close(reason) if reason.discards_outbox() => {
            pump.link.discard_frames(writer);
        }
        PumpExit::Close(_) => {}
    }
    match exit {
        // Nothing more is read: bytes after a violation have no meaning (RFC 6455 section 7.1.7), those of an
        // unfinished message are not a Close frame, and when memory is short, reading would hold more of
        // it. So the Close frame bypasses tungstenite.
        PumpExit::Fail(reason) => pump.close_without_reading(reason).await,
        PumpExit::Close(reason) if reason.discards_received() => {
            pump.close_without_reading(reason).await;
        }
        PumpExit::Close(reason) => {
            poll_fn(|cx| {
                pump.websocket.close(cx, reason);
                Poll::Ready(())
            })
            .await;
            pump.flush().await;
            pump.await_close_frame().await;
        }
        // The reply to the client's Close frame is queued.
        _ => pump.flush().await,
    }
    pump.into_socket().linger().await;
}
