//! Sanitizing, tokens, the configuration, and the boundaries of frames.

use super::Input;
use crate::base::log_escape::Quoted;
use crate::config::Config;
use crate::net::frame_tracker::FrameTracker;
use crate::realm::{Claims, TokenError};
use crate::sys::log_tokens;
use crate::toolkit::jwt::{self, Secret, Verifier};
use crate::toolkit::sanitize;
use data_encoding::BASE64URL_NOPAD as BASE64URL;

/// Sanitizes text. The result contains no tag, sanitizing is idempotent, only markup and control characters
/// are removed, and text without them is unchanged (rulings, "sanitising text").
pub fn sanitize(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let clean = sanitize::sanitize(&text);
    let is_control = |c: char| c.is_control() && c != '\t' && c != '\n';
    let next = clean.chars().skip(1);
    for (first, second) in clean.chars().zip(next) {
        let opens = second.is_alphabetic() || matches!(second, '/' | '!' | '?');
        assert!(first != '<' || !opens, "{clean:?}");
    }
    assert!(!clean.contains(is_control), "{clean:?}");
    assert_eq!(sanitize::sanitize(&clean), clean);
    if !text.contains('<') {
        let expected: String = text.chars().filter(|c| !is_control(*c)).collect();
        assert_eq!(clean, expected);
    }
    // The result is a subsequence of the text.
    let mut rest = text.chars();
    assert!(clean.chars().all(|c| rest.any(|other| other == c)));
    let quoted = Quoted(&text).to_string();
    assert!(!quoted.contains(char::is_control), "{quoted}");
    assert!(quoted.chars().count() <= 64 * "\\u{10ffff}".len() + 3);
}

/// Verifies a token, and one that the owner of the secret has signed: the first line is its header, the rest its claims.
pub fn token(bytes: &[u8]) {
    const HEADER: &str = r#"{"alg":"HS256"}"#;
    let text = String::from_utf8_lossy(bytes);
    let secret = Secret::new(b"secret");
    let _ = verify(&text, &secret);
    let (header, claims) = text.split_once('\n').unwrap_or((HEADER, &text));
    let read = verify(&jwt::sign_parts(header, claims, &secret), &secret);
    assert_ne!(read, Err(TokenError::Signature));
}

/// Verifies a token. None is accepted that differs in any character from what the owner of the secret signs, and each that
/// is has the shape of a token. The same holds with two secrets in either order, and for the audience; the log shows
/// nothing of it.
fn verify(token: &str, secret: &Secret) -> Result<Claims, TokenError> {
    let verifier = |secrets: &[&Secret], audience: Option<&str>| Verifier {
        secrets: secrets.iter().copied().cloned().collect(),
        audience: audience.map(Into::into),
    };
    let read = verifier(&[secret], None).read(token);
    let other = Secret::new(b"another secret");
    for secrets in [[secret, &other], [&other, secret]] {
        assert_eq!(verifier(&secrets, None).read(token), read);
    }
    let unsigned = verifier(&[], None).read(token);
    assert!(unsigned.is_err());
    let of_chat = verifier(&[secret], Some("chat")).read(token);
    let Ok(claims) = read else {
        assert_eq!(of_chat, read);
        return read;
    };
    let is_for_chat = Ok(Claims {
        audience: Some("chat".into()),
        ..claims.clone()
    });
    assert!(of_chat == is_for_chat || of_chat == Err(TokenError::Audience));
    assert!(jwt::has_shape(token));
    assert!(secret.is_of(token) && !other.is_of(token));
    assert_eq!(jwt::unverified_username(token), claims.username);
    let mut line = Vec::new();
    log_tokens::redact(format!("a {token} b").as_bytes(), &mut line);
    assert_eq!(line, b"a *** b");
    let parts: Vec<String> = token
        .split('.')
        .map(|part| {
            BASE64URL
                .decode(part.as_bytes())
                .expect("a verified token is base64url")
        })
        .map(|part| String::from_utf8_lossy(&part).into_owned())
        .collect();
    assert_eq!(jwt::sign_parts(&parts[0], &parts[1], secret), token);
    Ok(claims)
}

