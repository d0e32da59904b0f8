//! What tungstenite takes for the socket: it reads from it, and writes its control frames to it;
//! our own frames, encoded already, join them on the way out.
//!
//! tungstenite would copy every outgoing frame into a buffer of its own for each client, keep
//! that buffer as large as the largest frame ever, and move what is left of it at each partial
//! write. So data frames go past it, as the octets that they are.

use crate::base::frame::Frame;
use crate::broker::OutboxReceiver;
use crate::net::frame_tracker::FrameTracker;
use crate::net::socket::ClientSocket;
use futures::io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Pieces up to this size are put together and written as one, up to this much at a time: to copy
/// them costs less than to have the kernel gather them.
const COALESCE_UP_TO: usize = 8 * 1024;
const COALESCE_LIMIT: usize = 64 * 1024;

thread_local! {
    /// Where pieces are put together; empty between two writes.
    static COALESCE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Beyond this many frames a queue that has run dry gives its memory back.
const RETAINED_CAPACITY: usize = 64;

/// A frame that the socket has taken a part of.
struct PartialFrame {
    frame: Frame,
    written: usize,
    from_outbox: bool,
}

/// A client's socket with what is to be sent.
pub(crate) struct FrameWriter {
    pub(crate) stream: ClientSocket,
    pub(crate) frames: FrameTracker,
    /// Data frames, in their order.
    pub(crate) queue: VecDeque<Frame>,
    /// Pings, and tungstenite's Pongs and Close frames. They go before the data frames, since
    /// they may (RFC 6455 section 5.4), and a Pong should go at once (section 5.5.3).
    controls: VecDeque<Frame>,
    started: Option<PartialFrame>,
    /// Nothing can be written any more.
    broken: bool,
    /// Data frames written so far.
    pub(crate) frames_sent: u64,
}

impl FrameWriter {
    /// `already_read` is what came with the handshake; tungstenite gets it separately.
    pub(crate) fn new(stream: ClientSocket, already_read: &[u8]) -> Self {
        let mut frames = FrameTracker::default();
        frames.advance(already_read);
        Self {
            stream,
            frames,
            queue: VecDeque::new(),
            controls: VecDeque::new(),
            started: None,
            broken: false,
            frames_sent: 0,
        }
    }

    /// Sends a control frame as soon as no other is half written.
    pub(crate) fn control(&mut self, frame: Frame) {
        self.controls.push_back(frame);
    }

    /// How many control frames wait.
    pub(crate) fn waiting_controls(&self) -> usize {
        self.controls.len()
    }

    /// Throws away the data frames of which the client has seen nothing.
    pub(crate) fn discard(&mut self, outbox_receiver: &OutboxReceiver) {
        let frames = std::mem::take(&mut self.queue);
        let bytes = frames.iter().map(Frame::len).sum();
        // Whoever is held for this client's sake is let go when the broker hears of its end.
        let _ = outbox_receiver.release(frames.len(), bytes);
    }

    /// Whether the client has a part of a frame.
    pub(crate) fn is_within_a_frame(&self) -> bool {
        self.started.is_some()
    }

    /// Whether all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.started.is_none() && self.controls.is_empty() && self.queue.is_empty()
    }

    /// Writes until all is written or the socket takes no more; in the latter case `cx` is woken
    /// when it does. `outbox_receiver` is told what went, and the answer says whether it has room now
    /// for which somebody is held.
    ///
    /// When nothing can be written any more, what waits is thrown away, here and from then on. It
    /// is for the reading to find the end: what the client sent before it went may still be
    /// unread.
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, outbox_receiver: &OutboxReceiver) -> bool {
        let mut room = false;
        while !self.broken && !self.is_empty() {
            let Self {
                stream,
                queue,
                controls,
                started,
                ..
            } = self;
            let started = started
                .iter()
                .map(|started| (&started.frame, started.written));
            let waiting = controls.iter().chain(&*queue).map(|frame| (frame, 0));
            let pieces = started
                .chain(waiting)
                .flat_map(|(frame, skip)| frame.pieces(skip));
            match poll_write(stream, cx, pieces) {
                Poll::Ready(Ok(0) | Err(_)) => self.broken = true,
                Poll::Ready(Ok(bytes)) => {
                    let (frames, bytes) = self.advance(bytes);
                    self.frames_sent += frames as u64;
                    room |= outbox_receiver.release(frames, bytes);
                }
                Poll::Pending => break,
            }
        }
        if self.broken {
            let (frames, bytes) = self.advance(usize::MAX);
            room |= outbox_receiver.release(frames, bytes);
        }
        if self.queue.is_empty() && self.queue.capacity() > RETAINED_CAPACITY {
            self.queue = VecDeque::new();
        }
        room
    }

    /// Takes so many octets from the front. How many data frames that were, and their octets.
    fn advance(&mut self, mut bytes: usize) -> (usize, usize) {
        let (mut frames_done, mut bytes_done) = (0, 0);
        while bytes > 0 {
            let Some(mut first) = self.started.take().or_else(|| self.next()) else {
                break;
            };
            let left = first.frame.len() - first.written;
            if bytes < left {
                first.written += bytes;
                self.started = Some(first);
                break;
            }
            bytes -= left;
            if first.from_outbox {
                frames_done += 1;
                bytes_done += first.frame.len();
            }
        }
        (frames_done, bytes_done)
    }

    fn next(&mut self) -> Option<PartialFrame> {
        let control = self.controls.pop_front().map(|frame| (frame, false));
        let next = control.or_else(|| self.queue.pop_front().map(|frame| (frame, true)));
        next.map(|(frame, from_outbox)| PartialFrame {
            frame,
            written: 0,
            from_outbox,
        })
    }
}

/// Writes the first of these pieces: all small ones up to a large one, and that one, too.
fn poll_write<'a>(
    stream: &mut ClientSocket,
    cx: &mut Context<'_>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Poll<io::Result<usize>> {
    COALESCE_BUFFER.with_borrow_mut(|small| {
        small.clear();
        let mut large: &[u8] = &[];
        for piece in pieces {
            if piece.len() > COALESCE_UP_TO {
                large = piece;
                break;
            }
            if small.len() + piece.len() > COALESCE_LIMIT {
                break;
            }
            small.extend_from_slice(piece);
        }
        let both = [IoSlice::new(small), IoSlice::new(large)];
        Pin::new(stream).poll_write_vectored(cx, &both)
    })
}

impl AsyncRead for FrameWriter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let limit = self.frames.limit(buffer.len());
        let buffer = buffer.get_mut(..limit).unwrap_or_default();
        let bytes = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.frames.advance(buffer.get(..bytes).unwrap_or_default());
        Poll::Ready(Ok(bytes))
    }
}

/// Takes tungstenite's own frames, always whole, and always at once: their number is bounded by
/// not reading on while too many of them wait.
impl AsyncWrite for FrameWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.control(Frame::encoded(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
