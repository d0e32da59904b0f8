//! Tests of a connection over a loopback socket, without a broker.

use super::exit::PumpExit;
use super::pump::PumpEvent;
use super::read_buffer::ReadBufferSize;
use super::turn::MAX_FRAMES;
use super::{BrokerLink, Connection, ConnectionLog};
use crate::base::close::CloseReason;
use crate::base::ip::ClientAddress;
use crate::base::memory_budget::MemoryBudget;
use crate::broker::{
    Clock, CloseOrder, Event, Inbox, Outbox, PingReason, SocketStatus, inbox, outbox,
};
use crate::config::Listener;
use crate::net::server_state::ServerState;
use crate::net::socket::ClientSocket;
use crate::protocols;
use crate::realm::ConnectionId;
use async_std::net::{TcpListener, TcpStream};
use async_std::task::{block_on, yield_now};
use async_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use futures::channel::mpsc;
use futures::future::{Either, poll_fn, select};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, poll, try_join};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

const MAX_MESSAGE: usize = 1_000_000;

/// Stands for the response to the handshake.
const RESPONSE: &[u8] = b"101";

/// A connection, its client, and the parts of the daemon that it uses.
struct Harness {
    connection: Connection,
    client: TcpStream,
    budget: Arc<MemoryBudget>,
    inbox: Inbox,
    outbox: Outbox,
}

impl Harness {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, (tcp, _)) = try_join!(connecting, listener.accept()).unwrap();
        let budget = MemoryBudget::new(0);
        let status = SocketStatus::new(&Arc::new(Clock::new()), &budget, &Arc::default());
        let (sender, inbox) = inbox();
        let (task_guard, _) = mpsc::channel(0);
        let server = Arc::new(ServerState::new(Arc::new(Clock::new()), task_guard));
        let (outbox, outbox_receiver) = outbox(MAX_MESSAGE, &budget);
        let link = BrokerLink::new(ConnectionId(1), sender, outbox_receiver);
        let protocol = protocols::by_name("peerdrop").unwrap();
        let mut settings = Listener::built_in(protocol).settings;
        settings.max_message_size = MAX_MESSAGE;
        let socket = ClientSocket::new(tcp, Arc::new(status));
        let log = ConnectionLog {
            server,
            protocol: protocol.name,
            listener: settings.address.clone(),
            conn: ConnectionId(1),
            address: ClientAddress::Unix,
            id: None,
            traces_messages: false,
        };
        let connection =
            Connection::new(socket, Vec::new(), RESPONSE, link, protocol, &settings, log);
        Self {
            connection,
            client,
            budget,
            inbox,
            outbox,
        }
    }

    /// Runs the connection for one poll.
    async fn poll(&mut self) -> Poll<PumpEvent> {
        poll!(poll_fn(|cx| self.connection.pump.poll(cx)))
    }

    /// Replaces the read buffer as an event of the pump demands, which must be by one of this size.
    fn with_new_buffer(mut self, event: Poll<PumpEvent>, expected: ReadBufferSize) -> Self {
        let Poll::Ready(PumpEvent::ReplaceBuffer(size)) = event else {
            panic!("the buffer is to be replaced by one of size {expected:?}");
        };
        assert_eq!(size, expected);
        self.connection.pump = self.connection.pump.with_new_buffer(size);
        self
    }

    /// Returns the number of writes to the client so far.
    fn writes(&self) -> usize {
        self.connection.pump.websocket.writer().socket.writes
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
            panic!("the inbox has no message");
        };
        assert_eq!(
            (reserved_bytes, harness.budget.reserved()),
            (MAX_MESSAGE, MAX_MESSAGE)
        );
    });
}

