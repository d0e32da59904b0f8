//! FastChat: users who see who is there, and talk in pairs.
//!
//! A user is a UUID that a client says is its own ("HELLO"); there are no accounts. What belongs
//! to a user and not to its connection, chats and rates, outlives a short absence.

mod news;
mod wire;

use crate::close::{Close, Ending};
use crate::doorstep::Doorstep;
use crate::frame::Frame;
use crate::json::of_length;
use crate::rate::{SPAN, Window};
use crate::realm::{
    ConnectionId, Context, Defaults, Hello, Message, Realm, Receipt, Refusal, WhenFull, at_least,
};
use crate::remembered::Remembered;
use news::{Change, News};
use serde::{Deserialize, Serialize};
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;
use wire::{Code, Mistake, Outgoing, Status, UserEntry};
pub use wire::{Command, Introduction, Msg, Typing};

/// The fewest characters of a display name ("Content Limits").
const SHORTEST_NAME: usize = 3;

/// What the configuration may say about a FastChat listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds from the handshake to HELLO; 0: no limit.
    hello_timeout: u32,
    /// Seconds that a connection has for a sign of life when its user comes again elsewhere.
    takeover_timeout: u32,
    /// Seconds after which a user who went is forgotten, and its chats end.
    absence: u32,
    /// MSG of one user in a minute ("Rate Limiting"); 0: no limit.
    messages_per_minute: u32,
    /// TYPING of one user in a minute ("Rate Limiting"); 0: no limit.
    typing_per_minute: u32,
    /// PING of one user in a minute; 0: no limit.
    pings_per_minute: u32,
    /// Up to this many users a change of who is online is sent as the whole list; 0: always.
    presence_list_up_to: u32,
    /// Characters of a message ("Content Limits").
    message_length: u32,
    /// Characters of a display name ("Content Limits").
    display_name_length: u32,
    /// Chats that one user has opened and that have not ended; 0: no limit.
    chats_per_user: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hello_timeout: 10,
            takeover_timeout: 5,
            absence: 60,
            messages_per_minute: 60,
            typing_per_minute: 10,
            pings_per_minute: 60,
            presence_list_up_to: 200,
            message_length: 1000,
            display_name_length: 50,
            chats_per_user: 100,
        }
    }
}

/// Somebody who is online.
struct User {
    connection: ConnectionId,
    name: String,
    /// How many changes of who is online it has been told of; none before its first list.
    told: Option<u64>,
    /// To whom it is typing, on which connection of theirs.
    typing: Option<(Uuid, ConnectionId)>,
    lasting: Lasting,
}

/// What of a user outlives a short absence.
#[derive(Default)]
struct Lasting {
    /// By the partner. The partner has an entry, too.
    chats: BTreeMap<Uuid, Chat>,
    /// The partner of the chat used last.
    partner: Option<Uuid>,
    messages: Window,
    typing: Window,
    pings: Window,
}

/// One side of a chat.
struct Chat {
    id: Uuid,
    /// It was this side that asked for it.
    asked: bool,
}

/// The users of one listener.
pub struct FastChat {
    options: Options,
    doorstep: Doorstep<Introduction>,
    /// Who said HELLO as whom.
    connections: BTreeMap<ConnectionId, Uuid>,
    users: BTreeMap<Uuid, User>,
    gone: Remembered<Uuid, Lasting>,
    news: News,
}

impl Realm for FastChat {
    const NAME: &'static str = "fastchat";
    const ENDPOINT: &'static str = "/ws";
    const DEFAULTS: Defaults = Defaults {
        port: 8000,
        // "Origin validation on connection" ("CORS").
        origins: &["same-host"],
        handshake_timeout: 10,
        max_message_size: 64 << 10,
        ping_every: 0,
    };
    const WHEN_FULL: WhenFull = WhenFull::CloseReader;

