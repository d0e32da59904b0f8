//! The body of an HTTP response.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The body of an HTTP response: pieces of texts, which it may share with other responses. So a long list can
/// be sent to many clients, to each without an item of its own, and is never copied.
#[derive(Clone, Debug, Default)]
pub struct Body(Vec<(Arc<str>, Range<usize>)>);

impl Body {
    /// Appends the part of a text in this range of bytes; nothing if the range is not one of the text.
    pub fn push(&mut self, text: &Arc<str>, range: Range<usize>) {
        if text.get(range.clone()).is_some_and(|part| !part.is_empty()) {
            self.0.push((Arc::clone(text), range));
        }
    }

    /// Returns the pieces in order; none is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter_map(|(text, range)| text.get(range.clone()))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, range)| range.len()).sum()
    }

    /// Returns whether the body is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Arc<str>> for Body {
    fn from(text: Arc<str>) -> Self {
        let mut body = Self::default();
        body.push(&text, 0..text.len());
        body
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Arc::<str>::from(text).into()
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Arc::<str>::from(text).into()
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().try_for_each(|piece| f.write_str(piece))
    }
}

/// Bodies are equal if their texts are, however these are cut.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.pieces()
            .flat_map(str::bytes)
            .eq(other.pieces().flat_map(str::bytes))
    }
}

impl Eq for Body {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_text_of_its_pieces() {
        let text: Arc<str> = "abcdef".into();
        let mut body = Body::default();
        assert!(body.is_empty());
        for range in [0..2, 3..3, 4..6, 5..9] {
            body.push(&text, range);
        }
        assert_eq!(body.pieces().collect::<Vec<_>>(), ["ab", "ef"]);
        assert_eq!((body.to_string().as_str(), body.len()), ("abef", 4));
        assert_eq!(body, "abef".into());
        assert_ne!(body, "abe".into());
    }
}
