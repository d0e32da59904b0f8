//! Clients that guess, and clients that say they are somebody else.

use super::{HEALTHY_IP, Server};
use crate::common::{Client, http, with};
use serde_json::{Value, json};

#[test]
fn who_guesses_codes_is_refused_even_with_the_right_one() {
    let server = Server::start();
    let address = server.address("peerdrop");
    let mut creator = Client::connect_from(HEALTHY_IP, address, "/ws/chat");
    let code = creator.text();
    let guess = |code: &str| Client::connect(address, &format!("/ws/chat/{code}")).code_of_close();
    // Each on a connection of its own, all of them open at once with a session of the guesser's.
    let mut own = Client::connect(address, "/ws/chat");
    own.text();
    // No code is as long as these.
    let guesses: Vec<u16> = (0..12).map(|at| guess(&format!("WRONG{at:02}"))).collect();
    assert_eq!(guesses[..10], [4404; 10]);
    assert_eq!(guesses[10..], [4429; 2]);
    assert_eq!(guess(&code), 4429);
    assert_eq!(guess(&code.to_lowercase()), 4429);
    // Whom it was for gets in, and the creator has heard of nobody else.
    let target = format!("/ws/chat/{code}");
    let mut joiner = Client::connect_from(HEALTHY_IP, address, &target);
    assert_eq!(joiner.text(), code);
    assert_eq!(creator.text(), "the other guy joined");
    creator.pings_and_gets_nothing_else();
    own.pings_and_gets_nothing_else();
    drop((own, creator, joiner));
    server.assert_survives("guessing codes on PeerDrop", "4404 ten times, then 4429");
}