    type Options = Options;
    type Reader = ();
    type Command = Command;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        // Who is forgotten sooner could go over a limit, go, and come back without it.
        let absence = SPAN.as_secs() as u32;
        let name = options.display_name_length;
        at_least(&[
            ("takeover_timeout", options.takeover_timeout, 1, "seconds"),
            ("absence", options.absence, absence, "seconds"),
            ("message_length", options.message_length, 1, "characters"),
            (
                "display_name_length",
                name,
                SHORTEST_NAME as u32,
                "characters",
            ),
        ])?;
        let patience = Duration::from_secs(options.hello_timeout.into());
        Ok(Self {
            options,
            doorstep: Doorstep::new(patience),
            connections: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: Remembered::default(),
            news: News::default(),
        })
    }

    fn serves(path: &str) -> bool {
        path == Self::ENDPOINT
    }

    fn decode((): &mut (), message: Message) -> Option<Command> {
        Some(wire::read(message).unwrap_or_else(Command::Wrong))
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, _: Hello) -> Result<(), Refusal> {
        self.doorstep.arrive(cx.now, who);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: Command) {
        let done = match self.connections.get(&who) {
            Some(&user) => self.obey(cx, user, command),
            None => self.admit(cx, who, command),
        };
        if let Err(mistake) = done {
            tell(cx, who, &Outgoing::Error(mistake));
        }
        self.spread_news(cx);
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, _: Ending) {
        self.doorstep.leave(who);
        self.part(cx, who);
        self.spread_news(cx);
    }

    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool) {
        if alive {
            for (claimant, _) in self.doorstep.claimants(who) {
                let mistake = Mistake::new(Code::Unauthorized, "user is connected");
                tell(cx, claimant, &Outgoing::Error(mistake.at("user_id")));
                cx.close(claimant, Close::UserConnected);
            }
        } else if self.doorstep.is_claimed(who) {
            // With its end the place is free, and the claimants try again.
            cx.close(who, Close::Replaced);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        for who in self.doorstep.overdue(cx.now) {
            let mistake = Mistake::new(Code::Unauthorized, "no HELLO in time");
            tell(cx, who, &Outgoing::Error(mistake));
            cx.close(who, Close::NotIntroduced);
        }
        let absence = Duration::from_secs(self.options.absence.into());
        while let Some((user, lasting)) = self.gone.forget(cx.now, absence) {
            self.end_chats(user, lasting);
        }
        self.spread_news(cx);
    }
}

impl FastChat {
    /// Does what somebody wants who has not been let in.
    fn admit(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        command: Command,
    ) -> Result<(), Mistake> {
        match command {
            Command::Hello(_) if self.doorstep.is_claimant(who) => Err(hello_again()),
            _ if self.doorstep.is_claimant(who) => {
                let message = "wait: the connection that this user has is being asked";
                Err(Mistake::new(Code::Unauthorized, message))
            }
            Command::Hello(introduction) => {
                let introduction = introduction?;
                let longest = self.options.display_name_length as usize;
                let name = &introduction.display_name;
                of_length(name, "display_name", SHORTEST_NAME, longest)?;
                self.hello(cx, who, introduction);
                Ok(())
            }
            Command::Wrong(mut mistake) => {
                mistake.code = Code::Unauthorized;
                mistake.message = format!("HELLO comes first; besides, {}", mistake.message);
                Err(mistake)
            }
            _ => Err(Mistake::new(Code::Unauthorized, "HELLO comes first")),
        }
    }

    /// Lets somebody in, unless that user is connected: then that connection is asked first.
    fn hello(&mut self, cx: &mut Context, who: ConnectionId, introduction: Introduction) {
        if let Some(user) = self.users.get(&introduction.user_id) {
            let patience = Duration::from_secs(self.options.takeover_timeout.into());
            cx.probe(user.connection, patience);
            self.doorstep.claim(who, user.connection, introduction);
            return;
        }
        let Introduction {
            user_id,
            display_name,
        } = introduction;
        self.doorstep.leave(who);
        self.connections.insert(who, user_id);
        self.news.add(user_id, display_name.clone(), true);
        let user = User {
            connection: who,
            name: display_name,
            told: None,
            typing: None,
            lasting: self.gone.come_back(&user_id).unwrap_or_default(),
        };
        self.users.insert(user_id, user);
        let status = Status::Connected;
        tell(cx, who, &Outgoing::HelloAck { user_id, status });
        // Long lists wait for the next news, so that all who came meanwhile share one.
        if self.is_list_short() {
            tell(cx, who, &self.everybody([]));
            self.user(user_id).told = Some(self.news.count());
        }
    }

