//! A listener, and the settings that listeners of all protocols have.

use super::{AccessSettings, Address, ForwardedHeader, Hosts, Origins, TlsSettings};
use crate::base::ip::ProxyAddress;
use crate::protocols::PROTOCOLS;
use crate::realm::setting::{Applies, Range, Setting, SettingMap};
use crate::realm::setting_list::{Settings, settings};
use crate::realm::{Protocol, SettingError};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::time::Duration;

settings! {
    /// Settings of a listener of any protocol.
    pub struct ListenerSettings {
        /// Where to listen: `"localhost:9000"`, `"*:9000"` (all addresses, IPv4 and IPv6), one IP address,
        /// `"unix:/run/switchboard/peerjs.sock"` or `"systemd:NAME"` (a socket that systemd passes).
        /// `"localhost:9000"` is 127.0.0.1 and ::1, whichever of them exist. `":9000"` and `"[::]:9000"` are the same
        /// as `"*:9000"`; all three are IPv4 alone where the system has no IPv6. `"127.0.0.1:9000"` and `"[::1]:9000"`
        /// are one address. Port 0 is a port that the system chooses; the log says which. A Unix socket is for a proxy
        /// on this machine. It has the mode 0660 and is removed at the end; one that a daemon has left behind is
        /// replaced, and nothing else ever is. `"systemd:NAME"` is each socket of a socket unit with
        /// `FileDescriptorName=NAME`, TCP or Unix, of IPv4 or IPv6.
        pub address: Address = Address::Localhost(0), "address" => NewListener;

        /// Web pages that may connect, such as `"https://chat.example"` or `"https://*.example"` (all names below
        /// example); clients that are not browsers send no Origin and are always admitted. `"*"` is any page,
        /// `"same-host"` pages of the host that the request names and of localhost; other origins are `"file://"`,
        /// `"app://x"` and `"null"`. Other pages: HTTP 403. Where the protocol has an HTTP API, it also decides about
        /// CORS.
        pub origins: Origins = Origins::any(), "list" => NewConnections;

        /// Names under which the listener is reached, such as `["chat.example"]`: the `Host` of a request must be one
        /// of them, an IP address or localhost; `null`: any host, but on a localhost listener without `trusted_proxies`
        /// only an IP address or localhost. They have no port, and names below localhost are accepted, too. Others:
        /// HTTP 403, also for plain requests. `null` keeps web pages out of a listener that only this machine can reach
        /// whose name server says that they are at 127.0.0.1 (DNS rebinding). A request with neither Host nor Origin is
        /// admitted. A Unix socket is no localhost listener, as no browser can connect to it; one that systemd passes
        /// is, if it is bound to 127.0.0.1 or ::1.
        pub hosts: Option<Hosts> = None, "list" => NewConnections;

        /// Whether a plain `GET /` that the protocol does not define is answered with status 200, for proxies that
        /// check health. The answer is a line that says what this is and where to connect; to a browser it is a page on
        /// which people can try the protocol (PeerJS: at `/try` below its path). `null`: the page only on a localhost
        /// listener without `trusted_proxies`, elsewhere always the line. Where the page is served, it may connect
        /// whatever `origins` says, under an IP address, localhost, or a name in `hosts`. `false`: 404.
        pub landing_page: Option<bool> = None, "true, false or null" => NewConnections;

        /// Addresses and networks of proxies, such as `"10.0.0.0/8"`, whose `forwarded_header` is believed, and with
        /// `proxy_protocol` their PROXY header; `"unix"` is whoever connects to a Unix socket. The log and the limits
        /// per address then know the client behind the proxy. Without `"unix"` all clients of a Unix socket count as
        /// one address, which the log calls `unix`.
        pub trusted_proxies: Vec<ProxyAddress> = Vec::new(), "list" => NewConnections;

        /// Header in which trusted proxies name the client's address: `"X-Forwarded-For"`, `"Forwarded"` (RFC 7239) or
        /// `"X-Real-IP"`, in any case. Only this one is believed, since proxies pass on the others as clients wrote
        /// them. Of a list, the last address that is not itself a trusted proxy's is the client's; `unknown`, a hidden
        /// name (`_x`) or what is no address ends the search at the proxy that wrote it. `X-Real-IP` must be there
        /// once, with one address; otherwise the client's address is the proxy's.
        pub forwarded_header: ForwardedHeader = ForwardedHeader::XForwardedFor, "name" => NewConnections;

        /// Whether each connection of `trusted_proxies`, which must be set, begins with a PROXY header (version 1 or 2)
        /// that names the client's address. The log and the limits per address then know that client;
        /// `forwarded_header` is believed only if that address is itself a trusted proxy's, as of a proxy behind a TCP
        /// balancer. A header without an address (`UNKNOWN`, LOCAL, as of health checks) leaves the proxy's own, and no
        /// `forwarded_header` is believed. A connection is closed, and the log says why, if its header is malformed,
        /// not there within `handshake_timeout`, or has more than 4 KiB of addresses and TLVs, which are skipped. Other
        /// addresses are served without a header, as from themselves, and refused with one.
        pub proxy_protocol: bool = false, "true or false" => NewConnections;

        /// Whose access tokens are believed, and whether clients must have one: `{"secret_file":
        /// "/etc/switchboard/access.secret", "audience": "chat.example", "required": true}`, or `null` for no tokens.
        /// A token is a JSON Web Token (RFC 7519) signed with HS256 and a secret of at least 32 bytes: `secret_file` has
        /// it, or two in two lines while it is changed, and is read again at each reload; without a slash it is the name
        /// of a credential of the unit (`LoadCredential=`). `secret` is the same in this file, one or a list of two.
        /// `audience` must be the token's `aud` or in it. With `"required": false` a client without a token is admitted
        /// as without this setting, but not as somebody who has one. Clients send it as `Authorization: Bearer`, as
        /// `?access_token=`, or as the protocol's page says. `switchboard token` makes one; see ACCESS TOKENS in
        /// switchboard.json(5).
        pub access: Option<AccessSettings> = None, "object";

        /// Certificate and key with which the listener speaks TLS, so that clients connect with `wss://` and `https://`:
        /// `{"certificate": "/etc/switchboard/tls/fullchain.pem", "key": "/etc/switchboard/tls/privkey.pem"}`, or `null` for
        /// plain HTTP. Both are PEM files that the daemon's user must be able to read: the certificate followed by those of
        /// its issuers, and its private key without a passphrase. They are read again at each reload, and by themselves
        /// within seconds when they change; those who are connected notice nothing. A plain HTTP request gets 400. With
        /// `proxy_protocol` the PROXY header comes before TLS. Only in builds with TLS, as those of the packages are; see
        /// TLS in switchboard.json(5).
        pub tls: Option<TlsSettings> = None, "object";

        /// Greatest number of connections of this listener; 0: no limit of its own. Above it: HTTP 503 with
        /// `Retry-After`; a protocol with an error message of its own for that (PeerJS) sends it, and Close 4429.
        pub max_connections: usize = 5000, "connections";

        /// Greatest number of connections of one IPv4 address or one IPv6 /64 network; 0: no limit. Above it: HTTP 429.
        /// Connections that were made while it was 0 are not counted after a reload either.
        pub max_connections_per_ip: usize = 0, "connections";

        /// Time from accept to the complete request head, after which the socket is closed. Where the protocol has an
        /// HTTP API, also from a response to the next request.
        pub handshake_timeout: Duration = Duration::from_secs(10), "seconds", Range::ABOVE_ZERO => NewConnections;

        /// Time without anything from a client, after which it is sent a Ping; 0: never.
        pub ping_after: Duration = Duration::from_secs(15), "seconds";

        /// Time without anything from a client after that Ping, after which it is dropped. For each 2 KiB that were
        /// sent since its last sign of life the time is a second longer, up to 120 seconds, since they may be on their
        /// way before the Ping on a slow line.
        pub pong_timeout: Duration = Duration::from_secs(5), "seconds", Range::ABOVE_ZERO;

        /// Time between two Pings that measure the round trip of every client; 0: none are sent. A shorter time than a
        /// second counts as one.
        pub ping_every: Duration = Duration::ZERO, "seconds";

        /// Time within which a message or frame that has begun must be complete, or grow by 1 KiB. Otherwise Close
        /// 1008. Time in which the daemon does not read does not count. 0: no limit.
        pub message_timeout: Duration = Duration::from_secs(30), "seconds";

        /// Time for a client to answer a Close frame, after which the socket is closed. The same for a client that
        /// reads nothing of an HTTP response. It is longer for what is on its way, as `pong_timeout` is.
        pub close_timeout: Duration = Duration::from_secs(2), "seconds", Range::ABOVE_ZERO => NewConnections;

        /// Largest message from a client; above it the connection is closed with 1009. A connection may take that much
        /// memory while a message arrives, as far as `memory_budget` allows.
        pub max_message_size: usize = 64 << 10, "bytes", 1..=1 << 30 => NewConnections;

        /// Size of the send queue of one client, on Workspace at least two of the largest messages; when it is full, a
        /// client that does not read is closed with 1013, but PeerDrop pauses the sender instead. One message always
        /// fits an empty queue. A client does not read if its socket takes no more; if its socket is writable and its
        /// task has merely not been scheduled, the sender pauses until it has. Messages from one FastChat or PeerJS
        /// client to another may fill half of it; above that they fail with `MESSAGE_FAILED`, or expire. On PeerDrop no
        /// client is closed: the sender is not read until there is room.
        pub outbox_size: usize = 1 << 20, "bytes", 1024..=1 << 30 => NewConnections;

        /// Whether each message is logged at `info`, in both directions, cut after 200 characters: for authors of
        /// clients. Only on a listener that is bound to the loopback, such as `"localhost:9000"`; elsewhere it is an
        /// error, on a Unix socket, too: it is there for a proxy, whose clients write from elsewhere. Of a binary
        /// message its length and its first 32 bytes are logged.
        pub trace_messages: bool = false, "true or false" => NewConnections;
    }
}

