//! What an operator does about clients: the paths that need the token, their requests and responses in JSON.

use super::directory::{Directory, NoAnswer};
use super::json::json_response;
use super::messages::{
    BanEntry, BanList, BanRequest, Banned, ClientEntry, ClientPage, KickRequest, Kicked,
};
use super::selection::{SelectionError, Selector, enumerated, shown};
use crate::base::ip::Network;
use crate::broker::{Client, EventSender};
use crate::config::Address;
use crate::net::bans::{Ban, BanError};
use crate::net::http::request::RequestHead;
use crate::net::http::response::Response;
use crate::net::server_state::ServerState;
use crate::realm::ConnectionId;
use crate::sys::token_file::{self, NoToken, Token};
use serde::Deserialize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Clients in one response, at most. With names of the greatest length it has about a megabyte then.
const MAX_LISTED: usize = 1000;

/// The paths that need the token, with the method of each. A path may have two.
const ROUTES: [(&str, &str); 5] = [
    ("GET", "/clients"),
    ("POST", "/kick"),
    ("GET", "/bans"),
    ("POST", "/bans"),
    ("POST", "/unban"),
];

/// The part of the status port that needs the token.
pub(crate) struct Moderation {
    /// Empty: nobody can use it.
    token: OnceLock<Token>,
    directory: Directory,
    server: Arc<ServerState>,
}

impl From<NoAnswer> for Response {
    fn from(_: NoAnswer) -> Self {
        Self::unavailable(503, "the broker does not answer, try again later")
    }
}

impl Moderation {
    /// Creates the part, without a token. `inbox` sends to the lane of the server.
    pub(crate) fn new(inbox: EventSender, server: Arc<ServerState>) -> Self {
        Self {
            token: OnceLock::new(),
            directory: Directory::new(inbox),
            server,
        }
    }

    /// Creates the token for the status port, which is bound to this address.
    pub(crate) fn create_token(&self, status: &Address) {
        if let Some(token) = create_token(status) {
            // The port is bound once.
            let _ = self.token.set(token);
        }
    }

    /// Answers a request for one of [`ROUTES`]; `None` if the path is none of them.
    pub(super) async fn answer(&self, head: &RequestHead, body: &[u8]) -> Option<Response> {
        let methods = ROUTES.iter().filter(|(_, path)| *path == head.path);
        let methods: Vec<&str> = methods.map(|(method, _)| *method).collect();
        if methods.is_empty() {
            return None;
        }
        if let Err(response) = self.authorize(head) {
            return Some(response);
        }
        if !methods.contains(&head.method.as_str()) {
            let response =
                Response::new(405, format!("the method must be {}", methods.join(" or ")));
            return Some(response.with_header("Allow", methods.join(", ")));
        }
        let result = match (head.method.as_str(), head.path.as_str()) {
            (_, "/clients") => self.clients(&head.query).await,
            (_, "/kick") => self.kick(body).await,
            ("GET", _) => Ok(json_response(&BanList {
                bans: self.listed_bans(),
            })),
            (_, "/bans") => self.ban(body).await,
            _ => self.unban(body),
        };
        Some(result.unwrap_or_else(|response| response))
    }

    /// Returns the bans, as `/bans` and `/status` list them.
    pub(super) fn listed_bans(&self) -> Vec<BanEntry> {
        let bans = &self.server.bans;
        bans.list(Instant::now()).iter().map(ban_entry).collect()
    }

    /// Checks that the request has the token, and that no web page sends it.
    ///
    /// # Errors
    /// 401 or 403.
    fn authorize(&self, head: &RequestHead) -> Result<(), Response> {
        if head.first("Origin").is_some() {
            return Err(Response::new(403, "web pages cannot do this"));
        }
        let Some(token) = self.token.get() else {
            let text = "this daemon has no token, so nobody can list, kick or ban clients; its log says why";
            return Err(Response::new(403, text));
        };
        let given = head.first("Authorization").unwrap_or_default();
        let given = given.split_once(' ');
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
        match given {
            Some((_, given)) if token.matches(given.trim()) => Ok(()),
            _ => {
                let text = "the token of this daemon is needed, as \"Authorization: Bearer TOKEN\"";
                Err(Response::new(401, text).with_header("WWW-Authenticate", "Bearer"))
            }
        }
    }

