//! Attacks on identity: clients that guess codes and tokens, claim to be a connected user, send messages
//! in another user's name, or act as the host of a session. The server must reject them, and the client
//! that they impersonate must not be affected.

use super::{HEALTHY_IP, Server};
use crate::common::{Client, http, merge};
use serde_json::{Value, json};

#[test]
fn a_client_that_guesses_too_many_codes_is_rejected_even_with_the_right_one() {
    let server = Server::start();
    let address = server.address("peerdrop");
    let mut creator = Client::connect_from(HEALTHY_IP, address, "/ws/chat");
    let code = creator.receive_text();
    let guess =
        |code: &str| Client::connect(address, &format!("/ws/chat/{code}")).wait_for_close_code();
    // Each guess has its own connection. A session of the guessing address stays open meanwhile.
    let mut own = Client::connect(address, "/ws/chat");
    own.receive_text();
    // These are longer than any code.
    let guesses: Vec<u16> = (0..12).map(|n| guess(&format!("WRONG{n:02}"))).collect();
    assert_eq!(guesses[..10], [4404; 10]);
    assert_eq!(guesses[10..], [4429; 2]);
    assert_eq!(guess(&code), 4429);
    assert_eq!(guess(&code.to_lowercase()), 4429);
    // From another address the code works, and the creator was told of no other client.
    let target = format!("/ws/chat/{code}");
    let mut joiner = Client::connect_from(HEALTHY_IP, address, &target);
    assert_eq!(joiner.receive_text(), code);
    assert_eq!(creator.receive_text(), "the other guy joined");
    creator.expect_no_message();
    own.expect_no_message();
    drop((own, creator, joiner));
    server.assert_survives(
        "peerdrop: guessed codes",
        "closed with 4404 ten times, then with 4429",
    );
}

