//! The status port.

use crate::common::status_port::{get, get_body, request, status};
use crate::common::{Client, DEADLINE, Daemon, Pair, Tap, http, read_head, tcp, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::thread;
use switchboard::protocols::PROTOCOLS;

/// The media type of `/metrics`.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn daemon() -> Daemon {
    daemon_of("peerdrop", json!({}))
}

/// Starts a daemon with a status port and one listener of this protocol and these settings.
fn daemon_of(protocol: &str, mut settings: Value) -> Daemon {
    settings["protocol"] = json!(protocol);
    Daemon::start(json!({"status": "127.0.0.1:0", "listeners": [settings]}))
}

/// Returns the first listener of `/status`.
fn listener(daemon: &Daemon) -> Value {
    status(daemon)["listeners"][0].take()
}

/// Returns the values of `/metrics` by name and labels. The labels of the listener are left out: there is one.
fn metrics(daemon: &Daemon) -> BTreeMap<String, f64> {
    let text = get_body(daemon, "/metrics", METRICS_TYPE);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let own = |label: &&str| !label.starts_with("protocol=") && !label.starts_with("listener=");
        let name = match name.split_once('{') {
            None => name.to_owned(),
            Some((name, labels)) => {
                let labels = labels.trim_end_matches('}').split(',').filter(own);
                let labels: Vec<&str> = labels.collect();
                format!("{name} {}", labels.join(" ")).trim_end().to_owned()
            }
        };
        (name, value.parse().unwrap())
    });
    samples.collect()
}

/// Waits until the listener of `/status` has these values.
fn wait_for(daemon: &Daemon, expected: &Value) {
    let mut last = Value::Null;
    let expected = expected.as_object().unwrap();
    let started = std::time::Instant::now();
    while !expected.iter().all(|(key, value)| last[key] == *value) {
        assert!(
            started.elapsed() < DEADLINE,
            "{last:#} is not {expected:#?}"
        );
        last = listener(daemon);
    }
}

#[test]
fn a_daemon_that_works_is_healthy() {
    let response = get(&daemon(), "/healthz");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nok\n"), "{response}");
}

