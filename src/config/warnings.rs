//! Settings that are valid and are probably not meant.

use super::{
    AccessSettings, Address, Config, Listener, ListenerSettings, ProcessSettings, Validity,
};
use crate::base::ip::ProxyAddress;
use crate::realm::setting::Setting;
use crate::realm::setting_list::Settings as _;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

impl Config {
    /// Returns what is ignored or probably not meant, each with its place: what the sources have in vain, times that
    /// look like milliseconds, limits that another limit makes unreachable, pages that cannot connect, secrets that each
    /// user of the machine may read, and certificates that expire soon.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.load_warnings.clone();
        let public_file = self.file.as_ref().filter(|file| file.was_public);
        let public_file = public_file.map(|file| file.path.as_path());
        // Listeners may share a file with secrets, whose rights are changed once.
        let mut public_warnings = Vec::new();
        warnings.extend(milliseconds(&ProcessSettings::list(), &json!(self), ""));
        for (index, listener) in self.listeners.iter().enumerate() {
            let place = self.place_of_listener_key(index);
            for list in [ListenerSettings::list(), (listener.protocol.options)()] {
                warnings.extend(milliseconds(&list, &json!(listener), &place));
            }
            if listener.settings.trace_messages {
                warnings.push(format!(
                    "{place}trace_messages: the log has the messages of all clients; remove it when the client works"
                ));
            }
            let access = listener.settings.access.as_ref();
            let old_key = access.and_then(AccessSettings::old_key_warning);
            let public = access.and_then(|access| access.public_warning(public_file));
            let public = public.filter(|warning| !public_warnings.contains(warning));
            public_warnings.extend(public.clone());
            let ends_soon = match validity(listener) {
                Some(Validity::EndsSoon(warning)) => Some(warning),
                _ => None,
            };
            for warning in self
                .unreachable(listener)
                .into_iter()
                .chain(never_trusted(listener))
                .chain(nameless_page(listener))
                .chain(old_key)
                .chain(public)
                .chain(ends_soon)
            {
                warnings.push(format!("{place}{warning}"));
            }
        }
        warnings
    }

    /// Returns which certificates are not valid now, each with its place. They are errors that keep nothing from being
    /// served.
    pub fn certificate_errors(&self) -> Vec<String> {
        let listeners = self.listeners.iter().enumerate();
        let error = |(index, listener): (usize, &Listener)| match validity(listener) {
            Some(Validity::Invalid(error)) => {
                Some(format!("{}{error}", self.place_of_listener_key(index)))
            }
            _ => None,
        };
        listeners.filter_map(error).collect()
    }

    /// Returns the limits of a listener that can never be reached.
    fn unreachable(&self, listener: &Listener) -> Vec<String> {
        let mut warnings = Vec::new();
        let of_listener = (
            "the listener's max_connections",
            listener.settings.max_connections,
        );
        let of_process = (
            "the process's max_connections",
            self.process.max_connections,
        );
        let limits = [of_listener, of_process];
        let limits = limits.into_iter().filter(|(_, limit)| *limit > 0);
        let connections = limits.min_by_key(|(_, limit)| *limit);
        let concurrent = listener.options.get("concurrent_limit");
        let concurrent = concurrent.and_then(Value::as_u64).unwrap_or_default() as usize;
        let per_ip = listener.settings.max_connections_per_ip;
        for (key, limit) in [
            ("concurrent_limit", concurrent),
            ("max_connections_per_ip", per_ip),
        ] {
            if let Some((name, connections)) = connections.filter(|(_, it)| *it < limit) {
                warnings.push(format!(
                    "{key}: {limit} can never be reached, as {name} is {connections}; raise that, or lower this"
                ));
            }
        }
        let budget = self.process.memory_budget.filter(|budget| *budget > 0);
        let sizes = [
            ("max_message_size", listener.settings.max_message_size),
            ("outbox_size", listener.settings.outbox_size),
        ];
        for (key, size) in sizes {
            if let Some(budget) = budget.filter(|budget| *budget < size) {
                warnings.push(format!(
                    "{key}: {size} bytes can never be reached, as memory_budget is {budget}; raise that, or \
                     lower this"
                ));
            }
        }
        warnings
    }
}

