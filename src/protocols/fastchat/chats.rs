//! What two users do who have a chat: they open it, write and type in it, until it ends.

use super::messages::{ErrorCode, ErrorReply, Msg, ServerMessage, Status, Typing};
use super::{FastChat, Recipient, User, UserState};
use crate::realm::{Context, Receipt};
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::check_length;
use std::time::Duration;
use uuid::Uuid;

/// One side of a chat.
pub(super) struct Chat {
    id: Uuid,
    /// It was this side that asked for it.
    asked: bool,
}

impl FastChat {
    pub(super) fn open_chat(
        &mut self,
        cx: &mut Context,
        asker: Uuid,
        target: Uuid,
    ) -> Result<(), ErrorReply> {
        let field = "target_user_id";
        if asker == target {
            let error =
                ErrorReply::new(ErrorCode::Validation, "a chat takes two; this is yourself");
            return Err(error.with_field(field));
        }
        let other = self.users.get(&target).ok_or_else(|| {
            ErrorReply::new(ErrorCode::UserNotFound, "there is nobody online of that id")
                .with_field(field)
        })?;
        let (other_name, other_recipient) = (other.name.clone(), other.recipient);
        let limit = self.options.chats_per_user;
        let absence = Duration::from_secs(self.options.absence.into());
        let user = self.user(asker);
        let participants = [asker, target];
        let to_asker = |chat_id| ServerMessage::ChatOpened {
            chat_id,
            participants,
            target_user_id: target,
            target_display_name: &other_name,
        };
        if let Some(chat) = user.state.chats.get(&target) {
            user.recipient.send_to(cx, &to_asker(chat.id));
            user.state.partner = Some(target);
            return Ok(());
        }
        let asked = user.state.chats.values().filter(|chat| chat.asked);
        if limit > 0 && asked.count() >= limit as usize {
            let message = format!("you have opened {limit} chats, and none of them has ended");
            let error = ErrorReply::new(ErrorCode::RateLimited, message).with_field(field);
            return Err(error.retry_after(absence));
        }
        let id = cx.uuid();
        user.state.chats.insert(target, Chat { id, asked: true });
        user.state.partner = Some(target);
        user.recipient.send_to(cx, &to_asker(id));
        let to_other = ServerMessage::ChatOpened {
            chat_id: id,
            participants,
            target_user_id: asker,
            target_display_name: &user.name,
        };
        other_recipient.send_to(cx, &to_other);
        let other = &mut self.user(target).state;
        other.chats.insert(asker, Chat { id, asked: false });
        // Being asked does not turn anybody's TYPING away from whom it went to.
        other.partner.get_or_insert(asker);
        Ok(())
    }

    pub(super) fn handle_msg(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        msg: Msg,
    ) -> Result<(), ErrorReply> {
        let Msg {
            to,
            content,
            message_id,
        } = msg;
        let about = |error: ErrorReply| error.with_message_id(message_id.clone());
        check_length(&content, "content", 1, self.options.message_length as usize)
            .map_err(|malformed| about(malformed.into()))?;
        let limit = self.options.messages_per_minute;
        let user = self.user(from);
        let counted = user.state.messages.take(cx.now, limit);
        counted.map_err(|wait| about(ErrorReply::rate_limited("messages", limit, wait)))?;
        let failed = |code, message: &str| about(ErrorReply::new(code, message).with_field("to"));
        let partner = user.state.partner.filter(|_| !user.state.last_open_failed);
        let Some(to) = to.or(partner) else {
            let message = "you have no chat to write in; OPEN_CHAT comes first";
            return Err(about(ErrorReply::new(ErrorCode::ChatNotOpened, message)));
        };
        let has_chat = user.state.chats.contains_key(&to);
        let (sender, from_name) = (user.recipient, user.name.clone());
        let target = match self.users.get_mut(&to) {
            None if !self.gone.contains(&to) => {
                return Err(failed(
                    ErrorCode::UserNotFound,
                    "there is nobody of that id",
                ));
            }
            _ if !has_chat => {
                let message = "you have no chat with this user; OPEN_CHAT comes first";
                return Err(failed(ErrorCode::ChatNotOpened, message));
            }
            None => return Err(failed(ErrorCode::MessageFailed, "this user is not online")),
            Some(target) => target,
        };
        target.state.partner = Some(from);
        target.state.last_open_failed = false;
        let recipient = target.recipient;
        let message_id = message_id.unwrap_or_else(|| cx.uuid().to_string());
        let timestamp = cx.timestamp();
        let message = ServerMessage::Msg {
            from,
            from_name: &from_name,
            to,
            content: &content,
            message_id: &message_id,
            timestamp: timestamp.clone(),
        };
        let lost = ErrorReply::new(
            ErrorCode::MessageFailed,
            "this user is gone, or has not taken what was sent to it before",
        );
        let delivered = ServerMessage::MsgAck {
            message_id: &message_id,
            status: Status::Delivered,
            timestamp,
        };
        let failed = ServerMessage::Error(
            lost.with_field("to")
                .with_message_id(Some(message_id.clone())),
        );
        let receipt = Receipt {
            to: sender.connection,
            delivered: delivered.encode(sender.dialect).pop(),
            failed: failed.encode(sender.dialect).pop(),
        };
        for frame in message.encode(recipient.dialect) {
            cx.deliver(recipient.connection, frame, receipt.clone());
        }
        let state = &mut self.user(from).state;
        state.partner = Some(to);
        state.last_open_failed = false;
        Ok(())
    }

