//! The page on which people try a protocol: where it is served, and what it may do. What it does in a browser:
//! `tests/browser/`.

use crate::common::{Client, Daemon, http};
use serde_json::{Value, json};
use std::net::SocketAddr;
use switchboard::config::Listener;
use switchboard::protocols::PROTOCOLS;
use switchboard::realm::{Protocol, SettingMap};

/// What a browser accepts for what it shows.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

/// The protocols that have a page, with its path at their default options.
fn pages() -> impl Iterator<Item = (&'static Protocol, String)> {
    let options = |protocol| -> SettingMap { Listener::built_in(protocol).options };
    PROTOCOLS.iter().filter_map(move |protocol| {
        let page = protocol.try_page.as_ref()?;
        Some((*protocol, (page.path)(&options(protocol))))
    })
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let headers = format!("Connection: close\r\n{headers}");
    let host = if headers.contains("Host:") {
        ""
    } else {
        "Host: localhost\r\n"
    };
    http(
        address,
        &format!("GET {path} HTTP/1.1\r\n{host}{headers}\r\n"),
    )
}

fn is_page(response: &str) -> bool {
    response.starts_with("HTTP/1.1 200 ") && response.contains("\r\n\r\n<!doctype html>")
}

/// Returns the value of a header that is there once.
fn header<'a>(response: &'a str, name: &str) -> &'a str {
    let head = response.split("\r\n\r\n").next().unwrap();
    let values: Vec<&str> = head
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .collect();
    assert_eq!(values.len(), 1, "{name}: {head}");
    values[0]
}

#[test]
fn a_browser_on_this_machine_gets_the_page_of_each_protocol() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        let page = get(daemon.address(), &path, BROWSER);
        assert!(is_page(&page), "{}: {page}", protocol.name);
        let title = protocol.try_page.as_ref().unwrap().title;
        assert!(page.contains(&format!("<title>{title} on switchboard</title>")));
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert_eq!(header(head, "Content-Length"), body.len().to_string());
        assert!(!body.contains("{title}") && !body.contains("{elements}"));
    }
}

#[test]
fn the_page_may_load_nothing_and_is_not_stored() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        let page = get(daemon.address(), &path, BROWSER);
        for (name, expected) in [
            ("Content-Type", "text/html; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
        ] {
            assert_eq!(header(&page, name), expected, "{}", protocol.name);
        }
        let varies = page.lines().filter(|line| line.starts_with("Vary: "));
        assert!(varies.into_iter().any(|line| line == "Vary: Accept"));
        let policy: Vec<&str> = header(&page, "Content-Security-Policy")
            .split("; ")
            .collect();
        assert_eq!(policy[0], "default-src 'none'");
        assert!(policy[1].starts_with("script-src 'sha256-"), "{policy:?}");
        assert!(policy[2].starts_with("style-src 'sha256-"), "{policy:?}");
        let rest = [
            "connect-src 'self' ws://localhost wss://localhost",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ];
        assert_eq!(policy[3..], rest);
    }
}

#[test]
fn whatever_does_not_ask_for_html_gets_the_line() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        for (accept, expected) in [
            ("", false),
            ("Accept: */*\r\n", false),
            ("Accept: text/*, application/json\r\n", false),
            ("Accept: text/html;q=0, */*\r\n", false),
            ("Accept: text/htmlx\r\n", false),
            ("Accept: TEXT/HTML;q=0.1\r\n", true),
            (
                "Accept: text/plain\r\nAccept: application/json, text/html;level=1\r\n",
                true,
            ),
        ] {
            let response = get(daemon.address(), &path, accept);
            let name = protocol.name;
            assert_eq!(
                is_page(&response),
                expected,
                "{name} {accept:?}: {response}"
            );
            if !expected {
                let line = format!("\r\n\r\nswitchboard serves {name} here; connect with a ");
                assert!(response.contains(&line), "{response}");
            }
            assert!(response.contains("\r\nVary: Accept\r\n"), "{response}");
        }
    }
}

#[test]
fn the_response_to_head_is_that_to_get_without_the_page() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        let page = get(daemon.address(), &path, BROWSER);
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{BROWSER}\r\n"
        );
        let head = http(daemon.address(), &request);
        assert_eq!(head, page[..head.len()], "{}", protocol.name);
        assert!(head.ends_with("\r\n\r\n"));
    }
}

