//! LOUDSYNC under clients that do whatever comes to their minds, in either dialect or in both.
//!
//! What holds at every step, whatever they do:
//!
//! - whatever is told of a session is told to its members and to nobody else;
//! - an id is that of one member of one session, and nobody else ever gets it;
//! - a list has one host, and whoever gets it stands in it;
//! - a device has one place in a session, and one connection;
//! - what the others were told of who joined, left or was lost adds up to the list;
//! - the list says `connected` of those who are, and of nobody else;
//! - a client hears one dialect alone, which its first message decided;
//! - a device's id is told to that device alone;
//! - a session ends with its host, that of the configuration never, and once all are gone, nothing
//!   is kept of anybody.

use crate::protocols::loudsync::*;
use crate::testing::Input;
use crate::testing::model::{ENDINGS, Fate, ModelClients, STEPS, fate};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

type Pick = usize;

/// As what somebody joins: as the document says it, or in capitals, which is as a guest.
const ROLES: [Option<&str>; 3] = [Some("host"), Some("client"), None];

/// The session of the configuration, and its host.
const CONFIGURED: &str = "s2";
const NAMED_HOST: &str = "named host";

#[derive(Clone, Debug)]
enum Step {
    Open,
    Join {
        conn: Pick,
        session: usize,
        device: usize,
        role: Pick,
    },
    Say(Pick, String),
    Kick(Pick, Pick),
    Leave(Pick, usize),
    Answer(Pick, bool),
    Full(Pick),
    Wait(u64),
}

impl Step {
    /// The next step of a story.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Open,
                b'j' => Self::Join {
                    conn: input.below(8)?,
                    session: input.below(3)?,
                    device: input.below(5)?,
                    role: input.below(ROLES.len())?,
                },
                b's' => Self::Say(input.below(8)?, input.text()?),
                b'k' => Self::Kick(input.below(8)?, input.below(8)?),
                b'l' => Self::Leave(input.below(8)?, input.below(ENDINGS.len())?),
                b'a' => Self::Answer(input.below(8)?, input.flag()?),
                b'f' => Self::Full(input.below(8)?),
                b'w' => Self::Wait(input.millis()?),
                _ => continue,
            });
        }
    }
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
        4 => Just(Step::Open),
        6 => (conn.clone(), 0..3usize, 0..5usize, 0..ROLES.len())
            .prop_map(|(conn, session, device, role)| Step::Join { conn, session, device, role }),
        6 => (conn.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(conn, text)| Step::Say(conn, text.to_owned())),
        1 => (conn.clone(), conn.clone()).prop_map(|(conn, whom)| Step::Kick(conn, whom)),
        2 => (conn.clone(), 0..ENDINGS.len()).prop_map(|(conn, how)| Step::Leave(conn, how)),
        4 => (conn.clone(), any::<bool>()).prop_map(|(conn, alive)| Step::Answer(conn, alive)),
        1 => conn.prop_map(Step::Full),
        3 => prop_oneof![0..2000u64, 0..20_000u64].prop_map(Step::Wait),
    ]
}

/// Members by id, each with whether it is connected.
type List = BTreeMap<String, bool>;

/// What the clients know.
struct Known {
    /// Who was welcomed to which session, as whom, and is there still.
    members: HashMap<u64, (String, String)>,
    /// Each member's list, kept up to date by what it is told.
    seen: HashMap<u64, List>,
    /// The session of each id that was ever given.
    ids: HashMap<String, String>,
    /// Who speaks in capitals, of those who have decided.
    capitals: HashMap<u64, bool>,
    /// The id by which each who does so knows itself.
    devices: HashMap<u64, String>,
}

struct World {
    clients: ModelClients<Loudsync>,
    known: Known,
    /// The clients' readers once more: in which dialect each is to be answered.
    readers: HashMap<u64, Reader>,
}

impl World {
    fn new() -> Self {
        let session = json!({
            "id": CONFIGURED, "name": "S", "host_id": NAMED_HOST, "host_name": "H",
        });
        Self {
            clients: ModelClients::new(json!({"max_members": 3, "sessions": [session]})),
            known: Known::new(),
            readers: HashMap::new(),
        }
    }

