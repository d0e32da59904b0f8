//! Text that a client chose and others will see: freed of markup, or made fit for a log line.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Removes HTML tags and control characters; the text between the tags stays.
///
/// Whatever the input, no `<` is left that is followed by a letter, `/`, `!` or `?`, so that
/// nothing in the result reads as a tag to a browser. An unclosed tag goes to the end of the
/// text. `1 < 2`, `a<3`, `<3` and `->` survive, as do tab and newline. Sanitising twice gives
/// the same as once. One pass, linear in the length. (Rulings, "sanitising text".)
pub fn sanitise(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c == '<' || is_forbidden_control(c)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut in_tag = false;
    for c in text.chars().filter(|&c| !is_forbidden_control(c)) {
        if in_tag {
            in_tag = c != '>';
        } else if clean.ends_with('<') && opens_tag(c) {
            // Looking back at the result, not at the input, also finds the tags that come
            // into being when another between their halves is removed.
            clean.pop();
            in_tag = true;
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

fn is_forbidden_control(c: char) -> bool {
    c.is_control() && c != '\t' && c != '\n'
}

fn opens_tag(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '/' | '!' | '?')
}

/// The first `limit` characters (Unicode scalar values) of a text.
pub fn cut(text: &str, limit: usize) -> &str {
    text.char_indices()
        .nth(limit)
        .map_or(text, |(end, _)| text.split_at(end).0)
}

/// Shows a client's text in a log line or an error: in quotes, escaped, at most 64 characters.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 64;
        let shown = cut(self.0, LIMIT);
        f.write_char('"')?;
        for c in shown.chars() {
            if misleads(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{}", c.escape_debug())?;
            }
        }
        f.write_char('"')?;
        if shown.len() < self.0.len() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

/// A sentence that may have some of a file in it, fit for one line of a terminal.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || misleads(c) {
            line.extend(c.escape_unicode());
        } else if c.is_ascii() {
            // Quotes stay as they are.
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
    }
    line
}

/// Marks that turn the direction of a terminal's line, and letters that nobody sees. Debug leaves them
/// alone.
fn misleads(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{3164}'
            | '\u{ffa0}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_go_and_the_text_between_them_stays() {
        assert_eq!(sanitise("<b>bold</b> move"), "bold move");
        assert_eq!(sanitise("<script>alert(1)</script>"), "alert(1)");
        assert_eq!(sanitise("a<!-- note -->b<?php ?>c<br/>d"), "abcd");
    }

    #[test]
    fn what_only_looks_like_markup_survives() {
        for text in [
            "1 < 2",
            "a<3",
            "<3",
            "->",
            "a > b",
            "x <- y",
            "tab\tand\nline",
        ] {
            assert_eq!(sanitise(text), text);
        }
    }

    #[test]
    fn tags_that_removal_would_put_together_go_too() {
        assert_eq!(sanitise("<scr<script>ipt>"), "ipt>");
        assert_eq!(sanitise("<<b>b>x"), "x");
        assert_eq!(sanitise("<\u{0}b>x"), "x");
        assert_eq!(sanitise("<<<a>a>a>x"), "x");
    }

    #[test]
    fn an_unclosed_tag_goes_to_the_end() {
        assert_eq!(sanitise("before <img src=x onerror=alert(1) "), "before ");
    }

    #[test]
    fn control_characters_go() {
        assert_eq!(sanitise("a\u{7}b\u{1b}[31mc\r\nd\u{85}"), "ab[31mc\nd");
    }

    #[test]
    fn cut_counts_characters_not_bytes() {
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("ab", 2), "ab");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn quoted_text_cannot_turn_a_line_round_or_hide() {
        let bidi = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        let invisible = "\u{ad}\u{34f}\u{115f}\u{1160}\u{180e}\u{200b}\u{200c}\u{200d}\u{2028}\u{2029}\u{2060}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{e0041}\u{fe0f}";
        for c in [bidi, invisible].concat().chars() {
            let shown = Quoted(&format!("a{c}")).to_string();
            assert_eq!(
                shown,
                format!("\"a{}\"", c.escape_unicode()),
                "{:x}",
                u32::from(c)
            );
        }
    }

    #[test]
    fn quoted_text_stays_on_one_line_and_short() {
        assert_eq!(Quoted("a\nb\u{1b}[2J").to_string(), r#""a\nb\u{1b}[2J""#);
        assert_eq!(Quoted("\u{202e}evil").to_string(), r#""\u{202e}evil""#);
        let long = Quoted(&"x".repeat(100)).to_string();
        assert_eq!(long, format!("\"{}\"…", "x".repeat(64)));
    }

    #[test]
    fn what_is_escaped_stays_on_one_line_and_keeps_its_quotes() {
        let sentence = "key: \u{1b}[2J\u{7f}\n\u{202e}\u{2028}\u{61c}\u{feff} is no \"é\"";
        let shown = r#"key: \u{1b}[2J\u{7f}\u{a}\u{202e}\u{2028}\u{61c}\u{feff} is no "é""#;
        assert_eq!(escaped(sentence), shown);
    }

    proptest! {
        #[test]
        fn no_tag_opener_is_ever_left(text in "[<>/!?a-zé3 \\-\\x00\\n]{0,40}") {
            let clean = sanitise(&text).into_owned();
            let after: Vec<char> = clean.chars().collect();
            for pair in after.windows(2) {
                let opens = pair[1].is_alphabetic() || "/!?".contains(pair[1]);
                prop_assert!(pair[0] != '<' || !opens, "{clean:?} from {text:?}");
            }
        }

        #[test]
        fn sanitising_twice_is_sanitising_once(text in "([<>/!?a-z3 ]|\\PC|\\pC){0,60}") {
            let once = sanitise(&text).into_owned();
            prop_assert_eq!(sanitise(&once).into_owned(), once);
        }

        #[test]
        fn text_without_markup_is_untouched(text in "[a-zA-Z0-9 >=\\t\\n.é😀-]{0,60}") {
            prop_assert_eq!(sanitise(&text), text.as_str());
        }
    }
}
