//! Chats between two users: OPEN_CHAT, MSG and TYPING, and how a chat ends.

use super::messages::{
    ChatOpened, Dialect, ErrorCode, ErrorReply, Msg, ServerMessage, Status, Typing,
};
use super::{FastChat, Recipient, User, UserState};
use crate::realm::Context;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::check_length;
use std::time::Duration;
use uuid::Uuid;

/// The reason of a `CHAT_NOT_OPENED` about a user that the client named.
const NO_CHAT_WITH_USER: &str = "no chat with this user is open; send OPEN_CHAT first";

/// The reason of a `MESSAGE_FAILED` about a user that is online.
const TOO_SLOW: &str = "this user has disconnected, or reads its messages too slowly";

/// One user's side of a chat.
pub(super) struct Chat {
    id: Uuid,
    /// The number of the chat, in the order in which chats were opened.
    pub(super) number: u64,
    /// Whether this side sent the OPEN_CHAT. Only then the chat counts for `chats_per_user`.
    pub(super) is_opener: bool,
}

impl FastChat {
    /// Opens a chat between `opener` and `target`, or repeats CHAT_OPENED to `opener` if there is one.
    pub(super) fn open_chat(
        &mut self,
        cx: &mut Context,
        opener: Uuid,
        target: Uuid,
    ) -> Result<(), ErrorReply> {
        if opener == target {
            return Err(open_error(
                ErrorCode::Validation,
                "cannot open a chat with yourself",
            ));
        }
        let user = self.user(opener);
        let known = user.state.chats.get(&target).map(|chat| chat.id);
        if known.is_none() {
            let limit = self.options.open_chats_per_minute;
            let counted = self.user(opener).state.open_rate.try_record(cx.now, limit);
            counted.map_err(|wait| ErrorReply::rate_limited("OPEN_CHAT", limit, wait))?;
        }
        if !self.users.contains_key(&target) {
            return Err(open_error(
                ErrorCode::UserNotFound,
                "no user with this id is online",
            ));
        }
        match known {
            Some(id) => self.send_chat_opened(cx, opener, target, id),
            None => self.create_chat(cx, opener, target)?,
        }
        Ok(())
    }

    /// Sends CHAT_OPENED to the user that asked for it.
    fn send_chat_opened(&mut self, cx: &mut Context, opener: Uuid, target: Uuid, chat_id: Uuid) {
        let recipient = self.user(opener).recipient;
        let opened = chat_opened(chat_id, [opener, target], target, self.name(target));
        recipient.send(cx, &opened);
        let partner = &mut self.user(opener).state.partner;
        partner.record_opened(recipient.dialect, target);
    }

    /// Creates a chat and sends CHAT_OPENED to both users. The message to `target` is delivered like a MSG: if
    /// it does not fit, no chat is created, so that no user can get another one closed by opening chats.
    fn create_chat(
        &mut self,
        cx: &mut Context,
        opener: Uuid,
        target: Uuid,
    ) -> Result<(), ErrorReply> {
        self.check_chat_count(cx.now, opener)?;
        let id = cx.uuid();
        let other = self.user(target);
        let recipient = other.recipient;
        let invitation = if other.state.partner.follows_others(recipient.dialect) {
            chat_opened(id, [opener, target], opener, self.name(opener)).encode(recipient.dialect)
        } else {
            Vec::new()
        };
        let fits = |frame| cx.can_deliver(recipient.connection, frame);
        if !invitation.iter().all(fits) {
            return Err(open_error(ErrorCode::MessageFailed, TOO_SLOW));
        }
        self.chat_count += 1;
        let number = self.chat_count;
        for (user, other, is_opener) in [(opener, target, true), (target, opener, false)] {
            let side = Chat {
                id,
                number,
                is_opener,
            };
            self.user(user).state.chats.insert(other, side);
        }
        self.send_chat_opened(cx, opener, target, id);
        if !invitation.is_empty() {
            let other = self.user(target);
            other.may_have_missed_chat = recipient.dialect == Dialect::Flat;
            other.state.partner.record_shown(recipient.dialect, opener);
        }
        for frame in invitation {
            cx.send(recipient.connection, frame);
        }
        Ok(())
    }

