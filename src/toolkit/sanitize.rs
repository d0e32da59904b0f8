//! Removal of markup from text that clients send and others see.

use std::borrow::Cow;

/// Removes HTML tags and control characters and keeps the text between the tags (rulings, "sanitising
/// text"): a client may insert what it receives into a web page without escaping it.
///
/// Whatever the input, the result contains no `<` followed by a letter, `/`, `!` or `?`, so a browser reads
/// nothing in it as a tag. An unclosed tag extends to the end of the text. `1 < 2`, `a<3`, `<3` and `->` are
/// kept, and so are tab and newline. The function is idempotent and takes one pass, linear in the length.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| c == '<' || is_forbidden_control(c)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut in_tag = false;
    for c in text.chars().filter(|&c| !is_forbidden_control(c)) {
        if in_tag {
            in_tag = c != '>';
        } else if clean.ends_with('<') && opens_tag(c) {
            // Comparing with the result instead of the input also finds a tag whose two halves meet when
            // another tag between them is removed.
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

    proptest! {
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