/// Returns how long the certificate of a listener is valid yet, if it has one.
fn validity(listener: &Listener) -> Option<Validity> {
    let tls = listener.settings.tls.as_ref();
    tls.map(|tls| tls.validity(SystemTime::now()))
}

/// Returns a warning if proxies are trusted of which none can connect to the listener. Systemd may pass sockets of each
/// kind.
fn never_trusted(listener: &Listener) -> Option<String> {
    let (address, trusted) = (
        &listener.settings.address,
        &listener.settings.trusted_proxies,
    );
    let has_unix = trusted.contains(&ProxyAddress::Unix);
    match address {
        Address::Unix(_) if !has_unix && !trusted.is_empty() => Some(format!(
            "trusted_proxies: no proxy is trusted, as none has an IP address on {address}; add \"unix\""
        )),
        Address::Localhost(_) | Address::Any(_) | Address::Ip(_) if has_unix => Some(format!(
            "trusted_proxies: \"unix\" is nobody, as {address} is no Unix socket; remove it"
        )),
        _ => None,
    }
}

/// Returns a warning if a listener has the page on which people try the protocol, which may connect under none of its
/// names. A page whose name is not in `hosts` may be a stranger's (DNS rebinding).
fn nameless_page(listener: &Listener) -> Option<String> {
    let (settings, is_loopback) = (&listener.settings, listener.settings.address.is_loopback());
    let is_nameless = settings.landing_page == Some(true)
        && listener.checked_hosts(is_loopback).is_none()
        && !settings.origins.allow_own_pages();
    is_nameless.then(|| {
        "landing_page: under a name that is not in origins the page cannot connect, as hosts is null; write \
         \"hosts\": [\"chat.example\"] with the names of this listener"
            .to_owned()
    })
}