/// Reads a configuration. Each problem names its place, and a valid configuration is equal to the one that is
/// read from its printed form.
pub fn configuration(bytes: &[u8]) {
    const PLACES: [&str; 10] = [
        "listeners",
        "log:",
        "threads:",
        "max_connections:",
        "memory_budget:",
        "shutdown_timeout:",
        "\"",
        // What is wrong with the file as a whole.
        "line ",
        "write ",
        "must be a JSON object, ",
    ];
    let text = String::from_utf8_lossy(bytes);
    match Config::from_json(&text) {
        Ok(config) => {
            let printed = config.to_json();
            // Not where they come from: all that is printed is read from the file.
            let values = |config: &Config| format!("{:?} {:?}", config.process, config.listeners);
            let has_secrets = config
                .listeners
                .iter()
                .any(|it| it.settings.access.is_some());
            // Secrets are not printed.
            if !has_secrets {
                let reread = Config::from_json(&printed).map(|config| values(&config));
                assert_eq!(reread, Ok(values(&config)));
            }
            for warning in config.warnings() {
                let has_place = PLACES.iter().any(|place| warning.starts_with(place));
                assert!(has_place, "{warning}");
            }
            for listener in &config.listeners {
                assert!(listener.endpoint().starts_with('/'));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let has_place = PLACES.iter().any(|place| problem.starts_with(place));
                assert!(has_place, "{problem}");
                assert!(!problem.contains(char::is_control), "{problem:?}");
            }
        }
    }
}

/// Tracks frames. The state does not depend on the pieces in which the bytes are received, and whether a
/// message has ended is as RFC 6455 section 5.2 says.
pub fn frame_tracker(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.line().unwrap_or_default();
    let mut bytes = Vec::new();
    while let Some(kind) = input.byte() {
        match kind {
            b'f' => {
                let (Some(first), Some(length)) = (input.byte(), input.number()) else {
                    break;
                };
                bytes.extend([first, 0xff, 0, 0, 0, 0, 0, 0]);
                bytes.extend(length.to_be_bytes());
                bytes.resize(bytes.len() + 4 + usize::from(length), 0);
            }
            b'o' => {
                let count = usize::from(input.byte().unwrap_or_default());
                bytes.extend(input.bytes(count));
            }
            _ => {}
        }
        if bytes.len() > 1 << 20 {
            break;
        }
    }
    let mut whole = FrameTracker::default();
    whole.advance(&bytes);
    let mut cut = FrameTracker::default();
    let size = |cut: &u8| match usize::from(*cut) {
        small @ ..128 => small + 1,
        large => (large - 127) * 256,
    };
    let mut sizes = cuts.iter().map(size).cycle();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1);
        let limit = cut.max_read(size);
        assert!((1..=size).contains(&limit));
        let (read, unread) = rest.split_at(limit.min(rest.len()));
        cut.advance(read);
        rest = unread;
    }
    let state = |tracker: &FrameTracker| {
        let counts = (
            tracker.largest_payload,
            tracker.expects_large(),
            tracker.buffered_bytes(0),
        );
        (
            tracker.between_messages(),
            tracker.max_read(usize::MAX),
            counts,
        )
    };
    assert_eq!(state(&whole), state(&cut));
    if let Some(is_whole) = ends_a_message(&bytes) {
        assert_eq!(whole.between_messages(), is_whole);
    } else {
        assert!(!whole.between_messages());
    }
}

/// Returns whether the bytes end with a complete message; `None` if they are not valid frames.
fn ends_a_message(mut bytes: &[u8]) -> Option<bool> {
    let mut is_whole = true;
    while let [first, second, rest @ ..] = bytes {
        if matches!(first & 0xf, 3..=7 | 11..) {
            return None;
        }
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if rest.len() < length_bytes + mask {
            return Some(false);
        }
        let (length, rest) = rest.split_at(length_bytes);
        let length = length
            .iter()
            .fold(short, |sum, byte| sum << 8 | u64::from(*byte));
        let payload = rest.get(mask..).unwrap_or_default();
        let is_control = first & 8 != 0;
        if !is_control {
            is_whole = first & 0x80 != 0;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if payload.len() < length {
            return Some(false);
        }
        bytes = &payload[length..];
    }
    Some(is_whole && bytes.is_empty())
}
