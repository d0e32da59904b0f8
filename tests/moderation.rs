//! What an operator does about clients: lists them, kicks them, bans them.

use crate::common::status_port::status;
use crate::common::{
    ANN, BEN, Client, HANDSHAKE, Operated, RuntimeDirectory, fastchat, read_head, receive_http,
    stderr, tcp, tcp_from, wait_until,
};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connects to Workspace as a user.
fn workspace(address: SocketAddr, name: &str) -> Client {
    let mut client = Client::connect(address, &format!("/ws?username={name}"));
    client.receive_type("connected");
    client
}

/// An address of this machine.
fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Tries to open a WebSocket from another address of this machine. Returns the status of the response.
fn status_from(from: IpAddr, address: SocketAddr) -> String {
    let mut stream = tcp_from(from, address);
    // The server may refuse it before it has read this.
    let _ = stream.write_all(HANDSHAKE.as_bytes());
    let head = read_head(&mut stream);
    head.split(' ').nth(1).unwrap().to_owned()
}

fn assert_removed(client: &mut Client) {
    let (code, reason) = client.expect_close();
    assert_eq!((code, reason.as_str()), (1000, "removed by the operator"));
}

#[test]
fn clients_of_each_protocol_are_listed_with_what_they_are_known_by() {
    let protocols = ["peerjs", "fastchat", "workspace", "loudsync", "peerdrop"];
    let listeners = protocols.map(|protocol| json!({"protocol": protocol}));
    let operated = Operated::start(&json!(listeners));
    assert_eq!(operated.output("clients"), "nobody is connected\n");
    let addresses = &operated.daemon.addresses;
    let mut peer = Client::connect(addresses[0], "/peerjs?key=peerjs&id=alice&token=t");
    peer.receive_type("OPEN");
    let _ann = fastchat(addresses[1], ANN, "Ann");
    let _ben = workspace(addresses[2], "Ben");
    let mut mac = Client::connect(addresses[3], "/");
    let device = json!({"id": "secret", "name": "Mac", "type": "host"});
    mac.send(
        json!({"type": "join", "timestamp": 1, "sessionId": "s", "deviceInfo": device}).to_string(),
    );
    let host = mac.receive_type("welcome")["clientId"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut nameless = Client::connect(addresses[4], "/ws/chat");
    nameless.receive_text();
    let rows = operated.clients();
    for (row, (protocol, address)) in rows.iter().zip(protocols.iter().zip(addresses)) {
        assert_eq!(
            row[1..4],
            [
                (*protocol).to_owned(),
                address.to_string(),
                "127.0.0.1".to_owned()
            ]
        );
        assert!(row[4].ends_with('Z') && row[4].contains('T'), "{row:?}");
        assert!(
            row[5..7]
                .iter()
                .all(|bytes| bytes.parse::<u64>().unwrap() > 0),
            "{row:?}"
        );
    }
    let names = operated.names();
    assert_eq!(names[0], "alice");
    assert_eq!(names[1], format!("{ANN} Ann"));
    assert!(
        names[2].starts_with("ws_user_") && names[2].ends_with(" Ben"),
        "{names:?}"
    );
    assert_eq!(names[3], format!("{host} Mac"));
    assert_eq!(names[4..], [""]);
}

#[test]
fn the_numbers_of_clients_are_those_of_the_log() {
    let operated = Operated::fastchat();
    fastchat(operated.address(), ANN, "Ann").ping();
    let client = fastchat(operated.address(), BEN, "Ben");
    let rows = operated.clients();
    client.close_normally();
    let line = operated.daemon.wait_for_log("left (1000)");
    let number = &rows.last().unwrap()[0];
    assert!(
        line.contains(&format!("fastchat #{number}: ")),
        "{line} {rows:?}"
    );
}

#[test]
fn a_list_that_is_longer_than_a_response_is_complete() {
    let operated = Operated::start(&json!([{"protocol": "loudsync"}]));
    let connect = |_| {
        let mut stream = tcp(operated.address());
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        read_head(&mut stream);
        stream
    };
    let clients: Vec<_> = (0..1005).map(connect).collect();
    let mut numbers: Vec<u64> = operated
        .clients()
        .iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), clients.len());
    let listed = numbers.clone();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, listed);
}