    fn goes_through(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.take(step);
        }
        // Lists that were held back come within a second.
        self.waits(Duration::from_secs(1));
        self.agrees();
        self.ends();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open => {
                let lines = self.clients.opens("/").unwrap();
                self.look(&lines);
            }
            Step::Join {
                conn,
                session,
                device,
                role,
            } => {
                let (session, device) = (format!("s{session}"), format!("secret {device}"));
                let join = match ROLES[role] {
                    Some(kind) => json!({
                        "type": "join", "timestamp": 1, "sessionId": session,
                        "deviceInfo": {"id": device, "name": "N", "type": kind},
                    }),
                    None => json!({"type": "JOIN", "timestamp": 1, "payload": {
                        "sessionId": session, "deviceId": device, "deviceName": "N",
                    }}),
                };
                self.says(conn, &join.to_string());
            }
            Step::Say(conn, text) if may_be_said(&text, &self.known) => self.says(conn, &text),
            Step::Say(..) => {}
            Step::Kick(conn, whom) => {
                let ids: Vec<&String> = self.known.members.values().map(|(_, id)| id).collect();
                let id = ids
                    .get(whom % ids.len().max(1))
                    .copied()
                    .cloned()
                    .unwrap_or_default();
                let kick = json!({"type": "kick", "timestamp": 1, "memberId": id});
                self.says(conn, &kick.to_string());
            }
            Step::Leave(conn, how) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.leaves(conn, ENDINGS[how]);
                }
            }
            Step::Answer(conn, alive) => {
                let lines = self.clients.answers(conn, alive);
                self.look(&lines);
            }
            Step::Full(conn) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.clients.harness.is_full(conn);
                }
            }
            Step::Wait(millis) => self.waits(Duration::from_millis(millis)),
        }
    }

    fn says(&mut self, conn: Pick, text: &str) {
        if let Some(conn) = self.clients.someone(conn) {
            let reader = self.readers.entry(conn).or_default();
            let incoming = reader.decode(Message::Text(text.into()));
            if reader.decided().is_some() {
                let is_capital = incoming.dialect == Dialect::UpperCase;
                self.known.capitals.insert(conn, is_capital);
            }
            let lines = self.clients.says(conn, text);
            self.look(&lines);
        }
    }

    /// Everybody reads what it got.
    fn look(&mut self, lines: &[String]) {
        let sessions = self.clients.harness.realm.sessions.values();
        let members = sessions.flat_map(Session::members);
        let client_ids: HashMap<u64, String> = members
            .filter_map(|member| Some((member.recipient?.connection.0, member.id.clone())))
            .collect();
        self.known.look(lines, &client_ids);
    }

    fn leaves(&mut self, conn: u64, how: DisconnectReason) {
        self.known.members.remove(&conn);
        let lines = self.clients.leaves(conn, how);
        self.look(&lines);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.clients.waits(time);
        self.look(&lines);
    }

    /// What everybody was told adds up to what everybody would be told now.
    fn agrees(&mut self) {
        let members: Vec<u64> = self.known.members.keys().copied().collect();
        for conn in members {
            // Another's question may have been its end.
            if !self.known.members.contains_key(&conn) {
                continue;
            }
            let told = self.known.seen[&conn].clone();
            let kind = if self.known.capitals[&conn] {
                "MEMBER_LIST"
            } else {
                "member_list"
            };
            let ask = json!({"type": kind, "timestamp": 1});
            let lines = self.clients.says(conn, &ask.to_string());
            self.look(&lines);
            // It may have had no room for the answer.
            let Some((session, _)) = self.known.members.get(&conn) else {
                continue;
            };
            let list = &self.known.seen[&conn];
            assert_eq!(&told, list, "as {conn} sees it");
            let mut connected: Vec<&String> = self
                .known
                .members
                .values()
                .filter(|(of, _)| of == session)
                .map(|(_, id)| id)
                .collect();
            connected.sort();
            let shown = list.iter().filter(|(_, connected)| **connected);
            let shown = shown.filter(|(id, _)| *id != NAMED_HOST);
            assert_eq!(connected, shown.map(|(id, _)| id).collect::<Vec<_>>());
        }
    }

    fn ends(mut self) {
        while let Some(conn) = self.clients.someone(0) {
            self.leaves(conn, DisconnectReason::Lost);
        }
        self.waits(Duration::from_secs(15));
        assert!(self.clients.harness.realm.is_empty());
    }
}

impl Known {
    fn new() -> Self {
        let named = (NAMED_HOST.to_owned(), CONFIGURED.to_owned());
        Self {
            members: HashMap::new(),
            seen: HashMap::new(),
            ids: HashMap::from([named]),
            capitals: HashMap::new(),
            devices: HashMap::new(),
        }
    }