#[test]
fn a_listener_keeps_its_figures_through_a_reload_and_only_those_that_are_served_are_shown() {
    let daemon = daemon();
    let config = |limit: u32, others: &[Value]| {
        let mut listeners = vec![json!({"protocol": "peerdrop", "max_connections": limit})];
        listeners.extend(others.iter().cloned());
        json!({"status": daemon.status, "listeners": listeners})
    };
    let mut client = Client::connect(daemon.address(), "/ws/chat");
    client.receive_text();
    daemon.reload(&config(7, &[json!({"protocol": "workspace"})]));
    let shown = status(&daemon);
    let protocols: Vec<&Value> = shown["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["protocol"])
        .collect();
    assert_eq!(protocols, ["peerdrop", "workspace"]);
    let (peerdrop, workspace) = (&shown["listeners"][0], &shown["listeners"][1]);
    assert_eq!(
        (&peerdrop["accepted"], &peerdrop["connections"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&workspace["accepted"], &peerdrop["max_connections"]),
        (&json!(0), &json!(7))
    );
    daemon.reload(&config(7, &[]));
    assert_eq!(status(&daemon)["listeners"].as_array().unwrap().len(), 1);
    // Another protocol at the same address begins with nothing.
    let other = json!({"protocol": "loudsync", "address": "127.0.0.1:0"});
    daemon.reload(&json!({"status": daemon.status, "listeners": [other]}));
    assert_eq!(client.wait_for_close_code(), 1001);
    let loudsync = listener(&daemon);
    assert_eq!(
        (&loudsync["protocol"], &loudsync["accepted"]),
        (&json!("loudsync"), &json!(0))
    );
}

#[test]
fn a_path_that_does_not_exist_is_404() {
    let response = get(&daemon(), "/nothing");
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
}

#[test]
fn a_page_with_a_strangers_host_is_refused() {
    let daemon = daemon();
    for path in ["/healthz", "/metrics", "/status"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        let response = http(daemon.status.unwrap(), &request);
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
        assert!(response.contains("evil.example"), "{response}");
    }
}

#[test]
fn only_get_and_head_are_answered_and_head_without_a_body() {
    let daemon = daemon();
    for path in ["/healthz", "/metrics", "/status"] {
        let response = request(daemon.status.unwrap(), &format!("HEAD {path}"));
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
        for method in ["POST", "DELETE", "OPTIONS", "get"] {
            let response = request(daemon.status.unwrap(), &format!("{method} {path}"));
            assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
            assert!(response.contains("\r\nAllow: GET, HEAD\r\n"), "{response}");
        }
    }
}

#[test]
fn no_response_has_a_header_twice() {
    let daemon = daemon();
    for path in [
        "/", "/healthz", "/metrics", "/status", "/clients", "/nothing",
    ] {
        let response = get(&daemon, path);
        let (head, _) = response.split_once("\r\n\r\n").unwrap();
        let names = head.lines().skip(1).map(|line| line.split(':').next());
        let mut names: Vec<_> = names.collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{path}: {head}");
    }
}

#[test]
fn no_response_is_stored_or_taken_for_another_type() {
    let daemon = daemon();
    for line in [
        "GET /status",
        "GET /metrics",
        "GET /nothing",
        "POST /status",
        "nonsense",
    ] {
        let response = request(daemon.status.unwrap(), line);
        for header in ["X-Content-Type-Options: nosniff", "Cache-Control: no-store"] {
            assert!(
                response.contains(&format!("\r\n{header}\r\n")),
                "{line}: {response}"
            );
        }
    }
}

/// Returns the number of this kind in a JSON object of numbers.
fn sum(numbers: &Value) -> u64 {
    let numbers = numbers.as_object().unwrap().values();
    numbers.map(|number| number.as_u64().unwrap()).sum()
}

#[test]
fn the_counters_move_by_what_a_conversation_does_on_each_protocol() {
    for protocol in PROTOCOLS {
        let daemon = daemon_of(protocol.name, json!({}));
        let tap = Tap::new(daemon.address());
        let mut pair = Pair::connect(protocol.name, tap.address, Ipv4Addr::LOCALHOST.into());
        wait_for(
            &daemon,
            &json!({"connections": 2, "accepted": 2, "closed": {}}),
        );
        pair.send("hello");
        pair.expect_received("hello");
        pair.close();
        wait_for(
            &daemon,
            &json!({"connections": 0, "accepted": 2, "refused": {}}),
        );
        let closed = listener(&daemon)["closed"].take();
        assert_eq!(sum(&closed), 2, "{}: {closed}", protocol.name);
        // The last bytes are those of the closing handshake.
        let mut seen = Value::Null;
        wait_until("the traffic is what the relay saw", || {
            let [clients, server] = tap.sent();
            let expected = json!({
                "messages_in": clients.messages, "messages_out": server.messages,
                "bytes_in": clients.bytes, "bytes_out": server.bytes,
            });
            seen = listener(&daemon);
            let expected = expected.as_object().unwrap().iter();
            expected.clone().all(|(key, value)| seen[key] == *value)
        });
        assert!(
            seen["messages_in"].as_u64() > Some(0),
            "{}: {seen}",
            protocol.name
        );
        assert!(
            seen["messages_out"].as_u64() > Some(0),
            "{}: {seen}",
            protocol.name
        );
    }
}

#[test]
fn metrics_and_status_say_the_same_and_for_each_listener() {
    let daemon = daemon();
    Client::connect(daemon.address(), "/ws/chat/NOBODY").expect_close();
    get_of_listener(daemon.address(), "/nothing");
    wait_for(
        &daemon,
        &json!({
            "connections": 0, "accepted": 1, "is_bound": true, "protocol": "peerdrop", "endpoint": "/ws/chat",
            "closed": {"4404 no such session": 1}, "refused": {"404": 1}, "messages_out": 0,
            "sizes": {"sessions": 0, "waiting_joins": 0, "wrong_codes": 1},
        }),
    );
    let (metrics, status) = (metrics(&daemon), status(&daemon));
    for (name, value) in [
        ("switchboard_connections", 0),
        ("switchboard_connections_accepted_total", 1),
        ("switchboard_listener_bound", 1),
        ("switchboard_requests_refused_total reason=\"404\"", 1),
        (
            "switchboard_connections_closed_total code=\"4404\" reason=\"no such session\"",
            1,
        ),
        (
            "switchboard_connections_closed_total code=\"1006\" reason=\"lost\"",
            0,
        ),
        ("switchboard_messages_sent_total", 0),
        ("switchboard_realm_size kind=\"wrong_codes\"", 1),
        ("switchboard_healthy", 1),
    ] {
        assert_eq!(
            metrics.get(name),
            Some(&f64::from(value)),
            "{name}: {metrics:#?}"
        );
    }
    let listener = &status["listeners"][0];
    for (name, key) in [
        ("switchboard_received_bytes_total", "bytes_in"),
        ("switchboard_sent_bytes_total", "bytes_out"),
        ("switchboard_rate_limited_total", "rate_limited"),
        ("switchboard_slow_consumers_total", "slow_consumers"),
        ("switchboard_evictions_total", "evicted"),
        ("switchboard_outbox_bytes", "outbox_bytes"),
    ] {
        assert_eq!(
            listener[key].as_u64(),
            Some(metrics[name] as u64),
            "{name}: {listener}"
        );
    }
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        status["pid"],
        u32::try_from(daemon.pid().as_raw_nonzero().get()).unwrap()
    );
    assert_eq!(status["healthy"], true);
    assert_eq!(listener["address"], daemon.address().to_string());
}

/// Sends a plain GET to a listener.
fn get_of_listener(address: SocketAddr, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    http(address, &head)
}

#[test]
#[ignore = "needs promtool, of Prometheus"]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let listeners = PROTOCOLS
        .iter()
        .map(|protocol| json!({"protocol": protocol.name}));
    let listeners: Vec<Value> = listeners.collect();
    let daemon = Daemon::start(json!({"status": "127.0.0.1:0", "listeners": listeners}));
    for (protocol, &address) in PROTOCOLS.iter().zip(&daemon.addresses) {
        let mut pair = Pair::connect(protocol.name, address, Ipv4Addr::LOCALHOST.into());
        pair.send("hello");
        pair.expect_received("hello");
        get_of_listener(address, "/nothing");
        pair.close();
    }
    let metrics = get_body(&daemon, "/metrics", METRICS_TYPE);
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn refusals_are_counted_by_status_or_reason() {
    let daemon = daemon_of(
        "workspace",
        json!({"handshake_timeout": 0.2, "origins": ["https://a.example"]}),
    );
    let address = daemon.address();
    get_of_listener(address, "/nothing");
    get_of_listener(address, "/ws");
    let headers = [("origin", "https://b.example")];
    assert_eq!(
        Client::try_connect(address, "/ws", &headers).err(),
        Some(403)
    );
    for bytes in [
        &b"\x16\x03\x01"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HT",
    ] {
        let mut stream = tcp(address);
        stream.write_all(bytes).unwrap();
        let _ = stream.read(&mut [0]);
    }
    let refused = json!({"404": 1, "426": 1, "403": 1, "tls": 1, "http2": 1, "timeout": 1});
    wait_for(
        &daemon,
        &json!({"refused": refused, "accepted": 0, "closed": {}}),
    );
}

#[test]
fn a_client_above_a_rate_limit_is_counted() {
    let daemon = daemon_of("workspace", json!({"messages_per_minute": 1}));
    let mut client = Client::connect(daemon.address(), "/ws?username=anna");
    for _ in 0..3 {
        client.send(r#"{"type":"message:send","text":"hello"}"#);
    }
    wait_for(
        &daemon,
        &json!({"rate_limited": 2, "messages_in": 3, "connections": 1}),
    );
}

#[test]
fn a_client_that_does_not_read_fills_its_outbox_and_is_counted_as_slow() {
    let daemon = daemon_of(
        "workspace",
        json!({"messages_per_minute": 0, "text_per_minute": 0}),
    );
    let slow = Client::connect(daemon.address(), "/ws?username=slow");
    // Otherwise the kernel takes many megabytes before the outbox has to.
    set_socket_recv_buffer_size(&slow.socket.get_ref().0, 64 * 1024).unwrap();
    let mut sender = Client::connect(daemon.address(), "/ws?username=fast");
    // Larger ones enter the room at a limited pace.
    let text = "x".repeat(15_000);
    let message = json!({"type": "message:send", "text": text}).to_string();
    let mut send = || {
        sender.send(message.as_str());
        sender.drain_texts();
    };
    // A megabyte, of the two for which an outbox has room.
    (0..70).for_each(|_| send());
    wait_until("its outbox shows", || {
        listener(&daemon)["outbox_bytes"].as_u64() > Some(0)
    });
    wait_until("it is closed", || {
        send();
        listener(&daemon)["slow_consumers"] == 1
    });
    assert_eq!(listener(&daemon)["closed"], json!({"1013 too slow": 1}));
    drop(slow);
}

#[test]
fn traffic_shows_while_a_connection_is_open() {
    let daemon = daemon();
    let mut client = Client::connect(daemon.address(), "/ws/chat");
    client.receive_text();
    client.send("dropped, as there is no peer");
    wait_for(
        &daemon,
        &json!({"messages_in": 1, "messages_out": 1, "connections": 1}),
    );
    // A connection that speaks HTTP may stay open, too.
    let daemon = daemon_of("peerjs", json!({}));
    let mut stream = tcp(daemon.address());
    stream
        .write_all(b"GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let head = read_head(&mut stream);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let sent = head.len() as u64 + length.unwrap().parse::<u64>().unwrap();
    wait_for(
        &daemon,
        &json!({"bytes_out": sent, "messages_out": 0, "connections": 0}),
    );
}

#[test]
fn the_history_has_what_happened_in_each_second() {
    let daemon = daemon();
    let mut client = Client::connect(daemon.address(), "/ws/chat");
    for _ in 0..5 {
        client.send("x");
    }
    wait_until("the history has the messages and the connection", || {
        let history = listener(&daemon)["history"].take();
        let numbers = |key: &str| {
            let numbers = history[key].as_array().unwrap().iter();
            numbers
                .map(|number| number.as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        let connections = numbers("connections");
        assert_eq!(connections.len(), numbers("messages_in").len());
        numbers("messages_in").iter().sum::<u64>() == 5
            && numbers("messages_out").iter().sum::<u64>() == 1
            && connections.last() == Some(&1)
    });
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_has_its_figures_under_prometheus_own_names() {
    let daemon = daemon();
    let metrics = metrics(&daemon);
    for (name, least) in [
        ("process_resident_memory_bytes", 1e6),
        ("process_virtual_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
        ("process_max_fds", 16.0),
        ("process_threads", 1.0),
        ("process_start_time_seconds", 1.7e9),
        ("process_cpu_seconds_total", 0.0),
    ] {
        assert!(metrics[name] >= least, "{name}: {metrics:#?}");
    }
}

#[test]
fn a_status_address_that_is_taken_is_a_warning_and_the_rest_serves_and_it_is_tried_again() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let listeners = json!([{"protocol": "peerdrop"}]);
    let daemon = Daemon::start(json!({"status": taken, "listeners": listeners}));
    let is_warning = |line: &&String| line.contains("WARN") && line.contains(&taken);
    let warning = daemon.start_of_log.iter().find(is_warning);
    let warning = warning.unwrap_or_else(|| panic!("{:#?}", daemon.start_of_log));
    assert!(
        warning.contains("it is tried again each second"),
        "{warning}"
    );
    assert_eq!(daemon.status, None);
    Client::connect(daemon.address(), "/ws/chat").receive_text();
    drop(other);
    daemon.wait_for_log("status on http://");
    let response = request(taken.parse().unwrap(), "GET /healthz");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn ten_thousand_requests_in_a_row_leave_the_broker_and_other_clients_alone() {
    let daemon = daemon();
    let localhost = Ipv4Addr::LOCALHOST.into();
    let mut pair = Pair::connect("peerdrop", daemon.address(), localhost);
    let status = daemon.status.unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1250).for_each(|_| drop(request(status, "GET /metrics"))));
        }
        for _ in 0..100 {
            pair.send("hello");
            pair.expect_received("hello");
        }
    });
    pair.close();
}

#[test]
fn a_thousand_clients_that_say_nothing_do_not_keep_another_from_asking() {
    let daemon = daemon();
    let status = daemon.status.unwrap();
    let _silent: Vec<_> = (0..1000).map(|_| tcp(status)).collect();
    let response = get(&daemon, "/healthz");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[test]
fn a_thousand_clients_that_do_not_read_do_not_keep_another_from_asking() {
    let daemon = daemon();
    let status = daemon.status.unwrap();
    let ask = |_| {
        let mut stream = tcp(status);
        let asked = stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n");
        asked.unwrap();
        stream
    };
    let _deaf: Vec<_> = (0..1000).map(ask).collect();
    let response = get(&daemon, "/healthz");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}
