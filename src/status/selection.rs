//! Which clients an operator means.

use crate::base::ip::Network;
use crate::base::log_escape::{Excerpt, Quoted};
use crate::broker::Client;
use crate::protocols;
use crate::realm::ConnectionId;
use std::fmt;

/// Characters of a name or an id that an operator is shown, at most.
const MAX_SHOWN: usize = 64;

/// Clients that a line names, at most.
const MAX_ENUMERATED: usize = 10;

/// What an operator writes to say which clients are meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selector {
    /// `17` or `#17`: a connection by the number that the list and the log have.
    Connection(ConnectionId),
    /// `192.0.2.7` or `192.0.2.0/24`: all connections from there.
    Network(Network),
    /// `NAME` or `PROTOCOL/NAME`: the connections of one user, by its name or its id.
    Name {
        protocol: Option<&'static str>,
        name: String,
    },
}

/// The reason why no client is selected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SelectionError {
    /// Nobody is meant.
    Nobody(String),
    /// Several users are meant.
    Several(String),
}

impl Selector {
    /// Reads what an operator writes. Everything means something: what is neither a number nor an address is a name.
    pub(super) fn parse(text: &str) -> Self {
        let number = text.strip_prefix('#').unwrap_or(text);
        if let (true, Ok(id)) = (is_number(number), number.parse()) {
            return Self::Connection(ConnectionId(id));
        }
        if let Ok(network) = text.parse() {
            return Self::Network(network);
        }
        let qualified = text.split_once('/');
        let protocol = qualified.and_then(|(protocol, _)| protocols::by_name(protocol));
        let (protocol, name) = match (protocol, qualified) {
            (Some(protocol), Some((_, name))) => (Some(protocol.name), name),
            _ => (None, text),
        };
        Self::Name {
            protocol,
            name: name.to_owned(),
        }
    }

    /// Returns whether a client is meant. A name may be written as it is or as it is shown.
    pub(super) fn matches(&self, client: &Client) -> bool {
        match self {
            Self::Connection(conn) => client.conn == *conn,
            Self::Network(network) => client.address.is_in(network),
            Self::Name { protocol, name } => {
                let identity = [&client.identity.name, &client.identity.id];
                protocol.is_none_or(|protocol| client.protocol == protocol)
                    && identity
                        .into_iter()
                        .flatten()
                        .any(|known| known == name || shown(known) == *name)
            }
        }
    }

    /// Returns the clients that are meant, all of those that match.
    ///
    /// # Errors
    /// None matches, or a name is that of several users: one of them may have taken it to be mistaken for another.
    pub(super) fn select(&self, clients: Vec<Client>) -> Result<Vec<Client>, SelectionError> {
        let Some(first) = clients.first() else {
            return Err(SelectionError::Nobody(format!(
                "nobody is connected {self}; switchboard clients lists who is there"
            )));
        };
        let user = |client: &Client| {
            let listener = client.listener.to_string();
            (client.protocol, listener, client.identity.clone())
        };
        let is_one_user = clients.iter().all(|client| user(client) == user(first));
        if matches!(self, Self::Name { .. }) && !is_one_user {
            return Err(SelectionError::Several(several(self, &clients)));
        }
        Ok(clients)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(conn) => write!(f, "as number {}", conn.0),
            Self::Network(network) => write!(f, "from {network}"),
            Self::Name {
                protocol: None,
                name,
            } => write!(f, "as {}", Quoted(name)),
            Self::Name {
                protocol: Some(protocol),
                name,
            } => write!(f, "as {} on {protocol}", Quoted(name)),
        }
    }
}

/// Returns a name or an id as it is shown: escaped and cut as in the log.
pub(super) fn shown(text: &str) -> String {
    Excerpt {
        text,
        limit: MAX_SHOWN,
    }
    .to_string()
}

/// Returns the connections of several users, and what to write instead of a name.
fn several(selector: &Selector, clients: &[Client]) -> String {
    let connection = |client: &Client| {
        format!(
            "{} ({} from {})",
            client.conn.0, client.protocol, client.address
        )
    };
    format!(
        "several users are connected {selector}; write the numbers of those whom you mean: {}",
        enumerated(clients, connection)
    )
}

