//! Access tokens, which are left out of the log.
//!
//! No line is meant to have one. A client can put its token where it does not belong, as into a path or a name, and a trace of
//! messages has whatever they have. So each line is looked at where all lines pass (`log_writer.rs`), and whatever has the
//! shape of a token is replaced, also where an excerpt has cut it off.

use std::ops::Range;

/// What stands instead of a token. It is no longer than any, so that a line does not grow.
pub(crate) const REPLACEMENT: &str = "***";

/// Length of a signature with HS256: 32 bytes as base64url.
const SIGNATURE: usize = 43;

/// Least length of a first part that is replaced. Fewer characters of a header say nothing, and may be those of a word.
const LEAST_PART: usize = 10;

/// Copies a line, with [`REPLACEMENT`] instead of each token, in place of what `copy` holds.
pub(crate) fn redact(line: &[u8], copy: &mut Vec<u8>) {
    copy.clear();
    let mut rest = line;
    while let Some(Range { start, end }) = find(rest) {
        copy.extend(rest.get(..start).unwrap_or_default());
        copy.extend(REPLACEMENT.as_bytes());
        rest = rest.get(end..).unwrap_or_default();
    }
    copy.extend(rest);
}

/// Returns where the first token in a text is, as far as the text has it.
pub(crate) fn find(text: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    loop {
        start += text.get(start..)?.iter().position(|it| is_of_token(*it))?;
        let run = text.get(start..).unwrap_or_default();
        let length = run.iter().position(|it| !is_of_token(*it));
        let end = start + length.unwrap_or(run.len());
        if let Some(offset) = start_of_token(text.get(start..end).unwrap_or_default()) {
            return Some(start + offset..end);
        }
        start = end;
    }
}

/// Returns whether a token can have this byte: base64url, the dots between its parts, and what stands for dots and padding
/// in a URL.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'%' | b'=')
}

/// Returns where a token begins in a text whose bytes are all of [`is_of_token`].
fn start_of_token(run: &[u8]) -> Option<usize> {
    let mut signatures = run.split(|it| *it == b'.').skip(2);
    if signatures.any(|part| part.len() >= SIGNATURE) {
        return Some(0);
    }
    (0..run.len()).find(|at| {
        let (before, from) = run.split_at(*at);
        from.starts_with(b"e") && ends_before_part(before) && begins_token(from)
    })
}

/// Returns whether a part of a token can begin behind this. What is glued to a header leaves the header, which says
/// nothing, and the claims begin behind its dot.
fn ends_before_part(before: &[u8]) -> bool {
    before.last().is_none_or(|it| matches!(it, b'.' | b'=')) || ends_with_escape(before)
}

/// Returns whether a text ends with a byte as URLs escape it, perhaps several times over (`%2E`, `%252E`).
fn ends_with_escape(text: &[u8]) -> bool {
    let Some((mut text, digits)) = text.split_last_chunk::<2>() else {
        return false;
    };
    while let Some(rest) = text.strip_suffix(b"25") {
        text = rest;
    }
    digits.iter().all(u8::is_ascii_hexdigit) && text.ends_with(b"%")
}

/// Returns whether a header or claims begin here, as they are written, or in small letters, as hosts are: those might be a
/// word, and are no token without claims behind them.
fn begins_token(from: &[u8]) -> bool {
    let is_base64url = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
    let length = from.iter().position(|it| !is_base64url(it));
    let (part, behind) = from.split_at(length.unwrap_or(from.len()));
    let has_claims = || match behind.strip_prefix(b".") {
        Some(claims) => opens_json(claims, true) || claims.starts_with(b"e30"),
        None => false,
    };
    part.len() >= LEAST_PART
        && (opens_json(part, false) || (opens_json(part, true) && has_claims()))
}

