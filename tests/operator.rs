//! Who may operate a daemon, and what the commands say to an operator.

use crate::common::{
    ANN, BEN, Client, Daemon, Operated, RuntimeDirectory, fastchat, http, operate, problem, run,
    stderr,
};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

#[test]
fn the_token_is_in_a_file_for_its_owner_alone_and_never_in_the_log() {
    let mut operated = Operated::fastchat();
    let path = operated.directory.0.join("token");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = operated.token();
    assert_eq!(token.len(), 64);
    operated.output("ban 192.0.2.7");
    operated.output("bans");
    let log = operated.daemon.stop_and_read_log();
    let named = log
        .iter()
        .filter(|line| line.contains(path.to_str().unwrap()));
    assert_eq!(named.count(), 1, "{log:?}");
    assert!(log.iter().all(|line| !line.contains(&token)));
}

#[test]
fn without_the_token_nothing_is_said_or_done() {
    let operated = Operated::fastchat();
    let mut ann = fastchat(operated.address(), ANN, "Ann");
    let (token, wrong) = (operated.token(), "0".repeat(64));
    let body = json!({"client": "Ann", "network": "127.0.0.1"}).to_string();
    let ask = |method: &str, path: &str, headers: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n",
            body.len()
        );
        http(operated.status(), &format!("{head}{headers}\r\n{body}"))
    };
    for (method, path) in [
        ("GET", "/clients"),
        ("POST", "/kick"),
        ("GET", "/bans"),
        ("POST", "/bans"),
        ("POST", "/unban"),
    ] {
        for (headers, status) in [
            ("Host: localhost\r\n".to_owned(), 401),
            (
                format!("Host: localhost\r\nAuthorization: Bearer {wrong}\r\n"),
                401,
            ),
            (
                format!("Host: localhost\r\nAuthorization: Basic {token}\r\n"),
                401,
            ),
            (
                format!("Host: localhost\r\nAuthorization: Bearer {token}x\r\n"),
                401,
            ),
            (
                format!("Host: evil.example\r\nAuthorization: Bearer {token}\r\n"),
                403,
            ),
            (
                format!(
                    "Host: localhost\r\nOrigin: http://localhost\r\nAuthorization: Bearer {token}\r\n"
                ),
                403,
            ),
        ] {
            let response = ask(method, path, &headers);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(
                response.starts_with(&expected),
                "{method} {path} {headers}: {response}"
            );
            assert!(!response.contains("Access-Control"), "{response}");
        }
    }
    let right = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    assert!(ask("PUT", "/bans", &right).starts_with("HTTP/1.1 405 "));
    assert!(ask("GET", "/kick", &right).starts_with("HTTP/1.1 405 "));
    ann.ping();
    assert!(ask("POST", "/kick", &right).starts_with("HTTP/1.1 200 "));
    assert_eq!(ann.wait_for_close_code(), 1000);
}

#[test]
fn a_request_that_is_malformed_is_told_what_is_wrong() {
    let operated = Operated::fastchat();
    let token = operated.token();
    let post = |path: &str, body: &str| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
        http(
            operated.status(),
            &format!("{head}Content-Length: {length}\r\n\r\n{body}"),
        )
    };
    for (path, body, said) in [
        ("/kick", "", "malformed request body: "),
        ("/kick", "{}", "missing field `client`"),
        ("/bans", "{\"network\": \"x\"}", "write an IP address"),
        (
            "/bans",
            "{\"network\": \"::1\", \"seconds\": -1}",
            "malformed request body: ",
        ),
        (
            "/bans",
            "{\"network\": \"::1\", \"seconds\": 18446744073709551615}",
            "the time is too long",
        ),
        ("/clients?after=x", "", "the method must be GET"),
    ] {
        let response = post(path, body);
        assert!(response.starts_with("HTTP/1.1 40"), "{body}: {response}");
        assert!(response.contains(said), "{body}: {response}");
    }
}

