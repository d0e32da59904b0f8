//! PeerDrop over sockets. The rules of its document are tested on a realm without sockets, in
//! `src/protocols/peerdrop/tests`; here is what needs sockets.

use crate::common::{Client, Daemon};
use async_tungstenite::tungstenite::Message;
use serde_json::json;

fn daemon() -> Daemon {
    Daemon::start_listener(json!({"protocol": "peerdrop"}))
}

/// Connects a creator and a joiner of one session.
pub fn pair(daemon: &Daemon) -> (Client, Client) {
    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let code = creator.receive_text();
    let mut joiner = Client::connect(daemon.address(), &format!("/ws/chat/{code}"));
    assert_eq!(joiner.receive_text(), code);
    assert_eq!(creator.receive_text(), "the other guy joined");
    (creator, joiner)
}

#[test]
fn two_peers_exchange_messages() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    creator.send("Hello!");
    assert_eq!(joiner.receive_text(), "Hello!");
    joiner.send("Hi there!");
    assert_eq!(creator.receive_text(), "Hi there!");
}

#[test]
fn messages_arrive_unchanged_and_in_order() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    let sizes = [
        0, 1, 125, 126, 4096, 4097, 16_384, 16_385, 65_536, 300_000, 10, 2_000_000, 5,
    ];
    let texts: Vec<String> = sizes
        .iter()
        .enumerate()
        .map(|(number, &size)| format!("{number} ü{}", "x".repeat(size)))
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            texts
                .iter()
                .chain(&texts)
                .for_each(|text| creator.send(text.clone()))
        });
        for text in texts.iter().chain(&texts) {
            assert!(
                joiner.receive_text() == *text,
                "a message of {} bytes was changed",
                text.len()
            );
        }
    });
    for number in 0..1000 {
        joiner.send(number.to_string());
    }
    for number in 0..1000 {
        assert_eq!(creator.receive_text(), number.to_string());
    }
}

#[test]
fn fragments_arrive_as_one_message() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    creator.send_raw(&[0x01, 0x82, 0, 0, 0, 0, b'a', b'b']);
    creator.send_frame(0x9, b"in between");
    creator.send_raw(&[0x00, 0x80, 0, 0, 0, 0]);
    creator.send_frame(0x0, b"c");
    assert_eq!(joiner.receive_text(), "abc");
}

/// The read buffer is replaced between two messages. Here messages end where it may be replaced, while
/// the bytes of the next ones have been received already.
#[test]
fn no_message_is_lost_when_the_read_buffer_changes_its_size() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    let medium = "m".repeat(20_000);
    let large = "l".repeat(300_000);
    creator.send(medium.clone());
    assert_eq!(joiner.receive_text(), medium);
    for _ in 0..3 {
        creator.send_raw(&client_frame(0x01, large.as_bytes()));
        // With the Pong the server has read all of it.
        creator.ping();
        creator.send_raw(
            &[
                client_frame(0x80, b"end"),
                client_frame(0x81, b"A"),
                client_frame(0x81, medium.as_bytes()),
            ]
            .concat(),
        );
        assert_eq!(joiner.receive_text(), format!("{large}end"));
        assert_eq!(joiner.receive_text(), "A");
        assert_eq!(joiner.receive_text(), medium);
        creator.send_raw(&client_frame(0x01, large.as_bytes()));
        creator.ping();
        creator.send_raw(
            &[
                client_frame(0x89, b"in between"),
                client_frame(0x80, medium.as_bytes()),
            ]
            .concat(),
        );
        assert_eq!(joiner.receive_text(), format!("{large}{medium}"));
        let many: Vec<u8> = (0..100)
            .flat_map(|number| client_frame(0x81, format!("{number}").as_bytes()))
            .collect();
        creator.send_raw(&[client_frame(0x81, medium.as_bytes()), many].concat());
        assert_eq!(joiner.receive_text(), medium);
        (0..100).for_each(|number| assert_eq!(joiner.receive_text(), number.to_string()));
    }
}

/// Returns a frame with this first byte, masked with zeros.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[test]
fn binary_frames_are_ignored() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    creator
        .socket
        .send(Message::Binary(vec![1, 2, 3].into()))
        .unwrap();
    creator.send("text");
    assert_eq!(joiner.receive_text(), "text");
}

#[test]
fn when_one_peer_disconnects_the_other_is_closed() {
    let daemon = daemon();
    let (creator, mut joiner) = pair(&daemon);
    creator.close();
    assert_eq!(joiner.expect_close(), (1000, "peer left".to_owned()));
    let (mut creator, joiner) = pair(&daemon);
    joiner.abort();
    assert_eq!(creator.expect_close(), (1000, "peer left".to_owned()));
}

