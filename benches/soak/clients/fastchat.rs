//! FastChat: people who see who is there, and write to each other in chats.
//!
//! Every MSG is answered, by MSG_ACK or ERROR. What is acknowledged is due to its receiver if that
//! one stays; what is refused must never come. As long as two people stay, their chat does, and
//! nothing between them is refused but for its rate. Who is there is what a client has that starts
//! from nothing at HELLO_ACK and merges each PRESENCE (the flat dialect: `update` is the list).

use crate::client_task::{Broken, Person, Say};
use crate::connection::{End, Farewell};
use crate::expectations::accepted_rate::{Accepted, MINUTE};
use crate::expectations::fastchat::{CHATS, PRESENCE, Town};
use crate::shared_state::{Chance, GLANCE, Protocol, Ticket, World, origin};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Messages of one user in a minute, as the document has it.
const LIMIT: usize = 60;
const PING_EVERY: Duration = Duration::from_secs(15);

const RATE: &str = "60 messages a minute, and not more";

/// One of them.
pub struct User {
    world: Rc<World>,
    town: Rc<RefCell<Town>>,
    index: usize,
    is_flat: bool,
    chance: Chance,
    life: Ticket,
    generation: u64,
    number: u64,
    /// To whom it writes, in which life of that one.
    partner: Option<(usize, Ticket)>,
    /// It has asked for a chat with its partner, and has no answer yet.
    asks: bool,
    pings: usize,
    pinged: Instant,
    due: Instant,
    /// When it sent something in the last minute and a bit.
    sent: VecDeque<(u64, Instant)>,
    /// When it sent the last so many that were accepted.
    accepted: Accepted,
}

impl User {
    pub fn new(world: &Rc<World>, town: &Rc<RefCell<Town>>, index: usize) -> Self {
        Self {
            world: Rc::clone(world),
            town: Rc::clone(town),
            index,
            is_flat: index % 2 == 1,
            chance: world.chance(Protocol::FastChat, index + (1 << 20)),
            life: 0,
            generation: 0,
            number: 0,
            partner: None,
            asks: false,
            pings: 0,
            pinged: Instant::now(),
            due: Instant::now(),
            sent: VecDeque::new(),
            accepted: Accepted::default(),
        }
    }

    /// A message in its dialect.
    fn message(&self, kind: &str, fields: Value) -> String {
        if !self.is_flat {
            return json!({"type": kind, "data": fields}).to_string();
        }
        let mut message = fields;
        message["type"] = json!(kind);
        message.to_string()
    }

    fn write(&mut self, to: usize, say: &mut Say) {
        let (letters, names) = (
            self.chance.below(200),
            !self.is_flat || !self.chance.once_in(10),
        );
        self.number += 1;
        let known = names.then_some(to);
        let mut town = self.town.borrow_mut();
        let content = town.post.send(self.index, self.number, known, letters);
        let id = format!("{}.{}", self.index, self.number);
        let mut fields = json!({"content": content, "message_id": id});
        if names {
            fields["to"] = json!(town.ids[to]);
        }
        drop(town);
        let now = Instant::now();
        self.sent.push_back((self.number, now));
        self.sent.retain(|(_, at)| now < *at + MINUTE * 2);
        self.world.report.sent(Protocol::FastChat);
        say.push(self.message("MSG", fields));
    }

    /// The number of one of its own messages.
    fn own_number(&self, id: &Value) -> Result<u64, Broken> {
        let id = id.as_str().unwrap_or_default();
        let number = id
            .split_once('.')
            .filter(|(who, _)| *who == self.index.to_string());
        let number = number.and_then(|(_, number)| number.parse().ok());
        number.ok_or_else(|| ("each message is answered once", format!("about {id:?}")))
    }

    fn is_acknowledged(&mut self, number: u64) -> Result<(), Broken> {
        self.town
            .borrow_mut()
            .post
            .answered(self.index, number, true)?;
        let sent = self.sent.iter().find(|(it, _)| *it == number);
        let Some((_, sent)) = sent.copied() else {
            return Ok(());
        };
        if let Some(time) = self.accepted.add(sent, LIMIT) {
            self.world.report.checked(RATE);
            if time < MINUTE {
                return Err((RATE, format!("{} in {time:?}", LIMIT + 1)));
            }
        }
        Ok(())
    }

