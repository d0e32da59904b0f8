//! What two users do who have a chat: they open it, write and type in it, until it ends.

use super::messages::{Code, Mistake, Msg, Outgoing, Status, Typing};
use super::{FastChat, Lasting, Recipient, User};
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
    ) -> Result<(), Mistake> {
        let field = "target_user_id";
        if asker == target {
            let mistake = Mistake::new(Code::Validation, "a chat takes two; this is yourself");
            return Err(mistake.at(field));
        }
        let other = self.users.get(&target).ok_or_else(|| {
            Mistake::new(Code::UserNotFound, "there is nobody online of that id").at(field)
        })?;
        let (other_name, other_address) = (other.name.clone(), other.address);
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
            user.address.send_to(cx, &to_asker(chat.id));
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
        user.address.send_to(cx, &to_asker(id));
        let to_other = Outgoing::ChatOpened {
            chat_id: id,
            participants,
            target_user_id: asker,
            target_display_name: &user.name,
        };
        other_address.send_to(cx, &to_other);
        let other = &mut self.user(target).lasting;
        other.chats.insert(asker, Chat { id, asked: false });
        // Being asked does not turn anybody's TYPING away from whom it went to.
        other.partner.get_or_insert(asker);
        Ok(())
    }

    pub(super) fn pass_on(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        msg: Msg,
    ) -> Result<(), Mistake> {
        let Msg {
            to,
            content,
            message_id,
        } = msg;
        let about = |mistake: Mistake| mistake.about(message_id.clone());
        check_length(&content, "content", 1, self.options.message_length as usize)
            .map_err(|malformed| about(malformed.into()))?;
        let limit = self.options.messages_per_minute;
        let user = self.user(from);
        let counted = user.lasting.messages.take(cx.now, limit);
        counted.map_err(|wait| about(Mistake::too_often("messages", limit, wait)))?;
        let failed = |code, message: &str| about(Mistake::new(code, message).at("to"));
        let partner = user.lasting.partner.filter(|_| !user.lasting.is_astray);
        let Some(to) = to.or(partner) else {
            let message = "you have no chat to write in; OPEN_CHAT comes first";
            return Err(about(Mistake::new(Code::ChatNotOpened, message)));
        };
        let has_chat = user.lasting.chats.contains_key(&to);
        let (sender, from_name) = (user.address, user.name.clone());
        let target = match self.users.get_mut(&to) {
            None if !self.gone.contains(&to) => {
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
        target.lasting.is_astray = false;
        let reader = target.address;
        let message_id = message_id.unwrap_or_else(|| cx.uuid().to_string());
        let timestamp = cx.timestamp();
        let message = Outgoing::Msg {
            from,
            from_name: &from_name,
            to,
            content: &content,
            message_id: &message_id,
            timestamp: timestamp.clone(),
        };
        let lost = Mistake::new(
            Code::MessageFailed,
            "this user is gone, or has not taken what was sent to it before",
        );
        let delivered = Outgoing::MsgAck {
            message_id: &message_id,
            status: Status::Delivered,
            timestamp,
        };
        let failed = Outgoing::Error(lost.at("to").about(Some(message_id.clone())));
        let receipt = Receipt {
            to: sender.connection,
            delivered: delivered.encode(sender.dialect).pop(),
            failed: failed.encode(sender.dialect).pop(),
        };
        for frame in message.encode(reader.dialect) {
            cx.deliver(reader.connection, frame, receipt.clone());
        }
        let lasting = &mut self.user(from).lasting;
        lasting.partner = Some(to);
        lasting.is_astray = false;
        Ok(())
    }

    pub(super) fn type_to(
        &mut self,
        cx: &mut Context,
        from: Uuid,
        typing: Typing,
    ) -> Result<(), Mistake> {
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
        let Some(reader) = self.users.get(&partner).map(|user| user.address) else {
            return Ok(());
        };
        if told == Some((partner, reader.connection)) {
            return Ok(());
        }
        let counted = self.user(from).lasting.typing.take(cx.now, limit);
        counted.map_err(|wait| Mistake::too_often("TYPING", limit, wait))?;
        if told.is_some_and(|(told, _)| told != partner) {
            self.stop_typing(cx, from);
        }
        let user = self.user(from);
        user.typing = Some((partner, reader.connection));
        tell_typing(cx, reader, from, user, true);
        Ok(())
    }

    /// Tells whoever was told that somebody types that this is over, wherever that one is now.
    pub(super) fn stop_typing(&mut self, cx: &mut Context, id: Uuid) {
        let Some((partner, _)) = self.user(id).typing.take() else {
            return;
        };
        if let (Some(user), Some(partner)) = (self.users.get(&id), self.users.get(&partner)) {
            tell_typing(cx, partner.address, id, user, false);
        }
    }

    /// Ends the chats of somebody who is forgotten.
    pub(super) fn end_chats(&mut self, user: Uuid, lasting: Lasting) {
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
}

fn tell_typing(cx: &mut Context, to: Recipient, user_id: Uuid, user: &User, is_typing: bool) {
    let typing = Outgoing::Typing {
        user_id,
        display_name: &user.name,
        is_typing,
    };
    to.send_to(cx, &typing);
}