#[test]
fn a_client_that_is_kicked_is_closed_and_no_other() {
    let operated = Operated::fastchat();
    for (line, by) in [
        ("kick NUMBER", "number"),
        ("kick #NUMBER", "number in the log"),
        ("kick Ann", "name"),
        ("kick fastchat/Ann", "protocol and name"),
        (&format!("kick {ANN}"), "id"),
    ] {
        let mut ann = fastchat(operated.address(), ANN, "Ann");
        let mut ben = fastchat(operated.address(), BEN, "Ben");
        let rows = operated.clients();
        let row = rows.iter().find(|row| row[8] == "Ann").unwrap();
        let output = operated.output(&line.replace("NUMBER", &row[0]));
        assert!(
            output.contains(ANN) && !output.contains(BEN),
            "{by}: {output}"
        );
        assert!(
            output.ends_with("\n1 connection is closed\n"),
            "{by}: {output}"
        );
        assert_eq!(ann.wait_for_close_code(), 1000);
        ben.ping();
        assert_eq!(operated.names(), [format!("{BEN} Ben")]);
        ben.close_normally();
        wait_until("Ben has left", || operated.clients().is_empty());
    }
}

#[test]
fn a_kick_by_address_closes_all_clients_from_there_and_no_others() {
    let operated = Operated::start(&json!([{"protocol": "loudsync"}, {"protocol": "peerdrop"}]));
    let addresses = &operated.daemon.addresses;
    let connect = |from, n: usize, target| Client::connect_from(local(from), addresses[n], target);
    let mut one = connect(2, 0, "/");
    let mut same = connect(2, 1, "/ws/chat");
    same.receive_text();
    let mut near = connect(3, 0, "/");
    let mut far = connect(200, 0, "/");
    operated.output("kick 127.0.0.2");
    assert_removed(&mut one);
    assert_removed(&mut same);
    near.ping();
    operated.output("kick 127.0.0.0/25");
    assert_removed(&mut near);
    far.ping();
}

#[test]
fn a_member_of_loudsync_that_is_kicked_has_left_for_the_others() {
    let operated = Operated::start(&json!([{"protocol": "loudsync"}]));
    let join = |kind: &str, id: &str| {
        let mut client = Client::connect(operated.address(), "/");
        let device = json!({"id": id, "name": id, "type": kind});
        client.send(
            json!({"type": "join", "timestamp": 1, "sessionId": "s", "deviceInfo": device})
                .to_string(),
        );
        client.receive_type("member_list");
        client
    };
    let (mut host, mut guest) = (join("host", "Mac"), join("client", "Phone"));
    operated.output("kick Phone");
    assert_removed(&mut guest);
    assert_eq!(host.receive_type("member_left")["reason"], "kicked");
}

#[test]
fn a_kick_of_nobody_is_a_clear_line_that_nobody_notices() {
    let operated = Operated::fastchat();
    let mut ann = fastchat(operated.address(), ANN, "Ann");
    ann.drain_texts();
    for (who, said) in [
        ("4711", "as number 4711"),
        ("Eve", "as \"Eve\""),
        ("peerjs/Ann", "as \"Ann\" on peerjs"),
        ("192.0.2.0/24", "from 192.0.2.0/24"),
    ] {
        assert_eq!(
            operated.problem(&format!("kick {who}")),
            format!("nobody is connected {said}; switchboard clients lists who is there")
        );
    }
    ann.expect_no_message();
}

#[test]
fn a_name_of_several_users_kicks_none_of_them_and_that_of_one_user_all_its_connections() {
    let operated = Operated::start(&json!([{"protocol": "fastchat"}, {"protocol": "workspace"}]));
    let addresses = &operated.daemon.addresses;
    let mut ann = fastchat(addresses[0], ANN, "Ann");
    let mut other = fastchat(addresses[0], BEN, "Ann");
    let mut twice = [(); 2].map(|()| workspace(addresses[1], "Ann"));
    let problem = operated.problem("kick Ann");
    assert!(
        problem.starts_with("several users are connected as \"Ann\"; write the numbers"),
        "{problem}"
    );
    ann.ping();
    other.ping();
    twice.iter_mut().for_each(Client::ping);
    let output = operated.output("kick workspace/Ann");
    assert!(output.ends_with("\n2 connections are closed\n"), "{output}");
    for client in &mut twice {
        assert_eq!(client.wait_for_close_code(), 1000);
    }
    ann.ping();
}

