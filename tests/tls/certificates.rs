//! Certificates that are renewed, faulty, or at their end.

use super::{FROM, start};
use crate::common::tls::{Certificate, connect, tunnel};
use crate::common::{Client, Daemon, Pair, http, merge, run, temporary_file};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Returns the certificate that a daemon shows to a client that trusts these.
fn shown(address: SocketAddr, trusted: &[&Certificate]) -> Vec<u8> {
    let connected = trusted
        .iter()
        .find_map(|certificate| connect(address, certificate.client_config()).ok());
    let connected = connected.expect("one of the certificates is shown");
    let (_, session) = connected.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// Returns the path of a configuration with these listeners.
fn configuration(listeners: Value) -> String {
    let path = temporary_file(&json!({"listeners": listeners, "status": null}).to_string());
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_renewed_certificate_holds_for_the_next_clients_and_others_notice_nothing() {
    let (certificate, next) = (Certificate::new(), Certificate::new());
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    assert_eq!(shown(daemon.address(), &[&certificate]), certificate.der);
    certificate.write(&next.pem);
    daemon.wait_for_log("the new certificate is taken");
    assert_eq!(shown(daemon.address(), &[&certificate, &next]), next.der);
    pair.send("still here");
    pair.expect_received("still here");
    // A reload takes one at once, without a look at the files in between.
    let last = Certificate::new();
    next.write(&last.pem);
    let listener = json!({"protocol": "peerdrop", "tls": next.setting()});
    daemon.reload(&json!({"listeners": [listener]}));
    assert_eq!(shown(daemon.address(), &[&next, &last]), last.der);
    pair.send("and now");
    pair.expect_received("and now");
}

#[test]
fn a_faulty_renewal_is_one_error_and_the_last_certificate_stays_until_it_is_mended() {
    let (certificate, next) = (Certificate::new(), Certificate::new());
    let (daemon, _) = start("peerdrop", &certificate, json!({}));
    certificate.write_file("fullchain.pem", &next.pem.0);
    let error = daemon.wait_for_log("the last certificate stays in use");
    assert!(
        error.contains("ERROR") && error.contains("tls.key"),
        "{error}"
    );
    assert_eq!(shown(daemon.address(), &[&certificate]), certificate.der);
    certificate.write_file("privkey.pem", &next.pem.1);
    let log = daemon.log_until("the new certificate is taken");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
    assert_eq!(shown(daemon.address(), &[&next]), next.der);
}

#[test]
fn what_happens_to_the_files_of_several_listeners_is_one_line_that_names_them() {
    let (certificate, next) = (Certificate::new(), Certificate::new());
    let listener = |name| json!({"protocol": name, "tls": certificate.setting()});
    let daemon = Daemon::start(json!({"listeners": [listener("peerdrop"), listener("workspace")]}));
    let [peerdrop, workspace] = daemon.addresses[..] else {
        panic!("there are two listeners")
    };
    let names = format!("peerdrop on {peerdrop}, workspace on {workspace}: ");
    let assert_names = |line: &str| assert!(line.contains(&names), "{line}");
    certificate.write_file("fullchain.pem", &next.pem.0);
    assert_names(&daemon.wait_for_log("the last certificate stays in use"));
    certificate.write_file("fullchain.pem", &certificate.pem.0);
    let log = daemon.log_until("the files are mended");
    assert_names(&log.join("\n"));
    assert_eq!(log.len(), 1, "{log:?}");
    certificate.write(&next.pem);
    let log = daemon.log_until("the new certificate is taken");
    assert_names(&log.join("\n"));
    assert_eq!(log.len(), 1, "{log:?}");
    // A reload finds what is in use already.
    daemon.signal(rustix::process::Signal::HUP);
    let log = daemon.log_until("reloaded: ");
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].ends_with("reloaded: nothing has changed"), "{log:?}");
}