#[test]
fn a_client_with_a_guessed_token_gets_id_taken_and_the_owner_is_undisturbed() {
    let server = Server::start();
    let target = |token: &str| format!("/peerjs?key=peerjs&id=ann&token={token}");
    let mut owner = Client::connect(server.address("peerjs"), &target("Secret"));
    assert_eq!(owner.receive_json()["type"], "OPEN");
    let mut guesses: Vec<String> = (0..20).map(|number| format!("guess{number}")).collect();
    for similar in [
        "Secre",
        "Secret%00",
        "secret",
        "Secret1",
        "%20Secret",
        "Secret&token=x",
    ] {
        guesses.push(similar.to_owned());
    }
    for token in guesses {
        let mut guesser = Client::connect(server.address("peerjs"), &target(&token));
        let response = guesser.receive_json();
        // The last guess has two tokens. Only one of them counts, so the id must stay taken.
        assert_eq!(response["type"], "ID-TAKEN", "{token}");
        assert_eq!(guesser.expect_close(), (4409, "ID is taken".to_owned()));
    }
    owner.expect_no_message();
    owner.send(r#"{"type":"OFFER","dst":"ann","payload":1}"#);
    assert_eq!(owner.receive_json()["src"], "ann");
    owner.close_normally();
    server.assert_survives("peerjs: guessed tokens", "ID-TAKEN, closed with 4409");
}

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";
const EVE: &str = "eeeeeeee-3333-4333-8333-eeeeeeeeeeee";

/// Returns a FastChat message in the flat dialect or the document's.
fn fastchat(is_flat: bool, message_type: &str, fields: Value) -> String {
    let message = json!({"type": message_type});
    if is_flat {
        merge(message, &fields).to_string()
    } else {
        merge(message, &json!({"data": fields})).to_string()
    }
}

/// Connects a client and registers it with HELLO.
fn register_fastchat(server: &Server, is_flat: bool, id: &str, name: &str) -> Client {
    let mut client = server.connect("fastchat");
    let user = json!({"user_id": id, "display_name": name});
    client.send(fastchat(is_flat, "HELLO", user));
    client.receive_type("HELLO_ACK");
    client
}

#[test]
fn a_live_user_is_not_displaced_by_a_hello_with_its_user_id() {
    for is_flat in [false, true] {
        let server = Server::start();
        let mut ann = register_fastchat(&server, false, ANN, "Ann");
        let mut bob = register_fastchat(&server, true, BOB, "Bob");
        for id in [ANN, &ANN.to_uppercase()] {
            let mut impostor = server.connect("fastchat");
            let user = json!({"user_id": id, "display_name": "Impostor"});
            impostor.send(fastchat(is_flat, "HELLO", user));
            // The server probes Ann's connection. Reading the Ping answers it.
            while !ann.socket.read().unwrap().is_ping() {}
            ann.socket.flush().unwrap();
            let error = impostor.receive_json();
            let code = if is_flat {
                &error["error_code"]
            } else {
                &error["data"]["code"]
            };
            assert_eq!(code, "UNAUTHORIZED", "{error}");
            assert_eq!(
                impostor.expect_close(),
                (4409, "user is connected".to_owned())
            );
        }
        // The HTTP heartbeat does not put a user online, and takes none offline.
        let body = json!({"user_id": EVE, "display_name": "Impostor"}).to_string();
        let response = http(
            server.address("fastchat"),
            &format!(
                "POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        for client in [&mut ann, &mut bob] {
            client.send(r#"{"type":"PING"}"#);
            client.receive_type("PONG");
            let texts = client.drain_texts().concat();
            assert!(!texts.contains("Impostor"), "{texts}");
            assert!(!texts.contains(r#""online":false"#), "{texts}");
        }
        drop((ann, bob));
        let dialect = if is_flat { "flat" } else { "document" };
        let case = format!("fastchat: HELLO with the id of a connected user, {dialect} dialect");
        server.assert_survives(&case, "UNAUTHORIZED, closed with 4409");
    }
}

#[test]
fn a_message_has_its_sender_whatever_sender_it_claims() {
    for is_flat in [false, true] {
        let server = Server::start();
        let _ann = register_fastchat(&server, false, ANN, "Ann");
        let mut bob = register_fastchat(&server, is_flat, BOB, "Bob");
        let mut eve = register_fastchat(&server, is_flat, EVE, "Eve");
        let claims = json!({
            "from": ANN, "from_name": "Ann", "sender_id": ANN, "sender_name": "Ann", "user_id": ANN,
            "display_name": "Ann", "target_display_name": "Ann", "participants": [ANN, BOB],
        });
        let claiming = |fields: Value| merge(claims.clone(), &fields);
        let open = claiming(json!({"target_user_id": BOB}));
        eve.send(fastchat(is_flat, "OPEN_CHAT", open));
        let opened = bob.receive_type("CHAT_OPENED").to_string();
        assert!(opened.contains(EVE) && opened.contains("Eve"), "{opened}");
        let msg = claiming(json!({"to": BOB, "content": "I am Ann", "message_id": "1"}));
        eve.send(fastchat(is_flat, "MSG", msg));
        let message = bob.receive_type("MSG").to_string();
        assert!(message.contains(EVE), "{message}");
        let typing = claiming(json!({"to": BOB, "is_typing": true}));
        eve.send(fastchat(is_flat, "TYPING", typing));
        let indicator = bob.receive_type("TYPING").to_string();
        assert!(indicator.contains(EVE), "{indicator}");
        for text in [opened, message, indicator] {
            assert!(!text.contains(ANN) && !text.contains(r#""Ann""#), "{text}");
        }
        drop((bob, eve));
        let dialect = if is_flat { "flat" } else { "document" };
        let case = format!("fastchat: messages with a forged sender, {dialect} dialect");
        server.assert_survives(&case, "delivered with the real sender");
    }
}

/// Returns a LOUDSYNC `join` of the session "party" in the document's dialect.
fn join(device: &str, device_type: &str) -> String {
    let info = json!({"id": device, "name": device, "type": device_type});
    json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info}).to_string()
}

/// Returns a LOUDSYNC message in the upper-case dialect.
fn upper_case(message_type: &str, payload: Value) -> String {
    json!({"type": message_type, "timestamp": 1, "payload": payload}).to_string()
}

#[test]
fn a_guest_cannot_act_as_the_host() {
    let server = Server::start();
    let mut host = server.connect("loudsync");
    host.send(join("mac", "host"));
    let welcome = host.receive_type("welcome");
    let host_id = welcome["clientId"].as_str().unwrap().to_owned();
    let mut pad = server.connect("loudsync");
    pad.send(join("pad", "client"));
    let pad_id = pad.receive_type("welcome")["clientId"].clone();
    let mut phone = server.connect("loudsync");
    phone.send(join("phone", "client"));
    phone.receive_type("member_list");
    let mut tv = server.connect("loudsync");
    let device = json!({
        "sessionId": "party", "deviceId": "tv", "deviceName": "TV", "version": "1.0.0",
    });
    tv.send(upper_case("JOIN", device));
    tv.receive_type("MEMBER_LIST");
    // Clients that join as the host of a session that has one.
    for device in ["mac2", "pad"] {
        let mut second = server.connect("loudsync");
        second.send(join(device, "host"));
        assert_eq!(second.receive_type("error")["code"], "unauthorized");
        assert_eq!(second.expect_close(), (1000, "join refused".to_owned()));
    }
    // Guests that try what only the host may do.
    for member in [&json!(host_id), &pad_id, &json!("mac"), &json!("pad")] {
        let kick = json!({"type": "kick", "timestamp": 1, "memberId": member});
        phone.send(kick.to_string());
        assert_eq!(phone.receive_type("error")["code"], "unauthorized");
        tv.send(upper_case(
            "KICK",
            json!({"memberId": member, "deviceId": member}),
        ));
        assert_eq!(
            tv.receive_type("ERROR")["payload"]["code"],
            "INVALID_MESSAGE"
        );
    }
    phone.send(join("phone", "host"));
    assert_eq!(phone.receive_type("error")["code"], "already_joined");
    for message_type in ["session_closed", "kicked", "member_left", "welcome"] {
        phone.send(json!({"type": message_type, "timestamp": 1, "memberId": host_id}).to_string());
        assert_eq!(phone.receive_type("error")["code"], "invalid_message");
        tv.send(upper_case(
            &message_type.to_uppercase(),
            json!({"deviceId": host_id}),
        ));
        assert_eq!(
            tv.receive_type("ERROR")["payload"]["code"],
            "INVALID_MESSAGE"
        );
    }
    // A `leave` with the host's id removes only its sender.
    let leave = json!({"deviceId": host_id, "memberId": host_id, "reason": "x"});
    tv.send(upper_case("LEAVE", leave.clone()));
    assert_eq!(tv.wait_for_close_code(), 1000);
    phone.send(merge(json!({"type": "leave", "timestamp": 1}), &leave).to_string());
    assert_eq!(phone.wait_for_close_code(), 1000);
    // The session still has its host, and the pad, which sent nothing after its join.
    host.send(json!({"type": "ping", "timestamp": 1}).to_string());
    host.receive_type("pong");
    let texts = host.drain_texts();
    assert!(
        !texts.iter().any(|it| it.contains("session_closed")),
        "{texts:?}"
    );
    host.send(json!({"type": "member_list", "timestamp": 1}).to_string());
    let list = host.receive_type("member_list");
    let ids: Vec<&Value> = list["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, [&json!(host_id), &pad_id]);
    let texts = pad.drain_texts();
    assert!(
        !texts.iter().any(|it| it.contains("session_closed")),
        "{texts:?}"
    );
    drop((host, pad));
    server.assert_survives("loudsync: guests that act as the host", "unauthorized");
}
