//! Workspace: one room, in which everybody hears everything.
//!
//! Every message has a place in one order, that of the ids, and everybody who is in the room from
//! before it was said until a moment of quiet has heard all of them, without a gap, its own
//! included. What somebody believes of another is the last word that it heard of that one; it must
//! be right about all who came, went, or said what they do after it had come itself. The newer
//! dialect hears `userCount` instead.

use crate::client_task::{Broken, Person, Say};
use crate::connection::{End, Farewell};
use crate::expectations::accepted_rate::{Accepted, MINUTE};
use crate::expectations::workspace::{Doing, Member, ORDER, Room, Said, name};
use crate::shared_state::{Chance, GLANCE, Protocol, Ticket, World, origin, text};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

/// Messages of one user in a minute, as the document has it.
const LIMIT: usize = 100;

const RATE: &str = "100 messages a minute, and not more";

/// One of them.
pub struct Guest {
    world: Rc<World>,
    room: Rc<RefCell<Room>>,
    index: usize,
    is_newer: bool,
    chance: Chance,
    began: Ticket,
    generation: u64,
    number: u64,
    /// What it said and has not heard itself.
    unheard: VecDeque<(u64, Instant)>,
    /// When it said something in the last minute and a bit.
    sent: VecDeque<Instant>,
    /// When it said the last so many that were accepted.
    accepted: Accepted,
    due: Instant,
}

impl Guest {
    pub fn new(world: &Rc<World>, room: &Rc<RefCell<Room>>, index: usize) -> Self {
        Self {
            world: Rc::clone(world),
            room: Rc::clone(room),
            index,
            is_newer: index % 3 == 2,
            chance: world.chance(Protocol::Workspace, index + (1 << 20)),
            began: 0,
            generation: 0,
            number: 0,
            unheard: VecDeque::new(),
            sent: VecDeque::new(),
            accepted: Accepted::default(),
            due: Instant::now(),
        }
    }

    fn settles(&mut self) {
        let life = self.world.ticket();
        let mut room = self.room.borrow_mut();
        let member = &mut room.members[self.index];
        let (words, count) = (std::mem::take(&mut member.words), member.count.take());
        *member = Member {
            life,
            came: (self.began, life),
            is_newer: self.is_newer,
            doing: Doing {
                status: "online".to_owned(),
                typing: false,
            },
            words,
            count,
            first: member.first,
            last: member.last,
            heard: member.heard,
            ..Member::default()
        };
    }

    fn speaks(&mut self, say: &mut Say) {
        self.number += 1;
        let letters = self.chance.below(120);
        let mut room = self.room.borrow_mut();
        let last = room.members[self.index].last;
        let replies = self.is_newer && last != 0 && self.chance.once_in(4);
        let reply_to = replies.then(|| format!("msg_{last}"));
        let said = Said {
            at: self.world.ticket(),
            life: room.members[self.index].life,
            letters,
            reply_to: reply_to.clone(),
            id: None,
            refused: false,
        };
        room.said.insert((self.index, self.number), said);
        let text = text(self.index, self.number, letters);
        let now = Instant::now();
        self.unheard.push_back((self.number, now));
        self.sent.push_back(now);
        self.sent.retain(|at| now < *at + MINUTE * 2);
        self.world.report.sent(Protocol::Workspace);
        say.push(match (self.is_newer, reply_to) {
            (false, _) => json!({"type": "message:send", "text": text}).to_string(),
            (_, None) => json!({"type": "message", "text": text}).to_string(),
            (_, id) => json!({"type": "message", "text": text, "replyTo": id}).to_string(),
        });
    }

    fn hears_message(&mut self, data: &Value) -> Result<(), Broken> {
        let strange = || ("messages come as they were sent", format!("{data}"));
        let content = data["text"].as_str().unwrap_or_default();
        let (who, number) = origin(content).ok_or_else(strange)?;
        let id = data["id"].as_str().and_then(|id| id.strip_prefix("msg_"));
        let id: u64 = id.and_then(|id| id.parse().ok()).ok_or_else(strange)?;
        let mut room = self.room.borrow_mut();
        room.heard(self.index, id, who, number)?;
        let said = &room.said[&(who, number)];
        // Those who speak as the document does are not told what a message answers.
        let knows = self.is_newer && room.members[self.index].life != 0;
        let reply_to = said.reply_to.as_ref().filter(|_| knows);
        let expected = json!([name(who), text(who, number, said.letters), reply_to]);
        let is_same = json!([data["username"], data["text"], data["replyTo"]]) == expected;
        drop(room);
        self.world.report.received(Protocol::Workspace);
        if !is_same {
            let seen = format!("{data} instead of {expected}");
            return Err(("messages come as they were sent", seen));
        }
        if who == self.index {
            return self.is_accepted(number);
        }
        Ok(())
    }

    /// It hears itself.
    fn is_accepted(&mut self, number: u64) -> Result<(), Broken> {
        let Some((_, sent)) = self.unheard.pop_front().filter(|(it, _)| *it == number) else {
            return Err((ORDER, format!("{} hears itself say {number}", self.index)));
        };
        if let Some(time) = self.accepted.add(sent, LIMIT) {
            self.world.report.checked(RATE);
            if time < MINUTE {
                return Err((RATE, format!("{} in {time:?}", LIMIT + 1)));
            }
        }
        Ok(())
    }