#[test]
fn a_reload_with_a_faulty_certificate_changes_nothing() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    certificate.write_file("privkey.pem", &other.pem.1);
    daemon.signal(rustix::process::Signal::HUP);
    let log = daemon.log_until("the reload is refused");
    let error = log
        .iter()
        .find(|line| line.contains("the key does not fit the certificate"));
    assert!(error.unwrap().contains("listeners[0].tls.key: "), "{log:?}");
    Client::connect(address, "/ws/chat").ping();
}

#[test]
fn tls_begins_and_ends_by_a_reload_for_the_next_clients() {
    let certificate = Certificate::new();
    let daemon = Daemon::start_protocol("peerdrop", json!({}));
    let address = daemon.address();
    let mut plain = Client::connect(address, "/ws/chat");
    let listener = json!({"protocol": "peerdrop"});
    let with = |tls: Value| json!({"listeners": [merge(listener.clone(), &json!({"tls": tls}))]});
    let log = daemon.reload(&with(certificate.setting()));
    assert!(log.last().unwrap().ends_with(": tls"), "{log:?}");
    let mut encrypted = Client::connect(tunnel(address, certificate.client_config()), "/ws/chat");
    daemon.reload(&with(Value::Null));
    Client::connect(address, "/ws/chat").ping();
    plain.ping();
    encrypted.ping();
}

#[test]
fn an_expired_certificate_is_an_error_and_is_served_and_clients_say_what_is_wrong() {
    let certificate = Certificate::valid_for(-3600);
    let (daemon, _) = start("peerdrop", &certificate, json!({}));
    let log = daemon.start_of_log.join("\n");
    assert!(
        log.contains("ERROR") && log.contains("has expired at"),
        "{log}"
    );
    let error = connect(daemon.address(), certificate.client_config()).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    let notice = daemon.wait_for_log("refused for its TLS handshake");
    assert!(notice.contains("CertificateExpired"), "{notice}");
    let config = configuration(json!([{"protocol": "peerdrop", "tls": certificate.setting()}]));
    let output = run(&["check", "--config", &config]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains("error: listeners[0].tls.certificate: "),
        "{errors}"
    );
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning_and_the_end_is_a_metric() {
    let soon = 5 * 24 * 60 * 60 + 60;
    let certificate = Certificate::valid_for(soon);
    let config = json!({
        "status": "127.0.0.1:0",
        "listeners": [
            {"protocol": "peerdrop", "tls": certificate.setting()},
            {"protocol": "workspace"},
        ],
    });
    let daemon = Daemon::start(config);
    let log = daemon.start_of_log.join("\n");
    assert!(
        log.contains("WARN") && log.contains("expires in 5 days"),
        "{log}"
    );
    let status = daemon.status.unwrap();
    let get = |path: &str| {
        http(
            status,
            &format!("GET {path} HTTP/1.1\r\nHost: {status}\r\nConnection: close\r\n\r\n"),
        )
    };
    let metrics = get("/metrics");
    let name = "switchboard_tls_certificate_expiry_timestamp_seconds{";
    let samples: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with(name))
        .collect();
    let [sample] = samples[..] else {
        panic!("{metrics}");
    };
    let end: i64 = sample.rsplit_once(' ').unwrap().1.parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    assert!((now + soon - 600..=now + soon).contains(&end), "{sample}");
    let report = get("/status");
    let (_, report) = report.split_once("\r\n\r\n").unwrap();
    let report: Value = serde_json::from_str(report).unwrap();
    let expiry = |at: usize| report["listeners"][at]["certificate_expires_at"].clone();
    assert!(expiry(0).is_string() && expiry(1).is_null(), "{report}");
}

#[test]
fn a_faulty_certificate_ends_the_start_with_status_2() {
    let certificate = Certificate::new();
    std::fs::remove_file(certificate.directory.join("privkey.pem")).unwrap();
    let config = configuration(json!([{"protocol": "peerdrop", "tls": certificate.setting()}]));
    for arguments in [&["--config", &config][..], &["check", "--config", &config]] {
        let output = run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("listeners[0].tls.key: "), "{errors}");
        assert!(errors.contains("there is no such file"), "{errors}");
    }
}
