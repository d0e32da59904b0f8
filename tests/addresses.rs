//! Which addresses a listener listens on.

use crate::common::{
    Client, Daemon, HANDSHAKE, program, read_head, run_at_terminal, tcp, temporary_file,
};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use switchboard::config::Config;
use switchboard::protocols::PROTOCOLS;

/// Starts a Workspace daemon at an address. Returns it, and the loopback addresses of both families with its
/// port.
fn start(address: &str) -> (Daemon, [SocketAddr; 2]) {
    let daemon = Daemon::start_protocol("workspace", json!({"address": address}));
    let port = daemon.address().port();
    let addresses = [
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ];
    (daemon, addresses)
}

#[test]
fn localhost_and_a_star_take_clients_of_both_families() {
    for address in ["localhost:0", "*:0", ":0", "[::]:0"] {
        let (_daemon, addresses) = start(address);
        for address in addresses {
            Client::connect(address, "/ws").receive_json();
        }
    }
}

#[test]
fn one_address_takes_clients_of_its_family_alone() {
    let (_daemon, [v4, v6]) = start("127.0.0.1:0");
    Client::connect(v4, "/ws").receive_json();
    assert!(std::net::TcpStream::connect(v6).is_err());
    let (_daemon, [v4, v6]) = start("[::1]:0");
    Client::connect(v6, "/ws").receive_json();
    assert!(std::net::TcpStream::connect(v4).is_err());
}

#[test]
fn the_sockets_of_a_listener_share_its_room_and_its_limits() {
    let settings = json!({"address": "localhost:0", "max_connections": 2});
    let daemon = Daemon::start_protocol("workspace", settings);
    let port = daemon.address().port();
    let mut first = Client::connect((Ipv4Addr::LOCALHOST, port).into(), "/ws?username=ann");
    first.receive_json();
    let mut second = Client::connect((Ipv6Addr::LOCALHOST, port).into(), "/ws?username=bob");
    second.receive_json();
    assert_eq!(
        first.receive_type("presence:update")["data"]["username"],
        "bob"
    );
    let third = Client::try_connect((Ipv6Addr::LOCALHOST, port).into(), "/ws", &[]);
    assert_eq!(third.err(), Some(503));
}

#[test]
fn the_default_addresses_are_localhost() {
    let defaults: Value = serde_json::from_str(&Config::built_in().to_json()).unwrap();
    for (index, protocol) in PROTOCOLS.iter().enumerate() {
        let default = (protocol.listener_defaults)()["address"].clone();
        assert!(
            default.as_str().unwrap().starts_with("localhost:"),
            "{default}"
        );
        assert_eq!(defaults["listeners"][index]["address"], default);
    }
}

#[test]
fn a_port_that_is_in_use_on_one_address_of_localhost_is_an_error_with_its_remedy() {
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let listener = json!({"protocol": "workspace", "address": format!("localhost:{port}")});
    let file = temporary_file(&json!({"listeners": [listener]}).to_string());
    let mut command = program();
    command.arg("--config").arg(&file);
    let output = run_at_terminal(command);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains(&format!(
            "listeners[0] (workspace) cannot listen on localhost:{port}: "
        )) && error.contains("end the program that listens there"),
        "{error}"
    );
}

#[test]
fn a_listener_is_reached_by_the_name_localhost() {
    let (_daemon, addresses) = start("localhost:0");
    for address in addresses {
        let host = format!("Host: localhost:{}\r\n", address.port());
        let mut stream = tcp(address);
        let request = HANDSHAKE.replacen("Host: localhost\r\n", &host, 1);
        stream.write_all(request.as_bytes()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    }
}
