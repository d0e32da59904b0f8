//! LOUDSYNC under random sequences of client actions, in either dialect or in both.
//!
//! What holds at every step:
//!
//! - messages about a session are sent to its members only;
//! - a client ID belongs to one member of one session, and is never given to another;
//! - a list has one host, and the member that receives it;
//! - a device has one place in a session, and one connection;
//! - the announcements of members that joined, left or were lost add up to the list;
//! - the list says `connected` of exactly the members that are connected;
//! - a client is sent one dialect only, which its first message decided;
//! - a device ID is sent to that device only;
//! - a device that a client has proven to be with a token is from then on no client without one;
//! - a session ends with its host, one from the configuration never, and nothing is kept after all
//!   clients have disconnected.

use crate::protocols::loudsync::*;
use crate::realm::Message;
use crate::testing::Input;
use crate::testing::harness::{access, no_tokens, test_tokens, token};
use crate::testing::model::{DISCONNECTS, Line, Model, ModelClients, parse_line};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// An index into a list whose length is not known in advance; it wraps around.
type Pick = usize;

/// `deviceInfo.type` of a JOIN in the document's dialect; none: a JOIN in the upper-case dialect.
const ROLES: [Option<&str>; 3] = [Some("host"), Some("client"), None];

/// The ID of the session from the configuration.
const STATIC_SESSION: &str = "s2";

/// The ID of its host.
const STATIC_HOST: &str = "named host";

/// An action of a client, or of its surroundings.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Connect,
    Join {
        conn: Pick,
        session: usize,
        device: usize,
        role: Pick,
        has_token: bool,
    },
    Send(Pick, String),
    Kick(Pick, Pick),
    Disconnect(Pick, usize),
    /// A probed connection gives a sign of life, or none in time.
    ProbeResult(Pick, bool),
    /// An outbox is full from now on.
    FillOutbox(Pick),
    /// Milliseconds.
    Wait(u64),
}

/// Members by client ID, each with whether it is connected.
type List = BTreeMap<String, bool>;

/// The messages that the clients were sent, evaluated.
struct Observed {
    /// Session ID and client ID of each connection that is a member.
    members: HashMap<u64, (String, String)>,
    /// The list of each member, kept up to date by announcements.
    lists: HashMap<u64, List>,
    /// The session of each client ID that was ever given.
    ids: HashMap<String, String>,
    /// Whether a connection uses the upper-case dialect, once it has decided.
    upper_case: HashMap<u64, bool>,
    /// The device ID of each member that uses the upper-case dialect.
    devices: HashMap<u64, String>,
    /// The device in the JOIN of each connection that is accepted or not decided about yet, and whether its token says
    /// so.
    joins: HashMap<u64, (String, bool)>,
    /// The connections whose JOIN is not decided about yet.
    waiting: BTreeSet<u64>,
    /// The devices of tokens that were accepted.
    proven: BTreeSet<String>,
}

/// The realm, its clients, and what they were told.
pub(crate) struct World {
    clients: ModelClients<Loudsync>,
    observed: Observed,
    /// A second decoder for each connection, which yields the dialect to expect in answers.
    decoders: HashMap<u64, Decoder>,
}

impl Model for World {
    type Step = Step;