    /// Lists clients: the first ones whose connections have a number above that of `after`. `next` is what to ask for
    /// after these, if there may be more.
    async fn clients(&self, query: &str) -> Result<Response, Response> {
        let after = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "after");
        let after = after.map_or(Ok(0), |(_, number)| number.parse());
        let after =
            after.map_err(|_| Response::new(400, "after must be the number of a connection"))?;
        let ids = self.directory.ids().await?;
        let start = ids.partition_point(|id| *id <= ConnectionId(after));
        let rest = ids.get(start..).unwrap_or_default();
        let page = rest.get(..MAX_LISTED).unwrap_or(rest);
        let clients = self.directory.find(page, |_| true).await?;
        let next = page.last().filter(|_| rest.len() > page.len());
        Ok(json_response(&ClientPage {
            clients: clients.iter().map(client_entry).collect(),
            next: next.map(|last| last.0),
        }))
    }

    /// Closes the connections of the clients that are meant.
    async fn kick(&self, body: &[u8]) -> Result<Response, Response> {
        let KickRequest { client } = parse(body)?;
        let selector = Selector::parse(&client);
        let found = self.find(&selector).await?;
        let selected = selector.select(found).map_err(|error| match error {
            SelectionError::Nobody(text) => Response::new(404, text),
            SelectionError::Several(text) => Response::new(409, text),
        })?;
        let removed = self.directory.remove(&selected).await?;
        log::info!("removed by the operator: {}", connections(&selected));
        let listed = selected.iter().take(MAX_LISTED).map(client_entry);
        Ok(json_response(&Kicked {
            removed,
            clients: listed.collect(),
        }))
    }

    /// Bans a network, and closes the connections from it.
    async fn ban(&self, body: &[u8]) -> Result<Response, Response> {
        let BanRequest { network, seconds } = parse(body)?;
        let network = parse_network(&network)?;
        let time = seconds.map(Duration::from_secs);
        // First the ban: a client that connects now is either refused or found.
        let bans = &self.server.bans;
        let ban = bans.insert(network, time, Instant::now());
        let ban = ban.map_err(|error| {
            let status = match error {
                BanError::TrustedProxy(_) | BanError::TooMany => 409,
                BanError::TooLong => 400,
            };
            Response::new(status, error)
        })?;
        let ids = self.directory.ids().await?;
        let is_banned = |client: &Client| {
            client.address.is_in(&ban.network) && !bans.is_trusted_proxy(client.address)
        };
        let found = self.directory.find(&ids, is_banned).await?;
        let removed = self.directory.remove(&found).await?;
        let until = ban
            .until
            .map(|until| format!(" until {}", timestamp(until)));
        let until = until.unwrap_or_default();
        let which = self.server.logged_network(ban.network);
        log::info!("banned by the operator: {which}{until}; connections removed: {removed}");
        Ok(json_response(&Banned {
            ban: ban_entry(&ban),
            removed,
        }))
    }

    /// Ends a ban.
    fn unban(&self, body: &[u8]) -> Result<Response, Response> {
        let BanRequest { network, .. } = parse(body)?;
        let network = parse_network(&network)?.normalized();
        if !self.server.bans.remove(network, Instant::now()) {
            let text = format!("{network} is not banned; switchboard bans lists what is");
            return Err(Response::new(404, text));
        }
        log::info!(
            "not banned any more by the operator: {}",
            self.server.logged_network(network)
        );
        Ok(json_response(&BanEntry {
            network: network.to_string(),
            until: None,
        }))
    }

    /// Returns the clients that match.
    async fn find(&self, selector: &Selector) -> Result<Vec<Client>, NoAnswer> {
        let ids = match selector {
            Selector::Connection(conn) => vec![*conn],
            Selector::Network(_) | Selector::Name { .. } => self.directory.ids().await?,
        };
        self.directory
            .find(&ids, |client| selector.matches(client))
            .await
    }
}

/// Creates the token, and logs where it is or why there is none.
fn create_token(status: &Address) -> Option<Token> {
    let commands = "switchboard clients, kick and ban";
    match token_file::create(&status.to_string(), |name| std::env::var_os(name)) {
        Ok((token, path)) => {
            log::info!("the token for {commands} is in {}", path.display());
            Some(token)
        }
        Err(problem) => {
            let level = match problem {
                NoToken::NoDirectory => log::Level::Info,
                NoToken::Unwritable(..) => log::Level::Warn,
            };
            log::log!(level, "{commands} do not work with this daemon: {problem}");
            None
        }
    }
}

/// Reads the body of a request.
///
/// # Errors
/// 400 with what is wrong.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Response> {
    serde_json::from_slice(body)
        .map_err(|error| Response::new(400, format!("malformed request body: {error}")))
}

/// Reads a network.
///
/// # Errors
/// 400 with what to write.
fn parse_network(text: &str) -> Result<Network, Response> {
    text.parse().map_err(|()| {
        Response::new(
            400,
            "write an IP address, such as 192.0.2.7, or a network, such as 192.0.2.0/24",
        )
    })
}

/// Returns a client as an operator sees it. What the client chose is escaped and cut.
fn client_entry(client: &Client) -> ClientEntry {
    let text = |text: &Option<String>| text.as_deref().map(shown);
    ClientEntry {
        connection: client.conn.0,
        protocol: client.protocol.to_owned(),
        listener: client.listener.to_string(),
        address: client.address.to_string(),
        id: text(&client.identity.id),
        name: text(&client.identity.name),
        since: timestamp(client.since),
        bytes_in: client.bytes_in,
        bytes_out: client.bytes_out,
    }
}

fn ban_entry(ban: &Ban) -> BanEntry {
    BanEntry {
        network: ban.network.to_string(),
        until: ban.until.map(timestamp),
    }
}

/// Returns a time as RFC 3339 has it, in seconds. Years after 9999 have no such form, and count as the last one, nor do
/// for humantime those before 1970: the time of a connection that is older than a clock which was set back.
fn timestamp(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let time = time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Returns the numbers of connections for the log. Names and addresses are left out.
fn connections(clients: &[Client]) -> String {
    enumerated(clients, |client| {
        format!("{} #{}", client.protocol, client.conn.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_have_no_time_stamp_have_the_nearest_one() {
        let (epoch, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86400));
        for (time, expected) in [
            (epoch - day, "1970-01-01T00:00:00Z"),
            (epoch + day, "1970-01-02T00:00:00Z"),
            (epoch + 4_000_000 * day, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(time), expected);
        }
    }
}