    fn is_refused(&mut self, code: &str, details: &Value) -> Result<(), Broken> {
        let seen = || format!("{code} {details}");
        let unexpected = Err(("nothing is refused without a reason", seen()));
        if details["message_id"].is_null() {
            // TYPING has a limit, too, which chance may reach.
            if code == "RATE_LIMITED" && !self.asks {
                return Ok(());
            }
            let asked = std::mem::take(&mut self.asks);
            let stayed = self
                .partner
                .take()
                .is_some_and(|(who, life)| self.town.borrow().post.life(who) == life);
            return if asked && !stayed && code == "USER_NOT_FOUND" {
                Ok(())
            } else {
                unexpected
            };
        }
        let number = self.own_number(&details["message_id"])?;
        self.town
            .borrow_mut()
            .post
            .answered(self.index, number, false)?;
        if code == "RATE_LIMITED" {
            self.world.report.checked(RATE);
            let retry = details["retry_after_ms"].as_u64().unwrap_or_default();
            let at = self.sent.iter().find(|(it, _)| *it == number);
            let at = at.map_or_else(Instant::now, |(_, at)| *at);
            // With some time for what was on its way.
            let lately = |then: &Instant| at < *then + MINUTE + Duration::from_secs(30);
            let before = self
                .sent
                .iter()
                .filter(|(it, then)| *it < number && lately(then));
            if before.count() < LIMIT || !(1..=60_000).contains(&retry) {
                return unexpected;
            }
            return Ok(());
        }
        let town = self.town.borrow();
        let to = town.post.due_to(self.index, number);
        if to.is_some_and(|to| town.have_chat(self.index, to)) {
            return unexpected;
        }
        self.partner = None;
        Ok(())
    }

    fn partner_stayed(&self, town: &Town) -> bool {
        self.partner.is_some_and(|(who, life)| {
            town.post.life(who) == life && town.have_chat(self.index, who)
        })
    }

    fn sees(&mut self, fields: &Value) -> Result<(), Broken> {
        let mut town = self.town.borrow_mut();
        if fields["action"] == "update" {
            town.views[self.index].clear();
        }
        for entry in fields["users"].as_array().into_iter().flatten() {
            let who = town.who(&entry["user_id"])?;
            if entry["display_name"] != json!(name(who)) {
                return Err((PRESENCE, format!("{who} has another name: {entry}")));
            }
            if entry["online"] == true {
                town.views[self.index].insert(who);
            } else {
                town.views[self.index].remove(&who);
            }
        }
        Ok(())
    }

    fn receives(&mut self, fields: &Value, say: &mut Say) -> Result<(), Broken> {
        let from = if self.is_flat { "sender_id" } else { "from" };
        let from = self.town.borrow().who(&fields[from])?;
        let content = fields["content"].as_str().unwrap_or_default();
        let Some((author, number)) = origin(content) else {
            return Err(("nothing comes that nobody sent", format!("{fields}")));
        };
        let id = &fields["message_id"];
        if author != from || *id != json!(format!("{author}.{number}")) {
            return Err(("messages come as they were sent", format!("{fields}")));
        }
        let mut town = self.town.borrow_mut();
        if !self.is_flat && fields["to"] != json!(town.ids[self.index]) {
            return Err(("nothing comes to others", format!("{fields}")));
        }
        town.post.receive(from, number, self.index, content)?;
        drop(town);
        self.world.report.received(Protocol::FastChat);
        if !self.is_flat {
            say.push(self.message("MSG_ACK", json!({"message_id": id})));
        }
        Ok(())
    }

    fn is_in_chat(&mut self, fields: &Value, say: &mut Say) -> Result<(), Broken> {
        let mut town = self.town.borrow_mut();
        let other = town.who(&fields["target_user_id"])?;
        let me = json!(town.ids[self.index]);
        let them = json!(town.ids[other]);
        let both = fields["participants"].as_array();
        if !both.is_some_and(|both| both.len() == 2 && both.contains(&me) && both.contains(&them)) {
            return Err((CHATS, format!("{fields}")));
        }
        town.opened(
            self.index,
            other,
            fields["chat_id"].as_str().unwrap_or_default(),
        )?;
        self.world.report.checked(CHATS);
        drop(town);
        if self.asks && self.partner.is_some_and(|(who, _)| who == other) {
            self.asks = false;
            self.write(other, say);
        }
        Ok(())
    }

