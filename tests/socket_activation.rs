//! Sockets that systemd opens and passes: `"address": "systemd:NAME"`.

use crate::common::{
    Client, Daemon, HANDSHAKE, program, read_frame, read_head, receive_http, socket_path, tcp,
    temporary_file, unix, wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

/// Returns a launcher that passes sockets to the program whose name and arguments follow, as systemd does: as file
/// descriptors from 3 on, with their names. The shell has the first as its standard input and the second as its
/// standard error.
fn launcher(names: &str, sockets: Vec<OwnedFd>) -> Command {
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    let mut shell = Command::new("sh");
    let script = format!(
        "exec 3<&0 0</dev/null; {}; LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names} exec \"$@\"",
        if count > 1 {
            "exec 4<&2 2>/dev/null"
        } else {
            ":"
        },
    );
    shell.args(["-c", &script, "sh"]);
    shell.stdin(Stdio::from(sockets.next().unwrap()));
    if let Some(second) = sockets.next() {
        shell.stderr(Stdio::from(second));
    }
    assert!(sockets.next().is_none());
    shell
}

/// Opens a TCP socket. Returns it and its address.
fn listen(address: &str) -> (OwnedFd, SocketAddr) {
    let socket = TcpListener::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket.into(), address)
}

fn listener(protocol: &str, name: &str) -> Value {
    json!({"protocol": protocol, "address": format!("systemd:{name}")})
}

/// Starts a daemon with a Workspace listener on the socket that is passed under the name `chat`.
fn start(sockets: Vec<OwnedFd>, names: &str) -> Daemon {
    let config = json!({"listeners": [listener("workspace", "chat")]});
    Daemon::start_with_launcher(launcher(names, sockets), config)
}

/// Runs a daemon with a Workspace listener of the name `chat`, which must fail to start.
fn fail(socket: OwnedFd, name: &str) -> String {
    let config = json!({"listeners": [listener("workspace", "chat")]});
    let file = temporary_file(&config.to_string());
    let mut launcher = launcher(name, vec![socket]);
    launcher.arg(program().get_program());
    let Output { status, stderr, .. } = launcher.arg("--config").arg(&file).output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn passed_sockets_are_served_by_their_names() {
    let (socket, address) = listen("127.0.0.1:0");
    let path = socket_path();
    let unix_socket = UnixListener::bind(&path).unwrap();
    let config =
        json!({"listeners": [listener("peerdrop", "drop"), listener("workspace", "chat")]});
    let launcher = launcher("chat:drop", vec![socket, unix_socket.into()]);
    let mut daemon = Daemon::start_with_launcher(launcher, config);
    Client::connect(address, "/ws").receive_json();
    Client::connect_unix(&path, "/ws/chat").receive_text();
    let log = daemon.stop_and_read_log();
    for line in [
        format!("workspace  listens on ws://{address}/ws (systemd:chat)"),
        format!(
            "peerdrop   listens on ws+unix://{}:/ws/chat (systemd:drop)",
            path.display()
        ),
    ] {
        assert!(log.iter().any(|logged| logged.contains(&line)), "{log:#?}");
    }
    // It is systemd's, which removes it.
    assert!(fs::symlink_metadata(&path).is_ok());
}

#[test]
fn several_sockets_of_a_name_are_one_listener() {
    let (v4, v4_address) = listen("127.0.0.1:0");
    let (v6, v6_address) = listen("[::1]:0");
    let mut daemon = start(vec![v4, v6], "chat:chat");
    let mut ann = Client::connect(v4_address, "/ws?username=ann");
    ann.receive_json();
    let bob = Client::connect(v6_address, "/ws?username=bob");
    assert_eq!(
        ann.receive_type("presence:update")["data"]["username"],
        "bob"
    );
    drop((ann, bob));
    let log = daemon.stop_and_read_log();
    let urls = format!("ws://{v4_address}/ws and ws://{v6_address}/ws (systemd:chat)");
    assert!(log.iter().any(|line| line.contains(&urls)), "{log:#?}");
}

#[test]
fn a_name_that_is_not_passed_is_an_error_that_lists_those_that_are() {
    let error = fail(listen("127.0.0.1:0").0, "peerjs");
    assert!(
        error.contains("listeners[0] (workspace) cannot listen on systemd:chat: systemd passes no socket of this name; ")
            && error.contains("\"peerjs\"")
            && error.contains("FileDescriptorName=chat"),
        "{error}"
    );
}

#[test]
fn without_systemd_the_error_says_how_to_start() {
    let config = json!({"listeners": [listener("workspace", "chat")]});
    let file = temporary_file(&config.to_string());
    let output = program().arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("systemctl enable switchboard.socket"),
        "{error}"
    );
}

#[test]
fn what_no_client_can_connect_to_is_an_error() {
    let (_listener, address) = listen("127.0.0.1:0");
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(address).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    for passed in [datagrams.into(), connection.into(), OwnedFd::from(file)] {
        let error = fail(passed, "chat");
        assert!(
            error.contains("it is not a listening stream socket; write ListenStream="),
            "{error}"
        );
    }
}