    /// Checks that a user may open one more chat.
    fn check_chat_count(&mut self, now: Duration, opener: Uuid) -> Result<(), ErrorReply> {
        let limit = self.options.chats_per_user;
        if limit == 0 || self.opened_chats(opener).count() < limit as usize {
            return Ok(());
        }
        // A chat that has ended since the last tick must not count.
        self.forget_expired(now);
        if self.opened_chats(opener).count() < limit as usize {
            return Ok(());
        }
        let absence = self.options.absence.duration();
        let gone_at = |other| self.gone.gone_at(other);
        let first_end = self.opened_chats(opener).filter_map(gone_at).min();
        let wait = first_end.map_or(absence, |gone_at| (gone_at + absence).saturating_sub(now));
        let text = format!("{limit} chats that you opened have not ended; no more are allowed");
        Err(open_error(ErrorCode::RateLimited, &text).with_retry_after(wait))
    }

    /// Returns the number of chats that have not ended.
    pub(super) fn open_chats(&self) -> usize {
        let online = self.users.values().map(|user| &user.state);
        let states = online.chain(self.gone.values());
        let sides: usize = states.map(|state| state.chats.len()).sum();
        // Each of the two users has an entry.
        sides / 2
    }

    /// Returns the other users of the chats that a user has opened.
    fn opened_chats(&self, opener: Uuid) -> impl Iterator<Item = &Uuid> {
        let chats = self.users.get(&opener).map(|user| &user.state.chats);
        let opened = chats
            .into_iter()
            .flatten()
            .filter(|(_, chat)| chat.is_opener);
        opened.map(|(other, _)| other)
    }

    /// Returns the name of a user that is online.
    fn name(&self, id: Uuid) -> &str {
        self.users.get(&id).map_or("", |user| &user.name)
    }

    /// Delivers a MSG, if it passes the checks. The sender gets MSG_ACK or an error.
    pub(super) fn handle_msg(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        msg: Msg,
    ) -> Result<(), ErrorReply> {
        let to = self
            .check_msg(cx.now, from, &msg)
            .map_err(|error| error.with_message_id(msg.message_id.clone()))?;
        self.deliver_msg(cx, from, to, msg);
        Ok(())
    }

    /// Returns the recipient of a MSG: a user that is online and has a chat with the sender.
    ///
    /// The order of the checks is that of the rulings: content, rate, known user, chat, online. An invalid
    /// MSG does not count for the rate, and only a valid one within it learns whether a user exists.
    fn check_msg(&mut self, now: Duration, from: Uuid, msg: &Msg) -> Result<Uuid, ErrorReply> {
        let max_length = self.options.message_length as usize;
        check_length(&msg.content, "content", 1, max_length)?;
        let limit = self.options.messages_per_minute;
        let user = self.user(from);
        let counted = user.state.message_rate.try_record(now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("MSG", limit, wait))?;
        let dialect = user.recipient.dialect;
        let Some(to) = msg.to.or_else(|| user.state.partner(dialect)) else {
            let text = "no chat to send to; send OPEN_CHAT first";
            return Err(ErrorReply::new(ErrorCode::ChatNotOpened, text));
        };
        let has_chat = user.state.chats.contains_key(&to);
        let is_online = self.users.contains_key(&to);
        let (code, text) = if !is_online && !self.gone.contains(&to) {
            (ErrorCode::UserNotFound, "no user with this id is known")
        } else if !has_chat {
            (ErrorCode::ChatNotOpened, NO_CHAT_WITH_USER)
        } else if !is_online {
            (ErrorCode::MessageFailed, "this user is not online")
        } else {
            return Ok(to);
        };
        Err(ErrorReply::new(code, text).with_field("to"))
    }

    /// Delivers a checked MSG. The sender gets MSG_ACK if the recipient's outbox has capacity for it, otherwise
    /// `MESSAGE_FAILED`.
    fn deliver_msg(&mut self, cx: &mut Context, from: Uuid, to: Uuid, msg: Msg) {
        let recipient = self.user(to).recipient;
        let user = self.user(from);
        user.state.partner.record_written(to);
        let message_id = msg.message_id.unwrap_or_else(|| cx.uuid().to_string());
        let timestamp = cx.timestamp();
        let message = ServerMessage::Msg {
            from,
            from_name: &user.name,
            to,
            content: &msg.content,
            message_id: &message_id,
            timestamp: &timestamp,
        };
        let mut frames = message.encode(recipient.dialect).into_iter();
        let reply = if frames.all(|frame| cx.deliver(recipient.connection, frame).is_ok()) {
            ServerMessage::MsgAck {
                message_id: &message_id,
                status: Status::Delivered,
                timestamp: &timestamp,
            }
        } else {
            let error = ErrorReply::new(ErrorCode::MessageFailed, TOO_SLOW)
                .with_field("to")
                .with_message_id(Some(message_id));
            ServerMessage::Error(error)
        };
        user.recipient.send(cx, &reply);
    }