    /// Whether everybody can be told the whole list at each change.
    fn is_list_short(&self) -> bool {
        let up_to = self.options.presence_list_up_to as usize;
        up_to == 0 || self.users.len() <= up_to
    }

    /// A user's connection is gone. Whoever waits for its place may try again.
    fn part(&mut self, cx: &mut Context, who: ConnectionId) {
        let Some(id) = self.connections.remove(&who) else {
            return;
        };
        self.stop_typing(cx, id);
        if let Some(user) = self.users.remove(&id) {
            self.news.add(id, user.name, false);
            if let Some((forgotten, lasting)) = self.gone.remember(cx.now, id, user.lasting) {
                self.end_chats(forgotten, lasting);
            }
        }
        for (claimant, introduction) in self.doorstep.claimants(who) {
            self.hello(cx, claimant, introduction);
        }
    }

    /// Somebody who has a connection.
    fn user(&mut self, id: Uuid) -> &mut User {
        let user = self.users.get_mut(&id);
        user.expect("a user is online as long as its connection is noted")
    }

    /// Does what a user wants.
    fn obey(&mut self, cx: &mut Context, id: Uuid, command: Command) -> Result<(), Mistake> {
        match command {
            Command::Hello(_) => Err(hello_again()),
            Command::OpenChat { target } => self.open_chat(cx, id, target),
            Command::Msg(msg) => self.pass_on(cx, id, msg),
            // "The target's own MSG_ACK … is accepted in silence" (rulings).
            Command::MsgAck => Ok(()),
            Command::Typing(typing) => self.type_to(cx, id, typing),
            Command::Ping => self.pong(cx, id),
            Command::Wrong(mistake) => Err(mistake),
        }
    }

    fn open_chat(&mut self, cx: &mut Context, asker: Uuid, target: Uuid) -> Result<(), Mistake> {
        let field = "target_user_id";
        if asker == target {
            let mistake = Mistake::new(Code::Validation, "a chat takes two; this is yourself");
            return Err(mistake.at(field));
        }
        let other = self.users.get(&target).ok_or_else(|| {
            Mistake::new(Code::UserNotFound, "there is nobody online of that id").at(field)
        })?;
        let (other_name, other_connection) = (other.name.clone(), other.connection);
        let limit = self.options.chats_per_user;
        let absence = Duration::from_secs(self.options.absence.into());
        let user = self.user(asker);
        let participants = [asker, target];
        let to_asker = |chat_id| Outgoing::ChatOpened {
            chat_id,
            participants,
            target_user_id: target,
            target_display_name: &other_name,
        };
        if let Some(chat) = user.lasting.chats.get(&target) {
            tell(cx, user.connection, &to_asker(chat.id));
            user.lasting.partner = Some(target);
            return Ok(());
        }
        let asked = user.lasting.chats.values().filter(|chat| chat.asked);
        if limit > 0 && asked.count() >= limit as usize {
            let message = format!("you have opened {limit} chats, and none of them has ended");
            let mistake = Mistake::new(Code::RateLimited, message).at(field);
            return Err(mistake.retry_after(absence));
        }
        let id = cx.uuid();
        user.lasting.chats.insert(target, Chat { id, asked: true });
        user.lasting.partner = Some(target);
        tell(cx, user.connection, &to_asker(id));
        let to_other = Outgoing::ChatOpened {
            chat_id: id,
            participants,
            target_user_id: asker,
            target_display_name: &user.name,
        };
        tell(cx, other_connection, &to_other);
        let other = &mut self.user(target).lasting;
        other.chats.insert(asker, Chat { id, asked: false });
        // Being asked does not turn anybody's TYPING away from whom it went to.
        other.partner.get_or_insert(asker);
        Ok(())
    }

