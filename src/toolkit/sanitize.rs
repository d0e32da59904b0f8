//! Removal of markup from text that clients send and others see.

use std::borrow::Cow;

/// Removes HTML tags and control characters and keeps the text between the tags (rulings, "sanitising
/// text"): a client may insert what it receives into a web page without escaping it.
///
/// Whatever the input, the result contains no `<` followed by a letter, `/`, `!` or `?`, so a browser reads
/// nothing in it as a tag. An unclosed tag extends to the end of the text. `1 < 2`, `a<3`, `<3` and `->` are
/// kept, and so are tab and newline. The function is idempotent and takes one pass, linear in the length.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if plain_length(text) == text.len() {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (plain, special) = rest.split_at(plain_length(rest));
        let first = plain.chars().next();
        // Comparing with the result instead of the input also finds a tag whose two halves meet when another
        // tag between them is removed.
        if let Some(opener) = first.filter(|&c| clean.ends_with('<') && opens_tag(c)) {
            clean.pop();
            let in_tag = rest.get(opener.len_utf8()..).unwrap_or_default();
            rest = in_tag.split_once('>').map_or("", |(_, after)| after);
            continue;
        }
        clean.push_str(plain);
        let after = special.trim_start_matches('<');
        clean.push_str(special.split_at(special.len() - after.len()).0);
        rest = after.trim_start_matches(is_forbidden_control);
    }
    Cow::Owned(clean)
}

/// Returns the length in bytes of the beginning of a text that has neither `<` nor a control character that is
/// removed. Large texts are mostly such, so this looks at bytes: a control character is one byte, or two of
/// which the first is `0xc2`.
fn plain_length(text: &str) -> usize {
    let mut from = 0;
    loop {
        let rest = text.get(from..).unwrap_or_default();
        let is_special = |byte: u8| {
            byte == b'<'
                || byte < b' ' && byte != b'\t' && byte != b'\n'
                || matches!(byte, 0x7f | 0xc2)
        };
        let Some(length) = rest.bytes().position(is_special) else {
            return text.len();
        };
        let special = rest.get(length..).unwrap_or_default();
        let c = special.chars().next();
        match c.filter(|&c| c != '<' && !is_forbidden_control(c)) {
            // A letter such as U+00A1, which has that first byte, too.
            Some(c) => from += length + c.len_utf8(),
            None => return from + length,
        }
    }
}

fn is_forbidden_control(c: char) -> bool {
    c.is_control() && c != '\t' && c != '\n'
}

fn opens_tag(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '/' | '!' | '?')
}

/// Returns the first `limit` characters (Unicode scalar values) of a text.
pub fn truncate(text: &str, limit: usize) -> &str {
    text.char_indices()
        .nth(limit)
        .map_or(text, |(end, _)| text.split_at(end).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_removed_and_the_text_between_them_is_kept() {
        assert_eq!(sanitize("<b>bold</b> move"), "bold move");
        assert_eq!(sanitize("<script>alert(1)</script>"), "alert(1)");
        assert_eq!(sanitize("a<!-- note -->b<?php ?>c<br/>d"), "abcd");
    }

    #[test]
    fn text_that_only_resembles_markup_is_kept() {
        for text in [
            "1 < 2",
            "a<3",
            "<3",
            "->",
            "a > b",
            "x <- y",
            "tab\tand\nline",
        ] {
            assert_eq!(sanitize(text), text);
        }
    }

    #[test]
    fn tags_that_removal_would_assemble_are_removed() {
        assert_eq!(sanitize("<scr<script>ipt>"), "ipt>");
        assert_eq!(sanitize("<<b>b>x"), "x");
        assert_eq!(sanitize("<\u{0}b>x"), "x");
        assert_eq!(sanitize("<<<a>a>a>x"), "x");
    }

    #[test]
    fn an_unclosed_tag_extends_to_the_end() {
        assert_eq!(sanitize("before <img src=x onerror=alert(1) "), "before ");
    }

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(sanitize("a\u{7}b\u{1b}[31mc\r\nd\u{85}"), "ab[31mc\nd");
    }

    #[test]
    fn cut_counts_characters_not_bytes() {
        assert_eq!(truncate("äöü", 2), "äö");
        assert_eq!(truncate("ab", 2), "ab");
        assert_eq!(truncate("", 0), "");
    }

    /// The definition of [`sanitize`], one character at a time.
    fn by_character(text: &str) -> String {
        let mut clean = String::new();
        let mut in_tag = false;
        for c in text.chars().filter(|&c| !is_forbidden_control(c)) {
            if in_tag {
                in_tag = c != '>';
            } else if clean.ends_with('<') && opens_tag(c) {
                clean.pop();
                in_tag = true;
            } else {
                clean.push(c);
            }
        }
        clean
    }

    proptest! {
        #[test]
        fn the_result_is_that_of_going_character_by_character(
            text in "([<>/!a3\\x00\\n\\t]|\\u{7f}|\\u{80}|\\u{9f}|\\u{a0}|\\u{a1}|\\u{bf}|é|😀){0,40}",
        ) {
            prop_assert_eq!(sanitize(&text), by_character(&text));
        }

        #[test]
        fn the_result_contains_no_tag_opener(text in "[<>/!?a-zé3 \\-\\x00\\n]{0,40}") {
            let clean = sanitize(&text).into_owned();
            let chars: Vec<char> = clean.chars().collect();
            for pair in chars.windows(2) {
                let opens = pair[1].is_alphabetic() || "/!?".contains(pair[1]);
                prop_assert!(pair[0] != '<' || !opens, "{clean:?} from {text:?}");
            }
        }

        #[test]
        fn sanitizing_twice_equals_sanitizing_once(text in "([<>/!?a-z3 ]|\\PC|\\pC){0,60}") {
            let once = sanitize(&text).into_owned();
            prop_assert_eq!(sanitize(&once).into_owned(), once);
        }

        #[test]
        fn text_without_markup_is_unchanged(text in "[a-zA-Z0-9 >=\\t\\n.é😀-]{0,60}") {
            prop_assert_eq!(sanitize(&text), text.as_str());
        }
    }
}
