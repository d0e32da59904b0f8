//! Access tokens: what a client may have by its token, clients that have not shown one yet where one is demanded, and
//! usernames of token holders, which clients without a token for them cannot take.

use super::Workspace;
use super::close_reasons;
use super::members::{Member, RateLimits, newcomer, user_count_message};
use super::messages::{Auth, ClientMessage, Dialect, ErrorReply, Incoming, ServerMessage};
use super::standing::{Right, Standing};
use super::takeovers::{Claim, ClaimKind, REJECTION, too_many_connections};
use crate::base::close::CloseReason;
use crate::realm::{Access, Claims, ConnectionId, Context, Rejection, TokenError};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::sanitize::name_key;
use std::time::Duration;

/// Time for a client to send `auth` with a token where one is demanded and its request has none.
const AUTH_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that has to send a token and has not sent one yet. It is no member of the room.
pub(super) struct Unauthenticated {
    recipient: Recipient<Dialect>,
    /// The username that it asked for, or a generated one: what it gets by a token that names no user.
    name: String,
    since: Duration,
}

impl Workspace {
    /// Handles a new connection: by the token of its request, without one where none is demanded, or as one that has
    /// to send it.
    ///
    /// # Errors
    /// The username has all its connections.
    pub(super) fn open_with(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        access: &Access,
        requested: Option<String>,
    ) -> Result<(), Rejection> {
        let claims = access.claims(None, cx.wall);
        if claims == Err(TokenError::Missing) {
            self.wait_for_auth(cx, conn, requested);
            return Ok(());
        }
        let (name, right) = match self.entitle(cx, claims, requested) {
            Ok(entitled) => entitled,
            Err(error) => {
                refuse(cx, newcomer(conn), &error);
                return Ok(());
            }
        };
        let key = name_key(&name);
        if !self.has_place(&key, right) {
            let silent = self.replaceable(cx, &key);
            if silent.is_empty() {
                return Err(REJECTION);
            }
            cx.defer(conn);
            let claim = Claim::new(conn, name, right, ClaimKind::Connect);
            self.wait_for_place(cx, &key, claim, silent);
            return Ok(());
        }
        self.insert_connection(cx, conn, &key, name, right);
        self.announce(cx);
        Ok(())
    }

    /// Greets a client that has to send `auth`. It is told nothing of the room.
    fn wait_for_auth(&mut self, cx: &mut Context, conn: ConnectionId, requested: Option<String>) {
        let name = requested.unwrap_or_else(|| self.generate_username(cx));
        let recipient = newcomer(conn);
        let connected = ServerMessage::Connected {
            user_id: &self.next_user_id(cx),
            username: &name,
            timestamp: cx.timestamp(),
            connected_users: 0,
        };
        recipient.send(cx, &connected);
        let client = Unauthenticated {
            recipient,
            name,
            since: cx.now,
        };
        self.unauthenticated.insert(conn, Box::new(client));
    }

    /// Handles a message of a client that has to send `auth` first.
    pub(super) fn handle_unauthenticated(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        incoming: Incoming,
    ) {
        let Some(client) = self.unauthenticated.get_mut(&conn) else {
            return;
        };
        client.recipient.dialect = incoming.dialect;
        let (recipient, requested) = (client.recipient, client.name.clone());
        let ClientMessage::Auth(auth) = incoming.message else {
            ErrorReply::token_missing().send(cx, recipient);
            return;
        };
        let entitled = match auth {
            Auth::Missing => Err(ErrorReply::token_missing()),
            Auth::Verified(claims) => {
                let claims = claims.and_then(|claims| claims.valid_at(cx.wall));
                self.entitle(cx, claims.map(Some), Some(requested))
            }
            // The listener has stopped reading tokens since, and demands none any more.
            Auth::Claimed(name) => {
                let name = name.and_then(|name| self.sanitize_username(&name));
                self.entitle(cx, Ok(None), name.or(Some(requested)))
            }
        };
        match entitled {
            Ok((name, right)) => self.authenticate(cx, recipient, name, right),
            Err(error) => {
                self.claims.remove(conn);
                self.unauthenticated.remove(&conn);
                refuse(cx, recipient, &error);
            }
        }
    }

    /// Lets a client enter that has shown a token, once there is a place for it.
    fn authenticate(
        &mut self,
        cx: &mut Context,
        recipient: Recipient<Dialect>,
        name: String,
        right: Right,
    ) {
        let (conn, key) = (recipient.connection, name_key(&name));
        if self.claims.waits_for(conn, &key) {
            return;
        }
        self.claims.remove(conn);
        if self.has_place(&key, right) {
            self.enter(cx, conn, &key, name, right);
            return;
        }
        let replaceable = self.replaceable(cx, &key);
        if replaceable.is_empty() {
            too_many_connections().send(cx, recipient);
            return;
        }
        let claim = Claim::new(conn, name, right, ClaimKind::Auth);
        self.wait_for_place(cx, &key, claim, replaceable);
    }