#[test]
fn of_several_kicks_those_that_are_possible_are_done() {
    let operated = Operated::fastchat();
    let mut ann = fastchat(operated.address(), ANN, "Ann");
    let output = operated.command("kick Eve Ann");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("nobody is connected as \"Eve\""),
        "{output:?}"
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains(ANN),
        "{output:?}"
    );
    assert_eq!(ann.wait_for_close_code(), 1000);
}

#[test]
fn a_ban_closes_who_is_connected_from_there_and_refuses_who_comes_until_it_is_ended() {
    let operated = Operated::start(&json!([{"protocol": "loudsync"}]));
    let address = operated.address();
    let mut banned = Client::connect_from(local(2), address, "/");
    let mut other = Client::connect_from(local(3), address, "/");
    let output = operated.output("ban 127.0.0.2");
    assert!(
        output.starts_with(
            "127.0.0.2/32 is banned as long as the daemon runs\n1 connection is closed\nnote: "
        ),
        "{output}"
    );
    assert_removed(&mut banned);
    assert_eq!(status_from(local(2), address), "403");
    assert_eq!(status_from(local(3), address), "101");
    other.ping();
    let line = operated.daemon.wait_for_log("refused with 403");
    assert!(
        line.contains("127.0.0.2 is refused with 403: its address is banned"),
        "{line}"
    );
    assert_eq!(
        operated.output("bans"),
        "127.0.0.2/32  as long as the daemon runs\n"
    );
    assert_eq!(
        operated.output("unban 127.0.0.2"),
        "127.0.0.2/32 is not banned any more\n"
    );
    assert_eq!(status_from(local(2), address), "101");
    assert_eq!(
        operated.problem("unban 127.0.0.2"),
        "127.0.0.2/32 is not banned; switchboard bans lists what is"
    );
    assert_eq!(operated.output("bans"), "nobody is banned\n");
}

#[test]
fn a_ban_of_a_network_is_one_of_all_its_addresses_and_takes_no_place_of_others() {
    let listener = json!({"protocol": "loudsync", "max_connections": 1});
    let operated = Operated::start(&json!([listener]));
    let output = operated.output("ban 127.0.0.2/26 --for 1h");
    assert!(
        output.starts_with("127.0.0.0/26 is banned until 2"),
        "{output}"
    );
    let refused = tcp_from(local(63), operated.address());
    // The response has come, and the connection is not closed by the client yet.
    let mut head = refused.try_clone().unwrap();
    assert!(read_head(&mut head).starts_with("HTTP/1.1 403 "));
    assert_eq!(status_from(local(64), operated.address()), "101");
}

#[test]
fn bans_are_in_the_status_and_outlive_a_reload_that_trusts_other_proxies() {
    let listener = |proxies: Value| json!([{"protocol": "loudsync", "trusted_proxies": proxies}]);
    let operated = Operated::start(&listener(json!([])));
    operated.output("ban 127.0.0.2");
    operated.output("ban 127.0.0.3");
    let config = json!({"status": operated.status(), "listeners": listener(json!(["127.0.0.3"]))});
    operated.daemon.reload(&config);
    assert_eq!(status_from(local(2), operated.address()), "403");
    assert_eq!(status_from(local(3), operated.address()), "101", "a proxy");
    let bans = status(&operated.daemon)["bans"].take();
    let networks: Vec<&Value> = bans
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["network"])
        .collect();
    assert_eq!(networks, ["127.0.0.2/32", "127.0.0.3/32"]);
}

#[test]
fn a_ban_ends_by_itself() {
    let operated = Operated::start(&json!([{"protocol": "loudsync"}]));
    operated.output("ban 127.0.0.2 --for 1s");
    wait_until("the ban has ended", || {
        operated.output("bans") == "nobody is banned\n"
    });
    assert_eq!(status_from(local(2), operated.address()), "101");
}