    /// Sends a TYPING to the partner, if it is a change and within the rate.
    pub(super) fn handle_typing(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        typing: Typing,
    ) -> Result<(), ErrorReply> {
        let Typing { is_typing, to } = typing;
        let user = self.user(from);
        let sent = user.typing_to;
        // `false` goes to the recipient of `true`, even if another chat was used in between.
        let started = sent.filter(|_| !is_typing).map(|(partner, _)| partner);
        let dialect = user.recipient.dialect;
        let partner = to.or(started).or_else(|| user.state.partner(dialect));
        let partner = partner.filter(|partner| user.state.chats.contains_key(partner));
        let Some(partner) = partner else {
            return Err(if to.is_some() {
                ErrorReply::new(ErrorCode::ChatNotOpened, NO_CHAT_WITH_USER).with_field("to")
            } else {
                let text = "no chat to type in; send OPEN_CHAT first";
                ErrorReply::new(ErrorCode::ChatNotOpened, text)
            });
        };
        let limit = self.options.typing_per_minute;
        if !is_typing {
            if sent.is_some_and(|(recipient, _)| recipient == partner) {
                // It counts for the rate, but is sent even above the limit: otherwise the
                // partner would show an indicator that never ends.
                let _ = self.user(from).state.typing_rate.try_record(cx.now, limit);
                self.stop_typing(cx, from);
            }
            return Ok(());
        }
        // Nothing is sent to a partner that is offline, so nothing is recorded as sent either.
        let Some(recipient) = self.users.get(&partner).map(|user| user.recipient) else {
            return Ok(());
        };
        if sent == Some((partner, recipient.connection)) {
            return Ok(());
        }
        let counted = self.user(from).state.typing_rate.try_record(cx.now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("TYPING", limit, wait))?;
        if sent.is_some_and(|(recipient, _)| recipient != partner) {
            self.stop_typing(cx, from);
        }
        let user = self.user(from);
        user.typing_to = Some((partner, recipient.connection));
        send_typing(cx, recipient, from, user, true);
        Ok(())
    }

    /// Sends `is_typing: false` to the user that was last sent `true`, on its current connection.
    pub(super) fn stop_typing(&mut self, cx: &mut Context, id: Uuid) {
        let Some((partner, _)) = self.user(id).typing_to.take() else {
            return;
        };
        if let (Some(user), Some(partner)) = (self.users.get(&id), self.users.get(&partner)) {
            send_typing(cx, partner.recipient, id, user, false);
        }
    }

    /// Ends the chats of a user that is no longer remembered, on the side of each partner.
    pub(super) fn end_chats(&mut self, user: Uuid, state: UserState) {
        for partner in state.chats.into_keys() {
            let end = |other: &mut UserState| {
                other.chats.remove(&user);
                other.partner.forget(user);
            };
            if let Some(other) = self.users.get_mut(&partner) {
                end(&mut other.state);
            } else {
                self.gone.update(&partner, end);
            }
            if let Some(other) = self.users.get_mut(&partner) {
                other.typing_to.take_if(|(to, _)| *to == user);
            }
        }
    }
}

/// Returns the CHAT_OPENED for the user whose chat with `other` was opened.
fn chat_opened(
    chat_id: Uuid,
    participants: [Uuid; 2],
    other: Uuid,
    other_name: &str,
) -> ServerMessage<'_> {
    ServerMessage::ChatOpened(ChatOpened {
        chat_id,
        participants,
        target_user_id: other,
        target_display_name: other_name,
    })
}

/// Returns the error for an OPEN_CHAT.
fn open_error(code: ErrorCode, text: &str) -> ErrorReply {
    ErrorReply::new(code, text).with_field("target_user_id")
}

fn send_typing(cx: &mut Context, to: Recipient, user_id: Uuid, user: &User, is_typing: bool) {
    let typing = ServerMessage::Typing {
        user_id,
        display_name: &user.name,
        is_typing,
    };
    to.send(cx, &typing);
}
