//! Memory of received data that is not yet handled, counted in the memory budget.

use super::pump::Pump;
use super::read_buffer::ReadBufferSize;
use std::task::Context;

/// Bytes that a connection may hold uncounted in addition to the small read buffer, until its task waits again.
/// Small messages, which are handled at once, need no counting. What is held longer is counted from the first
/// byte: many connections with a little each hold much.
const UNCOUNTED_BYTES: usize = 2 * 1024;

/// Number of times that this task yields before it reads again while the memory budget is exceeded. Enough
/// for evicted connections to free memory; bounded, so that reading does not stall if none can be evicted.
const MAX_YIELDS: u32 = 16;

impl Pump {
    /// Reserves memory for the received data that this connection holds, unless it is little enough to be
    /// handled at once. If that exceeds the budget, nothing more is read before the broker has been
    /// notified.
    pub(super) fn update_reservation(&mut self) {
        self.reserve_above(UNCOUNTED_BYTES);
    }

    /// Reserves memory for all received data that this connection holds besides its small read buffer, before
    /// its task waits.
    pub(super) fn reserve_all(&mut self) {
        self.reserve_above(0);
    }

    fn reserve_above(&mut self, uncounted_bytes: usize) {
        let writer = self.websocket.get_ref();
        let buffered = if self.replacement_buffer().is_some() {
            // The messages are all that is left of this buffer. Counting both would evict a client that
            // sends a message of more than half the budget.
            0
        } else {
            let buffered = writer.tracker.buffered_bytes(self.buffer_size.bytes());
            buffered - ReadBufferSize::Small.bytes()
        };
        let held = buffered + self.decoded_bytes;
        let reserved = if held > uncounted_bytes { held } else { 0 };
        let receive_memory = &writer.socket.status().receive_memory;
        receive_memory.grow(reserved.saturating_sub(self.reserved_bytes));
        receive_memory.shrink(self.reserved_bytes.saturating_sub(reserved));
        self.budget_exceeded |=
            reserved > self.reserved_bytes && receive_memory.budget().is_exceeded();
        self.reserved_bytes = reserved;
    }

    /// Releases the memory that is reserved for received data.
    pub(super) fn release_reservation(&mut self) {
        let reserved = std::mem::take(&mut self.reserved_bytes);
        let status = self.websocket.get_ref().socket.status();
        status.receive_memory.shrink(reserved);
    }

    /// Returns whether to read now. While the budget is exceeded, first notifies the broker, and then yields
    /// to the connections that it evicts: otherwise all connections would read on before any memory is
    /// freed. If the result is `false`, the task of `cx` is woken later.
    pub(super) fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let status = self.websocket.get_ref().socket.status();
        if !status.receive_memory.budget().is_exceeded() {
            self.yields = 0;
            return true;
        }
        if self.yields == 0 {
            self.budget_exceeded = true;
        }
        // The channel has capacity for the next event once the broker has taken the last one.
        if !self.send_events(cx) || self.inbox.poll_ready(cx).is_pending() {
            return false;
        }
        if self.yields < MAX_YIELDS {
            self.yields += 1;
            cx.waker().wake_by_ref();
            return false;
        }
        self.yields = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::base::memory_budget::MemoryBudget;
    use crate::broker::{Clock, Event, SocketStatus, inbox, outbox};
    use crate::net::connection::pump::PumpEvent;
    use crate::net::connection::{Connection, Parts};
    use crate::net::socket::ClientSocket;
    use crate::protocols::Protocol;
    use crate::realm::ConnectionId;
    use async_std::net::{TcpListener, TcpStream};
    use async_std::task::block_on;
    use async_tungstenite::tungstenite::protocol::frame::Frame;
    use async_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use futures::future::poll_fn;
    use futures::{AsyncWriteExt, StreamExt, try_join};
    use std::sync::Arc;
    use std::time::Duration;

    /// A masked message of this size, as clients send it.
    fn message(size: usize) -> Vec<u8> {
        let mut frame = Frame::message(vec![b'x'; size], OpCode::Data(Data::Text), true);
        frame.header_mut().mask = Some([0; 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_large_message_counts_once_from_its_last_byte_on() {
        const SIZE: usize = 1_000_000;
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let (mut client, (tcp, _)) = try_join!(connecting, listener.accept()).unwrap();
            let budget = MemoryBudget::new(0);
            let status = Arc::new(SocketStatus::new(&Arc::new(Clock::new()), &budget));
            let (mut events, _, mut inbox) = inbox(1);
            let (_outbox, outbox_receiver) = outbox(SIZE, &budget);
            let mut connection = Connection::new(Parts {
                conn: ConnectionId(1),
                socket: ClientSocket::new(tcp, Arc::clone(&status)),
                upgrade_response: Vec::new(),
                already_read: Vec::new(),
                outbox_receiver,
                inbox: events.remove(0),
                protocol: Protocol::by_name("peerdrop").unwrap(),
                max_message_size: SIZE,
                close_timeout: Duration::MAX,
            });
            let message = message(SIZE);
            let send = async { client.write_all(&message).await.unwrap() };
            let receive = poll_fn(|cx| connection.pump.poll(cx));
            let ((), event) = futures::join!(send, receive);
            assert!(matches!(event, PumpEvent::ReplaceBuffer(_)));
            let Some(Event::Commands { reserved_bytes, .. }) = inbox.next().await else {
                panic!("the message is with the broker");
            };
            assert_eq!((reserved_bytes, budget.reserved()), (SIZE, SIZE));
        });
    }
}