#[test]
fn a_client_behind_a_trusted_proxy_is_banned_and_not_its_other_clients() {
    let listener = json!({"protocol": "peerjs", "trusted_proxies": ["127.0.0.1"]});
    let operated = Operated::start(&json!([listener]));
    let connect = |client: &str, id: &str| {
        let target = format!("/peerjs?key=peerjs&id={id}&token=t");
        Client::try_connect(operated.address(), &target, &[("x-forwarded-for", client)])
    };
    let (mut banned, mut other) = (
        connect("192.0.2.7", "a").unwrap(),
        connect("192.0.2.8", "b").unwrap(),
    );
    other.receive_type("OPEN");
    banned.receive_type("OPEN");
    operated.output("ban 192.0.2.7");
    assert_removed(&mut banned);
    other.ping();
    assert_eq!(connect("192.0.2.7", "c").err(), Some(403));
    assert!(connect("192.0.2.8", "d").is_ok());
    // The proxy asks for several clients over one connection.
    let request = |client: &str| {
        format!("GET /peerjs/id HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n")
    };
    let mut proxy = tcp(operated.address());
    proxy.write_all(request("192.0.2.8").as_bytes()).unwrap();
    assert!(read_head(&mut proxy).starts_with("HTTP/1.1 200 "));
    proxy.write_all(request("192.0.2.7").as_bytes()).unwrap();
    assert!(receive_http(proxy).contains("HTTP/1.1 403 "));
}

#[test]
fn a_trusted_proxy_itself_cannot_be_banned() {
    let listener = json!({"protocol": "loudsync", "trusted_proxies": ["127.0.0.2"]});
    let operated = Operated::start(&json!([listener]));
    let problem = operated.problem("ban 127.0.0.2");
    assert!(
        problem.contains("127.0.0.2/32, which \"trusted_proxies\" has: ban the clients"),
        "{problem}"
    );
    let mut proxy = Client::connect_from(local(2), operated.address(), "/");
    let mut other = Client::connect_from(local(3), operated.address(), "/");
    operated.output("ban 127.0.0.0/24");
    assert_removed(&mut other);
    proxy.ping();
    assert_eq!(status_from(local(2), operated.address()), "101");
}

#[test]
fn a_larger_ban_is_the_same_for_who_is_connected_from_a_proxy_of_another_listener_and_who_comes() {
    let proxied = json!({"protocol": "loudsync", "trusted_proxies": ["127.0.0.2"]});
    let operated = Operated::start(&json!([proxied, {"protocol": "loudsync"}]));
    let other = operated.daemon.addresses[1];
    let [mut proxy, mut client] = [2, 3].map(|last| Client::connect_from(local(last), other, "/"));
    let output = operated.output("ban 127.0.0.0/8");
    assert!(output.contains("1 connection is closed"), "{output}");
    assert_removed(&mut client);
    proxy.ping();
    Client::connect_from(local(2), other, "/").ping();
    assert_eq!(status_from(local(3), other), "403");
}

#[test]
fn what_a_client_calls_itself_cannot_act_on_the_terminal_and_can_be_kicked_as_it_is_shown() {
    let operated = Operated::start(&json!([{"protocol": "peerjs"}]));
    let mut client = Client::connect(
        operated.address(),
        "/peerjs?key=peerjs&id=%1B%5B2J%E2%80%AEx%C2%9B&token=t",
    );
    client.receive_type("OPEN");
    let shown = "\\u{1b}[2J\\u{202e}x\\u{9b}";
    assert_eq!(operated.names(), [shown]);
    operated.output(&format!("kick {shown}"));
    assert_removed(&mut client);
}

#[test]
fn the_log_says_what_the_operator_did_and_without_log_addresses_no_address() {
    for log_addresses in [true, false] {
        let directory = RuntimeDirectory::new();
        let config =
            json!({"log_addresses": log_addresses, "listeners": [{"protocol": "loudsync"}]});
        let daemon = directory.start("RUNTIME_DIRECTORY", &config);
        let mut operated = Operated { daemon, directory };
        let mut kicked = Client::connect_from(local(2), operated.address(), "/");
        let mut banned = Client::connect_from(local(3), operated.address(), "/");
        operated.output("kick 127.0.0.2");
        operated.output("ban 127.0.0.3 --for 1h");
        operated.output("unban 127.0.0.3");
        assert_removed(&mut kicked);
        assert_removed(&mut banned);
        // The daemon waits for their sockets to be closed.
        drop((kicked, banned));
        let log = operated.daemon.stop_and_read_log().join("\n");
        let network = if log_addresses {
            "127.0.0.3/32"
        } else {
            "a network"
        };
        for line in [
            "removed by the operator: loudsync #1".to_owned(),
            format!("banned by the operator: {network} until 2"),
            format!("not banned any more by the operator: {network}"),
        ] {
            assert!(log.contains(&line), "{line}: {log}");
        }
        assert_eq!(log.contains("127.0.0.3"), log_addresses, "{log}");
    }
}