    /// Makes a client that has authenticated a member of the room.
    pub(super) fn enter(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        key: &str,
        name: String,
        right: Right,
    ) {
        let Some(client) = self.unauthenticated.remove(&conn) else {
            return;
        };
        let recipient = client.recipient;
        self.insert_member(cx, recipient, key, name, right);
        self.announce_presence(cx);
        recipient.send(cx, &ServerMessage::AuthAck { ok: true });
        if !self.broadcast_user_count(cx) {
            recipient.send(cx, &user_count_message(&self.users));
        }
    }

    /// Closes the clients that have not sent a token in time.
    pub(super) fn close_unauthenticated(&mut self, cx: &mut Context) {
        let clients = self.unauthenticated.iter();
        let late = clients.filter(|(conn, client)| {
            let since = cx.silent_since(**conn, client.since);
            cx.now >= since + AUTH_TIMEOUT && !self.claims.is_waiting(**conn)
        });
        let late: Vec<ConnectionId> = late.map(|(&conn, _)| conn).collect();
        for conn in late {
            self.unauthenticated.remove(&conn);
            cx.close(conn, CloseReason::UNAUTHORIZED);
        }
    }

    /// Returns the username that a client gets, and by what right.
    ///
    /// # Errors
    /// Its token is refused, or it has none for a username that belongs to token holders.
    fn entitle(
        &self,
        cx: &mut Context,
        claims: Result<Option<Claims>, TokenError>,
        requested: Option<String>,
    ) -> Result<(String, Right), ErrorReply> {
        let claims = claims.map_err(ErrorReply::unauthorized)?;
        let (name, right) = match claims {
            Some(claims) => self.right_of(claims)?,
            None => (None, Right::default()),
        };
        let name = name.or(requested);
        let name = name.unwrap_or_else(|| self.generate_username(cx));
        self.check_free(&name_key(&name), right)?;
        Ok((name, right))
    }

    /// Returns the username that a token is for, if it is for one, and the right that it gives. A name that would have
    /// to be changed to be a username is refused: two names of the issuer must not become one here.
    ///
    /// # Errors
    /// The name cannot be a username.
    fn right_of(&self, claims: Claims) -> Result<(Option<String>, Right), ErrorReply> {
        let end = claims.end();
        let Some(name) = claims.subject.or(claims.username) else {
            let standing = Standing::Admitted;
            return Ok((None, Right { standing, end }));
        };
        if self.sanitize_username(&name).as_ref() != Some(&name) {
            return Err(ErrorReply::unauthorized(format!(
                "the token's \"sub\", or \"username\", is no username; must have 1 to {} characters, no HTML tags, no \
                 invisible characters, and no white space around it",
                self.options.username_length
            )));
        }
        let standing = Standing::Proven;
        Ok((Some(name), Right { standing, end }))
    }