    /// | step | what happens |
    /// | --- | --- |
    /// | `a` client yes/no | a client that was probed, counted among those, answers or does not |
    /// | `o` | a client connects |
    /// | `j` client session device role | join session 0, 1 or 2 (2 is configured) as device 0 to 4, as host (0), client (1) or upper-case guest (2) |
    /// | `t` client session device role | the same with a token of the device |
    /// | `k` client member | kick a member |
    /// | `f` client | the client's outbox is full from now on |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        Some(match letter {
            b'o' => Step::Connect,
            b'j' | b't' => Step::Join {
                conn: input.below(8)?,
                session: input.below(3)?,
                device: input.below(5)?,
                role: input.below(ROLES.len())?,
                has_token: letter == b't',
            },
            b's' => Step::Send(input.below(8)?, input.text()?),
            b'k' => Step::Kick(input.below(8)?, input.below(8)?),
            b'l' => Step::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
            b'a' => Step::ProbeResult(input.below(8)?, input.flag()?),
            b'f' => Step::FillOutbox(input.below(8)?),
            b'w' => Step::Wait(input.millis()?),
            _ => return None,
        })
    }

    #[cfg(test)]
    fn step() -> impl Strategy<Value = Step> {
        let conn = 0..8usize;
        let texts = [
            r#"{"type":"heartbeat","timestamp":1}"#,
            r#"{"type":"heartbeat","timestamp":1}"#,
            r#"{"type":"member_list","timestamp":1}"#,
            r#"{"type":"ping","timestamp":1}"#,
            r#"{"type":"leave","timestamp":1}"#,
            r#"{"type":"HEARTBEAT","timestamp":1}"#,
            r#"{"type":"HEARTBEAT","timestamp":1}"#,
            r#"{"type":"MEMBER_LIST","timestamp":1}"#,
            r#"{"type":"PING","timestamp":1,"payload":{"timestamp":1}}"#,
            r#"{"type":"LEAVE","timestamp":1}"#,
            "nonsense",
        ];
        prop_oneof![
            4 => Just(Step::Connect),
            6 => (conn.clone(), 0..3usize, 0..5usize, 0..ROLES.len(), prop::bool::weighted(0.2))
                .prop_map(|(conn, session, device, role, has_token)| Step::Join {
                    conn, session, device, role, has_token,
                }),
            6 => (conn.clone(), prop::sample::select(texts.to_vec()))
                .prop_map(|(conn, text)| Step::Send(conn, text.to_owned())),
            1 => (conn.clone(), conn.clone()).prop_map(|(conn, member)| Step::Kick(conn, member)),
            2 => (conn.clone(), 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
            4 => (conn.clone(), any::<bool>()).prop_map(|(conn, alive)| Step::ProbeResult(conn, alive)),
            1 => conn.prop_map(Step::FillOutbox),
            3 => prop_oneof![0..2000u64, 0..20_000u64].prop_map(Step::Wait),
        ]
    }

    fn new(_: usize) -> Self {
        let session = json!({
            "id": STATIC_SESSION, "name": "S", "host_id": STATIC_HOST, "host_name": "H",
        });
        let mut clients = ModelClients::new(json!({"max_members": 3, "sessions": [session]}));
        clients.harness.tokens = test_tokens();
        Self {
            clients,
            observed: Observed::new(),
            decoders: HashMap::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect => {
                let none = access(false, None);
                let lines = self.clients.open_with("/", "127.0.0.1", none).unwrap();
                self.observe(&lines);
            }
            Step::Join {
                conn,
                session,
                device,
                role,
                has_token,
            } => {
                let (session, device) = (format!("s{session}"), format!("secret {device}"));
                let token = has_token.then(|| token(&json!({"sub": device})));
                let join = match ROLES[role] {
                    Some(kind) => json!({
                        "type": "join", "timestamp": 1, "sessionId": session,
                        "deviceInfo": {"id": device, "name": "N", "type": kind}, "token": token,
                    }),
                    None => json!({"type": "JOIN", "timestamp": 1, "payload": {
                        "sessionId": session, "deviceId": device, "deviceName": "N", "token": token,
                    }}),
                };
                self.send(conn, &join.to_string());
            }
            Step::Send(conn, text) if is_predictable(&text, &self.observed) => {
                self.send(conn, &text)
            }
            Step::Send(..) => {}
            Step::Kick(conn, member) => {
                let ids: Vec<&String> = self.observed.members.values().map(|(_, id)| id).collect();
                let id = ids
                    .get(member % ids.len().max(1))
                    .copied()
                    .cloned()
                    .unwrap_or_default();
                let kick = json!({"type": "kick", "timestamp": 1, "memberId": id});
                self.send(conn, &kick.to_string());
            }
            Step::Disconnect(conn, how) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.disconnect(conn, DISCONNECTS[how]);
                }
            }
            Step::ProbeResult(conn, alive) => {
                let lines = self.clients.resolve_probe(conn, alive);
                self.observe(&lines);
            }
            Step::FillOutbox(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.fill_outbox(conn);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
    }

    fn finish(mut self) {
        // Lists that were not sent at once follow within a second.
        self.wait(Duration::from_secs(1));
        self.check_lists();
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.wait(Duration::from_secs(15));
        assert!(self.clients.harness.realm.is_empty());
    }
}

impl World {
    fn send(&mut self, conn: Pick, text: &str) {
        if let Some(conn) = self.clients.pick_open(conn) {
            let decoder = self
                .decoders
                .entry(conn)
                .or_insert_with(|| Decoder::new(&test_tokens()));
            let incoming = decoder.decode(Message::Text(text.into()));
            if decoder.decided().is_some() {
                let is_upper_case = incoming.dialect == Dialect::UpperCase;
                self.observed.upper_case.insert(conn, is_upper_case);
            }
            let is_join = match &incoming.message {
                ClientMessage::Join(join) => self.observed.record_join(conn, join),
                _ => false,
            };
            let lines = self.clients.send(conn, text);
            if is_join && lines.iter().all(|line| parse_line(line).0 != conn) {
                self.observed.waiting.insert(conn);
            }
            self.observe(&lines);
        }
    }

