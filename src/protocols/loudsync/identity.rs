//! Who a client is: what its access token and its JOIN say of it, and why that is refused.

use super::codec::Recipient;
use super::fields::{DEVICE_ID_LENGTH, NAME_LENGTH};
use super::messages::{ErrorCode, ErrorReply, Join, JoinRequest, Role};
use super::session::Session;
use super::{Loudsync, already_joined, send_error};
use crate::base::close::CloseReason;
use crate::realm::{Claims, Context, TokenError};
use crate::toolkit::json::check_length;
use crate::toolkit::sanitize::truncate;

/// The role of a token that may host a session.
const HOST_ROLE: &str = "host";

impl Loudsync {
    /// Handles the JOIN of a connection that has not sent one.
    ///
    /// # Errors
    /// A field is missing, or `maxMembers` is out of range; the connection stays open.
    pub(super) fn handle_join(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        mut request: JoinRequest,
    ) -> Result<(), ErrorReply> {
        let token = request.token.take();
        match self.access.claims(client.connection, token, cx.wall) {
            Ok(claims) => match problem_with_subject(claims.as_ref(), &request) {
                Some(text) => refuse(cx, client, text),
                None => {
                    let join = identify(request, claims)?;
                    self.check_max_members(&join)?;
                    self.join(cx, client, join);
                }
            },
            Err(error) => refuse_token(cx, client, error),
        }
        Ok(())
    }

    /// Handles a JOIN of a member: with a fresh token of the same device it renews the connection, and is answered with
    /// `welcome`.
    ///
    /// # Errors
    /// It has no token.
    pub(super) fn handle_second_join(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        session_id: &str,
        mut request: JoinRequest,
    ) -> Result<(), ErrorReply> {
        let conn = client.connection;
        let token = request.token.take();
        let token = token.ok_or_else(|| second_join_error(request))?;
        let Some(member) = self.member_mut(session_id, conn) else {
            return Ok(());
        };
        let checked = token.and_then(|claims| claims.valid_at(cx.wall));
        let is_same = |claims: &Claims| match &claims.subject {
            Some(subject) => *subject == member.device_id,
            None => !member.is_proven,
        };
        match checked {
            Ok(claims) if is_same(&claims) => {
                member.is_proven |= claims.subject.is_some();
                cx.expire_at(conn, claims.end());
                if let Some(subject) = claims.subject {
                    self.proven.connect(conn, &subject);
                }
                if let Some(session) = self.sessions.get(session_id) {
                    session.send_welcome(cx, conn, session_id);
                }
            }
            Ok(_) => {
                let text = "the token is that of another device than this connection's";
                refuse(cx, client, text);
            }
            Err(error) => refuse_token(cx, client, error),
        }
        Ok(())
    }

    /// Returns why a client must not be the device that it says it is, or not in its role; `None`: it may.
    pub(super) fn refusal(&self, join: &Join) -> Option<&'static str> {
        let session = self.sessions.get(&join.session_id);
        if !join.is_proven && self.is_proven(session, &join.device_id) {
            return Some(
                "this device has an access token; send it as \"token\", or use another device ID",
            );
        }
        let host = session.and_then(|session| session.host.member());
        let is_host = host.is_some_and(|host| host.device_id == join.device_id);
        let hosts = is_host || matches!(join.role, Role::Host { .. });
        (hosts && !join.may_host).then_some("the token lacks the role \"host\"")
    }

    /// Returns whether a device has, or has had, a client whose token says that it is this device. Those that have gone
    /// first, and have no place in the session, are forgotten at some point.
    fn is_proven(&self, session: Option<&Session>, device_id: &String) -> bool {
        let mut members = session.into_iter().flat_map(Session::members);
        self.proven.contains(device_id)
            || members.any(|member| member.is_proven && member.device_id == *device_id)
    }
}

/// Returns why the `sub` of a token cannot be the device ID of a JOIN; `None`: it can, or there is none. The document's
/// `welcome` cannot tell a client that its device ID was replaced, so another one is refused, whatever the dialect.
fn problem_with_subject(claims: Option<&Claims>, request: &JoinRequest) -> Option<&'static str> {
    let subject = claims?.subject.as_ref()?;
    if check_length(subject, "sub", 1, DEVICE_ID_LENGTH).is_err() {
        return Some("the token's \"sub\" is no device ID; it must have 1 to 128 characters");
    }
    let device_id = request.device_id.as_ref().ok();
    let is_another = device_id.is_some_and(|id| id != subject);
    is_another.then_some("the device ID is not the token's \"sub\"; leave it out")
}

/// Returns the JOIN of the device that a client is: what its token says goes before what its message says.
///
/// # Errors
/// A field of the message is missing, and the token does not replace it.
fn identify(request: JoinRequest, claims: Option<Claims>) -> Result<Join, ErrorReply> {
    let may_host = claims.as_ref().is_none_or(|it| it.has_role(HOST_ROLE));
    let end = claims.as_ref().and_then(Claims::end);
    let (subject, name) = claims.map_or((None, None), |claims| (claims.subject, claims.name));
    let is_proven = subject.is_some();
    let device_id = match subject {
        Some(subject) => subject,
        None => request.device_id?,
    };
    let device_name = match name.filter(|name| !name.is_empty()) {
        Some(name) => truncate(&name, NAME_LENGTH).to_owned(),
        None => request.device_name?,
    };
    Ok(Join {
        session_id: request.session_id,
        device_id,
        device_name,
        role: request.role,
        is_proven,
        may_host,
        end,
    })
}

/// Returns the error for a JOIN without a token on a connection that has sent one: that, or that a field is missing.
pub(super) fn second_join_error(request: JoinRequest) -> ErrorReply {
    match request.device_id.and(request.device_name) {
        Ok(_) => already_joined(),
        Err(invalid) => invalid.into(),
    }
}

/// Refuses a client for its token, or for having none.
pub(super) fn refuse_token(cx: &mut Context, client: Recipient, error: TokenError) {
    match error {
        TokenError::Missing => refuse(
            cx,
            client,
            "a token is needed: \"token\" in join, \"access_token\" in the query, or \"Authorization: Bearer\"",
        ),
        error => refuse(cx, client, &error.to_string()),
    }
}

/// Refuses a client: sends `unauthorized`, and closes the connection.
pub(super) fn refuse(cx: &mut Context, client: Recipient, text: &str) {
    send_error(cx, client, &ErrorReply::new(ErrorCode::Unauthorized, text));
    cx.close(client.connection, CloseReason::UNAUTHORIZED);
}
