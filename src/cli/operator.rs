//! The commands about a daemon that runs, as a person sees them.

use super::Operation;
use super::status_client::StatusClient;
use super::status_text::{status_text, until};
use super::table::table;
use crate::base::ip::Network;
use crate::base::log_escape::escape;
use crate::config::Config;
use crate::status::messages::{
    BanEntry, BanList, BanRequest, Banned, ClientEntry, ClientPage, KickRequest, Kicked,
};
use serde_json::Value;
use std::ffi::OsString;
use std::time::Duration;

/// Clients that a command prints after it has removed them, at most.
const MAX_PRINTED: usize = 20;

/// How a command ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is for standard output.
    pub output: String,
    /// What has failed, a line each. Without one the command has succeeded.
    pub problems: Vec<String>,
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(output) => Self {
                output,
                problems: Vec::new(),
            },
            Err(problem) => Self {
                output: String::new(),
                problems: vec![problem],
            },
        }
    }
}

/// Executes a command about the daemon that runs with this configuration. `variable` reads the environment, which may
/// say where the token is.
pub fn run(
    operation: &Operation,
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Outcome {
    let daemon = match StatusClient::new(config, variable) {
        Ok(daemon) => daemon,
        Err(problem) => return Err(problem).into(),
    };
    match operation {
        Operation::Status => status(&daemon),
        Operation::Clients => clients(&daemon).into(),
        Operation::Kick(clients) => kick(&daemon, clients),
        Operation::Ban(network, time) => ban(&daemon, *network, *time).into(),
        Operation::Unban(network) => unban(&daemon, *network).into(),
        Operation::Bans => bans(&daemon).into(),
    }
}

fn status(daemon: &StatusClient) -> Outcome {
    let status: Value = match daemon.get("/status") {
        Ok(status) => status,
        Err(problem) => return Err(problem).into(),
    };
    let mut outcome = Outcome::from(Ok(status_text(&status)));
    if status.get("healthy").and_then(Value::as_bool) != Some(true) {
        let problem = "the daemon is not well: its broker has not answered for more than a second";
        outcome.problems.push(problem.to_owned());
    }
    outcome
}

/// Lists all clients, page by page.
fn clients(daemon: &StatusClient) -> Result<String, String> {
    let mut rows = vec![heading()];
    let mut next = Some(0);
    while let Some(after) = next {
        let path = format!("/clients?after={after}");
        let page: ClientPage = daemon.authorized("GET", &path, &())?;
        rows.extend(page.clients.iter().map(row));
        next = page.next;
    }
    Ok(match rows.len() - 1 {
        0 => "nobody is connected\n".to_owned(),
        1 => format!("{}1 client\n", table(&rows)),
        count => format!("{}{count} clients\n", table(&rows)),
    })
}

/// Removes clients, one after another: what fails for one does not keep the others.
fn kick(daemon: &StatusClient, clients: &[String]) -> Outcome {
    let mut outcome = Outcome::default();
    for client in clients {
        let request = KickRequest {
            client: client.clone(),
        };
        match daemon.authorized("POST", "/kick", &request) {
            Ok(kicked) => outcome.output.push_str(&kicked_text(&kicked)),
            Err(problem) => outcome.problems.push(problem),
        }
    }
    outcome
}

/// Returns which clients were removed.
fn kicked_text(kicked: &Kicked) -> String {
    let rows = kicked.clients.iter().take(MAX_PRINTED).map(row);
    let rows: Vec<Vec<String>> = std::iter::once(heading()).chain(rows).collect();
    let more = match kicked.clients.len().saturating_sub(MAX_PRINTED) {
        0 => "",
        _ => "...\n",
    };
    format!("{}{more}{}", table(&rows), removed_text(kicked.removed))
}

fn removed_text(removed: usize) -> String {
    match removed {
        1 => "1 connection is closed\n".to_owned(),
        removed => format!("{removed} connections are closed\n"),
    }
}

fn ban(daemon: &StatusClient, network: Network, time: Option<Duration>) -> Result<String, String> {
    let request = BanRequest {
        network: network.to_string(),
        seconds: time.map(|time| time.as_secs()),
    };
    let Banned { ban, removed } = daemon.authorized("POST", "/bans", &request)?;
    Ok(format!(
        "{} is banned {}\n{}{}",
        escape(&ban.network),
        until(ban.until.as_deref()),
        removed_text(removed),
        advice(network)
    ))
}

/// Returns what somebody who bans this network may not have in mind.
fn advice(network: Network) -> String {
    let address = network.normalized().address();
    if address.is_loopback() {
        return "note: clients behind a proxy of this machine that \"trusted_proxies\" does not have count as this \
                address\n"
            .to_owned();
    }
    if network.prefix() > 64 && address.is_ipv6() {
        let whole = Network::of(address, 64);
        return format!(
            "note: this client can usually choose among all addresses of {whole}: ban that to keep it out\n"
        );
    }
    String::new()
}

fn unban(daemon: &StatusClient, network: Network) -> Result<String, String> {
    let request = BanRequest {
        network: network.to_string(),
        seconds: None,
    };
    let ban: BanEntry = daemon.authorized("POST", "/unban", &request)?;
    Ok(format!("{} is not banned any more\n", escape(&ban.network)))
}

fn bans(daemon: &StatusClient) -> Result<String, String> {
    let list: BanList = daemon.authorized("GET", "/bans", &())?;
    let row = |ban: &BanEntry| vec![escape(&ban.network), until(ban.until.as_deref())];
    let rows: Vec<Vec<String>> = list.bans.iter().map(row).collect();
    Ok(match rows.is_empty() {
        true => "nobody is banned\n".to_owned(),
        false => table(&rows),
    })
}

fn heading() -> Vec<String> {
    let heading = [
        "NUMBER",
        "PROTOCOL",
        "LISTENER",
        "ADDRESS",
        "SINCE",
        "IN",
        "OUT",
        "ID AND NAME",
    ];
    heading.map(str::to_owned).to_vec()
}

/// Returns a client as a row of a table. What it has chosen comes last, and its name after what identifies it.
fn row(client: &ClientEntry) -> Vec<String> {
    let identity = client.id.iter().chain(&client.name);
    let identity: Vec<&str> = identity.map(String::as_str).collect();
    let texts = [&client.protocol, &client.listener, &client.address].map(|text| escape(text));
    let [protocol, listener, address] = texts;
    vec![
        client.connection.to_string(),
        protocol,
        listener,
        address,
        escape(&client.since),
        client.bytes_in.to_string(),
        client.bytes_out.to_string(),
        escape(&identity.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_daemon_says_of_a_client_reaches_the_terminal_as_it_is() {
        let text = || "\u{1b}[2J\u{202e}".to_owned();
        let client = ClientEntry {
            connection: 1,
            protocol: text(),
            listener: text(),
            address: text(),
            id: Some(text()),
            name: Some(text()),
            since: text(),
            bytes_in: 0,
            bytes_out: 0,
        };
        for cell in row(&client) {
            assert!(!cell.contains(['\u{1b}', '\u{202e}']), "{cell:?}");
        }
    }
}