/// Returns a warning for each time that is whole thousands of seconds. The npm package `peer`, among others, has
/// milliseconds.
fn milliseconds(list: &[Setting], values: &Value, place: &str) -> Vec<String> {
    let times = list.iter().filter(|setting| setting.is_time());
    let warning = |setting: &Setting| {
        let (key, seconds) = (setting.name, values.get(setting.name)?.as_u64()?);
        let long = humantime::format_duration(Duration::from_secs(seconds));
        let is_suspicious = seconds > 0 && seconds % 1000 == 0;
        is_suspicious.then(|| {
            format!(
                "{place}{key}: {seconds} seconds are {long}; if milliseconds are meant, write {}",
                seconds / 1000
            )
        })
    };
    times.filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(config: &Value) -> Vec<String> {
        Config::from_json(&config.to_string()).unwrap().warnings()
    }

    /// The only warning about a listener.
    #[track_caller]
    fn warning(listener: Value) -> String {
        let mut warnings = warnings(&json!({"listeners": [listener]}));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings.remove(0)
    }

    #[test]
    fn the_defaults_are_meant() {
        assert_eq!(Config::built_in().warnings(), [""; 0]);
    }

    #[test]
    fn whole_thousands_of_seconds_are_probably_milliseconds() {
        assert_eq!(
            warning(json!({"protocol": "peerjs", "alive_timeout": 60000})),
            "listeners[0].alive_timeout: 60000 seconds are 16h 40m; if milliseconds are meant, write 60"
        );
        assert_eq!(
            warning(json!({"protocol": "peerjs", "expire_timeout": 5000})),
            "listeners[0].expire_timeout: 5000 seconds are 1h 23m 20s; if milliseconds are meant, write 5"
        );
        assert_eq!(
            warnings(&json!({"shutdown_timeout": 5000})),
            ["shutdown_timeout: 5000 seconds are 1h 23m 20s; if milliseconds are meant, write 5"]
        );
        for seconds in [0, 1, 90, 3600, 86_400] {
            let peerjs = json!({"protocol": "peerjs", "alive_timeout": seconds});
            assert_eq!(warnings(&json!({"listeners": [peerjs]})), [""; 0]);
        }
    }

    #[test]
    fn a_log_with_messages_is_meant_for_a_while() {
        let traced = warning(json!({"protocol": "peerdrop", "trace_messages": true}));
        assert!(
            traced.starts_with("listeners[0].trace_messages: "),
            "{traced}"
        );
    }

    #[test]
    fn a_proxy_that_cannot_connect_is_probably_a_mistake() {
        let listener = |address, trusted: &[&str]| json!({"protocol": "peerjs", "address": address, "trusted_proxies": trusted});
        assert_eq!(
            warning(listener("unix:/run/a.sock", &["127.0.0.1"])),
            "listeners[0].trusted_proxies: no proxy is trusted, as none has an IP address on unix:/run/a.sock; add \"unix\""
        );
        assert_eq!(
            warning(listener("*:9000", &["127.0.0.1", "unix"])),
            "listeners[0].trusted_proxies: \"unix\" is nobody, as *:9000 is no Unix socket; remove it"
        );
        for (address, trusted) in [
            ("unix:/run/a.sock", &["unix", "10.0.0.0/8"][..]),
            ("unix:/run/a.sock", &[]),
            ("systemd:a", &["unix"]),
            ("systemd:a", &["127.0.0.1"]),
        ] {
            let listeners = json!({"listeners": [listener(address, trusted)]});
            assert_eq!(warnings(&listeners), [""; 0]);
        }
    }

    #[test]
    fn a_page_that_cannot_connect_under_a_name_is_probably_a_mistake() {
        let page = json!({
            "protocol": "peerdrop", "address": "*:9081", "landing_page": true, "origins": ["https://app.example"]
        });
        assert_eq!(
            warning(page.clone()),
            "listeners[0].landing_page: under a name that is not in origins the page cannot connect, as hosts is \
             null; write \"hosts\": [\"chat.example\"] with the names of this listener"
        );
        for (key, value) in [
            ("landing_page", json!(null)),
            ("landing_page", json!(false)),
            ("hosts", json!(["chat.example"])),
            ("origins", json!(["*"])),
            ("origins", json!(["same-host"])),
            ("address", json!("localhost:9081")),
        ] {
            let mut meant = page.clone();
            meant[key] = value;
            assert_eq!(warnings(&json!({"listeners": [meant]})), [""; 0], "{key}");
        }
    }

    #[test]
    fn a_limit_that_another_makes_unreachable_is_probably_a_mistake() {
        assert_eq!(
            warning(json!({"protocol": "peerjs", "concurrent_limit": 5001})),
            "listeners[0].concurrent_limit: 5001 can never be reached, as the listener's max_connections is \
             5000; raise that, or lower this"
        );
        let per_ip =
            json!({"protocol": "workspace", "max_connections": 9, "max_connections_per_ip": 10});
        assert!(
            warning(per_ip)
                .starts_with("listeners[0].max_connections_per_ip: 10 can never be reached")
        );
        let unlimited =
            json!({"protocol": "peerjs", "concurrent_limit": 9000, "max_connections": 0});
        assert_eq!(warnings(&json!({"listeners": [unlimited]})), [""; 0]);
        let of_process = warnings(&json!({"max_connections": 100, "listeners": [unlimited]}));
        assert!(
            of_process[0].contains("as the process's max_connections is 100"),
            "{of_process:?}"
        );
        let budget = json!({"memory_budget": 1 << 20, "listeners": [{"protocol": "peerdrop"}]});
        let of_budget = warnings(&budget);
        assert!(
            of_budget[0].starts_with("listeners[0].max_message_size: 67108864 bytes"),
            "{of_budget:?}"
        );
    }
}