    pub(super) fn handle_typing(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        typing: Typing,
    ) -> Result<(), ErrorReply> {
        let Typing { is_typing, to } = typing;
        let user = self.user(from);
        let told = user.typing;
        // A TYPING that ends goes where it began, whatever was said to others meanwhile.
        let begun = told.filter(|_| !is_typing).map(|(partner, _)| partner);
        let partner = to.or(begun).or(user.state.partner);
        let partner = partner.filter(|partner| user.state.chats.contains_key(partner));
        let Some(partner) = partner else {
            let error =
                ErrorReply::new(ErrorCode::ChatNotOpened, "you have no such chat to type in");
            return Err(if to.is_some() {
                error.with_field("to")
            } else {
                error
            });
        };
        let limit = self.options.typing_per_minute;
        if !is_typing {
            if told.is_some_and(|(told, _)| told == partner) {
                // It counts, but passes in any case.
                let _ = self.user(from).state.typing.take(cx.now, limit);
                self.stop_typing(cx, from);
            }
            return Ok(());
        }
        // Who is away cannot be told, and will not have been.
        let Some(recipient) = self.users.get(&partner).map(|user| user.recipient) else {
            return Ok(());
        };
        if told == Some((partner, recipient.connection)) {
            return Ok(());
        }
        let counted = self.user(from).state.typing.take(cx.now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("TYPING", limit, wait))?;
        if told.is_some_and(|(told, _)| told != partner) {
            self.stop_typing(cx, from);
        }
        let user = self.user(from);
        user.typing = Some((partner, recipient.connection));
        send_typing(cx, recipient, from, user, true);
        Ok(())
    }

    /// Tells whoever was told that somebody types that this is over, wherever that one is now.
    pub(super) fn stop_typing(&mut self, cx: &mut Context, id: Uuid) {
        let Some((partner, _)) = self.user(id).typing.take() else {
            return;
        };
        if let (Some(user), Some(partner)) = (self.users.get(&id), self.users.get(&partner)) {
            send_typing(cx, partner.recipient, id, user, false);
        }
    }

    /// Ends the chats of somebody who is forgotten.
    pub(super) fn end_chats(&mut self, user: Uuid, state: UserState) {
        for partner in state.chats.into_keys() {
            let online = self.users.get_mut(&partner).map(|user| &mut user.state);
            if let Some(other) = online.or_else(|| self.gone.get_mut(&partner)) {
                other.chats.remove(&user);
                other.partner.take_if(|last| *last == user);
            }
            if let Some(other) = self.users.get_mut(&partner) {
                other.typing.take_if(|(to, _)| *to == user);
            }
        }
    }
}

fn send_typing(cx: &mut Context, to: Recipient, user_id: Uuid, user: &User, is_typing: bool) {
    let typing = ServerMessage::Typing {
        user_id,
        display_name: &user.name,
        is_typing,
    };
    to.send_to(cx, &typing);
}