#[test]
fn a_socket_that_nobody_names_is_closed_with_a_warning() {
    let (chat, address) = listen("127.0.0.1:0");
    let (other, other_address) = listen("127.0.0.1:0");
    let mut daemon = start(vec![chat, other], "chat:other");
    Client::connect(address, "/ws").receive_json();
    // Nothing has it open any more.
    let error = TcpStream::connect(other_address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let log = daemon.stop_and_read_log();
    let warning = "systemd passes a socket \"other\", which no listener names";
    let warnings = log.iter().filter(|line| line.contains(warning));
    assert_eq!(warnings.count(), 1, "{log:#?}");
}

#[test]
fn a_socket_that_nobody_names_after_a_reload_waits_for_a_listener_that_does_with_a_warning() {
    let (chat, drop) = (listener("workspace", "chat"), listener("peerdrop", "drop"));
    let [(chat_socket, chat_address), (drop_socket, drop_address)] =
        [listen("127.0.0.1:0"), listen("127.0.0.1:0")];
    let both = json!({"listeners": [chat, drop]});
    let launcher = launcher("chat:drop", vec![chat_socket, drop_socket]);
    let daemon = Daemon::start_with_launcher(launcher, both.clone());
    let mut ann = Client::connect(chat_address, "/ws?username=ann");
    ann.receive_json();
    let mut leaving = Client::connect(drop_address, "/ws/chat");
    leaving.receive_text();
    let log = daemon.reload(&json!({"listeners": [chat]}));
    let warning = "no listener names the socket \"drop\" of systemd any more";
    assert!(log.iter().any(|line| line.contains(warning)), "{log:#?}");
    assert_eq!(leaving.expect_close().0, 1001);
    // The kernel accepts it, and the daemon once it can.
    let mut waiting = tcp(drop_address);
    waiting.write_all(HANDSHAKE.as_bytes()).unwrap();
    let log = daemon.reload(&both);
    assert!(!log.iter().any(|line| line.contains(warning)), "{log:#?}");
    assert!(read_head(&mut waiting).starts_with("HTTP/1.1 "));
    ann.expect_no_message();
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let (socket, _) = listen("127.0.0.1:0");
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=chat exec \"$@\"";
    shell.args(["-c", script, "sh"]).stdin(Stdio::from(socket));
    let mut daemon =
        Daemon::start_with_launcher(shell, json!({"listeners": [{"protocol": "workspace"}]}));
    let log = daemon.stop_and_read_log();
    assert!(!log.iter().any(|line| line.contains("systemd")), "{log:#?}");
}

#[test]
fn file_descriptors_that_are_not_open_are_an_error() {
    let file = temporary_file("{}");
    for (count, part) in [
        ("999999", "cannot take the sockets that systemd passes"),
        ("x", "LISTEN_FDS"),
    ] {
        let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\"");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script, "sh"])
            .arg(program().get_program());
        let output = shell.arg("--config").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn no_other_program_inherits_the_sockets() {
    let daemon = start(vec![listen("127.0.0.1:0").0], "chat");
    let info = format!("/proc/{}/fdinfo/3", daemon.pid().as_raw_nonzero());
    let info = fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    // O_CLOEXEC.
    assert_ne!(flags & 0o2_000_000, 0, "{info}");
}

#[test]
fn a_passed_socket_of_the_loopback_is_kept_from_web_pages_of_other_hosts() {
    let (socket, address) = listen("127.0.0.1:0");
    let mut listener = listener("workspace", "chat");
    listener["hosts"] = Value::Null;
    let launcher = launcher("chat", vec![socket]);
    let _daemon = Daemon::start_with_launcher(launcher, json!({"listeners": [listener]}));
    for (host, status) in [("localhost", "101"), ("rebound.example", "403")] {
        let mut stream = tcp(address);
        let request = HANDSHAKE.replace("Host: localhost", &format!("Host: {host}"));
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
}

#[test]
fn clients_that_connect_between_two_daemons_are_served_by_the_next() {
    let (socket, address) = listen("127.0.0.1:0");
    let path = socket_path();
    let unix_socket = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let copies = || {
        vec![
            socket.try_clone().unwrap(),
            unix_socket.try_clone().unwrap(),
        ]
    };
    let first = start(copies(), "chat:chat");
    let mut ann = Client::connect(address, "/ws?username=ann");
    ann.receive_json();
    first.signal(Signal::TERM);
    assert_eq!(ann.wait_for_close_code(), 1001);
    drop(ann);
    while first.next_log_line().is_some() {}
    let mut waiting = [tcp(address), unix(&path)];
    for stream in &mut waiting {
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    }
    let _second = start(copies(), "chat:chat");
    for stream in &mut waiting {
        assert!(read_head(stream).starts_with("HTTP/1.1 101"));
    }
}

#[test]
fn a_client_that_is_accepted_before_the_stop_is_answered() {
    let (socket, address) = listen("127.0.0.1:0");
    let daemon = start(vec![socket.try_clone().unwrap()], "chat");
    let before = daemon.open_sockets();
    let (mut client, mut plain) = (tcp(address), tcp(address));
    wait_until("both are accepted", || daemon.open_sockets() == before + 2);
    daemon.signal(Signal::TERM);
    client.write_all(HANDSHAKE.as_bytes()).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert!(receive_http(plain).starts_with("HTTP/1.1 200"));
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101"));
    // The first is the realm's message, the last the Close frame.
    assert_eq!(read_frame(&mut client).0, 1);
    let (opcode, payload) = read_frame(&mut client);
    assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
}
