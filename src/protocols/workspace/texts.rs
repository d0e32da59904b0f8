//! Chat messages, and the pace at which large texts enter the room.
//!
//! Each member receives each text, so a sender decides what all others have to read. A large text therefore enters
//! the room only when those before it have had time to be read, and its sender is not read meanwhile: so each
//! sender has at most one that waits.

use super::messages::{ErrorReply, NewMessage, ServerMessage};
use super::{Workspace, user_of};
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Context};
use std::collections::VecDeque;
use std::time::Duration;

/// Longest time for which the pace of large texts makes up: the realm is called once a second.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// A text that has passed all checks.
struct Text {
    conn: ConnectionId,
    text: String,
    reply_to: Option<String>,
}

/// The large texts that wait, one for each connection at most.
#[derive(Default)]
pub(super) struct LargeTexts {
    waiting: VecDeque<Text>,
    /// Memory of these texts.
    bytes: usize,
    /// When the next one may enter the room.
    next_at: Duration,
}

impl LargeTexts {
    /// Returns the memory of the texts that wait, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of texts that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_free(&self, now: Duration) -> bool {
        self.waiting.is_empty() && self.next_at <= now
    }

    /// Makes the next text wait until this one has had its time at this pace, in bytes a second.
    fn enter(&mut self, now: Duration, text: &str, pace: u32) {
        let nanos = received_length(text).saturating_mul(1_000_000_000) / u64::from(pace.max(1));
        let from = self.next_at.max(now.saturating_sub(MAX_CATCH_UP));
        self.next_at = from + Duration::from_nanos(nanos);
    }

    fn pop_due(&mut self, now: Duration) -> Option<Text> {
        if self.next_at > now {
            return None;
        }
        let text = self.waiting.pop_front()?;
        self.bytes -= text.text.len();
        Some(text)
    }

    /// Drops the text of a connection that has ended.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        self.waiting.retain(|text| text.conn != conn);
        self.bytes = self.waiting.iter().map(|text| text.text.len()).sum();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.bytes == 0
    }
}

/// Returns the bytes of a text in the JSON that the members receive: those that are escaped take two.
fn received_length(text: &str) -> u64 {
    let escaped = text.bytes().filter(|byte| b"\"\\\n\t".contains(byte));
    (text.len() + escaped.count()) as u64
}

impl Workspace {
    /// Broadcasts a chat message, to its sender as well: at once, or when it is the turn of a large one.
    pub(super) fn handle_send(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        text: String,
        reply_to: Option<String>,
    ) -> Result<(), ErrorReply> {
        let options = &self.options;
        let user = user_of(&self.members, &mut self.users, conn);
        user.rate_limits
            .count_message(cx.now, text.len(), options)?;
        let is_large = text.len() > options.large_text as usize;
        let pace = options.large_text_per_second;
        let text = Text {
            conn,
            text,
            reply_to,
        };
        if is_large && pace > 0 {
            if !self.large_texts.is_free(cx.now) {
                self.wait_to_enter(cx, text);
                return Ok(());
            }
            self.large_texts.next_at = cx.now;
            self.large_texts.enter(cx.now, &text.text, pace);
        }
        self.broadcast_text(cx, &text);
        Ok(())
    }

    /// Queues a large text and stops reading from its sender.
    fn wait_to_enter(&mut self, cx: &mut Context, text: Text) {
        if let Some(member) = self.members.get_mut(text.conn) {
            member.waiting_bytes = text.text.len();
        }
        cx.pause_reading(text.conn);
        self.large_texts.bytes += text.text.len();
        self.large_texts.waiting.push_back(text);
    }

    /// Broadcasts the large texts whose turn it is.
    pub(super) fn broadcast_due_texts(&mut self, cx: &mut Context) {
        while let Some(text) = self.large_texts.pop_due(cx.now) {
            let pace = self.options.large_text_per_second;
            self.large_texts.enter(cx.now, &text.text, pace);
            if let Some(member) = self.members.get_mut(text.conn) {
                member.waiting_bytes = 0;
                self.broadcast_text(cx, &text);
                cx.resume_reading(text.conn);
            }
        }
    }

    fn broadcast_text(&mut self, cx: &mut Context, text: &Text) {
        let user = user_of(&self.members, &mut self.users, text.conn);
        self.last_message_id = cx.epoch_millis().max(self.last_message_id + 1);
        let data = NewMessage {
            id: &format!("msg_{}", self.last_message_id),
            user_id: &user.id,
            username: &user.name,
            text: &text.text,
            created_at: &cx.timestamp(),
            reply_to: text.reply_to.as_deref(),
        };
        self.members
            .broadcast(cx, &[], &ServerMessage::New { data });
    }
}

impl FreeSpare for LargeTexts {
    fn free_spare(&mut self) {
        let Self {
            waiting,
            bytes: _,
            next_at: _,
        } = self;
        waiting.free_spare();
    }
}
