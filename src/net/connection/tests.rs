//! A connection over a socket of this machine, without a broker.

use super::pump::PumpEvent;
use super::turn::MAX_FRAMES;
use super::{Connection, Parts};
use crate::base::memory_budget::MemoryBudget;
use crate::broker::{Clock, Event, Inbox, SocketStatus, inbox, outbox};
use crate::net::socket::ClientSocket;
use crate::protocols::Protocol;
use crate::realm::ConnectionId;
use async_std::net::{TcpListener, TcpStream};
use async_std::task::block_on;
use async_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use futures::future::{poll_fn, select};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, poll, try_join};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const MAX_MESSAGE: usize = 1_000_000;

/// Stands for the response to the handshake.
const RESPONSE: &[u8] = b"101";

/// A connection, and what would be around it in the daemon.
struct Harness {
    connection: Connection,
    client: TcpStream,
    budget: Arc<MemoryBudget>,
    inbox: Inbox,
}

impl Harness {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, (tcp, _)) = try_join!(connecting, listener.accept()).unwrap();
        let budget = MemoryBudget::new(0);
        let status = Arc::new(SocketStatus::new(&Arc::new(Clock::new()), &budget));
        let (mut lanes, _, inbox) = inbox(1);
        let (_, outbox_receiver) = outbox(MAX_MESSAGE, &budget);
        let connection = Connection::new(Parts {
            conn: ConnectionId(1),
            socket: ClientSocket::new(tcp, status),
            upgrade_response: RESPONSE.to_vec(),
            already_read: Vec::new(),
            outbox_receiver,
            inbox: lanes.remove(0),
            protocol: Protocol::by_name("peerdrop").unwrap(),
            max_message_size: MAX_MESSAGE,
            close_timeout: Duration::MAX,
        });
        Self {
            connection,
            client,
            budget,
            inbox,
        }
    }

    /// Returns the number of writes to the client so far.
    fn writes(&self) -> usize {
        self.connection.pump.websocket.get_ref().socket.writes
    }
}

/// A masked frame, as clients send it.
fn frame(opcode: OpCode, payload: Vec<u8>) -> Vec<u8> {
    let header = FrameHeader {
        opcode,
        mask: Some([0; 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    let frame = Frame::from_payload(header, payload.into());
    frame.format(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_large_message_counts_once_from_its_last_byte_on() {
    block_on(async {
        let mut harness = Harness::new().await;
        let message = frame(OpCode::Data(Data::Text), vec![b'x'; MAX_MESSAGE]);
        let send = async { harness.client.write_all(&message).await.unwrap() };
        let receive = poll_fn(|cx| harness.connection.pump.poll(cx));
        let ((), event) = join!(send, receive);
        assert!(matches!(event, PumpEvent::ReplaceBuffer(_)));
        let Some(Event::Commands { reserved_bytes, .. }) = harness.inbox.next().await else {
            panic!("the message is with the broker");
        };
        assert_eq!(
            (reserved_bytes, harness.budget.reserved()),
            (MAX_MESSAGE, MAX_MESSAGE)
        );
    });
}

#[test]
fn the_pongs_of_a_turn_leave_in_one_write() {
    block_on(async {
        let mut harness = Harness::new().await;
        let written = poll!(poll_fn(|cx| harness.connection.pump.poll(cx)));
        assert!(
            written.is_pending() && harness.writes() == 1,
            "the response"
        );
        // tungstenite queues a Pong when it is asked for the message after the Ping, so that of the last Ping of a
        // whole turn belongs to the next.
        let count = MAX_FRAMES - 1;
        let pings = frame(OpCode::Control(Control::Ping), Vec::new()).repeat(count);
        harness.client.write_all(&pings).await.unwrap();
        // An empty Pong has 2 bytes.
        let mut received = vec![0; RESPONSE.len() + 2 * count];
        let run = poll_fn(|cx| match harness.connection.pump.poll(cx) {
            Poll::Ready(_) => panic!("the connection stays as it is"),
            Poll::Pending => Poll::<()>::Pending,
        });
        let receive = harness.client.read_exact(&mut received);
        select(run, pin!(receive)).await;
        assert_eq!(harness.writes(), 2);
    });
}