#[test]
fn who_guesses_tokens_is_told_that_the_id_is_taken_and_the_owner_hears_nothing() {
    let server = Server::start();
    let target = |token: &str| format!("/peerjs?key=peerjs&id=ann&token={token}");
    let mut owner = Client::connect(server.address("peerjs"), &target("Secret"));
    assert_eq!(owner.json()["type"], "OPEN");
    let mut guesses: Vec<String> = (0..20).map(|number| format!("guess{number}")).collect();
    for near in [
        "Secre",
        "Secret%00",
        "secret",
        "Secret1",
        "%20Secret",
        "Secret&token=x",
    ] {
        guesses.push(near.to_owned());
    }
    for token in guesses {
        let mut guesser = Client::connect(server.address("peerjs"), &target(&token));
        let told = guesser.json();
        // Of a parameter that comes twice, one counts: whichever, it must not let anybody in.
        assert_eq!(told["type"], "ID-TAKEN", "{token}");
        assert_eq!(guesser.closed(), (4409, "ID is taken".to_owned()));
    }
    owner.pings_and_gets_nothing_else();
    owner.says(r#"{"type":"OFFER","dst":"ann","payload":1}"#);
    assert_eq!(owner.json()["src"], "ann");
    owner.leaves_for_good();
    server.assert_survives("guessing tokens on PeerJS", "ID-TAKEN, 4409");
}

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";
const EVE: &str = "eeeeeeee-3333-4333-8333-eeeeeeeeeeee";

/// A message in the document's dialect, or in the flat one.
fn fastchat(is_flat: bool, kind: &str, fields: Value) -> String {
    let kind = json!({"type": kind});
    if is_flat {
        with(kind, &fields).to_string()
    } else {
        with(kind, &json!({"data": fields})).to_string()
    }
}

fn enters_fastchat(server: &Server, is_flat: bool, id: &str, name: &str) -> Client {
    let mut client = server.connect("fastchat");
    let user = json!({"user_id": id, "display_name": name});
    client.says(fastchat(is_flat, "HELLO", user));
    client.until_type("HELLO_ACK");
    client
}

#[test]
fn nobody_is_pushed_out_by_who_claims_to_be_the_same_user() {
    for is_flat in [false, true] {
        let server = Server::start();
        let mut ann = enters_fastchat(&server, false, ANN, "Ann");
        let mut bob = enters_fastchat(&server, true, BOB, "Bob");
        for id in [ANN, &ANN.to_uppercase()] {
            let mut impostor = server.connect("fastchat");
            let user = json!({"user_id": id, "display_name": "Impostor"});
            impostor.says(fastchat(is_flat, "HELLO", user));
            // Reading answers the server's Ping.
            while !ann.socket.read().unwrap().is_ping() {}
            ann.socket.flush().unwrap();
            let told = impostor.json();
            let code = if is_flat {
                &told["error_code"]
            } else {
                &told["data"]["code"]
            };
            assert_eq!(code, "UNAUTHORIZED", "{told}");
            assert_eq!(impostor.closed(), (4409, "user is connected".to_owned()));
        }
        // An endpoint that tells how somebody does makes nobody come or go.
        let body = json!({"user_id": EVE, "display_name": "Impostor"}).to_string();
        let answer = http(
            server.address("fastchat"),
            &format!(
                "POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for client in [&mut ann, &mut bob] {
            client.says(r#"{"type":"PING"}"#);
            client.until_type("PONG");
            let texts = client.texts().concat();
            assert!(!texts.contains("Impostor"), "{texts}");
            assert!(!texts.contains(r#""online":false"#), "{texts}");
        }
        drop((ann, bob));
        let dialect = if is_flat { "flat" } else { "the document's" };
        let case = format!("HELLO as a user who is connected, {dialect} dialect");
        server.assert_survives(&case, "UNAUTHORIZED, 4409");
    }
}

#[test]
fn messages_come_from_whoever_sent_them() {
    for is_flat in [false, true] {
        let server = Server::start();
        let _ann = enters_fastchat(&server, false, ANN, "Ann");
        let mut bob = enters_fastchat(&server, is_flat, BOB, "Bob");
        let mut eve = enters_fastchat(&server, is_flat, EVE, "Eve");
        let claims = json!({
            "from": ANN, "from_name": "Ann", "sender_id": ANN, "sender_name": "Ann", "user_id": ANN,
            "display_name": "Ann", "target_display_name": "Ann", "participants": [ANN, BOB],
        });
        let claiming = |fields: Value| with(claims.clone(), &fields);
        let open = claiming(json!({"target_user_id": BOB}));
        eve.says(fastchat(is_flat, "OPEN_CHAT", open));
        let opened = bob.until_type("CHAT_OPENED").to_string();
        assert!(opened.contains(EVE) && opened.contains("Eve"), "{opened}");
        let msg = claiming(json!({"to": BOB, "content": "I am Ann", "message_id": "1"}));
        eve.says(fastchat(is_flat, "MSG", msg));
        let heard = bob.until_type("MSG").to_string();
        assert!(heard.contains(EVE), "{heard}");
        let typing = claiming(json!({"to": BOB, "is_typing": true}));
        eve.says(fastchat(is_flat, "TYPING", typing));
        let seen = bob.until_type("TYPING").to_string();
        assert!(seen.contains(EVE), "{seen}");
        for told in [opened, heard, seen] {
            assert!(!told.contains(ANN) && !told.contains(r#""Ann""#), "{told}");
        }
        drop((bob, eve));
        let dialect = if is_flat { "flat" } else { "the document's" };
        let case = format!("MSG, TYPING and OPEN_CHAT from somebody else, {dialect} dialect");
        server.assert_survives(&case, "from the sender");
    }
}

fn join(device: &str, kind: &str) -> String {
    let info = json!({"id": device, "name": device, "type": kind});
    json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info}).to_string()
}

fn upper(kind: &str, payload: Value) -> String {
    json!({"type": kind, "timestamp": 1, "payload": payload}).to_string()
}

#[test]
fn a_guest_is_no_host() {
    let server = Server::start();
    let mut host = server.connect("loudsync");
    host.says(join("mac", "host"));
    let welcome = host.until_type("welcome");
    let host_id = welcome["clientId"].as_str().unwrap().to_owned();
    let mut pad = server.connect("loudsync");
    pad.says(join("pad", "client"));
    let pad_id = pad.until_type("welcome")["clientId"].clone();
    let mut phone = server.connect("loudsync");
    phone.says(join("phone", "client"));
    phone.until_type("member_list");
    let mut tv = server.connect("loudsync");
    let device = json!({
        "sessionId": "party", "deviceId": "tv", "deviceName": "TV", "version": "1.0.0",
    });
    tv.says(upper("JOIN", device));
    tv.until_type("MEMBER_LIST");
    // Somebody who comes as the host of a session that has one.
    for device in ["mac2", "pad"] {
        let mut second = server.connect("loudsync");
        second.says(join(device, "host"));
        assert_eq!(second.until_type("error")["code"], "unauthorized");
        assert_eq!(second.closed(), (1000, "join refused".to_owned()));
    }
    // Guests who want what only the host may.
    for member in [&json!(host_id), &pad_id, &json!("mac"), &json!("pad")] {
        let kick = json!({"type": "kick", "timestamp": 1, "memberId": member});
        phone.says(kick.to_string());
        assert_eq!(phone.until_type("error")["code"], "unauthorized");
        tv.says(upper(
            "KICK",
            json!({"memberId": member, "deviceId": member}),
        ));
        assert_eq!(tv.until_type("ERROR")["payload"]["code"], "INVALID_MESSAGE");
    }
    phone.says(join("phone", "host"));
    assert_eq!(phone.until_type("error")["code"], "already_joined");
    for kind in ["session_closed", "kicked", "member_left", "welcome"] {
        phone.says(json!({"type": kind, "timestamp": 1, "memberId": host_id}).to_string());
        assert_eq!(phone.until_type("error")["code"], "invalid_message");
        tv.says(upper(&kind.to_uppercase(), json!({"deviceId": host_id})));
        assert_eq!(tv.until_type("ERROR")["payload"]["code"], "INVALID_MESSAGE");
    }
    // Who leaves in the host's name leaves alone.
    let leave = json!({"deviceId": host_id, "memberId": host_id, "reason": "x"});
    tv.says(upper("LEAVE", leave.clone()));
    assert_eq!(tv.code_of_close(), 1000);
    phone.says(with(json!({"type": "leave", "timestamp": 1}), &leave).to_string());
    assert_eq!(phone.code_of_close(), 1000);
    // The session has its host and the guest who did nothing.
    host.says(json!({"type": "ping", "timestamp": 1}).to_string());
    host.until_type("pong");
    let told: Vec<String> = host.texts();
    assert!(
        !told.iter().any(|it| it.contains("session_closed")),
        "{told:?}"
    );
    host.says(json!({"type": "member_list", "timestamp": 1}).to_string());
    let list = host.until_type("member_list");
    let ids: Vec<&Value> = list["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, [&json!(host_id), &pad_id]);
    let texts = pad.texts();
    assert!(
        !texts.iter().any(|it| it.contains("session_closed")),
        "{texts:?}"
    );
    drop((host, pad));
    server.assert_survives("guests of LOUDSYNC who act as the host", "unauthorized");
}