    fn pass_on(&mut self, cx: &mut Context, from: Uuid, msg: Msg) -> Result<(), Mistake> {
        let Msg {
            to,
            content,
            message_id,
        } = msg;
        let about = |mistake: Mistake| mistake.about(message_id.clone());
        of_length(&content, "content", 1, self.options.message_length as usize)
            .map_err(|malformed| about(malformed.into()))?;
        let limit = self.options.messages_per_minute;
        let user = self.user(from);
        let counted = user.lasting.messages.take(cx.now, limit);
        counted.map_err(|wait| about(Mistake::too_often("messages", limit, wait)))?;
        let failed = |code, message: &str| about(Mistake::new(code, message).at("to"));
        let has_chat = user.lasting.chats.contains_key(&to);
        let sender = user.connection;
        let target = match self.users.get_mut(&to) {
            None if !self.gone.knows(&to) => {
                return Err(failed(Code::UserNotFound, "there is nobody of that id"));
            }
            _ if !has_chat => {
                let message = "you have no chat with this user; OPEN_CHAT comes first";
                return Err(failed(Code::ChatNotOpened, message));
            }
            None => return Err(failed(Code::MessageFailed, "this user is not online")),
            Some(target) => target,
        };
        target.lasting.partner = Some(from);
        let reader = target.connection;
        let message_id = message_id.unwrap_or_else(|| cx.uuid().to_string());
        let message = Outgoing::Msg {
            from,
            to,
            content: &content,
            message_id: &message_id,
            timestamp: cx.timestamp(),
        };
        let lost = Mistake::new(
            Code::MessageFailed,
            "this user is gone, or has not taken what was sent to it before",
        );
        let receipt = Receipt {
            to: sender,
            delivered: Some(Frame::json(&Outgoing::MsgAck {
                message_id: &message_id,
                status: Status::Delivered,
            })),
            failed: Some(Frame::json(&Outgoing::Error(
                lost.at("to").about(Some(message_id.clone())),
            ))),
        };
        cx.deliver(reader, Frame::json(&message), receipt);
        self.user(from).lasting.partner = Some(to);
        Ok(())
    }

    fn type_to(&mut self, cx: &mut Context, from: Uuid, typing: Typing) -> Result<(), Mistake> {
        let Typing { is_typing, to } = typing;
        let user = self.user(from);
        let told = user.typing;
        // A TYPING that ends goes where it began, whatever was said to others meanwhile.
        let begun = told.filter(|_| !is_typing).map(|(partner, _)| partner);
        let partner = to.or(begun).or(user.lasting.partner);
        let partner = partner.filter(|partner| user.lasting.chats.contains_key(partner));
        let Some(partner) = partner else {
            let mistake = Mistake::new(Code::ChatNotOpened, "you have no such chat to type in");
            return Err(if to.is_some() {
                mistake.at("to")
            } else {
                mistake
            });
        };
        let limit = self.options.typing_per_minute;
        if !is_typing {
            if told.is_some_and(|(told, _)| told == partner) {
                // It counts, but passes in any case.
                let _ = self.user(from).lasting.typing.take(cx.now, limit);
                self.stop_typing(cx, from);
            }
            return Ok(());
        }
        // Who is away cannot be told, and will not have been.
        let Some(reader) = self.users.get(&partner).map(|user| user.connection) else {
            return Ok(());
        };
        if told == Some((partner, reader)) {
            return Ok(());
        }
        let counted = self.user(from).lasting.typing.take(cx.now, limit);
        counted.map_err(|wait| Mistake::too_often("TYPING", limit, wait))?;
        if told.is_some_and(|(told, _)| told != partner) {
            self.stop_typing(cx, from);
        }
        self.user(from).typing = Some((partner, reader));
        tell_typing(cx, reader, from, true);
        Ok(())
    }