#[test]
fn a_connection_frees_its_large_buffer_before_the_closing_handshake() {
    block_on(async {
        let mut harness = Harness::new().await;
        let message = frame(OpCode::Data(Data::Text), vec![b'x'; MAX_MESSAGE]);
        let (last, beginning) = message.split_last().unwrap();
        let send = async { harness.client.write_all(beginning).await.unwrap() };
        let receive = poll_fn(|cx| {
            let connection = &mut harness.connection;
            assert!(connection.pump.poll(cx).is_pending());
            let traffic = connection.pump.websocket.status().traffic.counts.get();
            if traffic.bytes_in == beginning.len() as u64 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        join!(send, receive);
        harness.client.write_all(&[*last]).await.unwrap();
        while !harness
            .connection
            .pump
            .websocket
            .writer()
            .socket
            .may_be_readable()
        {
            yield_now().await;
        }
        let close = CloseOrder::Graceful(CloseReason::GOODBYE);
        harness.outbox.close(close, &mut Vec::new());
        let Poll::Ready(event) = harness.poll().await else {
            panic!("the last byte came with the close");
        };
        assert!(matches!(event, PumpEvent::ReplaceBuffer(_)));
    });
}

#[test]
fn the_pongs_of_a_turn_leave_in_one_write() {
    block_on(async {
        let mut harness = Harness::new().await;
        let first_poll = harness.poll().await;
        assert!(
            first_poll.is_pending() && harness.writes() == 1,
            "the response"
        );
        // tungstenite queues the Pong for a Ping when it is asked for the next message. So the Pong for the last frame
        // of a full turn is written in the next turn.
        let count = MAX_FRAMES - 1;
        let pings = frame(OpCode::Control(Control::Ping), Vec::new()).repeat(count);
        harness.client.write_all(&pings).await.unwrap();
        // An empty Pong has 2 bytes.
        let mut received = vec![0; RESPONSE.len() + 2 * count];
        let run = poll_fn(|cx| match harness.connection.pump.poll(cx) {
            Poll::Ready(_) => panic!("the pump neither exits nor replaces its buffer"),
            Poll::Pending => Poll::<()>::Pending,
        });
        let receive = harness.client.read_exact(&mut received);
        select(run, pin!(receive)).await;
        assert_eq!(harness.writes(), 2);
    });
}

#[test]
fn a_message_that_arrives_while_the_broker_closes_is_not_passed_to_it() {
    block_on(async {
        let mut harness = Harness::new().await;
        let close = CloseOrder::Graceful(CloseReason::GOODBYE);
        harness.outbox.close(close, &mut Vec::new());
        let message = frame(OpCode::Data(Data::Text), b"late".to_vec());
        harness.client.write_all(&message).await.unwrap();
        let pump = &mut harness.connection.pump;
        poll_fn(|cx| {
            let event = pump.poll(cx);
            let is_closed = |event| matches!(event, PumpEvent::Exit(PumpExit::Close(_)));
            assert!(matches!(event.map(is_closed), Poll::Ready(true)));
            let traffic = pump.websocket.status().traffic.counts.get();
            if traffic.bytes_in == message.len() as u64 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        assert!(harness.inbox.try_next().is_none());
    });
}

#[test]
fn a_buffer_is_large_after_a_large_message_and_small_once_the_client_is_silent() {
    block_on(async {
        let mut harness = Harness::new().await;
        let message = frame(OpCode::Data(Data::Text), vec![b'x'; MAX_MESSAGE]);
        let send = async { harness.client.write_all(&message).await.unwrap() };
        let receive = poll_fn(|cx| harness.connection.pump.poll(cx));
        let ((), event) = join!(send, receive);
        let mut harness = harness.with_new_buffer(Poll::Ready(event), ReadBufferSize::Large);
        assert!(harness.poll().await.is_pending());
        harness.outbox.ping(PingReason::Silence, &mut Vec::new());
        let event = harness.poll().await;
        let mut harness = harness.with_new_buffer(event, ReadBufferSize::Small);
        assert!(harness.poll().await.is_pending());
    });
}

#[test]
fn the_command_that_answers_a_probe_is_sent_before_the_answer_is_reported() {
    block_on(async {
        let mut harness = Harness::new().await;
        harness.outbox.ping(PingReason::Probe, &mut Vec::new());
        assert!(harness.poll().await.is_pending());
        let message = frame(OpCode::Data(Data::Text), b"here".to_vec());
        harness.client.write_all(&message).await.unwrap();
        let run = poll_fn(|cx| match harness.connection.pump.poll(cx) {
            Poll::Ready(_) => panic!("the pump neither exits nor replaces its buffer"),
            Poll::Pending => Poll::<()>::Pending,
        });
        let events = harness.inbox.by_ref().take(2).collect::<Vec<Event>>();
        let Either::Right((events, _)) = select(run, events).await else {
            unreachable!("the pump runs for ever");
        };
        assert!(matches!(
            events[..],
            [Event::Commands { .. }, Event::ProbeAnswered(_)]
        ));
    });
}
