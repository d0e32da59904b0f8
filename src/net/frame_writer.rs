//! The writing side of a connection: a queue for control frames, those of tungstenite among them, and one for the frames
//! of the outbox, which are already encoded. Reads pass through, so that its bytes are followed.
//!
//! tungstenite would copy each outgoing frame into a buffer per client, never shrink that buffer, and move
//! its rest at each partial write. So data frames bypass tungstenite.

use crate::base::coalesce::with_coalesced;
use crate::base::frame::Frame;
use crate::base::spare::FreeSpare;
use crate::broker::{MessageProgress, OutboxReceiver};
use crate::net::frame_tracker::FrameTracker;
use crate::net::socket::ClientSocket;
use futures::io::{AsyncRead, AsyncWrite};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The frame at the front, of which `written` bytes are written.
struct CurrentFrame {
    frame: Frame,
    written: usize,
    is_data: bool,
}

/// A client's socket with the frames to be written to it.
pub(crate) struct FrameWriter {
    pub(crate) socket: ClientSocket,
    /// Follows the frames that are read.
    pub(crate) tracker: FrameTracker,
    /// Data frames from the outbox.
    pub(crate) queue: VecDeque<Frame>,
    /// Control frames: this server's Pings, and tungstenite's Pongs and Close frames. They are sent before
    /// the data frames: RFC 6455 allows it (section 5.4), and a Pong should be sent at once (section 5.5.3).
    controls: VecDeque<Frame>,
    /// The frame that is written in part and must be finished before all others.
    partial: Option<CurrentFrame>,
    /// Whether a write has failed: then nothing can be written any more.
    has_failed: bool,
}

impl FrameWriter {
    /// Creates a writer. `already_read` are bytes that were read with the handshake; tungstenite gets them
    /// separately.
    pub(crate) fn new(socket: ClientSocket, already_read: &[u8]) -> Self {
        let mut tracker = FrameTracker::default();
        tracker.advance(already_read);
        Self {
            socket,
            tracker,
            queue: VecDeque::new(),
            controls: VecDeque::new(),
            partial: None,
            has_failed: false,
        }
    }

    /// Queues a control frame, to be sent after the partial frame and the control frames before it.
    pub(crate) fn queue_control(&mut self, frame: Frame) {
        self.controls.push_back(frame);
    }

    /// Returns the number of queued control frames.
    pub(crate) fn queued_controls(&self) -> usize {
        self.controls.len()
    }

    /// Discards the data frames of which nothing is written.
    pub(crate) fn discard_queue(&mut self, outbox_receiver: &OutboxReceiver) {
        let frames = std::mem::take(&mut self.queue);
        let bytes = frames.iter().map(Frame::len).sum();
        let messages = frames.iter().map(Frame::messages).sum();
        // The broker resumes the paused senders when the connection reports its end.
        let _ = outbox_receiver.release(messages, bytes);
    }

    /// Returns whether a frame is written in part.
    pub(crate) fn has_partial_frame(&self) -> bool {
        self.partial.is_some()
    }

    /// Returns whether all frames are written, and the socket has taken them.
    pub(crate) fn is_empty(&self) -> bool {
        self.has_no_frame() && (self.has_failed || self.socket.is_flushed())
    }

    /// Returns whether all frames are written.
    fn has_no_frame(&self) -> bool {
        self.partial.is_none() && self.controls.is_empty() && self.queue.is_empty()
    }

