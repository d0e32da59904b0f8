//! Tests of a connection over a loopback socket, without a broker.

use super::exit::PumpExit;
use super::turn::MAX_FRAMES;
use super::{BrokerLink, Connection, ConnectionLog};
use crate::base::close::CloseReason;
use crate::base::ip::ClientAddress;
use crate::base::memory_budget::MemoryBudget;
use crate::broker::{
    Clock, CloseOrder, Event, Inbox, Outbox, PingReason, SocketStatus, Wakeups, inbox, outbox,
};
use crate::config::Listener;
use crate::net::server_state::ServerState;
use crate::net::socket::ClientSocket;
use crate::net::stream::AcceptedStream;
use crate::protocols;
use crate::realm::ConnectionId;
use async_io::block_on;
use async_std::net::TcpStream;
use async_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use futures::channel::mpsc;
use futures::future::{Either, poll_fn, select};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, poll};
use std::net::TcpListener;
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let client = client.await.unwrap();
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
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
        let socket = ClientSocket::new(AcceptedStream::Tcp(tcp), Arc::new(status)).unwrap();
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
    async fn poll(&mut self) -> Poll<PumpExit> {
        poll!(poll_fn(|cx| self.connection.pump.poll(cx)))
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

/// Sends a message of the greatest size, and lets the connection receive it.
async fn receive_large(harness: &mut Harness) {
    let message = frame(OpCode::Data(Data::Text), vec![b'x'; MAX_MESSAGE]);
    let send = async { harness.client.write_all(&message).await.unwrap() };
    let status = harness.connection.pump.websocket.status();
    let before = status.traffic.counts.get().messages_in;
    let receive = poll_fn(|cx| {
        let pump = &mut harness.connection.pump;
        assert!(pump.poll(cx).is_pending());
        let traffic = pump.websocket.status().traffic.counts.get();
        if traffic.messages_in > before {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    join!(send, receive);
}

#[test]
fn a_large_message_counts_once_from_its_last_byte_on() {
    block_on(async {
        let mut harness = Harness::new().await;
        receive_large(&mut harness).await;
        let Some(Event::Commands { reserved_bytes, .. }) = harness.inbox.next().await else {
            panic!("the inbox has no message");
        };
        assert_eq!(reserved_bytes, MAX_MESSAGE);
        let buffered_bytes = harness.connection.pump.websocket.buffered_bytes();
        assert_eq!(harness.budget.reserved(), MAX_MESSAGE + buffered_bytes);
        assert!(buffered_bytes < MAX_MESSAGE / 10);
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
        let pings = frame(OpCode::Control(Control::Ping), Vec::new()).repeat(MAX_FRAMES);
        harness.client.write_all(&pings).await.unwrap();
        // An empty Pong has 2 bytes.
        let mut received = vec![0; RESPONSE.len() + 2 * MAX_FRAMES];
        let run = poll_fn(|cx| match harness.connection.pump.poll(cx) {
            Poll::Ready(_) => panic!("the pump does not exit"),
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
        harness.outbox.close(close, &mut Wakeups::default());
        let message = frame(OpCode::Data(Data::Text), b"late".to_vec());
        harness.client.write_all(&message).await.unwrap();
        let pump = &mut harness.connection.pump;
        poll_fn(|cx| {
            let event = pump.poll(cx);
            let is_closed = |exit| matches!(exit, PumpExit::Close(_));
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
fn a_connection_has_a_reader_only_while_a_message_is_unfinished_or_after_a_large_one() {
    block_on(async {
        let mut harness = Harness::new().await;
        let message = frame(OpCode::Data(Data::Text), b"here".to_vec());
        let (last, beginning) = message.split_last().unwrap();
        for (bytes, is_held) in [(beginning, true), (&[*last], false)] {
            harness.client.write_all(bytes).await.unwrap();
            poll_fn(|cx| {
                let pump = &mut harness.connection.pump;
                assert!(pump.poll(cx).is_pending());
                if (pump.websocket.buffered_bytes() > 0) == is_held {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        // Until the broker has taken the messages, the connection does not read.
        harness.inbox.next().await.unwrap();
        receive_large(&mut harness).await;
        assert!(harness.connection.pump.websocket.buffered_bytes() > 0);
        harness.inbox.next().await.unwrap();
        harness
            .outbox
            .ping(PingReason::Silence, &mut Wakeups::default());
        assert!(harness.poll().await.is_pending());
        assert_eq!(harness.connection.pump.websocket.buffered_bytes(), 0);
    });
}

#[test]
fn the_command_that_answers_a_probe_is_sent_before_the_answer_is_reported() {
    block_on(async {
        let mut harness = Harness::new().await;
        harness
            .outbox
            .ping(PingReason::Probe, &mut Wakeups::default());
        assert!(harness.poll().await.is_pending());
        let message = frame(OpCode::Data(Data::Text), b"here".to_vec());
        harness.client.write_all(&message).await.unwrap();
        let run = poll_fn(|cx| match harness.connection.pump.poll(cx) {
            Poll::Ready(_) => panic!("the pump does not exit"),
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
