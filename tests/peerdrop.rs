//! PeerDrop as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{Client, Daemon};
use async_tungstenite::tungstenite::Message;
use serde_json::json;

fn daemon() -> Daemon {
    Daemon::with(json!({"protocol": "peerdrop"}))
}

/// A creator and a joiner that have found each other.
pub fn pair(daemon: &Daemon) -> (Client, Client) {
    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let code = creator.text();
    let mut joiner = Client::connect(daemon.address(), &format!("/ws/chat/{code}"));
    assert_eq!(joiner.text(), code);
    assert_eq!(creator.text(), "the other guy joined");
    (creator, joiner)
}

#[test]
fn two_strangers_find_each_other_and_talk() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    creator.says("Hello!");
    assert_eq!(joiner.text(), "Hello!");
    joiner.says("Hi there!");
    assert_eq!(creator.text(), "Hi there!");
}

#[test]
fn messages_arrive_in_order_and_byte_for_byte() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    let sizes = [
        0, 1, 125, 126, 4096, 4097, 16_384, 16_385, 65_536, 300_000, 10, 2_000_000, 5,
    ];
    let texts: Vec<String> = sizes
        .iter()
        .enumerate()
        .map(|(at, &size)| format!("{at} ü{}", "x".repeat(size)))
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            texts
                .iter()
                .chain(&texts)
                .for_each(|text| creator.says(text.clone()))
        });
        for text in texts.iter().chain(&texts) {
            assert!(
                joiner.text() == *text,
                "a message of {} bytes arrived otherwise",
                text.len()
            );
        }
    });
    for number in 0..1000 {
        joiner.says(number.to_string());
    }
    for number in 0..1000 {
        assert_eq!(creator.text(), number.to_string());
    }
}

#[test]
fn fragments_arrive_as_one_message() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    creator.sends_raw(&[0x01, 0x82, 0, 0, 0, 0, b'a', b'b']);
    creator.sends_frame(0x9, b"in between");
    creator.sends_raw(&[0x00, 0x80, 0, 0, 0, 0]);
    creator.sends_frame(0x0, b"c");
    assert_eq!(joiner.text(), "abc");
}

/// The read buffer changes its size between two messages. Here messages end just where that
/// might seem to be, with more of them behind.
#[test]
fn nothing_is_lost_between_large_and_small_messages_and_fragments() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    let medium = "m".repeat(20_000);
    let large = "l".repeat(300_000);
    creator.says(medium.clone());
    assert_eq!(joiner.text(), medium);
    for _ in 0..3 {
        creator.sends_raw(&client_frame(0x01, large.as_bytes()));
        // The Pong says that all of it has been read.
        creator.pings();
        creator.sends_raw(
            &[
                client_frame(0x80, b"end"),
                client_frame(0x81, b"A"),
                client_frame(0x81, medium.as_bytes()),
            ]
            .concat(),
        );
        assert_eq!(joiner.text(), format!("{large}end"));
        assert_eq!(joiner.text(), "A");
        assert_eq!(joiner.text(), medium);
        creator.sends_raw(&client_frame(0x01, large.as_bytes()));
        creator.pings();
        creator.sends_raw(
            &[
                client_frame(0x89, b"in between"),
                client_frame(0x80, medium.as_bytes()),
            ]
            .concat(),
        );
        assert_eq!(joiner.text(), format!("{large}{medium}"));
        let many: Vec<u8> = (0..100)
            .flat_map(|number| client_frame(0x81, format!("{number}").as_bytes()))
            .collect();
        creator.sends_raw(&[client_frame(0x81, medium.as_bytes()), many].concat());
        assert_eq!(joiner.text(), medium);
        (0..100).for_each(|number| assert_eq!(joiner.text(), number.to_string()));
    }
}

/// A frame with this first octet, masked with zeros.
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
    creator.says("text");
    assert_eq!(joiner.text(), "text");
}

