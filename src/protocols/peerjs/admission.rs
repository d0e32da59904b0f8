//! Who gets an id: clients that connect, that take an id over, and that wait until its holder was probed.

use super::claims::{Claim, Contest, Credential, Token};
use super::close_reasons;
use super::messages::{ErrorPayload, MAX_ID_BYTES, MAX_TOKEN_BYTES, ServerMessage};
use super::{FULL_ERROR, Peer, PeerJs};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::realm::{Claims, ConnectRequest, ConnectionId, Context, TokenError};
use crate::toolkit::jwt;
use std::cmp::Ordering;
use std::sync::Arc;

/// What is wrong with an access token for another id.
const OTHER_ID: &str = "the access token is for another id (\"sub\")";

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

/// Returns the rejection of a client with an ERROR.
fn error(msg: &str, reason: CloseReason) -> CloseWith {
    let payload = ErrorPayload { msg };
    (Frame::json(&ServerMessage::Error { payload }), reason)
}

/// Returns what is wrong with the access token of a client, or that it has none where one is demanded.
pub(super) const fn problem_with_token(problem: TokenError) -> &'static str {
    match problem {
        // The text for all protocols does not name `token`.
        TokenError::Missing => {
            "an access token is needed: \"token\" or \"access_token\" in the query, or \"Authorization: Bearer\""
        }
        problem => problem.text(),
    }
}

impl PeerJs {
    /// Reads the id of a client, and what it shows for it. `access`: what its access token says, if it has one.
    ///
    /// # Errors
    /// A parameter is missing, wrong or too long, or the access token is for another id: the message that says so, and
    /// the close reason.
    fn read_claim(
        &self,
        request: &ConnectRequest,
        access: Option<&Claims>,
    ) -> Result<Claim, CloseWith> {
        let parameter = |name| request.parameter(name).filter(|value| !value.is_empty());
        let subject = access.and_then(|access| access.subject.as_deref());
        let own_id = || subject.map(str::to_owned);
        // What has the shape of an access token was read as one.
        let is_documents = |token: &String| access.is_none() || !jwt::has_shape(token);
        let token = parameter("token").filter(is_documents);
        let is_too_long = token.as_ref().is_some_and(|it| it.len() > MAX_TOKEN_BYTES);
        let token = token.map(|token| Token::of(&token));
        let credential = match (access, subject) {
            (None, _) => token.map(Credential::Token),
            (Some(_), None) => Some(Credential::Access(token)),
            (Some(_), Some(_)) => Some(Credential::Subject),
        };
        let (Some(id), Some(credential), Some(key)) = (
            parameter("id").or_else(own_id),
            credential,
            parameter("key"),
        ) else {
            let msg = "No id, token, or key supplied to websocket server";
            return Err(error(msg, close_reasons::BAD_PARAMETERS));
        };
        if key != self.options.key.0 {
            return Err(error("Invalid key provided", close_reasons::WRONG_KEY));
        }
        if id.len() > MAX_ID_BYTES || is_too_long {
            let msg = "Id is longer than 256 bytes, or token longer than 2048";
            return Err(error(msg, close_reasons::BAD_PARAMETERS));
        }
        if subject.is_some_and(|subject| subject != id) {
            return Err(error(OTHER_ID, CloseReason::UNAUTHORIZED));
        }
        Ok(Claim {
            id: id.into(),
            credential,
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
        let access = request.access.claims(None, cx.wall).map_err(|problem| {
            let msg = problem_with_token(problem);
            error(msg, CloseReason::UNAUTHORIZED)
        })?;
        let claim = self.read_claim(request, access.as_ref())?;
        self.decide(cx, conn, claim)?;
        if let Some(end) = access.and_then(|access| access.end()) {
            cx.expire_at(conn, Some(end));
        }
        Ok(())
    }

    /// Decides who has an id, the client that claims it or its holder, or has the client wait until the holder was probed.
    ///
    /// # Errors
    /// As [`Self::handle_connect`].
    fn decide(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        claim: Claim,
    ) -> Result<(), CloseWith> {
        let Some(holder) = self.peers.get(&claim.id) else {
            return self.admit_first(cx, conn, claim);
        };
        let is_same_client = holder.credential.is_same_client(claim.credential);
        let must_probe = match claim.credential.rank().cmp(&holder.credential.rank()) {
            Ordering::Less => return Err(id_taken()),
            Ordering::Greater => {
                self.replace_holder(cx, conn, claim, close_reasons::ID_TAKEN);
                return Ok(());
            }
            Ordering::Equal if is_same_client => holder.contest.is_on(cx.now),
            Ordering::Equal => {
                cx.silence(holder.connection) >= self.options.silent_after.duration()
            }
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

    /// Admits a client under an id that has no holder, and sends it what is stored for the id.
    ///
    /// # Errors
    /// A client before has shown more for the id; or the server is full.
    fn admit_first(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        claim: Claim,
    ) -> Result<(), CloseWith> {
        if claim.credential.rank() < self.rank_of_gone(&claim.id) {
            return Err(id_taken());
        }
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
        Ok(())
    }

    /// Returns the rank of what clients that have disconnected have shown for an id, as far as that is remembered.
    fn rank_of_gone(&self, id: &Arc<str>) -> u8 {
        if self.proven.contains(id) {
            Credential::Subject.rank()
        } else if self.reserved.contains(id) {
            Credential::Access(None).rank()
        } else {
            0
        }
    }

    /// Handles that the holder of an id has disconnected: what it has stored is dropped, and the first client
    /// that waits for the id gets it, unless it has shown less.
    pub(super) fn handle_gone(&mut self, cx: &mut Context, id: &Arc<str>) {
        let Some(holder) = self.peers.remove(id) else {
            return;
        };
        self.checks.remove(&(holder.check_at, holder.connection));
        self.mailbox.remove_source(id);
        self.is_list_current = false;
        match holder.credential {
            Credential::Token(_) => {}
            Credential::Access(_) => self.reserved.insert(cx.now, Arc::clone(id)),
            Credential::Subject => self.proven.insert(cx.now, Arc::clone(id)),
        }
        let rank = holder.credential.rank();
        let may_follow = |claim: &Claim| claim.credential.rank() >= rank;
        let mut waiting = self.claims.of(id).into_iter();
        let Some(first) = waiting.find(|&conn| self.claims.get(conn).is_some_and(may_follow))
        else {
            return;
        };
        if let Some(claim) = self.claims.remove(first) {
            let is_same_client = holder.credential.is_same_client(claim.credential);
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
        let reason = if holder.credential.is_same_client(claim.credential) {
            close_reasons::REPLACED
        } else {
            CloseReason::TIMED_OUT
        };
        self.replace_holder(cx, first, claim, reason);
    }

    /// Refuses the clients that wait for a probe of the holder of an id, which has answered it, or is a new
    /// one. Those that are the same client are told after a delay: see [`super::claims`].
    pub(super) fn refuse_claims(&mut self, cx: &mut Context, id: &str) {
        let Some(holder) = self.peers.get_mut(id) else {
            return;
        };
        for conn in self.claims.undecided(id) {
            let claim = self.claims.get(conn);
            if claim.is_some_and(|claim| holder.credential.is_same_client(claim.credential)) {
                let delay = holder.contest.refuse(cx.now);
                self.claims.refuse_at(conn, cx.now + delay);
            } else {
                self.claims.remove(conn);
                reject(cx, conn, id_taken());
            }
        }
    }

    /// Gives an id to another connection and closes the old one. What was stored by the old holder stays if
    /// the new one is the same client.
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
        if old.credential.is_same_client(claim.credential) {
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
            credential: claim.credential,
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