    /// Hands each client the messages that it was sent.
    fn observe(&mut self, lines: &[String]) {
        let sessions = self.clients.harness.realm.sessions.values();
        let members = sessions.flat_map(Session::members);
        let client_ids: HashMap<u64, String> = members
            .filter_map(|member| Some((member.recipient?.connection.0, member.id.clone())))
            .collect();
        self.observed.receive_all(lines, &client_ids);
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        self.observed.members.remove(&conn);
        let lines = self.clients.disconnect(conn, reason);
        self.observe(&lines);
    }

    fn wait(&mut self, time: Duration) {
        let lines = self.clients.advance(time);
        self.observe(&lines);
    }

    /// Checks that the announcements that each member received add up to the list that it gets on request.
    fn check_lists(&mut self) {
        let members: Vec<u64> = self.observed.members.keys().copied().collect();
        for conn in members {
            // A request of another member may have closed this one.
            if !self.observed.members.contains_key(&conn) {
                continue;
            }
            let announced = self.observed.lists[&conn].clone();
            let kind = if self.observed.upper_case[&conn] {
                "MEMBER_LIST"
            } else {
                "member_list"
            };
            let ask = json!({"type": kind, "timestamp": 1});
            let lines = self.clients.send(conn, &ask.to_string());
            self.observe(&lines);
            // The answer may have overrun its outbox.
            let Some((session, _)) = self.observed.members.get(&conn) else {
                continue;
            };
            let list = &self.observed.lists[&conn];
            assert_eq!(&announced, list, "as connection {conn} sees it");
            let mut connected: Vec<&String> = self
                .observed
                .members
                .values()
                .filter(|(of, _)| of == session)
                .map(|(_, id)| id)
                .collect();
            connected.sort();
            let listed = list.iter().filter(|(_, connected)| **connected);
            let listed = listed.filter(|(id, _)| *id != STATIC_HOST);
            assert_eq!(connected, listed.map(|(id, _)| id).collect::<Vec<_>>());
        }
    }
}

impl Observed {
    fn new() -> Self {
        let static_host = (STATIC_HOST.to_owned(), STATIC_SESSION.to_owned());
        Self {
            members: HashMap::new(),
            lists: HashMap::new(),
            ids: HashMap::from([static_host]),
            upper_case: HashMap::new(),
            devices: HashMap::new(),
            joins: HashMap::new(),
            waiting: BTreeSet::new(),
            proven: BTreeSet::new(),
        }
    }

    /// Records which device a JOIN is of, and whether a token says so, if it decides about its connection, or proves
    /// which device a member is. Returns whether it decides.
    fn record_join(&mut self, conn: u64, join: &JoinRequest) -> bool {
        let subject = join.token.as_ref().and_then(|token| {
            let claims = token.as_ref().as_ref().ok()?;
            claims.subject.clone()
        });
        let device = subject.clone().or_else(|| join.device_id.clone().ok());
        let is_member = self.members.contains_key(&conn);
        match device {
            Some(device) if !is_member && !self.waiting.contains(&conn) => {
                self.joins.insert(conn, (device, subject.is_some()));
                return true;
            }
            Some(device) if is_member && subject.is_some() && self.joins[&conn].0 == device => {
                self.joins.insert(conn, (device, true));
            }
            _ => {}
        }
        false
    }

