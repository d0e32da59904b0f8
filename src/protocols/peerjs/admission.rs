//! Who gets an id: clients that connect, that take an id over, and that wait until its holder was probed.

use super::claims::{Claim, Contest, Token};
use super::close_reasons;
use super::messages::{ErrorPayload, MAX_ID_BYTES, MAX_TOKEN_BYTES, ServerMessage};
use super::{FULL_ERROR, Peer, PeerJs};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::realm::{ConnectRequest, ConnectionId, Context};

/// The message to a client that is rejected, and the close reason.
pub(super) type CloseWith = (Frame, CloseReason);

/// Sends a client the reason why it is rejected, and closes it.
pub(super) fn reject(cx: &mut Context, conn: ConnectionId, (error, reason): CloseWith) {
    cx.send(conn, error);
    cx.close(conn, reason);
}

/// Returns the rejection of a client whose id belongs to another one.
pub(super) fn id_taken() -> CloseWith {
    let payload = ErrorPayload { msg: "ID is taken" };
    let taken = Frame::json(&ServerMessage::IdTaken { payload });
    (taken, close_reasons::ID_TAKEN)
}

impl PeerJs {
    /// Reads the id and the token of a client.
    ///
    /// # Errors
    /// A parameter is missing, wrong or too long: the message that says so, and the close reason.
    fn read_claim(&self, request: &ConnectRequest) -> Result<Claim, CloseWith> {
        let reject = |msg, reason| {
            let payload = ErrorPayload { msg };
            Err((Frame::json(&ServerMessage::Error { payload }), reason))
        };
        let parameter = |name| request.parameter(name).filter(|value| !value.is_empty());
        let (Some(id), Some(token), Some(key)) =
            (parameter("id"), parameter("token"), parameter("key"))
        else {
            let msg = "No id, token, or key supplied to websocket server";
            return reject(msg, close_reasons::BAD_PARAMETERS);
        };
        if key != self.options.key.0 {
            return reject("Invalid key provided", close_reasons::WRONG_KEY);
        }
        if id.len() > MAX_ID_BYTES || token.len() > MAX_TOKEN_BYTES {
            let msg = "Id is longer than 256 bytes, or token longer than 2048";
            return reject(msg, close_reasons::BAD_PARAMETERS);
        }
        Ok(Claim {
            id: id.into(),
            token: Token::of(&token),
            address: SubnetKey::of(request.address),
        })
    }

    /// Admits a client under its id, or has it wait until the holder of the id was probed.
    ///
    /// # Errors
    /// The message with the reason why the client is rejected, and the close reason.
    pub(super) fn handle_connect(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: &ConnectRequest,
    ) -> Result<(), CloseWith> {
        let claim = self.read_claim(request)?;
        let Some(holder) = self.peers.get(&claim.id) else {
            let limit = self.options.concurrent_limit as usize;
            if limit > 0 && self.peers.len() >= limit {
                return Err((Frame::text(FULL_ERROR), CloseReason::TOO_MANY_CONNECTIONS));
            }
            let id = claim.id.clone();
            self.is_list_current = false;
            self.admit(cx, conn, claim, Contest::default());
            for frame in self.mailbox.take(&id) {
                cx.send(conn, frame);
            }
            return Ok(());
        };
        let is_same_client = holder.token == claim.token;
        let must_probe = if is_same_client {
            holder.contest.is_on(cx.now)
        } else {
            let silent_after = self.options.silent_after.duration();
            cx.silence(holder.connection) >= silent_after
        };
        if must_probe {
            let timeout = self.options.takeover_timeout.duration();
            cx.probe(holder.connection, timeout);
            self.claims.insert(conn, claim);
        } else if is_same_client {
            self.replace_holder(cx, conn, claim, close_reasons::REPLACED);
        } else {
            return Err(id_taken());
        }
        Ok(())
    }

    /// Handles that the holder of an id has disconnected: what it has stored is dropped, and the first client
    /// that waits for the id gets it.
    pub(super) fn handle_gone(&mut self, cx: &mut Context, id: &str) {
        let Some(holder) = self.peers.remove(id) else {
            return;
        };
        self.checks.remove(&(holder.check_at, holder.connection));
        self.mailbox.remove_source(id);
        self.is_list_current = false;
        let Some(&first) = self.claims.of(id).first() else {
            return;
        };
        if let Some(claim) = self.claims.remove(first) {
            let is_same_client = holder.token == claim.token;
            let contest = is_same_client.then_some(holder.contest);
            self.admit(cx, first, claim, contest.unwrap_or_default());
            self.refuse_claims(cx, id);
        }
    }

    /// Handles that the holder of an id has not answered a probe: the first client that waits for the result
    /// takes its place.
    pub(super) fn handle_silent(&mut self, cx: &mut Context, id: &str) {
        let Some(&first) = self.claims.undecided(id).first() else {
            return;
        };
        let (Some(holder), Some(claim)) = (self.peers.get(id), self.claims.remove(first)) else {
            return;
        };
        let reason = if holder.token == claim.token {
            close_reasons::REPLACED
        } else {
            CloseReason::TIMED_OUT
        };
        self.replace_holder(cx, first, claim, reason);
    }

    /// Refuses the clients that wait for a probe of the holder of an id, which has answered it, or is a new
    /// one. Those with its token are told after a delay: see [`super::claims`].
    pub(super) fn refuse_claims(&mut self, cx: &mut Context, id: &str) {
        let Some(holder) = self.peers.get_mut(id) else {
            return;
        };
        for conn in self.claims.undecided(id) {
            let is_same_client =
                self.claims.get(conn).map(|claim| claim.token) == Some(holder.token);
            if is_same_client {
                let delay = holder.contest.refuse(cx.now);
                self.claims.refuse_at(conn, cx.now + delay);
            } else {
                self.claims.remove(conn);
                reject(cx, conn, id_taken());
            }
        }
    }

    /// Gives an id to another connection and closes the old one. What was stored by the old holder stays if
    /// the new one has its token.
    fn replace_holder(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        claim: Claim,
        reason: CloseReason,
    ) {
        let Some(old) = self.peers.remove(&claim.id) else {
            return;
        };
        self.id_by_connection.remove(&old.connection);
        self.checks.remove(&(old.check_at, old.connection));
        cx.close(old.connection, reason);
        let mut contest = Contest::default();
        if old.token == claim.token {
            contest = old.contest;
            contest.record_takeover(cx.now);
        } else {
            self.mailbox.remove_source(&claim.id);
        }
        let id = claim.id.clone();
        self.admit(cx, conn, claim, contest);
        self.refuse_claims(cx, &id);
    }

    /// Makes a client the holder of an id that has none, and sends OPEN.
    fn admit(&mut self, cx: &mut Context, conn: ConnectionId, claim: Claim, contest: Contest) {
        let alive_timeout = self.options.alive_timeout.duration();
        let check_at = cx.now + alive_timeout;
        if !alive_timeout.is_zero() {
            self.checks.insert((check_at, conn));
        }
        let peer = Peer {
            connection: conn,
            token: claim.token,
            address: claim.address,
            last_message: cx.now,
            check_at,
            contest,
        };
        self.peers.insert(claim.id.clone(), Box::new(peer));
        self.id_by_connection.insert(conn, claim.id);
        cx.send(conn, Frame::json(&ServerMessage::Open));
    }
}