    /// `client_ids` are those of who is a member now.
    fn look(&mut self, lines: &[String], client_ids: &HashMap<u64, String>) {
        for line in lines {
            match fate(line) {
                (conn, Fate::Asked) => assert!(self.members.contains_key(&conn), "{line}"),
                (conn, Fate::Closed) => {
                    self.members.remove(&conn);
                }
                (conn, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    let capitals = self.capitals.get(&conn).copied().unwrap_or(false);
                    assert_eq!(in_capitals(&message), capitals, "{line}");
                    let device = message["payload"]["yourDeviceId"].as_str();
                    if let Some(device) = device {
                        self.devices.insert(conn, device.to_owned());
                    }
                    let device = self.devices.get(&conn);
                    let is_secret = device.is_some_and(|device| device.contains("secret"));
                    let own = usize::from(capitals && names_receiver(&message) && is_secret);
                    assert_eq!(text.matches("secret").count(), own, "{line}");
                    // It is not told its client id, and has none any more if it is gone already.
                    let gone = format!("gone {conn}");
                    let known = self.members.get(&conn).map(|(_, id)| id.clone());
                    let own = known.as_ref().or(client_ids.get(&conn)).unwrap_or(&gone);
                    let message = if capitals {
                        let device = self.devices.get(&conn).map_or("", String::as_str);
                        as_in_the_document(&message, device, own)
                    } else {
                        message
                    };
                    self.reads(conn, &message);
                }
            }
        }
    }

    fn reads(&mut self, conn: u64, message: &Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let kind = message["type"].as_str().unwrap();
        if kind == "welcome" {
            let (session, id) = (
                text(&message["sessionInfo"]["id"]),
                text(&message["clientId"]),
            );
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
        if ["error", "pong"].contains(&kind) {
            return;
        }
        let (session, me) = self.members.get(&conn).expect("a member");
        match kind {
            "member_list" => {
                let mut list = List::new();
                let mut hosts = 0;
                for member in message["members"].as_array().unwrap() {
                    let id = text(&member["id"]);
                    // One in capitals may have been welcomed and have gone again before it was asked for
                    // its id.
                    let of = self.ids.entry(id.clone()).or_insert(session.clone());
                    assert_eq!(of, session);
                    hosts += u32::from(member["isHost"] == true);
                    let connected = member["connectionStatus"] == "connected";
                    assert_eq!(list.insert(id, connected), None, "twice in a list");
                }
                assert_eq!(hosts, 1);
                assert_eq!(list.get(me), Some(&true));
                self.seen.insert(conn, list);
            }
            "member_joined" => {
                let joined = text(&message["member"]["id"]);
                // The others hear of a newcomer before it is welcomed.
                let of = self.ids.entry(joined.clone()).or_insert(session.clone());
                assert_eq!(of, session);
                assert_eq!(self.seen.get_mut(&conn).unwrap().insert(joined, true), None);
            }
            "member_left" => {
                let left = text(&message["memberId"]);
                assert_eq!(self.ids.get(&left), Some(session));
                assert!(self.seen.get_mut(&conn).unwrap().remove(&left).is_some());
            }
            "kicked" | "session_closed" => {}
            other => panic!("{other}"),
        }
    }
}

/// Whether the model can tell what comes of it: nothing in it reads as a secret device's id, and
/// no device has the id of a client.
fn may_be_said(text: &str, known: &Known) -> bool {
    let is_secret = ["secret", "\\u006", "\\u007"]
        .iter()
        .any(|part| text.contains(part));
    let mut readers = [Reader::default(), Reader::default()];
    // Whatever its dialect is: the second reads as one who speaks in capitals.
    readers[1].decode(Message::Text(r#"{"type":"PING"}"#.into()));
    let names_a_client =
        |reader: &mut Reader| match reader.decode(Message::Text(text.into())).message {
            ClientMessage::Join(join) => known.ids.contains_key(&join.device_id),
            _ => false,
        };
    !is_secret && !readers.iter_mut().any(names_a_client)
}

fn in_capitals(message: &Value) -> bool {
    let kind = message["type"].as_str().unwrap();
    kind.bytes().any(|letter| letter.is_ascii_uppercase())
}

/// Whether its receiver stands in a message in capitals.
fn names_receiver(message: &Value) -> bool {
    ["WELCOME", "MEMBER_LIST"].contains(&message["type"].as_str().unwrap())
}

/// A message in capitals to the device that has this client id, in the document's words.
fn as_in_the_document(message: &Value, device: &str, client_id: &str) -> Value {
    let kind = message["type"].as_str().unwrap().to_lowercase();
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
        "type": kind,
        "clientId": client_id,
        "sessionInfo": {"id": payload["sessionId"]},
        "members": members,
        "member": member(&payload["member"]),
        "memberId": id(&payload["deviceId"]),
    })
}

/// Acts a story.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new().goes_through(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn the_model_holds_whatever_clients_do(steps in prop::collection::vec(step(), 1..150)) {
        World::new().goes_through(steps);
    }
}