#[test]
fn a_listener_that_other_machines_reach_has_the_page_only_if_it_is_told_so() {
    let proxied = json!(["127.0.0.1"]);
    for (address, trusted_proxies, landing_page, expected) in [
        ("localhost:0", json!([]), json!(null), true),
        ("127.0.0.1:0", json!([]), json!(null), true),
        ("localhost:0", json!([]), json!(true), true),
        ("*:0", json!([]), json!(null), false),
        ("*:0", json!([]), json!(true), true),
        ("localhost:0", proxied.clone(), json!(null), false),
        ("localhost:0", proxied, json!(true), true),
    ] {
        for (protocol, path) in pages() {
            let settings = json!({
                "address": address,
                "trusted_proxies": trusted_proxies,
                "landing_page": landing_page,
            });
            let daemon = Daemon::start_protocol(protocol.name, settings.clone());
            let response = get(daemon.address(), &path, BROWSER);
            let name = protocol.name;
            assert_eq!(
                is_page(&response),
                expected,
                "{name} {settings}: {response}"
            );
            let log = daemon.start_of_log.join("\n");
            assert_eq!(log.contains("; try it at http://"), expected, "{log}");
            if !expected {
                let is_root = path == "/";
                let status = if is_root {
                    "HTTP/1.1 200 "
                } else {
                    "HTTP/1.1 404 "
                };
                assert!(response.starts_with(status), "{name}: {response}");
                assert!(!response.contains("Vary: Accept"), "{response}");
            }
        }
    }
}

#[test]
fn without_landing_page_nothing_is_there() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({"landing_page": false}));
        let response = get(daemon.address(), &path, BROWSER);
        assert!(
            response.starts_with("HTTP/1.1 404 "),
            "{}: {response}",
            protocol.name
        );
    }
}

#[test]
fn a_protocol_without_a_page_answers_browsers_with_the_line() {
    for protocol in PROTOCOLS.iter().filter(|it| it.try_page.is_none()) {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        let response = get(daemon.address(), "/", BROWSER);
        assert!(
            response.starts_with("HTTP/1.1 200 ") && !is_page(&response),
            "{response}"
        );
    }
}

#[test]
fn the_line_at_start_has_the_link() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({"address": "localhost:0"}));
        let port = daemon.address().port();
        let link = format!("; try it at http://localhost:{port}{path}");
        let log = &daemon.start_of_log;
        assert!(
            log.iter().any(|line| line.ends_with(&link)),
            "{link}: {log:#?}"
        );
    }
}

#[test]
fn the_link_of_a_path_that_no_url_has_is_encoded() {
    for path in ["/my app", "/my%20app"] {
        let daemon = Daemon::start_protocol("peerjs", json!({"path": path}));
        let log = daemon.start_of_log.join("\n");
        let is_encoded = log.lines().any(|line| line.ends_with("/my%20app/try"));
        assert!(is_encoded, "{path}: {log}");
    }
}

#[test]
fn the_policy_has_the_host_of_the_request_and_nothing_else_of_it() {
    let daemon = Daemon::start_protocol(
        "peerdrop",
        json!({"address": "*:0", "hosts": null, "landing_page": true}),
    );
    for (host, expected) in [
        (
            "Chat.Example:8443",
            "'self' ws://chat.example:8443 wss://chat.example:8443",
        ),
        (
            "127.0.0.1:9081",
            "'self' ws://127.0.0.1:9081 wss://127.0.0.1:9081",
        ),
        ("[::1]:9081", "'self'"),
        ("a; script-src *", "'self'"),
        ("a b", "'self'"),
        ("*", "'self'"),
        ("'unsafe-inline'", "'self'"),
    ] {
        let page = get(daemon.address(), "/", &format!("Host: {host}\r\n{BROWSER}"));
        assert!(is_page(&page), "{host}: {page}");
        let policy = header(&page, "Content-Security-Policy");
        let expected = format!("; connect-src {expected}; ");
        assert!(policy.contains(&expected), "{host}: {policy}");
    }
}

#[test]
fn the_pages_own_origin_is_admitted_beside_the_configured_ones_and_no_other() {
    for (landing_page, own) in [(json!(null), Ok(())), (json!(false), Err(403))] {
        let settings = json!({"origins": ["https://app.example"], "landing_page": landing_page});
        let daemon = Daemon::start_protocol("peerdrop", settings);
        let port = daemon.address().port();
        let own_host = format!("127.0.0.1:{port}");
        let connect = |host: &str, origin: &str| {
            let headers = [("host", host), ("origin", origin)];
            Client::try_connect(daemon.address(), "/ws/chat", &headers).map(|_| ())
        };
        assert_eq!(connect(&own_host, "https://app.example"), Ok(()));
        for scheme in ["http", "https"] {
            assert_eq!(connect(&own_host, &format!("{scheme}://{own_host}")), own);
        }
        for origin in [
            &format!("http://127.0.0.1:{}", port - 1),
            "http://127.0.0.1",
            &format!("http://localhost:{port}"),
            &format!("ws://{own_host}"),
            &format!("app://{own_host}"),
            "https://evil.example",
            "null",
        ] {
            assert_eq!(connect(&own_host, origin), Err(403), "{origin}");
        }
    }
}

#[test]
fn the_port_of_a_scheme_may_be_left_out_of_the_pages_own_origin() {
    let settings = json!({
        "address": "*:0", "hosts": ["chat.example"], "landing_page": true, "origins": ["https://app.example"]
    });
    let daemon = Daemon::start_protocol("peerdrop", settings);
    for (host, origin, expected) in [
        ("chat.example", "https://chat.example", Ok(())),
        ("chat.example:443", "https://chat.example", Ok(())),
        ("Chat.Example", "http://chat.example", Ok(())),
        ("chat.example:443", "http://chat.example", Err(403)),
        ("chat.example", "https://a.chat.example", Err(403)),
    ] {
        let headers = [("host", host), ("origin", origin)];
        let admitted = Client::try_connect(daemon.address(), "/ws/chat", &headers).map(|_| ());
        assert_eq!(admitted, expected, "{host} {origin}");
    }
}