impl ListenerSettings {
    /// Returns the scheme of the URLs that clients connect to.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "wss" } else { "ws" }
    }

    /// Returns the scheme of the URLs that browsers show pages of.
    pub fn page_scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// One protocol on one port, with a realm of its own.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The protocol, by name in the file.
    pub protocol: &'static Protocol,
    /// The settings that every protocol has.
    pub settings: ListenerSettings,
    /// The options of this protocol; none is missing.
    pub options: SettingMap,
}

impl Listener {
    /// Returns a listener of this protocol with all settings at their defaults.
    ///
    /// # Panics
    /// If a default of the protocol is invalid.
    pub fn built_in(protocol: &'static Protocol) -> Self {
        let listener = Self::read(protocol, &SettingMap::new());
        listener.unwrap_or_else(|errors| panic!("a default of {}: {errors:?}", protocol.name))
    }

    /// Reads the settings of a listener of this protocol. Those that are missing have their defaults.
    ///
    /// # Errors
    /// All settings that are invalid.
    pub(super) fn read(
        protocol: &'static Protocol,
        given: &SettingMap,
    ) -> Result<Self, Vec<SettingError>> {
        let settings = ListenerSettings::read(&settings_of(protocol), given);
        let settings = settings.and_then(|settings| check_trace(settings, protocol));
        let value = |setting: Setting| {
            let value = given.get(setting.name).cloned();
            let value = value.or(setting.default).unwrap_or_default();
            (setting.name.to_owned(), value)
        };
        let options: SettingMap = (protocol.options)().into_iter().map(value).collect();
        let realm = (protocol.new_realm)(&options);
        let settings = settings.and_then(check_proxies);
        match (settings, realm) {
            (Ok(settings), Ok(_)) => Ok(Self {
                protocol,
                settings,
                options,
            }),
            (settings, realm) => {
                let mut errors = settings.err().unwrap_or_default();
                errors.extend(realm.err().unwrap_or_default());
                Err(errors)
            }
        }
    }

