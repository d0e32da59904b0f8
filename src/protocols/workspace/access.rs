//! Access tokens: who comes in by one, as whom, and what a member may have by it.

use super::Workspace;
use super::members::{Member, RateLimits, newcomer};
use super::messages::{Auth, Dialect, ErrorReply};
use super::standing::{Entitlement, Right, Standing};
use super::takeovers::{Claim, ClaimKind, REJECTION};
use crate::base::close::CloseReason;
use crate::realm::{Access, Claims, ConnectionId, Context, Rejection, TokenError};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::sanitize::name_key;

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
        let entitlement = match self.entitle(cx, claims, requested) {
            Ok(entitlement) => entitlement,
            Err(error) => {
                refuse(cx, newcomer(conn), &error);
                return Ok(());
            }
        };
        if !self.has_place(&entitlement) {
            let silent = self.replaceable(cx, &entitlement.key);
            if silent.is_empty() {
                return Err(REJECTION);
            }
            cx.defer(conn);
            let claim = Claim::new(conn, entitlement, ClaimKind::Connect);
            self.wait_for_place(cx, claim, silent);
            return Ok(());
        }
        self.insert_connection(cx, conn, &entitlement);
        self.announce(cx);
        Ok(())
    }

    /// Returns the username that a client gets, and by what right.
    ///
    /// # Errors
    /// Its token is refused, or it has none for a username that belongs to token holders.
    pub(super) fn entitle(
        &self,
        cx: &mut Context,
        claims: Result<Option<Claims>, TokenError>,
        requested: Option<String>,
    ) -> Result<Entitlement, ErrorReply> {
        let claims = claims.map_err(ErrorReply::unauthorized)?;
        let (name, right) = match claims {
            Some(claims) => self.right_of(claims)?,
            None => (None, Right::default()),
        };
        let name = name.or(requested);
        let name = name.unwrap_or_else(|| self.generate_username(cx));
        let entitlement = Entitlement::new(name, right);
        self.check_free(&entitlement)?;
        Ok(entitlement)
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
        let is_kept = self.sanitize_username(&name).as_ref() == Some(&name);
        if !is_kept || name_key(&name) != name.to_lowercase() {
            return Err(ErrorReply::unauthorized(format!(
                "the token's \"sub\", or \"username\", is no username; must have 1 to {} characters, no HTML tags, no \
                 invisible characters, and no white space around it",
                self.options.username_length
            )));
        }
        let standing = Standing::Proven;
        Ok((Some(name), Right { standing, end }))
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
            Ok((Some(name), right)) => self.rename(cx, conn, Entitlement::new(name, right)),
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
    pub(super) fn prove(&mut self, cx: &mut Context, conn: ConnectionId, entitlement: Entitlement) {
        let Entitlement { key, name, right } = entitlement;
        let member = self.members.get(conn);
        let is_new = member.is_some_and(|member| member.standing == Standing::Tokenless);
        if is_new && right.is_proven() {
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
pub(super) fn refuse(cx: &mut Context, recipient: Recipient<Dialect>, error: &ErrorReply) {
    error.send(cx, recipient);
    cx.close(recipient.connection, CloseReason::UNAUTHORIZED);
}