    fn is_refused(&mut self, error: &Value) -> Result<(), Broken> {
        let unexpected = || ("nothing is refused without a reason", format!("{error}"));
        if error["code"] != "RATE_LIMITED" {
            return Err(unexpected());
        }
        self.world.report.checked(RATE);
        let (number, at) = self.unheard.pop_front().ok_or_else(unexpected)?;
        if let Some(said) = self.room.borrow_mut().said.get_mut(&(self.index, number)) {
            said.refused = true;
        }
        // With some time for what was on its way.
        let lately = |then: &&Instant| **then <= at && at < **then + MINUTE + MINUTE / 2;
        if self.sent.iter().filter(lately).count() <= LIMIT {
            return Err(unexpected());
        }
        Ok(())
    }

    fn hears_word(&mut self, message: &Value) -> Result<(), Broken> {
        let data = &message["data"];
        let username = data["username"].as_str().unwrap_or_default();
        // Made-up names are those of newer clients before they say who they are.
        if username == "visitor" || username.starts_with("User_") {
            return Ok(());
        }
        let who = username.strip_prefix('w').and_then(|who| who.parse().ok());
        let who: usize = who
            .filter(|who| *who < self.world.size)
            .ok_or_else(|| ("nobody is told of strangers", format!("{message}")))?;
        // The first message that is read decides which words a client is told.
        if who == self.index || self.is_newer && self.is_settled() {
            return Err(("nothing comes to others", format!("{message}")));
        }
        let mut room = self.room.borrow_mut();
        let word = room.members[self.index].words.entry(who).or_default();
        match data["isTyping"].as_bool() {
            Some(typing) => word.typing = typing,
            None => word.status = data["status"].as_str().unwrap_or_default().to_owned(),
        }
        Ok(())
    }

    /// Its first words, which make it this user.
    fn token(&self) -> String {
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = part(json!({"alg": "HS256", "typ": "JWT"}));
        format!(
            "{header}.{}.c2lnbmF0dXJl",
            part(json!({"username": name(self.index)}))
        )
    }
}

impl Person for Guest {
    const PROTOCOL: Protocol = Protocol::Workspace;

    fn target(&mut self) -> Option<String> {
        self.began = self.world.ticket();
        Some(if self.is_newer {
            "/ws".to_owned()
        } else {
            format!("/ws?username={}", name(self.index))
        })
    }

    fn arrives(&mut self, say: &mut Say) {
        let mut room = self.room.borrow_mut();
        let member = &mut room.members[self.index];
        member.words.clear();
        member.count = Value::Null;
        (member.first, member.last, member.heard) = (None, 0, 0);
        self.unheard.clear();
        if std::mem::replace(&mut self.generation, self.world.generation()) != self.generation {
            // A new daemon knows nothing of what was said to the old one.
            self.accepted.clear();
        }
        if self.is_newer {
            say.push(json!({"type": "auth", "token": self.token()}).to_string());
        }
    }

    fn is_settled(&self) -> bool {
        self.room.borrow().members[self.index].life != 0
    }

    fn hears(&mut self, seen: &str, _: &mut Say) -> Result<(), Broken> {
        let unknown = || ("only what the document has is said", seen.to_owned());
        let message: Value = serde_json::from_str(seen).map_err(|_| unknown())?;
        match message["type"].as_str().unwrap_or_default() {
            "connected" if !self.is_settled() => {
                if !self.is_newer {
                    self.settles();
                }
                Ok(())
            }
            "auth:ack" if self.is_newer && !self.is_settled() => {
                self.settles();
                Ok(())
            }
            "message:new" => self.hears_message(&message["data"]),
            "presence:update" | "typing:indicator" => self.hears_word(&message),
            "userCount" if self.is_newer => {
                let count = json!({"count": message["count"], "users": message["users"]});
                self.room.borrow_mut().members[self.index].count = count;
                Ok(())
            }
            "error" => self.is_refused(&message),
            _ => Err(unknown()),
        }
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn acts(&mut self, say: &mut Say) {
        let now = Instant::now();
        if self.world.is_quiet() {
            self.due = now + GLANCE * 5;
            return;
        }
        self.due = now + self.chance.seconds(8, 30);
        if !self.is_newer && self.chance.once_in(8) {
            let mut room = self.room.borrow_mut();
            let member = &mut room.members[self.index];
            if self.chance.once_in(2) {
                let status = ["online", "away", "busy"][self.chance.below(3)];
                member.doing.status = status.to_owned();
                member.did = self.world.ticket();
                say.push(json!({"type": "presence:update", "status": status}).to_string());
            } else {
                member.doing.typing = !member.doing.typing;
                member.typed = self.world.ticket();
                let typing = member.doing.typing;
                say.push(json!({"type": "typing:indicator", "isTyping": typing}).to_string());
            }
            return;
        }
        // Once in a while somebody says far too much.
        let many = if self.chance.once_in(4000) {
            self.world
                .report
                .fault("said more than is allowed in a minute");
            LIMIT + 8
        } else {
            1
        };
        (0..many).for_each(|_| self.speaks(say));
    }

    fn goes(&mut self, _: Farewell, _: &mut Say) {
        self.is_gone();
    }

    fn is_ended(&mut self, end: &End) -> Result<(), Broken> {
        match end {
            End::Closed(1001, _) => Ok(()),
            _ => Err(("nobody is sent away without a reason", format!("{end:?}"))),
        }
    }

    fn is_gone(&mut self) {
        let went = self.world.ticket();
        let mut room = self.room.borrow_mut();
        let member = &mut room.members[self.index];
        if std::mem::take(&mut member.life) != 0 {
            member.went = went;
        }
    }
}