    /// Returns the flag that makes such a listener, apart from its other settings.
    pub(super) fn to_flag(&self) -> String {
        format!("--listen {}={}", self.protocol.name, self.settings.address)
    }

    /// Returns the flag that makes the first listener of the defaults, as an example in errors.
    pub(super) fn example_flag() -> String {
        let first = PROTOCOLS.first().copied().map(Self::built_in);
        first.map_or_else(String::new, |listener| listener.to_flag())
    }

    /// Returns the path that a client connects to.
    pub fn endpoint(&self) -> String {
        (self.protocol.endpoint)(&self.options)
    }

    /// Returns the hosts that requests must name; `None`: any. Without `hosts` these are loopback names if only
    /// this machine can connect and no proxy is trusted, which would pass on other names: pages of such a
    /// machine's browser are what DNS rebinding could let in. `is_loopback` says whether the listener is bound to the
    /// loopback.
    pub(crate) fn checked_hosts(&self, is_loopback: bool) -> Option<Hosts> {
        let default = || self.is_local(is_loopback).then(Hosts::default);
        self.settings.hosts.clone().or_else(default)
    }

    /// Returns whether browsers get the page on which people try the protocol. Without `landing_page` they do if only
    /// this machine can connect, which other machines can through a proxy.
    pub(crate) fn serves_try_page(&self, is_loopback: bool) -> bool {
        let landing_page = self.settings.landing_page;
        landing_page.unwrap_or_else(|| self.is_local(is_loopback))
    }