    /// Checks that a username does not belong to token holders, unless the client has a token for it.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check_free(&self, key: &str, right: Right) -> Result<(), ErrorReply> {
        if !right.is_proven() && self.is_reserved(key) {
            let problem = "this username belongs to a client with a token; take another one, or send a token for it";
            return Err(ErrorReply::unauthorized(problem));
        }
        Ok(())
    }

    /// Returns the connection and the dialect of a member, or of a client that has not authenticated yet.
    pub(super) fn recipient(&self, conn: ConnectionId) -> Option<Recipient<Dialect>> {
        let member = self.members.get(conn).map(|member| member.recipient());
        let client = self.unauthenticated.get(&conn);
        member.or(client.map(|client| client.recipient))
    }

    /// Returns whether a token holder has a username, or had it since the realm was created.
    pub(super) fn is_reserved(&self, key: &str) -> bool {
        self.is_proven(key) || self.proven.contains(&key.to_owned())
    }

    /// Returns whether the connections of a user have tokens for its name: all have, or none has.
    fn is_proven(&self, key: &str) -> bool {
        let user = self.users.get(key);
        let first = user.and_then(|user| user.connections.first());
        let first = first.and_then(|&conn| self.members.get(conn));
        first.is_some_and(|member| member.standing == Standing::Proven)
    }

    /// Returns whether a client may have another connection of a username at once. The holder of a token for it takes
    /// the places of those who have none.
    pub(super) fn has_place(&self, key: &str, right: Right) -> bool {
        !self.is_full(key) || (right.is_proven() && !self.is_proven(key))
    }

    /// Closes the connections of a username that have no token for it, but for `except`, since a token holder comes;
    /// those that wait for it are refused.
    pub(super) fn displace(&mut self, cx: &mut Context, key: &str, except: Option<ConnectionId>) {
        let is_displaced = |conn: &ConnectionId| {
            let member = self.members.get(*conn);
            Some(*conn) != except && member.is_some_and(|it| it.standing != Standing::Proven)
        };
        let user = self.users.get(key).into_iter();
        let connections = user.flat_map(|user| user.connections.iter().copied());
        let displaced: Vec<ConnectionId> = connections.filter(is_displaced).collect();
        for conn in displaced {
            cx.close(conn, close_reasons::REPLACED);
            self.remove_member(cx, conn);
        }
        for claim in self.claims.take_unproven(key) {
            self.refuse_reserved(cx, &claim);
        }
        if !self.users.contains_key(key) && !self.is_reserved(key) {
            // What is remembered is of others, who must not use up the limits of this user.
            self.recently_gone.remove(&key.to_owned());
        }
    }

    /// Tells a client that the username that it waits for has become that of a token holder.
    fn refuse_reserved(&mut self, cx: &mut Context, claim: &Claim) {
        let problem = "a client with a token has taken this username; take another one";
        let error = ErrorReply::unauthorized(problem);
        if let Some(member) = self.members.get(claim.conn) {
            // It stays who it is.
            error.send(cx, member.recipient());
            return;
        }
        let client = self.unauthenticated.remove(&claim.conn);
        let recipient = client.map_or_else(|| newcomer(claim.conn), |client| client.recipient);
        refuse(cx, recipient, &error);
    }

    /// Handles `auth` of a member. Returns whether it is done. If not, the member waits for a place, or is closed, as its
    /// token is refused and it is in by a token.
    ///
    /// # Errors
    /// There is no token, the username cannot be changed, or the token is refused and the member is in without one. Then
    /// nothing changes.
    pub(super) fn handle_auth(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        auth: Auth,
    ) -> Result<bool, ErrorReply> {
        let Some(member) = self.members.get(conn) else {
            return Ok(true);
        };
        let is_by_token = member.standing != Standing::Tokenless;
        let is_fatal = is_by_token && matches!(auth, Auth::Verified(_));
        match self.entitle_member(cx, member, auth) {
            Ok((Some(name), right)) => self.rename(cx, conn, name, right),
            Ok((None, right)) => {
                self.confirm(cx, conn, right);
                Ok(true)
            }
            Err(error) if is_fatal => {
                refuse(cx, member.recipient(), &error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the username for which a member has sent `auth`, if it is for one, and by what right it asks for it.
    ///
    /// # Errors
    /// There is no token, it is refused, or it is for another user than that of the token by which the member is in.
    fn entitle_member(
        &self,
        cx: &Context,
        member: &Member,
        auth: Auth,
    ) -> Result<(Option<String>, Right), ErrorReply> {
        let (name, right) = match auth {
            Auth::Missing => return Err(ErrorReply::token_missing()),
            Auth::Claimed(name) => {
                let name = name.and_then(|name| self.sanitize_username(&name));
                (name, Right::default())
            }
            Auth::Verified(claims) => {
                let claims = claims.and_then(|claims| claims.valid_at(cx.wall));
                self.right_of(claims.map_err(ErrorReply::unauthorized)?)?
            }
        };
        let is_other = |name: &String| name_key(name) != *member.user;
        let is_same_user = match (member.standing, right.standing) {
            (Standing::Tokenless, _) => true,
            (Standing::Admitted, Standing::Proven) | (Standing::Proven, Standing::Admitted) => {
                false
            }
            _ => !name.as_ref().is_some_and(is_other),
        };
        if !is_same_user {
            let problem = "the token is not for the user of this connection; connect again with it";
            return Err(ErrorReply::unauthorized(problem));
        }
        Ok((name, right))
    }

    /// Gives a member the right of a token that does not change its username.
    pub(super) fn confirm(&mut self, cx: &mut Context, conn: ConnectionId, right: Right) {
        let member = self.members.get_mut(conn);
        let Some(member) = member.filter(|_| right.standing != Standing::Tokenless) else {
            return;
        };
        member.standing = right.standing;
        right.limit(cx, conn);
    }

    /// Gives a member a right to the username that it has. If it is new, it is as if the token holder had come now: others
    /// lose the name, their messages do not count any more, and it is written as in the token.
    pub(super) fn prove(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        name: String,
        right: Right,
    ) {
        let member = self.members.get(conn);
        let is_new = member.is_some_and(|member| member.standing == Standing::Tokenless);
        if is_new && right.is_proven() {
            let key = name_key(&name);
            self.displace(cx, &key, Some(conn));
            if let Some(user) = self.users.get_mut(&*key) {
                self.user_count.has_changed |= user.name != name;
                user.name = name;
                user.rate_limits = RateLimits::default();
            }
        }
        self.confirm(cx, conn, right);
    }
}

/// Refuses a client, and closes its connection.
fn refuse(cx: &mut Context, recipient: Recipient<Dialect>, error: &ErrorReply) {
    error.send(cx, recipient);
    cx.close(recipient.connection, CloseReason::UNAUTHORIZED);
}
