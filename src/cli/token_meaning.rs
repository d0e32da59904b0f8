//! What the claims of a token mean on a protocol, as far as that can be said without a client.

use crate::base::log_escape::Quoted;
use crate::config::Listener;
use crate::realm::{Claims, Protocol};

/// Returns the roles that a protocol knows.
pub(super) fn roles(protocol: &Protocol) -> &'static [&'static str] {
    match protocol.name {
        "peerdrop" => &["create", "join"],
        "loudsync" => &["host"],
        _ => &[],
    }
}

/// Returns what is probably wrong with a token whose signature, audience and times are right.
pub(super) fn warnings(protocol: &Protocol, claims: &Claims) -> Vec<String> {
    let roles_of_token = claims.roles.iter().flatten();
    let unknown = roles_of_token.filter_map(|role| {
        let problem = unknown_role(protocol, role)?;
        Some(format!("its \"roles\" have {}: {problem}", Quoted(role)))
    });
    let no_subject = missing_subject(protocol, claims).map(str::to_owned);
    unknown.chain(no_subject).collect()
}

/// Returns why a role means nothing on a protocol; `None`: it means something.
pub(super) fn unknown_role(protocol: &Protocol, role: &str) -> Option<String> {
    let known = roles(protocol);
    let name = protocol.name;
    match known {
        _ if known.contains(&role) => None,
        [] => Some(format!("{name} knows no roles; leave this out")),
        _ => Some(format!("{name} knows {} alone", known.join(" and "))),
    }
}

/// Returns that a token says nobody's identity, where the protocol takes one from it.
fn missing_subject(protocol: &Protocol, claims: &Claims) -> Option<&'static str> {
    let is_there = claims.subject.is_some();
    match protocol.name {
        "peerjs" | "fastchat" | "loudsync" if !is_there => {
            Some("it has no \"sub\": its client is nobody in particular, and proves no identity")
        }
        "workspace" if !is_there && claims.username.is_none() => Some(
            "it has neither \"sub\" nor \"username\": its client is nobody in particular, and proves no identity",
        ),
        _ => None,
    }
}

/// Returns a listener as the log names it.
pub(super) fn name(listener: &Listener) -> String {
    format!(
        "{} on {}",
        listener.protocol.name, listener.settings.address
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::{PROTOCOLS, by_name};

    fn warnings_of(protocol: &str, claims: &Claims) -> usize {
        warnings(by_name(protocol).unwrap(), claims).len()
    }

    fn with_roles(roles: &[&str]) -> Claims {
        Claims {
            subject: Some("ann".to_owned()),
            roles: Some(roles.iter().map(|&role| role.to_owned()).collect()),
            ..Claims::default()
        }
    }

    #[test]
    fn a_role_is_known_where_it_means_something() {
        for protocol in PROTOCOLS {
            let unknown = |role| unknown_role(protocol, role).is_some();
            let expected = match protocol.name {
                "peerdrop" => [false, false, true],
                "loudsync" => [true, true, false],
                _ => [true; 3],
            };
            assert_eq!(["create", "join", "host"].map(unknown), expected);
        }
        assert_eq!(warnings_of("loudsync", &with_roles(&["host"])), 0);
        assert_eq!(warnings_of("loudsync", &with_roles(&["hots", "join"])), 2);
        assert_eq!(warnings_of("loudsync", &with_roles(&[])), 0);
    }

    #[test]
    fn a_subject_is_missed_where_the_identity_is_taken_from_it() {
        let nobody = Claims::default();
        let expected = [0, 1, 1, 1, 1];
        let names = ["peerdrop", "fastchat", "workspace", "loudsync", "peerjs"];
        assert_eq!(names.map(|name| warnings_of(name, &nobody)), expected);
        let named = Claims {
            username: Some("ann".to_owned()),
            ..nobody
        };
        assert_eq!(warnings_of("workspace", &named), 0);
        assert_eq!(warnings_of("peerjs", &named), 1);
    }
}