    /// `client_ids` are the client IDs of the connections that are members now.
    fn receive_all(&mut self, lines: &[String], client_ids: &HashMap<u64, String>) {
        for line in lines {
            match parse_line(line) {
                (conn, Line::Probed) => assert!(self.members.contains_key(&conn), "{line}"),
                (_, Line::Other(change)) => assert_eq!(change, "never expires"),
                (conn, Line::Closed) => {
                    self.members.remove(&conn);
                }
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    let upper_case = self.upper_case.get(&conn).copied().unwrap_or(false);
                    assert_eq!(is_upper_case_message(&message), upper_case, "{line}");
                    let device = message["payload"]["yourDeviceId"].as_str();
                    if let Some(device) = device {
                        self.devices.insert(conn, device.to_owned());
                    }
                    let device = self.devices.get(&conn);
                    let is_secret = device.is_some_and(|device| device.contains("secret"));
                    let own = usize::from(upper_case && names_recipient(&message) && is_secret);
                    assert_eq!(text.matches("secret").count(), own, "{line}");
                    // A client of the upper-case dialect is not sent its client ID, and one that is no
                    // longer a member has none.
                    let gone = format!("gone {conn}");
                    let known = self.members.get(&conn).map(|(_, id)| id.clone());
                    let own = known.as_ref().or(client_ids.get(&conn)).unwrap_or(&gone);
                    let message = if upper_case {
                        let device = self.devices.get(&conn).map_or("", String::as_str);
                        to_document(&message, device, own)
                    } else {
                        message
                    };
                    self.receive(conn, &message);
                }
            }
        }
    }

    fn receive(&mut self, conn: u64, message: &Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let message_type = message["type"].as_str().unwrap();
        if message_type == "welcome" {
            let (session, id) = (
                text(&message["sessionInfo"]["id"]),
                text(&message["clientId"]),
            );
            self.waiting.remove(&conn);
            let (device, is_proven) = self.joins[&conn].clone();
            if is_proven {
                self.proven.insert(device);
            } else {
                assert!(!self.proven.contains(&device), "{message}");
            }
            if self.members.get(&conn) == Some(&(session.clone(), id.clone())) {
                // The welcome of a renewed token.
                assert!(is_proven);
                return;
            }
            let before = self.ids.insert(id.clone(), session.clone());
            assert!(
                before.is_none_or(|before| before == session),
                "{id} is used again"
            );
            let twice = self.members.values().any(|(_, other)| *other == id);
            assert!(!twice, "{id} has two connections");
            self.members.insert(conn, (session, id));
            return;
        }
        if ["error", "pong"].contains(&message_type) {
            return;
        }
        let (session, me) = self.members.get(&conn).expect("a member");
        match message_type {
            "member_list" => {
                let mut list = List::new();
                let mut hosts = 0;
                for member in message["members"].as_array().unwrap() {
                    let id = text(&member["id"]);
                    // A member of the upper-case dialect may have joined and left before its client ID was
                    // looked up.
                    let of = self.ids.entry(id.clone()).or_insert(session.clone());
                    assert_eq!(of, session);
                    hosts += u32::from(member["isHost"] == true);
                    let connected = member["connectionStatus"] == "connected";
                    assert_eq!(
                        list.insert(id, connected),
                        None,
                        "a list names a member twice"
                    );
                }
                assert_eq!(hosts, 1);
                assert_eq!(list.get(me), Some(&true));
                self.lists.insert(conn, list);
            }
            "member_joined" => {
                let joined = text(&message["member"]["id"]);
                // A new member is announced before it is welcomed.
                let of = self.ids.entry(joined.clone()).or_insert(session.clone());
                assert_eq!(of, session);
                assert_eq!(
                    self.lists.get_mut(&conn).unwrap().insert(joined, true),
                    None
                );
            }
            "member_left" => {
                let left = text(&message["memberId"]);
                assert_eq!(self.ids.get(&left), Some(session));
                assert!(self.lists.get_mut(&conn).unwrap().remove(&left).is_some());
            }
            "kicked" | "session_closed" => {}
            other => panic!("{other}"),
        }
    }
}

/// Returns whether the model can predict the effect of a message: no text in it looks like a secret
/// device ID, and it joins with no device ID that is a client ID.
fn is_predictable(text: &str, observed: &Observed) -> bool {
    let is_secret = ["secret", "\\u006", "\\u007"]
        .iter()
        .any(|part| text.contains(part));
    let mut decoders = [Decoder::new(&no_tokens()), Decoder::new(&no_tokens())];
    // The dialect of the sender is not known here: the second decoder is for the upper-case dialect.
    decoders[1].decode(Message::Text(r#"{"type":"PING"}"#.into()));
    let names_a_client =
        |decoder: &mut Decoder| match decoder.decode(Message::Text(text.into())).message {
            ClientMessage::Join(join) => {
                let id = join.device_id;
                id.is_ok_and(|id| observed.ids.contains_key(&id))
            }
            _ => false,
        };
    !is_secret && !decoders.iter_mut().any(names_a_client)
}

fn is_upper_case_message(message: &Value) -> bool {
    let message_type = message["type"].as_str().unwrap();
    message_type
        .bytes()
        .any(|letter| letter.is_ascii_uppercase())
}

/// Returns whether a message of the upper-case dialect always names its recipient.
fn names_recipient(message: &Value) -> bool {
    ["WELCOME", "MEMBER_LIST"].contains(&message["type"].as_str().unwrap())
}

/// Translates a message of the upper-case dialect, to a device with this client ID, to the document's.
fn to_document(message: &Value, device: &str, client_id: &str) -> Value {
    let message_type = message["type"].as_str().unwrap().to_lowercase();
    let payload = &message["payload"];
    let id = |id: &Value| {
        if id == device {
            json!(client_id)
        } else {
            id.clone()
        }
    };
    let member = |member: &Value| {
        json!({
            "id": id(&member["id"]), "isHost": member["role"] == "host",
            "connectionStatus": member["connectionStatus"],
        })
    };
    let list = payload["members"].as_array();
    if let Some(list) = list {
        assert_eq!(payload["totalCount"], list.len());
    }
    let members: Option<Vec<Value>> = list.map(|list| list.iter().map(member).collect());
    json!({
        "type": message_type,
        "clientId": client_id,
        "sessionInfo": {"id": payload["sessionId"]},
        "members": members,
        "member": member(&payload["member"]),
        "memberId": id(&payload["deviceId"]),
    })
}
