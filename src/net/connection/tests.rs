//! Tests of a connection over a loopback socket, without a broker.

use super::exit::PumpExit;
use super::turn::MAX_FRAMES;
use super::{BrokerLink, Connection, ConnectionLog};
use crate::base::close::CloseReason;
use crate::base::frame::Frame as DataFrame;
use crate::base::ip::ClientAddress;
use crate::base::memory_budget::MemoryBudget;
use crate::broker::{
    Clock, CloseOrder, Event, Inbox, NotifyWhen, Outbox, PingReason, SocketStatus, Wakeups, inbox,
    outbox,
};
use crate::config::Listener;
use crate::net::server_state::ServerState;
use crate::net::socket::ClientSocket;
use crate::net::stream::AcceptedStream;
use crate::protocols;
use crate::realm::ConnectionId;
use crate::testing::harness::no_tokens;
use async_io::block_on;
use async_std::future::timeout;
use async_std::net::TcpStream;
use async_std::task::yield_now;
use async_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use futures::channel::mpsc;
use futures::future::{Either, pending, poll_fn, select};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, join, poll};
use std::net::{Shutdown, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

const MAX_MESSAGE: usize = 1_000_000;

/// How long a test waits for what must happen. Far more than any machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Opcodes of frames (RFC 6455 section 5.2).
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

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
        settings.close_timeout = DEADLINE;
        let socket = ClientSocket::new(AcceptedStream::Tcp(tcp), Arc::new(status)).unwrap();
        let log = ConnectionLog {
            server,
            protocol,
            listener: Arc::new(settings.address.clone()),
            conn: ConnectionId(1),
            address: ClientAddress::Unix,
            id: None,
            traces_messages: false,
        };
        let decoder = (protocol.new_decoder)(&no_tokens());
        let connection =
            Connection::new(socket, Vec::new(), RESPONSE, link, decoder, &settings, log);
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

    /// Queues a frame, and ends the broker's batch.
    fn push(&self, text: String) {
        push(&self.outbox, text);
    }

    /// Waits until the connection has something to read.
    async fn wait_until_readable(&self) {
        let status = self.connection.pump.websocket.status();
        let wait = async {
            while !status.is_readable() {
                yield_now().await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap();
    }

    /// Returns the number of writes to the client so far.
    fn writes(&self) -> usize {
        self.connection.pump.websocket.writer().socket.writes
    }
}

/// Queues a frame once it fits, and ends the broker's batch.
fn push(outbox: &Outbox, text: String) {
    let mut wakeups = Wakeups::default();
    let mut frame = DataFrame::text(text);
    while let Err(same) = outbox.push(frame, &mut wakeups) {
        frame = same;
        assert!(!outbox.is_disconnected());
        thread::yield_now();
    }
    end_batch(&mut wakeups);
}

/// Does what the broker does at the end of a batch.
fn end_batch(wakeups: &mut Wakeups) {
    wakeups.wake_all();
    wakeups.write_first(usize::MAX);
}

/// Returns the opcode and the payload of the next frame; nothing at the end of the stream.
async fn read_frame(client: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    client.read_exact(&mut head).await.ok()?;
    let mut length = [0; 8];
    let extended = match head[1] {
        126 => &mut length[6..],
        127 => &mut length[..],
        short => {
            length[7] = short;
            &mut []
        }
    };
    client.read_exact(extended).await.unwrap();
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
    client.read_exact(&mut payload).await.unwrap();
    Some((head[0] & 0x0f, payload))
}

/// Returns the opcodes of all frames after [`RESPONSE`] to the end of the stream. Answers the Close frame, and closes the
/// connection at the end.
async fn read_to_end(mut client: TcpStream) -> Vec<u8> {
    client.read_exact(&mut [0; RESPONSE.len()]).await.unwrap();
    let mut opcodes = Vec::new();
    while let Some((opcode, _)) = read_frame(&mut client).await {
        opcodes.push(opcode);
        if opcode == CLOSE {
            let close = frame(OpCode::Control(Control::Close), Vec::new());
            // Fails if the server has closed the connection already.
            let _ = client.write_all(&close).await;
        }
    }
    opcodes
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
fn a_connection_holds_received_bytes_only_while_a_message_is_unfinished() {
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
        for _ in 0..2 {
            receive_large(&mut harness).await;
            assert_eq!(harness.connection.pump.websocket.buffered_bytes(), 0);
            harness.inbox.next().await.unwrap();
        }
    });
}

/// A frame whose mask and payload depend on `seed`: letters of one, two and three bytes.
fn masked(opcode: OpCode, size: usize, seed: u8, is_final: bool) -> (String, Vec<u8>) {
    let letters = ["x", "\u{e9}", "\u{2603}", "yz"];
    let letters = letters.iter().cycle().skip(seed.into());
    let text: String = letters.take(size / 2).copied().collect();
    let mut frame = Frame::message(text.clone().into_bytes(), opcode, is_final);
    frame.header_mut().mask = Some([seed, 0x5a, seed ^ 0xff, 1]);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    (text, bytes)
}

/// Has the connection receive these bytes, and returns the messages that it sends to the broker.
async fn receive(harness: &mut Harness, bytes: &[u8], count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let Harness {
        client,
        connection,
        inbox,
        ..
    } = harness;
    let send = async { client.write_all(bytes).await.unwrap() };
    let receive = poll_fn(|cx| {
        assert!(connection.pump.poll(cx).is_pending());
        while let Some(Event::Commands { commands, .. }) = inbox.try_next() {
            texts.extend(commands.into_iter().map(|command| {
                let frame: DataFrame = command.into();
                frame.as_text().unwrap()
            }));
        }
        if texts.len() == count {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    timeout(DEADLINE, async { join!(send, receive) })
        .await
        .unwrap();
    texts
}

#[test]
fn a_large_message_after_another_one_is_received_without_tungstenite() {
    block_on(async {
        let mut harness = Harness::new().await;
        receive_large(&mut harness).await;
        harness.inbox.next().await.unwrap();
        let (text, frame) = masked(OpCode::Data(Data::Text), 40_000, 1, true);
        let (beginning, rest) = frame.split_at(20_000);
        harness.client.write_all(beginning).await.unwrap();
        poll_fn(|cx| {
            let pump = &mut harness.connection.pump;
            assert!(pump.poll(cx).is_pending());
            if pump.websocket.is_receiving_large() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        assert_eq!(receive(&mut harness, rest, 1).await, [text]);
        assert!(!harness.connection.pump.websocket.is_receiving_large());
    });
}

#[test]
fn large_messages_are_received_whole_and_in_order_among_all_others() {
    let text = OpCode::Data(Data::Text);
    let ping = frame(OpCode::Control(Control::Ping), b"there?".to_vec());
    let (mut texts, mut bytes) = (Vec::new(), Vec::new());
    for (seed, size) in (1..).zip([
        100_000, 300_000, 70_001, 10, 16_384, 0, 16_390, 65_535, 65_536, 65_537, 500_000,
    ]) {
        let (text, frame) = masked(text, size, seed, true);
        texts.push(text);
        bytes.extend(frame);
        // Control frames and small messages between them, and large ones in fragments.
        bytes.extend(&ping);
        let (first, beginning) = masked(OpCode::Data(Data::Text), size, seed + 1, false);
        let (second, end) = masked(OpCode::Data(Data::Continue), 40_000, seed + 2, true);
        texts.push(first + &second);
        bytes.extend([&*beginning, &ping, &end].concat());
    }
    // A length with more bytes than it needs.
    bytes.extend([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0x4e, 0x20, 0, 0, 0, 0]);
    bytes.extend([b'x'; 20_000]);
    texts.push("x".repeat(20_000));
    block_on(async {
        let mut harness = Harness::new().await;
        let received = receive(&mut harness, &bytes, texts.len()).await;
        assert!(received == texts);
    });
}

#[test]
fn a_large_frame_that_breaks_a_rule_ends_the_connection_as_a_small_one_does() {
    let text = OpCode::Data(Data::Text);
    let large = || masked(text, 100_000, 7, true).1;
    let reserved = |mut frame: Vec<u8>| {
        frame[0] |= 0x40;
        frame
    };
    let unmasked = |mut frame: Vec<u8>| {
        frame[1] &= 0x7f;
        frame
    };
    let invalid = frame(text, vec![0xff; 100_000]);
    let too_large = frame(text, vec![b'x'; MAX_MESSAGE + 1]);
    let cases = [
        (reserved(large()), Some(CloseReason::PROTOCOL_ERROR)),
        (unmasked(large()), Some(CloseReason::PROTOCOL_ERROR)),
        (invalid, Some(CloseReason::INVALID_UTF8)),
        (too_large, Some(CloseReason::TOO_BIG)),
        (large()[..60_000].to_vec(), None),
    ];
    for (bytes, reason) in cases {
        let exit = block_on(async {
            let mut harness = Harness::new().await;
            receive_large(&mut harness).await;
            harness.inbox.next().await.unwrap();
            let Harness {
                mut client,
                mut connection,
                ..
            } = harness;
            let end = poll_fn(|cx| connection.pump.poll(cx));
            let send = pin!(async {
                client.write_all(&bytes).await.unwrap();
                if reason.is_none() {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                pending::<()>().await;
            });
            let end = timeout(DEADLINE, select(end, send)).await;
            match end.unwrap() {
                Either::Left((exit, _)) => exit,
                Either::Right(_) => panic!("the client waits for ever"),
            }
        });
        match (exit, reason) {
            (PumpExit::Fail(found), Some(reason)) => assert_eq!(found, reason),
            (PumpExit::Lost, None) => {}
            (exit, reason) => panic!("{exit:?} instead of {reason:?}"),
        }
    }
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

/// A broker on another thread that answers each event at once: while the connection still sends it.
struct AnswersAtOnce(Outbox);

impl Wake for AnswersAtOnce {
    fn wake(self: Arc<Self>) {
        push(&self.0, "an answer".to_owned());
    }
}

#[test]
fn the_pong_goes_before_the_answer_to_a_message_that_came_after_the_ping() {
    block_on(async {
        let mut harness = Harness::new().await;
        assert!(harness.poll().await.is_pending());
        let Harness {
            mut client,
            mut connection,
            mut inbox,
            outbox,
            ..
        } = harness;
        let broker = Arc::new(AnswersAtOnce(outbox)).into();
        let mut broker = Context::from_waker(&broker);
        assert!(inbox.poll_next_unpin(&mut broker).is_pending());
        let mut bytes = frame(OpCode::Control(Control::Ping), b"first".to_vec());
        bytes.extend(frame(OpCode::Data(Data::Text), b"second".to_vec()));
        client.write_all(&bytes).await.unwrap();
        let run = poll_fn(|cx| connection.pump.poll(cx));
        let read = pin!(async {
            client.read_exact(&mut [0; RESPONSE.len()]).await.unwrap();
            let first = read_frame(&mut client).await.unwrap();
            [first, read_frame(&mut client).await.unwrap()]
        });
        let Ok(Either::Right((frames, _))) = timeout(DEADLINE, select(run, read)).await else {
            panic!("the client waits for ever");
        };
        let expected = [(PONG, b"first".to_vec()), (TEXT, b"an answer".to_vec())];
        assert_eq!(frames, expected);
    });
}

#[test]
fn each_message_of_a_segment_is_handled_although_the_socket_has_nothing_more() {
    block_on(async {
        let mut harness = Harness::new().await;
        assert!(harness.poll().await.is_pending());
        let messages = 10 * MAX_FRAMES;
        let message = frame(OpCode::Data(Data::Text), b"one of many".to_vec());
        let segment = message.repeat(messages);
        harness.client.write_all(&segment).await.unwrap();
        let Harness {
            connection, inbox, ..
        } = &mut harness;
        let run = poll_fn(|cx| connection.pump.poll(cx));
        let count = async {
            let mut count = 0;
            while count < messages {
                if let Event::Commands { commands, .. } = inbox.next().await.unwrap() {
                    count += commands.into_iter().count();
                }
            }
        };
        let count = pin!(count);
        let handled = timeout(DEADLINE, select(run, count)).await;
        assert!(matches!(handled, Ok(Either::Right(_))));
    });
}

#[test]
fn what_is_read_ahead_of_its_turn_is_reserved() {
    block_on(async {
        let mut harness = Harness::new().await;
        assert!(harness.poll().await.is_pending());
        let message = frame(OpCode::Data(Data::Text), vec![b'x'; 100]);
        let segment = message.repeat(3 * MAX_FRAMES);
        harness.client.write_all(&segment).await.unwrap();
        harness.wait_until_readable().await;
        assert!(harness.poll().await.is_pending());
        let received = harness
            .connection
            .pump
            .websocket
            .status()
            .traffic
            .counts
            .get();
        assert_eq!(received.messages_in, MAX_FRAMES as u64);
        assert!(harness.budget.reserved() as u64 >= received.bytes_in);
    });
}

#[test]
fn a_header_that_announces_too_much_right_behind_a_message_ends_the_connection_at_once() {
    block_on(async {
        let mut harness = Harness::new().await;
        let mut bytes = frame(OpCode::Data(Data::Text), b"whole".to_vec());
        let length = u64::try_from(MAX_MESSAGE + 1).unwrap();
        bytes.extend([0x81, 0xff]);
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        harness.client.write_all(&bytes).await.unwrap();
        let pump = &mut harness.connection.pump;
        let exit = timeout(DEADLINE, poll_fn(|cx| pump.poll(cx))).await;
        assert!(matches!(exit, Ok(PumpExit::Fail(CloseReason::TOO_BIG))));
        let event = harness.inbox.next().await;
        assert!(matches!(event, Some(Event::Commands { .. })));
    });
}

#[test]
fn a_frame_that_the_broker_has_written_in_part_is_finished_before_a_ping_and_a_close() {
    block_on(async {
        let mut harness = Harness::new().await;
        assert!(harness.poll().await.is_pending());
        // More than any socket buffers.
        harness.push("x".repeat(32 << 20));
        let mut wakeups = Wakeups::default();
        let last = DataFrame::text("the last");
        harness
            .outbox
            .push_past_limit(last, NotifyWhen::Flushed, &mut wakeups);
        harness.outbox.ping(PingReason::Silence, &mut wakeups);
        let close = CloseOrder::Graceful(CloseReason::GOODBYE);
        harness.outbox.close(close, &mut wakeups);
        end_batch(&mut wakeups);
        let take = async { while harness.inbox.next().await.is_some() {} };
        let read = read_to_end(harness.client);
        let (opcodes, (), ()) = join!(timeout(DEADLINE, read), harness.connection.run(), take);
        // With the runtime's reactor the broker leaves all to the task, which has begun nothing.
        let is_begun = cfg!(all(target_os = "linux", not(feature = "portable-sockets")));
        let first = if is_begun { [TEXT, PING] } else { [PING, TEXT] };
        assert_eq!(opcodes.unwrap(), [&first[..], &[TEXT, CLOSE]].concat());
    });
}

#[test]
fn nothing_follows_the_reply_to_a_close_frame() {
    block_on(async {
        let mut harness = Harness::new().await;
        assert!(harness.poll().await.is_pending());
        let close = frame(OpCode::Control(Control::Close), Vec::new());
        harness.client.write_all(&close).await.unwrap();
        harness.wait_until_readable().await;
        // What the connection finds when it is woken.
        let mut wakeups = Wakeups::default();
        let frame = DataFrame::text("before");
        assert!(harness.outbox.push(frame, &mut wakeups).is_ok());
        let later = async {
            while !matches!(harness.inbox.next().await, Some(Event::Disconnected(..))) {}
            // The broker has not taken the event yet.
            push(&harness.outbox, "later".to_owned());
        };
        let read = read_to_end(harness.client);
        let (opcodes, (), ()) = join!(timeout(DEADLINE, read), harness.connection.run(), later);
        assert_eq!(opcodes.unwrap().last(), Some(&CLOSE));
    });
}

#[test]
fn nothing_follows_the_reply_to_a_close_frame_while_the_broker_has_not_taken_what_came_before_it() {
    block_on(async {
        let mut harness = Harness::new().await;
        let mut wakeups = Wakeups::default();
        harness.outbox.ping(PingReason::Probe, &mut wakeups);
        assert!(harness.poll().await.is_pending());
        let mut bytes = frame(OpCode::Data(Data::Text), b"last words".to_vec());
        bytes.extend(frame(OpCode::Control(Control::Close), Vec::new()));
        harness.client.write_all(&bytes).await.unwrap();
        harness.wait_until_readable().await;
        // The command is sent, and the answer to the probe waits for the slot in the inbox.
        assert!(harness.poll().await.is_pending());
        harness.push("an answer".to_owned());
        assert!(harness.poll().await.is_pending());
        let take = async { while harness.inbox.next().await.is_some() {} };
        let read = read_to_end(harness.client);
        let (opcodes, (), ()) = join!(timeout(DEADLINE, read), harness.connection.run(), take);
        assert_eq!(opcodes.unwrap().last(), Some(&CLOSE));
    });
}

#[test]
fn frames_of_a_broker_on_another_thread_do_not_go_into_those_of_the_task() {
    const FRAMES: usize = 5000;
    let harness = block_on(Harness::new());
    let Harness {
        connection,
        mut client,
        outbox,
        mut inbox,
        ..
    } = harness;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FRAMES {
                let mut wakeups = Wakeups::default();
                outbox.ping(PingReason::MeasureRtt, &mut wakeups);
                end_batch(&mut wakeups);
                push(
                    &outbox,
                    format!("{number:05} {}", "x".repeat(number % 3000)),
                );
            }
            let mut wakeups = Wakeups::default();
            let close = CloseOrder::Graceful(CloseReason::GOODBYE);
            outbox.close(close, &mut wakeups);
            end_batch(&mut wakeups);
        });
        scope.spawn(|| block_on(connection.run()));
        scope.spawn(|| block_on(async { while inbox.next().await.is_some() {} }));
        let read = async {
            client.read_exact(&mut [0; RESPONSE.len()]).await.unwrap();
            let mut number = 0;
            while number < FRAMES {
                let (opcode, payload) = read_frame(&mut client).await.unwrap();
                if opcode == TEXT {
                    assert_eq!(payload[..5], *format!("{number:05}").as_bytes());
                    number += 1;
                } else {
                    assert_eq!(opcode, PING);
                }
            }
            drop(client);
        };
        block_on(timeout(DEADLINE, read)).unwrap();
    });
}