#[test]
fn when_one_leaves_the_other_is_closed() {
    let daemon = daemon();
    let (creator, mut joiner) = pair(&daemon);
    creator.leaves();
    assert_eq!(joiner.closed(), (1000, "peer left".to_owned()));
    let (mut creator, joiner) = pair(&daemon);
    joiner.vanishes();
    assert_eq!(creator.closed(), (1000, "peer left".to_owned()));
}

#[test]
fn what_a_peer_sent_right_before_it_went_is_delivered_first() {
    let daemon = daemon();
    let (mut creator, mut joiner) = pair(&daemon);
    for number in 0..300 {
        creator.says(format!("{number} {}", "x".repeat(10_000)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| creator.leaves());
        for number in 0..300 {
            assert!(joiner.text().starts_with(&format!("{number} ")));
        }
    });
    assert_eq!(joiner.closed(), (1000, "peer left".to_owned()));
}

#[test]
fn even_when_it_goes_without_reading_what_was_sent_to_it() {
    let daemon = daemon();
    for _ in 0..5 {
        let (mut reader, mut rude) = pair(&daemon);
        for _ in 0..20 {
            reader.says("x".repeat(10_000));
        }
        // All of that is on its way to the rude one.
        reader.pings();
        // In one write, since a reset also stops what is still to be sent.
        let all = (0..200).flat_map(|number| client_frame(0x81, number.to_string().as_bytes()));
        rude.sends_raw(&all.collect::<Vec<u8>>());
        // Closing with something unread is a reset, after which nothing can be written to it.
        drop(rude);
        reader.says("are you still there?");
        (0..200).for_each(|number| assert_eq!(reader.text(), number.to_string()));
        assert_eq!(reader.closed(), (1000, "peer left".to_owned()));
    }
}

#[test]
fn an_unknown_code_and_a_third_peer_are_told_why() {
    let daemon = daemon();
    let mut lost = Client::connect(daemon.address(), "/ws/chat/ABC123");
    assert_eq!(lost.closed(), (4404, "no such session".to_owned()));

    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let path = format!("/ws/chat/{}", creator.text());
    let _joiner = Client::connect(daemon.address(), &path);
    let mut third = Client::connect(daemon.address(), &path);
    assert_eq!(third.closed(), (4409, "session is full".to_owned()));
}

#[test]
fn who_guesses_is_refused_by_the_address_that_a_trusted_proxy_names() {
    let daemon = Daemon::with(json!({"protocol": "peerdrop", "trusted_proxies": ["127.0.0.1"]}));
    let guess = |from| {
        let headers = [("x-forwarded-for", from)];
        let client = Client::try_connect(daemon.address(), "/ws/chat/WRONG2", &headers);
        client
            .unwrap_or_else(|status| panic!("HTTP {status}"))
            .closed()
            .0
    };
    let codes: Vec<u16> = (0..12).map(|_| guess("192.0.2.1")).collect();
    assert_eq!(codes[..10], [4404; 10]);
    assert_eq!(codes[10..], [4429; 2]);
    assert_eq!(guess("192.0.2.2"), 4404);
}

#[test]
fn a_message_over_the_limit_ends_the_connection_and_the_session() {
    let daemon = Daemon::with(json!({"protocol": "peerdrop", "max_message_size": 1000}));
    let (mut creator, mut joiner) = pair(&daemon);
    creator.says("x".repeat(1000));
    assert_eq!(joiner.text().len(), 1000);
    creator.says("x".repeat(1001));
    assert_eq!(creator.closed(), (1009, "message too big".to_owned()));
    assert_eq!(joiner.closed(), (1000, "peer left".to_owned()));
}

#[test]
fn who_sends_before_it_reads_gets_all_that_was_sent_before_the_other_left() {
    let daemon = daemon();
    let (mut leaver, mut stays) = pair(&daemon);
    // More than the buffers of the system take, so that it waits in the daemon.
    let text = "x".repeat(12 << 20);
    leaver.says(text.as_str());
    leaver.leaves();
    stays.says(text.as_str());
    assert!(stays.text() == text);
    assert_eq!(stays.closed(), (1000, "peer left".to_owned()));
}
