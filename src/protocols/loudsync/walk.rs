//! LOUDSYNC under clients that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - whatever is told of a session is told to its members and to nobody else;
//! - an id is that of one member of one session, and nobody else ever gets it;
//! - a list has one host, and whoever gets it stands in it;
//! - a device has one place in a session, and one connection;
//! - what the others were told of who joined, left or was lost adds up to the list;
//! - the list says `connected` of those who are, and of nobody else;
//! - a session ends with its host, and once all are gone, nothing is kept of anybody.

use super::*;
use crate::protocols::crowd::{Crowd, ENDINGS, Fate, fate};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    Open,
    Join {
        who: Pick,
        session: usize,
        device: usize,
        host: bool,
    },
    Say(Pick, &'static str),
    Kick(Pick, Pick),
    Leave(Pick, usize),
    Answer(Pick, bool),
    Full(Pick),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let texts = [
        r#"{"type":"heartbeat","timestamp":1}"#,
        r#"{"type":"heartbeat","timestamp":1}"#,
        r#"{"type":"member_list","timestamp":1}"#,
        r#"{"type":"ping","timestamp":1}"#,
        r#"{"type":"leave","timestamp":1}"#,
        "nonsense",
    ];
    prop_oneof![
        4 => Just(Step::Open),
        6 => (who.clone(), 0..2usize, 0..5usize, any::<bool>())
            .prop_map(|(who, session, device, host)| Step::Join { who, session, device, host }),
        6 => (who.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(who, text)| Step::Say(who, text)),
        1 => (who.clone(), who.clone()).prop_map(|(who, whom)| Step::Kick(who, whom)),
        2 => (who.clone(), 0..ENDINGS.len()).prop_map(|(who, how)| Step::Leave(who, how)),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, alive)| Step::Answer(who, alive)),
        1 => who.prop_map(Step::Full),
        3 => prop_oneof![0..2000u64, 0..20_000u64].prop_map(Step::Wait),
    ]
}

/// Members by id, each with whether it is connected.
type List = BTreeMap<String, bool>;

/// What the clients know.
#[derive(Default)]
struct Known {
    /// Who was welcomed to which session, as whom, and is there still.
    members: HashMap<u64, (String, String)>,
    /// Each member's list, kept up to date by what it is told.
    seen: HashMap<u64, List>,
    /// The session of each id that was ever given.
    ids: HashMap<String, String>,
}

struct World {
    crowd: Crowd<Loudsync>,
    known: Known,
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                let lines = self.crowd.opens("/").unwrap();
                self.known.look(&lines);
            }
            Step::Join {
                who,
                session,
                device,
                host,
            } => {
                let kind = if host { "host" } else { "client" };
                let info = json!({"id": format!("device {device}"), "name": "N", "type": kind});
                let join = json!({
                    "type": "join", "timestamp": 1, "sessionId": format!("s{session}"),
                    "deviceInfo": info,
                });
                self.says(who, &join.to_string());
            }
            Step::Say(who, text) => self.says(who, text),
            Step::Kick(who, whom) => {
                let ids: Vec<&String> = self.known.members.values().map(|(_, id)| id).collect();
                let id = ids
                    .get(whom % ids.len().max(1))
                    .copied()
                    .cloned()
                    .unwrap_or_default();
                let kick = json!({"type": "kick", "timestamp": 1, "memberId": id});
                self.says(who, &kick.to_string());
            }
            Step::Leave(who, how) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.leaves(who, ENDINGS[how]);
                }
            }
            Step::Answer(who, alive) => {
                let lines = self.crowd.answers(who, alive);
                self.known.look(&lines);
            }
            Step::Full(who) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.crowd.desk.is_full(who);
                }
            }
            Step::Wait(millis) => self.waits(Duration::from_millis(millis)),
        }
    }

    fn says(&mut self, who: Pick, text: &str) {
        if let Some(who) = self.crowd.someone(who) {
            let lines = self.crowd.says(who, text);
            self.known.look(&lines);
        }
    }

    fn leaves(&mut self, who: u64, how: Ending) {
        self.known.members.remove(&who);
        let lines = self.crowd.leaves(who, how);
        self.known.look(&lines);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.crowd.waits(time);
        self.known.look(&lines);
    }

    /// What everybody was told adds up to what everybody would be told now.
    fn agrees(&mut self) {
        let members: Vec<u64> = self.known.members.keys().copied().collect();
        for who in members {
            // Another's question may have been its end.
            if !self.known.members.contains_key(&who) {
                continue;
            }
            let told = self.known.seen[&who].clone();
            let lines = self
                .crowd
                .says(who, r#"{"type":"member_list","timestamp":1}"#);
            self.known.look(&lines);
            // It may have had no room for the answer.
            let Some((session, _)) = self.known.members.get(&who) else {
                continue;
            };
            let list = &self.known.seen[&who];
            assert_eq!(&told, list, "as {who} sees it");
            let mut connected: Vec<&String> = self
                .known
                .members
                .values()
                .filter(|(of, _)| of == session)
                .map(|(_, id)| id)
                .collect();
            connected.sort();
            let shown = list.iter().filter(|(_, connected)| **connected);
            assert_eq!(connected, shown.map(|(id, _)| id).collect::<Vec<_>>());
        }
    }

    fn ends(mut self) {
        while let Some(who) = self.crowd.someone(0) {
            self.leaves(who, Ending::Lost);
        }
        self.waits(Duration::from_secs(15));
        assert!(self.crowd.desk.realm.is_empty());
    }
}

impl Known {
    fn look(&mut self, lines: &[String]) {
        for line in lines {
            match fate(line) {
                (who, Fate::Asked) => assert!(self.members.contains_key(&who), "{line}"),
                (who, Fate::Closed) => {
                    self.members.remove(&who);
                }
                (who, Fate::Text(text)) => self.reads(who, &serde_json::from_str(text).unwrap()),
            }
        }
    }

    fn reads(&mut self, who: u64, message: &Value) {
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
            self.members.insert(who, (session, id));
            return;
        }
        if ["error", "pong"].contains(&kind) {
            return;
        }
        let (session, me) = self.members.get(&who).expect("a member");
        match kind {
            "member_list" => {
                let mut list = List::new();
                let mut hosts = 0;
                for member in message["members"].as_array().unwrap() {
                    let id = text(&member["id"]);
                    assert_eq!(self.ids.get(&id), Some(session));
                    hosts += u32::from(member["isHost"] == true);
                    let connected = member["connectionStatus"] == "connected";
                    assert_eq!(list.insert(id, connected), None, "twice in a list");
                }
                assert_eq!(hosts, 1);
                assert_eq!(list.get(me), Some(&true));
                self.seen.insert(who, list);
            }
            "member_joined" => {
                let joined = text(&message["member"]["id"]);
                // The others hear of a newcomer before it is welcomed.
                let of = self.ids.entry(joined.clone()).or_insert(session.clone());
                assert_eq!(of, session);
                assert_eq!(self.seen.get_mut(&who).unwrap().insert(joined, true), None);
            }
            "member_left" => {
                let left = text(&message["memberId"]);
                assert_eq!(self.ids.get(&left), Some(session));
                assert!(self.seen.get_mut(&who).unwrap().remove(&left).is_some());
            }
            "kicked" | "session_closed" => {}
            other => panic!("{other}"),
        }
    }
}

proptest! {
    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World {
            crowd: Crowd::new(json!({"max_members": 3})),
            known: Known::default(),
        };
        for step in &steps {
            world.take(step);
        }
        // Lists that were held back come within a second.
        world.waits(Duration::from_secs(1));
        world.agrees();
        world.ends();
    }
}