/// Returns what is said of each client, as far as it fits a line, and how many more there are.
pub(super) fn enumerated(clients: &[Client], say: impl Fn(&Client) -> String) -> String {
    let mut said: Vec<String> = clients.iter().take(MAX_ENUMERATED).map(say).collect();
    if let more @ 1.. = clients.len().saturating_sub(MAX_ENUMERATED) {
        said.push(format!("{more} more"));
    }
    said.join(", ")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::ip;
    use crate::config::Address;
    use crate::realm::Identity;
    use std::time::SystemTime;

    fn client(conn: u64, protocol: &'static str, address: &str, name: &str, id: &str) -> Client {
        Client {
            conn: ConnectionId(conn),
            protocol,
            listener: Address::Any(1),
            address: ip(address).into(),
            identity: Identity {
                name: Some(name.to_owned()),
                id: Some(id.to_owned()),
            },
            since: SystemTime::UNIX_EPOCH,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    fn crowd() -> Vec<Client> {
        vec![
            client(1, "fastchat", "192.0.2.1", "Ann", "a"),
            client(2, "fastchat", "192.0.2.2", "Ben", "b"),
            client(3, "workspace", "192.0.2.2", "Ann", "w1"),
            client(4, "workspace", "198.51.100.1", "Ann", "w1"),
            client(5, "workspace", "198.51.100.1", "17", "192.0.2.1"),
            client(6, "fastchat", "198.51.100.2", "Bad\u{1b}[2J\u{202e}", "c"),
        ]
    }

    fn select(text: &str) -> Result<Vec<u64>, SelectionError> {
        let selector = Selector::parse(text);
        let clients = crowd().into_iter().filter(|it| selector.matches(it));
        let selected = selector.select(clients.collect())?;
        Ok(selected.iter().map(|client| client.conn.0).collect())
    }

    #[test]
    fn a_number_an_address_a_network_and_a_name_select_clients() {
        for (text, expected) in [
            ("2", &[2][..]),
            ("#2", &[2]),
            ("192.0.2.2", &[2, 3]),
            ("::ffff:192.0.2.2", &[2, 3]),
            ("192.0.2.0/24", &[1, 2, 3]),
            ("Ben", &[2]),
            ("b", &[2]),
            ("fastchat/Ann", &[1]),
        ] {
            assert_eq!(select(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn all_connections_of_one_user_have_its_name() {
        assert_eq!(select("workspace/Ann").as_deref(), Ok(&[3, 4][..]));
        assert_eq!(select("w1").as_deref(), Ok(&[3, 4][..]));
    }

    #[test]
    fn a_name_of_several_users_selects_none_of_them_and_names_their_connections() {
        let Err(SelectionError::Several(text)) = select("Ann") else {
            panic!("nobody was to be selected")
        };
        assert_eq!(
            text,
            "several users are connected as \"Ann\"; write the numbers of those whom you mean: \
             1 (fastchat from 192.0.2.1), 3 (workspace from 192.0.2.2), 4 (workspace from 198.51.100.1)"
        );
        let many = (1..=12).map(|n| client(n, "fastchat", "::1", "x", &n.to_string()));
        let error = Selector::parse("x").select(many.collect());
        assert!(
            matches!(&error, Err(SelectionError::Several(text)) if text.ends_with("::1), 2 more")),
            "{error:?}"
        );
    }

    #[test]
    fn a_client_cannot_choose_a_name_that_is_taken_for_the_number_or_address_of_another() {
        assert_eq!(select("192.0.2.1").as_deref(), Ok(&[1][..]));
        assert!(select("17").is_err());
        assert_eq!(select("workspace/17").as_deref(), Ok(&[5][..]));
        assert_eq!(select("workspace/192.0.2.1").as_deref(), Ok(&[5][..]));
    }

    #[test]
    fn a_name_with_control_characters_is_selected_as_it_is_shown() {
        assert_eq!(select("Bad\\u{1b}[2J\\u{202e}").as_deref(), Ok(&[6][..]));
        assert_eq!(select("Bad\u{1b}[2J\u{202e}").as_deref(), Ok(&[6][..]));
    }

    #[test]
    fn nobody_is_said_in_the_words_of_the_operator() {
        for (text, expected) in [
            ("99", "nobody is connected as number 99;"),
            ("203.0.113.1", "nobody is connected from 203.0.113.1/32;"),
            ("Eve", "nobody is connected as \"Eve\";"),
            (
                "peerjs/E\u{1b}",
                "nobody is connected as \"E\\u{1b}\" on peerjs;",
            ),
        ] {
            let error = select(text).unwrap_err();
            assert!(
                matches!(&error, SelectionError::Nobody(said) if said.starts_with(expected)),
                "{error:?}"
            );
        }
    }
}
