//! `switchboard token`: makes access tokens, and says what is in them.

use super::operator::Outcome;
use super::token_check::check;
use super::token_flags::{Moment, TokenCommand, TokenRequest};
use super::token_meaning::{name, unknown_role};
use crate::base::log_escape::Quoted;
use crate::config::{AccessSettings, Config, Listener};
use crate::realm::MAX_TOKEN_LENGTH;
use crate::toolkit::jwt;
use serde_json::{Map, Value, json};
use std::io::BufRead;
use std::time::SystemTime;

/// Bytes that are read from standard input, at most: more than a token has.
const MAX_INPUT: u64 = 64 << 10;

/// Executes the command with the listeners of this configuration. `input` may have the token.
///
/// # Errors
/// The arguments or the configuration do not allow it: what would be right.
pub fn run(
    command: &TokenCommand,
    config: &Config,
    now: SystemTime,
    input: impl BufRead,
) -> Result<Outcome, String> {
    match command {
        TokenCommand::Make { listener, request } => {
            let (listener, access) = find(config, listener)?;
            make(request, listener, access, now)
        }
        TokenCommand::Check { listener, token } => {
            let (listener, access) = find(config, listener)?;
            let token = match token {
                Some(token) => token.clone(),
                None => read(input)?,
            };
            Ok(check(token.trim(), listener, access, now))
        }
    }
}

/// Makes a token that is signed with the first secret of the listener: while they are changed, the new one.
fn make(
    request: &TokenRequest,
    listener: &Listener,
    access: &AccessSettings,
    now: SystemTime,
) -> Result<Outcome, String> {
    let of_listener = access.verifier.audience.as_deref();
    let audience = request.audience.as_deref().or(of_listener);
    if let Some(own) = of_listener.filter(|own| Some(*own) != audience) {
        return Err(format!(
            "--audience: leave this out, or write {}: {} refuses tokens for another audience",
            Quoted(own),
            name(listener)
        ));
    }
    let unknown = request.roles.iter();
    let mut unknown = unknown.filter_map(|role| {
        let problem = unknown_role(listener.protocol, role)?;
        Some(format!("--role {}: {problem}", Quoted(role)))
    });
    if let Some(problem) = unknown.next() {
        return Err(problem);
    }
    let (not_before, expires) = times(request, now)?;
    let text = |text: Option<&str>| text.map(|text| json!(text));
    let issued = Moment::At(now).since_epoch(now);
    let claims = [
        ("aud", text(audience)),
        ("sub", text(request.subject.as_deref())),
        ("name", text(request.name.as_deref())),
        (
            "roles",
            (!request.roles.is_empty()).then(|| json!(request.roles)),
        ),
        ("iat", issued.map(|time| json!(time.as_secs()))),
        ("nbf", not_before.map(|time| json!(time))),
        ("exp", expires.map(|time| json!(time))),
    ];
    let claims = claims.into_iter();
    let claims = claims.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let claims: Map<String, Value> = claims.collect();
    let secret = access.verifier.secrets.first();
    let secret = secret.ok_or("the listener has no secret")?;
    let token = jwt::sign(&claims.into(), secret);
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(format!(
            "token: write shorter texts: the token would have {} bytes, and listeners read {} at most",
            token.len(),
            MAX_TOKEN_LENGTH
        ));
    }
    Ok(Outcome {
        output: format!("{token}\n"),
        problems: Vec::new(),
    })
}

/// Returns the seconds since the Unix epoch from which a token is valid, and at which it expires.
///
/// # Errors
/// One of them is beyond all clocks, or the token would expire before it is valid.
fn times(request: &TokenRequest, now: SystemTime) -> Result<(Option<u64>, Option<u64>), String> {
    let time = |flag: &str, moment: Option<Moment>| {
        let seconds = |moment: Moment| {
            let time = moment.since_epoch(now).map(|time| time.as_secs());
            time.ok_or_else(|| format!("--{flag}: write a time that clocks can have"))
        };
        moment.map(seconds).transpose()
    };
    let not_before = time("not-before", request.not_before)?;
    let expires = time("expires", request.expires)?;
    let is_never_valid = not_before.zip(expires).is_some_and(|(nbf, exp)| nbf >= exp);
    match is_never_valid {
        true => Err("--not-before: write a time that is before --expires".to_owned()),
        false => Ok((not_before, expires)),
    }
}

/// Returns the listener of this name and its setting `access`.
///
/// # Errors
/// There is none, or there are several, or it has no `access`.
fn find<'a>(config: &'a Config, given: &str) -> Result<(&'a Listener, &'a AccessSettings), String> {
    let is_it = |listener: &&Listener| {
        let names = [
            listener.protocol.name,
            &listener.settings.address.to_string(),
            &flag(listener),
        ];
        names.iter().any(|name| name.eq_ignore_ascii_case(given))
    };
    let found: Vec<&Listener> = config.listeners.iter().filter(is_it).collect();
    let flags = |listeners: &[&Listener]| -> String {
        let flags: Vec<String> = listeners.iter().map(|it| flag(it)).collect();
        flags.join(", ")
    };
    let listener = match found[..] {
        [listener] => listener,
        [] => {
            let all: Vec<&Listener> = config.listeners.iter().collect();
            return Err(format!(
                "--listener: the configuration has no listener {}; it has {}",
                Quoted(given),
                flags(&all)
            ));
        }
        _ => {
            return Err(format!(
                "--listener: {} listeners are {}; write one of {}",
                found.len(),
                Quoted(given),
                flags(&found)
            ));
        }
    };
    let access = listener.settings.access.as_ref().ok_or_else(|| {
        format!(
            "{} reads no tokens: write \"access\": {{\"secret_file\": \"/etc/switchboard/access.secret\"}} for this \
             listener into the configuration (--config FILE), and a secret into that file, such as the output of \
             \"openssl rand -base64 48\"",
            name(listener)
        )
    })?;
    Ok((listener, access))
}

/// Returns a listener as the flag `--listen` names it.
fn flag(listener: &Listener) -> String {
    format!("{}={}", listener.protocol.name, listener.settings.address)
}

/// Reads a token from standard input: a line, after which a person at a terminal need not end the input.
///
/// # Errors
/// There is none.
fn read(input: impl BufRead) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_INPUT).read_until(b'\n', &mut bytes);
    read.map_err(|error| format!("token: cannot read the token from standard input: {error}"))?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match text.is_empty() {
        true => Err("token: write a token on standard input, or behind --check".to_owned()),
        false => Ok(text),
    }
}
