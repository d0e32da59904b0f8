//! Removal of markup from text that clients send and others see, and of invisible characters from names.

use std::borrow::Cow;

/// Removes HTML tags and control characters and keeps the text between the tags (rulings, "sanitising
/// text"): a client may insert what it receives between the tags of a web page without escaping it, but not into
/// an attribute.
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

/// Removes from a name what a reader does not see, besides the tags and control characters that [`sanitize`] removes,
/// and trims it (rulings, "Workspace": "From names are removed").
///
/// Invisible characters make different names look alike, and bidirectional marks reverse the text after a name. The
/// zero width joiners stay between two visible characters, where emoji and the scripts of India and Iran need them.
/// The function is idempotent and takes one pass, linear in the length.
pub fn sanitize_name(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    // The joiners since the last character of `clean`: their number, and the last of them.
    let mut joiners = (0_usize, ZERO_WIDTH_JOINER);
    let mut in_tag = false;
    for c in text
        .chars()
        .filter(|&c| !c.is_control() && !is_invisible(c))
    {
        if in_tag {
            in_tag = c != '>';
            continue;
        }
        if is_joiner(c) {
            joiners = (joiners.0 + 1, c);
            continue;
        }
        let last = clean.chars().next_back();
        let is_joined =
            joiners.0 == 1 && !c.is_whitespace() && last.is_some_and(|c| !c.is_whitespace());
        if last == Some('<') && opens_tag(c) && !is_joined {
            clean.pop();
            in_tag = true;
            joiners.0 = 0;
            // A joiner before the tag may meet another one after it.
            if let Some(joiner) = clean.chars().next_back().filter(|&c| is_joiner(c)) {
                clean.pop();
                joiners = (1, joiner);
            }
            continue;
        }
        if is_joined {
            clean.push(joiners.1);
        }
        clean.push(c);
        joiners.0 = 0;
    }
    clean.trim().to_owned()
}

/// Returns the first `limit` characters of a name that [`sanitize_name`] has returned, trimmed again.
pub fn truncate_name(name: &str, limit: usize) -> &str {
    truncate(name, limit).trim_end_matches(|c: char| c.is_whitespace() || is_joiner(c))
}

/// Returns what names are compared by: the name in lower case without any invisible character. It is empty for a
/// name in which nothing is visible.
///
/// Besides what [`sanitize_name`] removes everywhere, this leaves out the joiners, and the variation selectors and
/// other characters that only change what stands before them: all of them belong into some names, and with or
/// without them two names look the same.
pub fn name_key(name: &str) -> String {
    let visible = name
        .chars()
        .filter(|&c| !c.is_control() && !is_invisible(c) && !is_joiner(c) && !is_modifier(c));
    visible.collect::<String>().to_lowercase()
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Returns whether a character is a zero width joiner or non-joiner.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | ZERO_WIDTH_JOINER)
}

/// Returns whether a character shows nothing, wherever it stands.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' // soft hyphen
        | '\u{61c}' // Arabic letter mark
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
        | '\u{180e}' // Mongolian vowel separator
        | '\u{200b}' // zero width space
        | '\u{200e}' | '\u{200f}' // left-to-right and right-to-left mark
        | '\u{202a}'..='\u{202e}' // bidirectional embeddings and overrides
        | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, bidirectional isolates
        | '\u{feff}' // zero width no-break space
        | '\u{e0000}'..='\u{e007f}' // tag characters
    )
}