    /// Writes until all frames are written or the socket accepts no more; in the latter case the task of
    /// `cx` is woken once it does. Frees the capacity of the outbox, and returns whether the broker must be
    /// notified of that.
    ///
    /// Once a write has failed, all frames are discarded, now and later. The end of the connection is left
    /// to be found by reading: what the client sent before it disconnected may still be unread.
    #[must_use]
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, outbox_receiver: &OutboxReceiver) -> bool {
        let mut notify_broker = false;
        self.socket.begin_write_turn();
        while !self.has_failed && !self.is_empty() {
            if self.has_no_frame() {
                match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => self.has_failed = true,
                    Poll::Pending => break,
                }
                continue;
            }
            let Self {
                socket,
                queue,
                controls,
                partial,
                ..
            } = self;
            let partial = partial
                .iter()
                .map(|partial| (&partial.frame, partial.written));
            let queued = controls.iter().chain(&*queue).map(|frame| (frame, 0));
            let pieces = partial
                .chain(queued)
                .flat_map(|(frame, skip)| frame.pieces(skip));
            let write = |pieces: &[IoSlice; 2]| Pin::new(socket).poll_write_vectored(cx, pieces);
            match with_coalesced(pieces, write) {
                Poll::Ready(Ok(0) | Err(_)) => self.has_failed = true,
                Poll::Ready(Ok(bytes)) => {
                    let (messages, bytes) = self.remove(bytes);
                    let traffic = &self.socket.status().traffic;
                    traffic.counts.messages_out.add(messages as u64);
                    notify_broker |= outbox_receiver.release(messages, bytes);
                }
                Poll::Pending => break,
            }
        }
        if self.has_failed {
            let (messages, bytes) = self.remove(usize::MAX);
            notify_broker |= outbox_receiver.release(messages, bytes);
        }
        // Most connections have a control frame every few minutes, and data frames that the broker does not write itself
        // more rarely.
        self.queue.free_spare();
        self.controls.free_spare();
        notify_broker
    }

    /// Goes on with the first data frame, of which the broker has written this many bytes. It must be finished before
    /// control frames that are queued by now.
    pub(crate) fn resume(&mut self, written: usize, outbox_receiver: &OutboxReceiver) {
        let first = (written > 0).then(|| self.queue.pop_front()).flatten();
        let Some(frame) = first else {
            return;
        };
        let (messages, bytes) = self.interrupt(CurrentFrame {
            frame,
            written,
            is_data: true,
        });
        let traffic = &self.socket.status().traffic;
        traffic.counts.messages_out.add(messages as u64);
        // The broker writes nothing that it would have to be notified of.
        let _ = outbox_receiver.release(messages, bytes);
    }

    /// Removes written bytes from the front of the queues. Returns how many data messages are written
    /// whole by them, and the bytes of these messages.
    fn remove(&mut self, mut bytes: usize) -> (usize, usize) {
        let (mut messages_done, mut bytes_done) = (0, 0);
        while bytes > 0 {
            let Some(mut first) = self.partial.take().or_else(|| self.next()) else {
                break;
            };
            let left = first.frame.len() - first.written;
            if bytes < left {
                first.written += bytes;
                let (messages, bytes) = self.interrupt(first);
                messages_done += messages;
                bytes_done += bytes;
                break;
            }
            bytes -= left;
            if first.is_data {
                messages_done += first.frame.messages();
                bytes_done += first.frame.len();
            }
        }
        (messages_done, bytes_done)
    }

    /// Keeps a frame that is written in part. What has not begun of several messages goes back to the queue, so that a
    /// control frame does not wait for it. Returns how many of them are written whole, and their bytes.
    fn interrupt(&mut self, current: CurrentFrame) -> (usize, usize) {
        let Some(split) = current.frame.split(current.written) else {
            self.partial = Some(current);
            return (0, 0);
        };
        self.partial = split.partial.map(|(frame, written)| CurrentFrame {
            frame,
            written,
            is_data: current.is_data,
        });
        if let Some(rest) = split.rest {
            self.queue.push_front(rest);
        }
        split.done
    }

    /// Removes the next frame from the queues.
    fn next(&mut self) -> Option<CurrentFrame> {
        let control = self.controls.pop_front().map(|frame| (frame, false));
        let next = control.or_else(|| self.queue.pop_front().map(|frame| (frame, true)));
        next.map(|(frame, is_data)| CurrentFrame {
            frame,
            written: 0,
            is_data,
        })
    }

    /// Returns how the message that is being received stands, since this was last asked for. What is not decrypted yet is of
    /// one, too.
    pub(crate) fn take_progress(&mut self) -> MessageProgress {
        match (self.tracker.take_progress(), self.socket.take_progress()) {
            (MessageProgress::Finished, undecrypted) => undecrypted,
            (MessageProgress::Unchanged, MessageProgress::Begun | MessageProgress::Advanced) => {
                MessageProgress::Advanced
            }
            (progress, _) => progress,
        }
    }

    /// Reads from the socket, in large frames up to their end and no further.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let limit = self.tracker.max_read(buffer.len());
        let buffer = buffer.get_mut(..limit).unwrap_or_default();
        let bytes = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.tracker
            .advance(buffer.get(..bytes).unwrap_or_default());
        Poll::Ready(Ok(bytes))
    }

    /// Appends what the socket has to a buffer, up to its capacity.
    pub(crate) fn poll_read_spare(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.len();
        let bytes = ready!(self.socket.poll_read_spare(cx, buffer))?;
        self.tracker
            .advance(buffer.get(before..).unwrap_or_default());
        Poll::Ready(Ok(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory_budget::MemoryBudget;
    use crate::broker::{Clock, SocketStatus, Wakeups, outbox};
    use crate::net::stream::AcceptedStream;
    use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use async_tungstenite::tungstenite::protocol::frame::coding::OpCode;
    use futures::executor::block_on;
    use futures::future::poll_fn;
    use std::io::{Cursor, Read};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    /// A writer, and the client's end of its socket.
    fn writer() -> (FrameWriter, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (clock, budget) = (Arc::new(Clock::new()), MemoryBudget::new(0));
        let status = SocketStatus::new(&clock, &budget, &Arc::default());
        server.set_nonblocking(true).unwrap();
        let socket = ClientSocket::new(AcceptedStream::Tcp(server), Arc::new(status));
        (FrameWriter::new(socket.unwrap(), &[]), client)
    }

    #[test]
    fn what_the_broker_has_written_in_part_is_finished_before_control_frames() {
        let (mut writer, _client) = writer();
        let (_outbox, receiver) = outbox(1, &MemoryBudget::new(0));
        let [first, second] = ["first", "second"].map(Frame::text);
        let joined = Frame::join([&first, &second].into_iter());
        for (frame, written, whole) in [(first.clone(), 3, 0), (joined, first.len() + 3, 1)] {
            writer.partial = None;
            writer.queue_control(Frame::ping(b"now"));
            writer.queue.push_back(frame);
            let count = |writer: &FrameWriter| {
                let counts = &writer.socket.status().traffic.counts;
                counts.messages_out.get()
            };
            let before = count(&writer);
            writer.resume(written, &receiver);
            let partial = writer.partial.as_ref().unwrap();
            assert!(partial.is_data && partial.written == 3);
            assert_eq!(count(&writer) - before, whole);
            assert!(writer.queue.is_empty());
        }
    }

    #[test]
    fn a_control_frame_goes_before_data_frames_and_never_inside_one() {
        // More than any socket buffers, so that a part of the first is written and the second waits.
        let large = Frame::text("x".repeat(32 << 20));
        let two = [large.clone(), large];
        assert_control_goes_between(vec![Frame::join(two.iter())]);
        assert_control_goes_between(two.into());
    }

    /// Asserts that a control frame that is queued while the first of two messages is written goes before the second.
    fn assert_control_goes_between(frames: Vec<Frame>) {
        let (mut writer, mut client) = writer();
        let (outbox, receiver) = outbox(1, &MemoryBudget::new(0));
        for frame in frames {
            outbox.push_initial(frame, &mut Wakeups::default());
        }
        block_on(poll_fn(|cx| {
            receiver.take(cx, &mut writer.queue);
            let _ = writer.send(cx, &receiver);
            Poll::Ready(())
        }));
        assert!(writer.has_partial_frame());
        writer.queue_control(Frame::ping(b"now"));
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            bytes
        });
        block_on(poll_fn(|cx| {
            let _ = writer.send(cx, &receiver);
            if writer.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        assert_eq!(outbox.queued_bytes(), 0);
        let traffic = writer.socket.status().traffic.counts.get();
        assert_eq!(traffic.messages_out, 2);
        drop(writer);
        let mut bytes = Cursor::new(reader.join().unwrap());
        let mut opcodes = Vec::new();
        while let Some((header, length)) = FrameHeader::parse(&mut bytes).unwrap() {
            opcodes.push(matches!(header.opcode, OpCode::Control(_)));
            bytes.set_position(bytes.position() + length);
        }
        assert_eq!(opcodes, [false, true, false]);
    }
}
