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

/// Least length of a token that begins with a blank or a line end within its header. Shorter ones may be words.
const LEAST_ODD: usize = 10;

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
    // `{"` and a letter, as each library begins the header and the claims; in small letters where a host was expected.
    let mut beginnings = run.windows(3);
    let usual = beginnings.position(|it| it.eq_ignore_ascii_case(b"eyJ"));
    let odd = || (0..run.len()).find(|at| begins_oddly(run, *at));
    usual.or_else(odd)
}

/// Returns whether a part of a token begins here whose JSON has white space after the brace, or no letter in front of its
/// first key.
fn begins_oddly(run: &[u8], at: usize) -> bool {
    let (before, from) = run.split_at(at);
    let is_start = before.last().is_none_or(|it| matches!(it, b'.' | b'='));
    let is_json = match from {
        [b'e', b'y', third, ..] => matches!(third, b'A'..=b'D' | b'I'..=b'L'),
        [b'e', b'w', third, ..] => matches!(third, b'k'..=b'n' | b'o'..=b'r' | b'0'..=b'3'),
        _ => false,
    };
    is_start && is_json && from.len() >= LEAST_ODD
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
        for length in 3..=TOKEN.len() {
            let cut = format!("a \"{}…", TOKEN.get(..length).unwrap());
            assert_eq!(redacted(&cut), "a \"***…", "{cut}");
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