/// Returns whether a character shows nothing itself, but may change how the character before it looks: what else
/// Unicode calls "default ignorable".
fn is_modifier(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' // combining grapheme joiner
        | '\u{17b4}' | '\u{17b5}' // inherent vowels of Khmer
        | '\u{180b}'..='\u{180d}' | '\u{180f}' // Mongolian variation selectors
        | '\u{fe00}'..='\u{fe0f}' // variation selectors
        | '\u{1bca0}'..='\u{1bca3}' // shorthand format controls
        | '\u{1d173}'..='\u{1d17a}' // musical format controls
        | '\u{e0080}'..='\u{e0fff}' // variation selectors, unassigned
    )
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

    /// One of each kind that is removed from names.
    const INVISIBLE: &str = "\u{7}\t\n\u{7f}\u{85}\u{ad}\u{61c}\u{115f}\u{1160}\u{3164}\u{ffa0}\u{180e}\u{200b}\
        \u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{206f}\u{feff}\u{e0000}\u{e0041}\u{e007f}";

    #[test]
    fn invisible_characters_are_removed_from_names() {
        for c in INVISIBLE.chars() {
            assert_eq!(sanitize_name(&format!("a{c}n{c}n{c}")), "ann", "{c:?}");
            assert_eq!(sanitize_name(&format!("{c}")), "", "{c:?}");
            assert_eq!(sanitize_name(&format!("<{c}b>ann")), "ann", "{c:?}");
        }
        for kept in [
            "Jürgen O'Brien-Łukasz",
            "山田太郎",
            "किरण",
            "👍🏽",
            "❤\u{fe0f}",
            "شيماء",
            "e\u{301}",
        ] {
            assert_eq!(sanitize_name(kept), kept);
        }
    }

    #[test]
    fn joiners_stay_in_names_between_two_visible_characters_only() {
        for joiner in ['\u{200c}', '\u{200d}'] {
            for (given, name) in [
                ("aJb", "aJb"),
                ("aJbJc", "aJbJc"),
                ("Jab", "ab"),
                ("abJ", "ab"),
                ("a Jb", "a b"),
                ("aJ b", "a b"),
                ("aJJb", "ab"),
                ("aJ\u{200b}Jb", "ab"),
                ("J", ""),
                ("aJ<i>b", "aJb"),
                ("a<i>Jb", "aJb"),
                ("aJ<i>Jb", "ab"),
                ("aJ<i>", "a"),
                ("<J<i>Jb>c", "c"),
                ("<JJb>c", "c"),
            ] {
                let [given, name] =
                    [given, name].map(|text| text.replace('J', &joiner.to_string()));
                assert_eq!(sanitize_name(&given), name, "{given:?}");
            }
        }
        let family = "👩\u{200d}👩\u{200d}👧";
        assert_eq!(sanitize_name(family), family);
        assert_eq!(sanitize_name("❤\u{fe0f}\u{200d}🔥"), "❤\u{fe0f}\u{200d}🔥");
    }

    #[test]
    fn names_are_trimmed_and_without_tags() {
        assert_eq!(sanitize_name(" \u{3000}<b>Ann</b> Lee\n"), "Ann Lee");
        assert_eq!(sanitize_name("<scr<script>ipt>x"), "ipt>x");
    }

    #[test]
    fn a_cut_name_ends_with_a_visible_character() {
        assert_eq!(truncate_name("abcd", 3), "abc");
        assert_eq!(truncate_name("ab c", 3), "ab");
        assert_eq!(truncate_name("ab\u{200d}c", 3), "ab");
        assert_eq!(truncate_name("ab", 3), "ab");
    }

    #[test]
    fn names_are_compared_without_case_and_without_invisible_characters() {
        for name in [
            "ann",
            "ANN",
            "a\u{200d}nn",
            "ann\u{fe0f}",
            "a\u{34f}nn",
            "a\u{e0100}nn",
        ] {
            assert_eq!(name_key(name), "ann", "{name:?}");
        }
        for c in INVISIBLE.chars() {
            assert_eq!(name_key(&format!("a{c}nn")), "ann", "{c:?}");
        }
        assert_eq!(name_key("\u{fe0f}"), "");
        assert_ne!(name_key("ánn"), name_key("ann"));
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
        fn a_sanitized_name_has_no_tag_and_no_loose_joiner_and_stays_as_it_is(
            text in "([<>/!a-c \u{200b}-\u{200f}\u{2066}\\n]|\\PC|\\pC){0,40}"
        ) {
            let name = sanitize_name(&text);
            let chars: Vec<char> = name.chars().collect();
            for pair in chars.windows(2) {
                prop_assert!(pair[0] != '<' || !opens_tag(pair[1]), "{name:?} from {text:?}");
                let is_loose = |a: char, b: char| is_joiner(a) && (is_joiner(b) || b.is_whitespace());
                prop_assert!(!is_loose(pair[0], pair[1]) && !is_loose(pair[1], pair[0]), "{name:?}");
            }
            prop_assert!(!name.contains(|c: char| c.is_control() || is_invisible(c)));
            prop_assert!(!name.starts_with(is_joiner) && !name.ends_with(is_joiner));
            prop_assert_eq!(sanitize_name(&name), name);
        }

        #[test]
        fn text_without_markup_is_unchanged(text in "[a-zA-Z0-9 >=\\t\\n.é😀-]{0,60}") {
            prop_assert_eq!(sanitize(&text), text.as_str());
        }
    }
}
