//! Origins, hosts and addresses: what a configuration says of them, and what requests send.

use super::Input;
use crate::base::host::{Host, parse_authority};
use crate::config::{Address, Config, Hosts, Origins};
use serde_json::json;

/// Reads an entry of `origins`, an Origin header and a Host header, a line each. An entry is refused, or admits
/// what it says and nothing else; a text of many parts never counts as a loopback name.
pub fn origins(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let [entry, origin, host] = [(); 3].map(|()| input.text().unwrap_or_default());
    if let Ok(entries) = serde_json::from_value::<Origins>(json!([entry])) {
        let printed = json!(entries)[0].as_str().unwrap_or_default().to_owned();
        let reread = serde_json::from_value(json!([printed]));
        assert_eq!(reread.ok(), Some(entries.clone()));
        match printed.as_str() {
            "*" => assert!(entries.allows(Some(&origin), Some(&host))),
            "same-host" => check_same_host(&entries, &origin, &host),
            listed => check_listed(&entries, listed, &origin),
        }
    }
    if let Some(entry) = Origins::entry_for(&origin) {
        let entries = serde_json::from_value::<Origins>(json!([entry])).expect("an entry");
        assert!(entries.allows(Some(&origin), None), "{entry} {origin}");
    }
    check_hosts(&entry, &host);
    check_address(&entry);
}

/// A page is admitted only if its host is the request's or this machine.
fn check_same_host(entries: &Origins, origin: &str, host: &str) {
    if entries.allows(Some(origin), Some(host)) {
        let (_, authority) = origin.split_once("://").expect("an origin has a scheme");
        let (name, _) = parse_authority(authority).expect("its host has the form of one");
        let requested = parse_authority(host).map(|(host, _)| host);
        assert!(
            name.is_loopback() || requested == Some(name),
            "{origin} {host}"
        );
    }
}

/// An entry admits some page, and a page only if it is written there but for its case, its port and the dot
/// that may end a name.
fn check_listed(entries: &Origins, listed: &str, origin: &str) {
    let example = listed.replacen("://*.", "://any.", 1);
    assert!(
        entries.allows(Some(&example), None),
        "{listed} never matches"
    );
    if !entries.allows(Some(origin), None) {
        return;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return assert_eq!((listed, origin), ("null", "null"));
    };
    let (expected_scheme, expected) = listed.split_once("://").expect("an origin has a scheme");
    assert!(scheme.eq_ignore_ascii_case(expected_scheme));
    assert!(
        !authority.contains(['/', '?', '#', '@', '\\', ' ', '*']),
        "{origin}"
    );
    if let (Some((name, _)), Some(parent)) =
        (parse_authority(authority), expected.strip_prefix("*."))
    {
        let (parent, _) = parse_authority(parent).expect("the host of an entry");
        assert!(
            name.to_string().ends_with(&format!(".{parent}")),
            "{origin}"
        );
    }
}

/// A host that is admitted is listed, an IP address or a loopback name.
fn check_hosts(entry: &str, host: &str) {
    if let Ok(hosts) = serde_json::from_value::<Hosts>(json!([entry])) {
        assert!(hosts.allows(Some(entry), None), "{entry} never matches");
        let admitted = hosts.allows(Some(host), Some("http://a.example"));
        let parsed = parse_authority(host).map(|(host, _)| host);
        let expected = parsed.is_some_and(|host| {
            matches!(host, Host::Ip(_)) || host.is_loopback() || Host::parse(entry) == Some(host)
        });
        assert_eq!(admitted, expected, "{entry} {host}");
    }
}

/// An address is printed as what it is, and what is told to be written instead of another text is one.
fn check_address(text: &str) {
    match Address::parse(text, 9000) {
        Ok(address) => {
            assert_eq!(Address::parse(&address.to_string(), 9000), Ok(address));
        }
        Err(problem) => {
            let right = problem.split('"').nth(1).unwrap_or_default();
            assert!(Address::parse(right, 9000).is_ok(), "{problem}");
        }
    }
    let listener = json!({"protocol": "workspace", "address": text});
    let config = Config::from_json(&json!({"listeners": [listener]}).to_string());
    assert_eq!(config.is_ok(), Address::parse(text, 4000).is_ok(), "{text}");
}