#[test]
fn two_daemons_of_one_user_are_told_apart() {
    let directory = RuntimeDirectory::new();
    let config = json!({"listeners": [{"protocol": "fastchat"}]});
    let daemons = [(); 2].map(|()| directory.start("XDG_RUNTIME_DIR", &config));
    let clients = [(ANN, "Ann"), (BEN, "Ben")];
    let list = |daemon: &Daemon| {
        let variable = ("XDG_RUNTIME_DIR", directory.0.as_path());
        let output = operate(daemon.status.unwrap(), variable, "clients");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let connected: Vec<Client> = daemons
        .iter()
        .zip(clients)
        .map(|(daemon, (id, name))| fastchat(daemon.address(), id, name))
        .collect();
    assert!(list(&daemons[0]).contains("Ann") && !list(&daemons[0]).contains("Ben"));
    assert!(list(&daemons[1]).contains("Ben") && !list(&daemons[1]).contains("Ann"));
    drop(connected);
}

#[test]
fn a_daemon_without_a_directory_for_its_token_says_so_and_so_do_the_commands() {
    let config = json!({"status": "127.0.0.1:0", "listeners": [{"protocol": "peerdrop"}]});
    let daemon = Daemon::start(config);
    let said = daemon.start_of_log.join("\n");
    assert!(
        said.contains("switchboard clients, kick and ban do not work with this daemon: neither $RUNTIME_DIRECTORY"),
        "{said}"
    );
    let output = operate(daemon.status.unwrap(), ("UNUSED", Path::new("")), "clients");
    assert_eq!(
        problem(&output),
        "this daemon has no token, so nobody can list, kick or ban clients; its log says why"
    );
}

#[test]
fn a_command_says_why_it_cannot_ask_the_daemon() {
    let operated = Operated::fastchat();
    let nowhere = RuntimeDirectory::new();
    let ask = |directory: &RuntimeDirectory| {
        problem(&operate(
            operated.status(),
            ("RUNTIME_DIRECTORY", &directory.0),
            "clients",
        ))
    };
    let token = nowhere.0.join("token");
    assert!(
        ask(&nowhere).starts_with(&format!("there is no token at {} or /run", token.display()))
    );
    fs::write(&token, "0".repeat(64)).unwrap();
    let other = format!(
        "the daemon at {} has another token than {}",
        operated.status(),
        token.display()
    );
    assert!(ask(&nowhere).starts_with(&other), "{}", ask(&nowhere));
    fs::remove_file(&token).unwrap();
    fs::create_dir(&token).unwrap();
    let said = ask(&nowhere);
    assert!(
        said.starts_with(&format!("cannot read the token {}: ", token.display())),
        "{said}"
    );
    assert!(
        said.ends_with("only the user of the daemon and root can: use sudo"),
        "{said}"
    );
    for (setting, said) in [
        ("status=null", "status is null in this configuration"),
        (
            "status=localhost:0",
            "status is \"localhost:0\" in this configuration, which is a port that the system has chosen",
        ),
        (
            "status=systemd:status",
            "status is \"systemd:status\" in this configuration, which is a socket of a systemd unit",
        ),
    ] {
        let output = run(&["clients", "--set", setting]);
        assert!(problem(&output).starts_with(said), "{output:?}");
    }
    let status = operated.status();
    drop(operated);
    let output = operate(status, ("RUNTIME_DIRECTORY", &nowhere.0), "clients");
    assert!(
        problem(&output).starts_with(&format!("no daemon answers at {status}: ")),
        "{output:?}"
    );
}

#[test]
fn a_command_with_wrong_arguments_ends_with_status_2() {
    for line in [
        &["kick"][..],
        &["ban", "here"],
        &["ban", "::1", "--for", "ever"],
        &["clients", "--set", "status=here"],
    ] {
        assert_eq!(run(line).status.code(), Some(2), "{line:?}");
    }
}

/// Answers one request with this response, on a port of its own.
fn answer_once(response: String) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = socket.accept().unwrap();
        let mut request = [0; 1024];
        let _ = client.read(&mut request).unwrap();
        client.write_all(response.as_bytes()).unwrap();
    });
    address
}

fn json_response(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn the_status_of_a_daemon_that_is_not_well_is_printed_and_the_exit_status_is_1() {
    for healthy in [true, false] {
        let status =
            json!({"version": "9.9.9", "healthy": healthy, "listeners": [{"protocol": "peerjs"}]});
        let address = answer_once(json_response(&status));
        let output = operate(address, ("UNUSED", Path::new("")), "status");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.starts_with("switchboard 9.9.9, ") && text.contains("peerjs"),
            "{text}"
        );
        assert_eq!(output.status.code(), Some(i32::from(!healthy)));
        assert_eq!(stderr(&output).contains("not well"), !healthy, "{output:?}");
    }
}

#[test]
fn an_answer_that_is_not_a_daemons_is_an_error_that_says_so() {
    for (response, said) in [
        (
            String::new(),
            "does not answer: it has closed the connection",
        ),
        (
            "220 mail.example ESMTP\r\n".to_owned(),
            "it does not speak HTTP, so it is another program",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned(),
            "it has sent 2 bytes of \"9\"",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            "is not what was asked",
        ),
        (
            "HTTP/1.1 404 Not Found\r\n\r\nno\u{1b}[2J".to_owned(),
            "no\\u{1b}[2J",
        ),
    ] {
        let address = answer_once(response);
        let output = operate(address, ("UNUSED", Path::new("")), "status");
        assert!(problem(&output).contains(said), "{output:?}");
    }
}
