//! Text that a client or a file chose, made fit for one line of a log or a terminal.

use std::fmt::{self, Write};

/// Shows a client's text in a log line or an error: in quotes, escaped, at most 64 characters.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 64;
        f.write_char('"')?;
        for c in self.0.chars().take(LIMIT) {
            if is_confusable(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{}", c.escape_debug())?;
            }
        }
        f.write_char('"')?;
        if self.0.chars().nth(LIMIT).is_some() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

/// A sentence that may have some of a file in it, fit for one line of a terminal.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_confusable(c) {
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
}
