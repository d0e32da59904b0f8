//! Message texts that say which client sent them and can be recomputed by the check at the recipient.

use crate::random::Random;

/// Returns the text of the message `number` of the client `sender`: both numbers, and `length`
/// pseudo-random characters that depend on them. Some need escaping in JSON, some are not ASCII.
pub fn text(sender: usize, number: u64, length: usize) -> String {
    let mut text = format!("{sender}.{number} ");
    let mut random = Random::from_seed((sender as u64) << 40 ^ number);
    const CHARACTERS: [char; 8] = ['a', 'e', ' ', 'ß', 'n', '字', '"', '\\'];
    text.extend((0..length).map(|_| CHARACTERS[random.below(CHARACTERS.len())]));
    // A server may trim spaces at the end, so the text does not end with one.
    text.push('.');
    text
}

/// Returns the sender and the number of a [`text`].
pub fn parse_origin(text: &str) -> Option<(usize, u64)> {
    let (sender, rest) = text.split_once('.')?;
    let (number, _) = rest.split_once(' ')?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}