#[test]
fn a_page_under_a_name_that_is_in_no_list_is_served_and_does_not_connect() {
    // The second listener is on localhost, behind a proxy that passes on any name.
    for (address, trusted_proxies) in [("*:0", json!([])), ("localhost:0", json!(["10.0.0.1"]))] {
        let daemon = Daemon::start_protocol(
            "peerdrop",
            json!({
                "address": address, "trusted_proxies": trusted_proxies, "hosts": null,
                "landing_page": true, "origins": ["https://app.example"],
            }),
        );
        let port = daemon.address().port();
        for (name, expected) in [
            ("evil.example", Err(403)),
            ("127.0.0.1", Ok(())),
            ("192.0.2.1", Ok(())),
            ("localhost", Ok(())),
        ] {
            let (host, origin) = (format!("{name}:{port}"), format!("http://{name}:{port}"));
            let headers = [("host", &*host), ("origin", &*origin)];
            let admitted = Client::try_connect(daemon.address(), "/ws/chat", &headers).map(|_| ());
            assert_eq!(admitted, expected, "{address} {host}");
            let page = get(daemon.address(), "/", &format!("Host: {host}\r\n{BROWSER}"));
            assert!(is_page(&page), "{address} {host}: {page}");
        }
        let log = daemon.start_of_log.join("\n");
        assert!(log.contains("landing_page: "), "{log}");
    }
}

#[test]
fn a_host_that_is_not_allowed_gets_no_page() {
    for (protocol, path) in pages() {
        let daemon = Daemon::start_protocol(protocol.name, json!({}));
        let response = get(
            daemon.address(),
            &path,
            &format!("Host: evil.example\r\n{BROWSER}"),
        );
        assert!(
            response.starts_with("HTTP/1.1 403 "),
            "{}: {response}",
            protocol.name
        );
    }
}

#[test]
fn peerjs_has_its_page_below_its_path_and_keeps_what_the_document_defines() {
    for (path, page) in [
        ("/", "/try"),
        ("/myapp", "/myapp/try"),
        ("/myapp/", "/myapp/try"),
        ("/my app", "/my%20app/try"),
        ("/my%20app", "/my%20app/try"),
    ] {
        let daemon = Daemon::start_protocol("peerjs", json!({"path": path}));
        let response = get(daemon.address(), page, BROWSER);
        assert!(is_page(&response), "{path}: {response}");
        let own = get(daemon.address(), page.strip_suffix("try").unwrap(), BROWSER);
        assert!(own.contains("PeerJS Server"), "{path}: {own}");
        for other in ["/elsewhere", &format!("{page}/")] {
            let response = get(daemon.address(), other, BROWSER);
            assert!(response.starts_with("HTTP/1.1 404 "), "{other}: {response}");
        }
    }
}

#[test]
fn the_page_is_told_the_options_that_it_needs_and_no_other() {
    let daemon = Daemon::start_protocol("peerjs", json!({"key": "a\"b<c>&'", "alive_timeout": 9}));
    let page = get(daemon.address(), "/try", BROWSER);
    let expected = r#" data-options="{&quot;alive_timeout&quot;:9,&quot;key&quot;:&quot;a\&quot;b&lt;c>&amp;'&quot;}">"#;
    assert!(page.contains(expected), "{page}");
    let daemon = Daemon::start_protocol("peerdrop", json!({}));
    let page = get(daemon.address(), "/", BROWSER);
    assert!(page.contains(" data-options=\"{}\">"), "{page}");
}

#[test]
fn the_page_is_told_whether_the_listener_reads_tokens_also_after_a_reload_and_no_secret() {
    const SECRET: &str = "a secret that nobody else is told at all";
    let listener = |access: &Value| json!({"listeners": [{"protocol": "peerdrop", "address": "127.0.0.1:0", "access": access}]});
    let optional = json!({"secret": SECRET, "required": false});
    let required = json!({"secret": SECRET});
    let daemon = Daemon::start(listener(&Value::Null));
    for (access, expected) in [
        (Value::Null, "absent"),
        (optional, "optional"),
        (required, "required"),
    ] {
        daemon.reload(&listener(&access));
        let page = get(daemon.address(), "/", BROWSER);
        assert!(
            page.contains(&format!("<html lang=\"en\" data-tokens=\"{expected}\" ")),
            "{page}"
        );
        assert!(!page.contains(SECRET));
    }
}

#[test]
fn a_handshake_at_the_path_of_the_page_is_none_for_it() {
    let daemon = Daemon::start_protocol("loudsync", json!({}));
    let accept = BROWSER.trim_end().split_once(": ").unwrap();
    let client = Client::try_connect(daemon.address(), "/", &[("accept", accept.1)]);
    assert!(client.is_ok());
}