    /// Tells whoever was told that somebody types that this is over, wherever that one is now.
    fn stop_typing(&mut self, cx: &mut Context, id: Uuid) {
        let Some((partner, _)) = self.user(id).typing.take() else {
            return;
        };
        if let Some(partner) = self.users.get(&partner) {
            tell_typing(cx, partner.connection, id, false);
        }
    }

    fn pong(&mut self, cx: &mut Context, id: Uuid) -> Result<(), Mistake> {
        let limit = self.options.pings_per_minute;
        let user = self.user(id);
        let counted = user.lasting.pings.take(cx.now, limit);
        counted.map_err(|wait| Mistake::too_often("PING", limit, wait))?;
        let timestamp = cx.timestamp();
        tell(cx, user.connection, &Outgoing::Pong { timestamp });
        Ok(())
    }

    /// Ends the chats of somebody who is forgotten.
    fn end_chats(&mut self, user: Uuid, lasting: Lasting) {
        for partner in lasting.chats.into_keys() {
            let online = self.users.get_mut(&partner).map(|user| &mut user.lasting);
            if let Some(other) = online.or_else(|| self.gone.get_mut(&partner)) {
                other.chats.remove(&user);
                other.partner.take_if(|last| *last == user);
            }
            if let Some(other) = self.users.get_mut(&partner) {
                other.typing.take_if(|(to, _)| *to == user);
            }
        }
    }

    /// The list of everybody online, with these besides.
    fn everybody<'a>(&'a self, others: impl IntoIterator<Item = UserEntry<'a>>) -> Outgoing<'a> {
        let online = self.users.iter().map(|(&user_id, user)| UserEntry {
            user_id,
            display_name: &user.name,
            online: true,
        });
        Outgoing::Presence {
            users: online.chain(others).collect(),
        }
    }

    /// Tells everybody who does not know yet who came and who went, if it is time for it.
    fn spread_news(&mut self, cx: &mut Context) {
        let Some((changes, before)) = self.news.due(cx.now) else {
            return;
        };
        let is_list_short = self.is_list_short();
        let news = |wanted: fn(&Change) -> bool| {
            let changes = changes.iter().filter(|(_, change)| wanted(change));
            let entries: Vec<UserEntry> = changes
                .map(|(&user_id, change)| UserEntry {
                    user_id,
                    display_name: &change.name,
                    online: change.online,
                })
                .collect();
            (!entries.is_empty()).then(|| {
                Frame::json(&if is_list_short {
                    self.everybody(entries.into_iter().filter(|entry| !entry.online))
                } else {
                    Outgoing::Presence { users: entries }
                })
            })
        };
        let list = LazyCell::new(|| Frame::json(&self.everybody([])));
        let all = LazyCell::new(|| news(|_| true));
        let lasting = LazyCell::new(|| news(|change| !change.passed_by()));
        let now = self.news.count();
        for user in self.users.values() {
            let frame = match user.told {
                None => Some(list.clone()),
                Some(told) if told == now => None,
                // Its list may have had somebody in it who came and went.
                Some(told) if told > before => all.clone(),
                Some(_) => lasting.clone(),
            };
            if let Some(frame) = frame {
                cx.send(user.connection, frame);
            }
        }
        for user in self.users.values_mut() {
            user.told = Some(now);
        }
    }

    /// Whether nothing is kept of anybody.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.doorstep.is_empty()
            && self.connections.is_empty()
            && self.users.is_empty()
            && self.gone.is_empty()
            && self.news.is_empty()
    }
}

fn tell(cx: &mut Context, to: ConnectionId, message: &Outgoing) {
    cx.send(to, Frame::json(message));
}

fn tell_typing(cx: &mut Context, to: ConnectionId, user_id: Uuid, is_typing: bool) {
    tell(cx, to, &Outgoing::Typing { user_id, is_typing });
}

fn hello_again() -> Mistake {
    Mistake::new(Code::Validation, "this connection has said HELLO already").at("type")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