    /// Returns whether only clients on this machine can reach a listener that is bound so.
    fn is_local(&self, is_loopback: bool) -> bool {
        is_loopback && self.settings.trusted_proxies.is_empty()
    }
}

/// Checks the settings about proxies against each other.
///
/// # Errors
/// PROXY headers are expected of nobody.
fn check_proxies(settings: ListenerSettings) -> Result<ListenerSettings, Vec<SettingError>> {
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        let example = match settings.address {
            Address::Unix(_) => "unix",
            _ => "127.0.0.1",
        };
        let problem = format!(
            "write \"trusted_proxies\": [\"{example}\"] beside it, with the addresses of your proxies: only their PROXY \
             headers are believed"
        );
        return Err(vec![SettingError::new("proxy_protocol", problem)]);
    }
    Ok(settings)
}

/// In the order of the declarations.
impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let options = (self.protocol.options)().into_iter();
        let options = options.map(|option| (option.name, self.options.get(option.name).cloned()));
        let options = options.map(|(name, value)| (name, value.unwrap_or_default()));
        let protocol = ("protocol", json!(self.protocol.name));
        let settings = self.settings.values().into_iter();
        to.collect_map([protocol].into_iter().chain(settings).chain(options))
    }
}

/// Checks that messages are logged only where the clients are on this machine.
fn check_trace(
    settings: ListenerSettings,
    protocol: &Protocol,
) -> Result<ListenerSettings, Vec<SettingError>> {
    let address = &settings.address;
    if !settings.trace_messages || address.is_loopback() {
        return Ok(settings);
    }
    let default = (protocol.listener_defaults)();
    let default = default.get("address").and_then(Value::as_str);
    let loopback = address.port().map(|port| format!("localhost:{port}"));
    let problem = format!(
        "write \"address\": \"{}\", or leave trace_messages out: messages are logged only of clients on this machine, \
         which those of {address} need not be",
        loopback.as_deref().or(default).unwrap_or_default()
    );
    Err(vec![SettingError::new("trace_messages", problem)])
}

/// Returns the descriptions of the settings that a listener of any protocol has, with the defaults of this one.
pub(super) fn settings_of(protocol: &Protocol) -> Vec<Setting> {
    let mut list = ListenerSettings::list();
    let defaults = (protocol.listener_defaults)();
    for setting in &mut list {
        if let Some(default) = defaults.get(setting.name) {
            setting.default = Some(default.clone());
        }
    }
    list
}

/// Returns the descriptions of all keys that listeners of every protocol have.
pub(super) fn descriptions() -> Vec<Setting> {
    let names: Vec<String> = PROTOCOLS
        .iter()
        .map(|it| format!("`{}`", it.name))
        .collect();
    let protocol = Setting {
        name: "protocol",
        unit: "name",
        default: None,
        range: Range::ANY,
        applies: Applies::NewListener,
        text: format!(
            "Protocol that the listener speaks: {}, in any case. Only this key must be there.",
            names.join(", ")
        ),
    };
    [protocol]
        .into_iter()
        .chain(ListenerSettings::list())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_has_an_address_and_no_default_of_a_setting_that_does_not_exist() {
        let list = ListenerSettings::list();
        for protocol in PROTOCOLS {
            let defaults = (protocol.listener_defaults)();
            let defaults = defaults.as_object().unwrap();
            assert!(defaults.contains_key("address"), "{}", protocol.name);
            for key in defaults.keys() {
                let is_known = list.iter().any(|setting| setting.name == key);
                assert!(
                    is_known,
                    "{} has a default of {key}, which no listener has",
                    protocol.name
                );
            }
        }
    }
}