/// Returns whether this is how base64url begins of a JSON object with a key: a brace, and a quote or white space.
fn opens_json(part: &[u8], in_small_letters: bool) -> bool {
    let (second, third) = match part {
        [b'e', second, third, ..] => (*second, *third),
        _ => return false,
    };
    let letters: &[u8] = match second {
        b'y' => b"ABCDIJKL",
        b'w' => b"klmnopqr0123",
        _ => return false,
    };
    let is_it = |it: &u8| *it == third || (in_small_letters && it.to_ascii_lowercase() == third);
    letters.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of RFC 7519's shape; its parts are found in no other text here.
    const TOKEN: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn redacted(line: &str) -> String {
        let mut copy = b"what was there".to_vec();
        redact(line.as_bytes(), &mut copy);
        String::from_utf8(copy).unwrap()
    }

    #[test]
    fn a_token_is_replaced_wherever_it_stands() {
        for (line, expected) in [
            (format!("a {TOKEN} b"), "a *** b"),
            (format!("{TOKEN}\n"), "***\n"),
            (
                format!(r#"{{"token":"{TOKEN}","n":1}}"#),
                r#"{"token":"***","n":1}"#,
            ),
            (format!("/ws/{TOKEN}/x, /ws/{TOKEN}"), "/ws/***/x, /ws/***"),
            (format!("Bearer {TOKEN}é"), "Bearer ***é"),
            (format!("id=é{TOKEN}&x"), "id=é***&x"),
            (TOKEN.replace('.', "%2E"), "***"),
            (TOKEN.to_lowercase(), "***"),
        ] {
            assert_eq!(redacted(&line), expected);
        }
    }

    #[test]
    fn no_part_of_a_token_is_left_wherever_it_is_cut() {
        for length in LEAST_PART..=TOKEN.len() {
            let cut = format!("a \"{}…", TOKEN.get(..length).unwrap());
            assert_eq!(redacted(&cut), "a \"***…", "{cut}");
        }
    }

    #[test]
    fn no_claims_are_left_of_a_token_in_small_letters_wherever_it_is_cut() {
        let lower = TOKEN.to_lowercase();
        for length in lower.find('.').unwrap() + 4..=lower.len() {
            let cut = format!("\"https://{}\"…", lower.get(..length).unwrap());
            assert_eq!(redacted(&cut), "\"https://***\"…", "{cut}");
        }
    }

    #[test]
    fn what_is_glued_to_a_token_leaves_no_more_than_its_header() {
        let (header, rest) = TOKEN.split_once('.').unwrap();
        let (claims, _) = rest.split_once('.').unwrap();
        let cut_signature = rest.get(..claims.len() + 20).unwrap();
        let claims = [claims, cut_signature, claims.get(..LEAST_PART).unwrap()];
        // A line end that JSON escapes, a prefix, and the length in front of a text.
        for before in ["\\n", "bearer-", "user_", "t"] {
            for claims in claims {
                let left = redacted(&format!("{before}{header}.{claims}"));
                assert_eq!(left, format!("{before}{header}.***"));
            }
        }
    }

    #[test]
    fn a_token_in_a_url_that_is_escaped_again_is_replaced() {
        for (dot, equals) in [("%2E", "%3D"), ("%252e", "%253d"), ("%25252E", "%25253D")] {
            let token = TOKEN.replace('.', dot);
            let line = redacted(&format!("/ws%3Ftoken{equals}{token}"));
            assert_eq!(line, format!("/ws%3Ftoken{equals}***"));
        }
    }

    #[test]
    fn a_token_whose_json_is_written_oddly_is_replaced_too() {
        use data_encoding::BASE64URL_NOPAD;
        for header in [
            "{ \"alg\":\"HS256\"}",
            "{\n\"alg\":\"HS256\"}",
            "{\"_\":1, \"alg\":\"HS256\"}",
        ] {
            let header = BASE64URL_NOPAD.encode(header.as_bytes());
            assert_eq!(redacted(&format!("a {header}.e30.")), "a ***", "{header}");
        }
        // Also one that begins with nothing that is known.
        let signature = "x".repeat(SIGNATURE);
        assert_eq!(redacted(&format!("a IHsi.e30.{signature} b")), "a *** b");
    }

    #[test]
    fn what_is_no_token_stays() {
        for line in [
            "",
            "fastchat on 127.0.0.1:8000: 1.2.3.4 is refused with 403: origin \"https://www.chat.example\"",
            "id \"11111111-1111-4111-8111-111111111111\", /static/app.min.js, 10.0.0.0/8, keyIsDown",
            "peerjs/joeyjones, id \"keyJones\", /static/keyjar.json, moneyJournalist.example, joeyJonesTheThird",
            "to admit its pages, write it into \"origins\": [\"https://turkeyjerky.example\"]",
            "host \"eyjafjallajokull.is\", \"eyjafjallajokull.eu\", eyjafjallajokull, eyJones, eyJ.eyJ, a%20eyjolfur.txt",
            "reworked.the.newcomer's eyebrows, key=ewok, an ewok.txt",
            "<6>ready in 1.5 ms; limits: at most 512 connections",
        ] {
            assert_eq!(redacted(line), line);
        }
    }

    #[test]
    fn a_line_does_not_grow() {
        for line in ["eyJ", "eyJ eyJ eyJ", "a.b.c"] {
            assert!(redacted(line).len() <= line.len(), "{line}");
        }
    }
}