#[test]
fn messages_sent_right_before_a_peer_disconnects_are_delivered_before_the_close() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    for number in 0..300 {
        creator.send(format!("{number} {}", "x".repeat(10_000)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| creator.close());
        for number in 0..300 {
            assert!(joiner.receive_text().starts_with(&format!("{number} ")));
        }
    });
    assert_eq!(joiner.expect_close(), (1000, "peer left".to_owned()));
}

#[test]
fn messages_of_a_peer_are_delivered_although_it_resets_its_connection() {
    let daemon = daemon();
    for _ in 0..5 {
        let (mut recipient, mut resetter) = pair(&daemon);
        for _ in 0..20 {
            recipient.send("x".repeat(10_000));
        }
        // Now the server has read all of that and is sending it to the other peer.
        recipient.ping();
        // One write, since a reset discards what the client's system has not sent yet.
        let all = (0..200).flat_map(|number| client_frame(0x81, number.to_string().as_bytes()));
        resetter.send_raw(&all.collect::<Vec<u8>>());
        // Closing a socket with unread data resets the connection, and the server's writes to it fail.
        drop(resetter);
        recipient.send("are you still there?");
        (0..200).for_each(|number| assert_eq!(recipient.receive_text(), number.to_string()));
        assert_eq!(recipient.expect_close(), (1000, "peer left".to_owned()));
    }
}

#[test]
fn an_unknown_code_and_a_third_peer_are_closed_with_a_reason() {
    let daemon = daemon();
    let mut client = Client::connect(daemon.address(), "/ws/chat/ABC123");
    assert_eq!(client.expect_close(), (4404, "no such session".to_owned()));

    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let path = format!("/ws/chat/{}", creator.receive_text());
    let _joiner = Client::connect(daemon.address(), &path);
    let mut third = Client::connect(daemon.address(), &path);
    assert_eq!(third.expect_close(), (4409, "session is full".to_owned()));
}

#[test]
fn guesses_are_limited_by_the_address_that_a_trusted_proxy_names() {
    let daemon =
        Daemon::start_listener(json!({"protocol": "peerdrop", "trusted_proxies": ["127.0.0.1"]}));
    let guess = |from| {
        let headers = [("x-forwarded-for", from)];
        let client = Client::try_connect(daemon.address(), "/ws/chat/WRONG2", &headers);
        client
            .unwrap_or_else(|status| panic!("HTTP {status}"))
            .expect_close()
            .0
    };
    let codes: Vec<u16> = (0..12).map(|_| guess("192.0.2.1")).collect();
    assert_eq!(codes[..10], [4404; 10]);
    assert_eq!(codes[10..], [4429; 2]);
    assert_eq!(guess("192.0.2.2"), 4404);
}

#[test]
fn a_join_that_waits_is_connected_at_once() {
    let daemon =
        Daemon::start_listener(json!({"protocol": "peerdrop", "total_wrong_codes_per_minute": 1}));
    for _ in 0..2 {
        let mut client = Client::connect(daemon.address(), "/ws/chat/WRONG2");
        assert_eq!(client.expect_close(), (4404, "no such session".to_owned()));
    }
    // Each of these handshakes is completed before its code is looked up. Texts before the answer are dropped.
    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let code = creator.receive_text();
    let waiting = Client::connect(daemon.address(), &format!("/ws/chat/{code}"));
    let mut wrong = Client::connect(daemon.address(), "/ws/chat/WRONG2");
    waiting.abort();
    let (mut creator, mut joiner) = pair(&daemon);
    joiner.send("found");
    assert_eq!(creator.receive_text(), "found");
    assert_eq!(wrong.expect_close(), (4404, "no such session".to_owned()));
}

#[test]
fn a_message_above_the_limit_closes_the_connection_and_the_session() {
    let daemon = Daemon::start_listener(json!({"protocol": "peerdrop", "max_message_size": 1000}));
    let (mut creator, mut joiner) = pair(&daemon);
    creator.send("x".repeat(1000));
    assert_eq!(joiner.receive_text().len(), 1000);
    creator.send("x".repeat(1001));
    assert_eq!(creator.expect_close(), (1009, "message too big".to_owned()));
    assert_eq!(joiner.expect_close(), (1000, "peer left".to_owned()));
}

#[test]
fn a_peer_that_sends_before_it_reads_receives_everything_sent_before_the_other_left() {
    let daemon = daemon();
    let (mut leaver, mut remaining) = pair(&daemon);
    // More than the buffers of the system hold, so that the rest waits in the daemon.
    let text = "x".repeat(12 << 20);
    leaver.send(text.as_str());
    leaver.close();
    remaining.send(text.as_str());
    assert!(remaining.receive_text() == text);
    assert_eq!(remaining.expect_close(), (1000, "peer left".to_owned()));
}
