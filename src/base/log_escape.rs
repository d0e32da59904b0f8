//! Escaping of text from clients and files, so that it stays on one line of a log or a terminal.

use std::fmt::{self, Write};

/// Displays untrusted text for a log line or an error: quoted, escaped, cut after 64 characters.
pub struct Quoted<'a>(pub &'a str);

impl<'a> Quoted<'a> {
    /// Characters that are shown.
    const LIMIT: usize = 64;

    /// Returns the beginning of a text that suffices to show it: a character more than is shown, as a sign that it is
    /// cut.
    pub(crate) fn cut(text: &'a str) -> &'a str {
        let end = text.char_indices().nth(Self::LIMIT + 1);
        end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars().take(Self::LIMIT) {
            if is_confusable(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{}", c.escape_debug())?;
            }
        }
        f.write_char('"')?;
        if self.0.chars().nth(Self::LIMIT).is_some() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

/// Displays untrusted text for a log line: escaped as [`escape`] does, cut after `limit` characters.
pub(crate) struct Excerpt<'a> {
    pub(crate) text: &'a str,
    pub(crate) limit: usize,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.char_indices().nth(self.limit) {
            None => f.write_str(&escape(self.text)),
            Some((end, _)) => {
                f.write_str(&escape(self.text.get(..end).unwrap_or_default()))?;
                f.write_char('…')
            }
        }
    }
}

/// Escapes a message that may contain text of a file, for one line of a terminal. Quotes and other printable
/// characters stay as they are.
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_confusable(c) {
            line.extend(c.escape_unicode());
        } else if c.is_ascii() {
            // Not `escape_debug`, which escapes quotes.
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
    }
    line
}

/// Returns whether a character changes the direction of text or is invisible, among those that
/// `char::escape_debug` does not escape.
fn is_confusable(c: char) -> bool {
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

    #[test]
    fn quoted_text_has_no_bidi_marks_and_no_invisible_characters() {
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
    fn quoted_text_stays_on_one_line_and_is_cut() {
        assert_eq!(Quoted("a\nb\u{1b}[2J").to_string(), r#""a\nb\u{1b}[2J""#);
        assert_eq!(Quoted("\u{202e}evil").to_string(), r#""\u{202e}evil""#);
        let long = Quoted(&"x".repeat(100)).to_string();
        assert_eq!(long, format!("\"{}\"…", "x".repeat(64)));
    }

    #[test]
    fn an_excerpt_keeps_its_quotes_stays_on_one_line_and_is_cut() {
        let excerpt = |text| Excerpt { text, limit: 4 }.to_string();
        assert_eq!(excerpt("\"é\""), "\"é\"");
        assert_eq!(excerpt("a\nbc"), "a\\u{a}bc");
        assert_eq!(excerpt("abcé"), "abcé");
        assert_eq!(excerpt("abcéx"), "abcé…");
    }

    #[test]
    fn an_escaped_message_stays_on_one_line_and_keeps_its_quotes() {
        let message = "key: \u{1b}[2J\u{7f}\n\u{202e}\u{2028}\u{61c}\u{feff} is no \"é\"";
        let shown = r#"key: \u{1b}[2J\u{7f}\u{a}\u{202e}\u{2028}\u{61c}\u{feff} is no "é""#;
        assert_eq!(escape(message), shown);
    }
}