    fn seeks_partner(&mut self, say: &mut Say) {
        let town = self.town.borrow();
        let there: Vec<usize> = town.post.present().filter(|it| *it != self.index).collect();
        if there.is_empty() {
            return;
        }
        let who = there[self.chance.below(there.len())];
        let ask = json!({"target_user_id": town.ids[who], "target_display_name": name(who)});
        self.partner = Some((who, town.post.life(who)));
        drop(town);
        self.asks = true;
        say.push(self.message("OPEN_CHAT", ask));
    }
}

fn name(who: usize) -> String {
    format!("Citizen {who}")
}

impl Person for User {
    const PROTOCOL: Protocol = Protocol::FastChat;

    fn target(&mut self) -> Option<String> {
        Some("/ws".to_owned())
    }

    fn arrives(&mut self, say: &mut Say) {
        self.life = 0;
        self.partner = None;
        self.asks = false;
        self.pings = 0;
        if std::mem::replace(&mut self.generation, self.world.generation()) != self.generation {
            // A new daemon knows nothing of what was said to the old one.
            self.accepted.clear();
        }
        let id = self.town.borrow().ids[self.index];
        let hello = json!({"user_id": id, "display_name": name(self.index)});
        say.push(self.message("HELLO", hello));
    }

    fn is_settled(&self) -> bool {
        self.life != 0
    }

    fn hears(&mut self, seen: &str, say: &mut Say) -> Result<(), Broken> {
        let unknown = || ("only what the document has is said", seen.to_owned());
        let message: Value = serde_json::from_str(seen).map_err(|_| unknown())?;
        let fields = if self.is_flat {
            &message
        } else {
            &message["data"]
        };
        match message["type"].as_str().unwrap_or_default() {
            "HELLO_ACK" if self.life == 0 => {
                self.life = self.world.ticket();
                let mut town = self.town.borrow_mut();
                town.views[self.index].clear();
                town.post.set_life(self.index, self.life);
                if fields["user_id"] == json!(town.ids[self.index]) {
                    Ok(())
                } else {
                    Err(("everybody gets in", seen.to_owned()))
                }
            }
            "PRESENCE" if self.life != 0 => self.sees(fields),
            "CHAT_OPENED" if self.life != 0 => self.is_in_chat(fields, say),
            "MSG" if self.life != 0 => self.receives(fields, say),
            "MSG_ACK" => {
                let number = self.own_number(&fields["message_id"])?;
                self.is_acknowledged(number)
            }
            "TYPING" => {
                let who = self.town.borrow().who(&fields["user_id"])?;
                let chats = &self.town.borrow().chats;
                let pair = (who.min(self.index), who.max(self.index));
                if chats.contains_key(&pair) {
                    Ok(())
                } else {
                    Err(("nothing comes to others", seen.to_owned()))
                }
            }
            "PONG" if self.pings > 0 => {
                self.pings -= 1;
                self.world.report.checked("PING is answered by PONG");
                Ok(())
            }
            "ERROR" if self.life != 0 => {
                let key = if self.is_flat { "error_code" } else { "code" };
                let code = fields[key].as_str().unwrap_or_default();
                self.is_refused(code, &fields["details"])
            }
            _ => Err(unknown()),
        }
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn acts(&mut self, say: &mut Say) {
        let now = Instant::now();
        if now >= self.pinged + PING_EVERY {
            self.pinged = now;
            self.pings += 1;
            say.push(self.message("PING", json!({})));
        }
        if self.world.is_quiet() {
            self.due = now + GLANCE * 5;
            return;
        }
        self.due = now + self.chance.seconds(4, 14);
        let partner_stayed = self.partner_stayed(&self.town.borrow());
        match self.partner {
            _ if self.asks => {}
            Some((who, _)) if partner_stayed && !self.chance.once_in(8) => {
                if self.chance.once_in(4) {
                    let is_typing = self.chance.once_in(2);
                    let to = self.town.borrow().ids[who];
                    let typing = json!({"is_typing": is_typing, "to": to});
                    say.push(self.message("TYPING", typing));
                }
                // Once in a while somebody says far too much.
                let many = if self.chance.once_in(400) {
                    self.world
                        .report
                        .fault("said more than is allowed in a minute");
                    LIMIT + 8
                } else {
                    1 + self.chance.below(2)
                };
                (0..many).for_each(|_| self.write(who, say));
            }
            _ => self.seeks_partner(say),
        }
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
        self.life = 0;
        self.town.borrow_mut().post.set_life(self.index, 0);
    }
}
