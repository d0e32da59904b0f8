//! The messages of the load: masked beforehand, and with a head by which each one is recognized where it arrives.

use crate::common::websocket::text_frame;

/// Digits, in base 16, of the sender's number, of the number of the message, and of the time at which it was sent.
const DIGITS: [usize; 3] = [4, 8, 12];

/// What begins a head.
const MARK: &str = "#";

/// Length of a head.
pub const HEAD: usize = 1 + 4 + 8 + 12;

/// A masking key, which the RFC demands to be unpredictable only of clients that run a page's script.
const KEY: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// A message of one sender, whose head is written anew for each time that it is sent.
pub struct Template {
    frame: Vec<u8>,
    /// Where the payload begins in the frame, and the digits in the payload.
    payload: usize,
    digits: usize,
    sender: u64,
}

impl Template {
    /// Prepares a message: `before`, a head and a filler of `length` bytes, and `after`.
    pub fn new(before: &str, filler: &str, after: &str, sender: usize) -> Self {
        let zeros = "0".repeat(HEAD - MARK.len());
        let payload = format!("{before}{MARK}{zeros}{filler}{after}");
        let mut frame = text_frame(payload.as_bytes());
        let start = frame.len() - payload.len();
        frame[start - KEY.len()..start].copy_from_slice(&KEY);
        for (byte, key) in frame[start..].iter_mut().zip(KEY.iter().cycle()) {
            *byte ^= key;
        }
        Self {
            frame,
            payload: start,
            digits: before.len() + MARK.len(),
            sender: sender as u64,
        }
    }

    /// Returns the frame of the message with this number.
    pub fn stamped(&mut self, number: u32, now: u64) -> &[u8] {
        let values = [self.sender, number.into(), now];
        let mut at = self.digits;
        for (value, count) in values.into_iter().zip(DIGITS) {
            for digit in (0..count).rev() {
                let nibble = (value >> (4 * digit)) as usize & 0xf;
                let masked = b"0123456789abcdef"[nibble] ^ KEY[at % KEY.len()];
                self.frame[self.payload + at] = masked;
                at += 1;
            }
        }
        &self.frame
    }
}

/// What the head of a message says.
pub struct Head {
    pub sender: usize,
    pub number: u32,
    pub sent_at: u64,
}

/// A text that stands somewhere in each message, mostly at the same place.
struct Finder {
    text: &'static [u8],
    last: usize,
}

impl Finder {
    /// Returns where the text ends.
    fn find(&mut self, message: &[u8]) -> Option<usize> {
        let is_there = |at: usize| message.get(at..at + self.text.len()) == Some(self.text);
        if !is_there(self.last) {
            let mut places = 0..message.len().saturating_sub(self.text.len() - 1);
            self.last = places.find(|&at| is_there(at))?;
        }
        Some(self.last + self.text.len())
    }
}

/// Recognizes messages where they arrive.
pub struct Reader {
    /// What precedes the name of the sender in the server's message, where it has one.
    name: Option<Finder>,
    names: Vec<String>,
    head: Finder,
    /// What follows the head.
    rest: String,
}

impl Reader {
    /// Names what precedes the sender's name and the head in what the server sends, and what follows the head.
    pub fn new(
        before_name: Option<&'static str>,
        names: Vec<String>,
        before_head: &'static str,
        rest: String,
    ) -> Self {
        let finder = |text: &'static str| Finder {
            text: text.as_bytes(),
            last: 0,
        };
        Self {
            name: before_name.map(finder),
            names,
            head: finder(before_head),
            rest,
        }
    }

    /// Returns the head of a message; none for a text that is none of the load.
    pub fn read(&mut self, text: &[u8]) -> Result<Option<Head>, String> {
        let Some(start) = self.head.find(text) else {
            return Ok(None);
        };
        let broken = || format!("a broken message: {:.200}", String::from_utf8_lossy(text));
        let mut rest = &text[start..];
        let mut values = [0; 3];
        for (value, count) in values.iter_mut().zip(DIGITS) {
            let (digits, others) = rest.split_at_checked(count).ok_or_else(broken)?;
            for &digit in digits {
                let nibble = char::from(digit).to_digit(16).ok_or_else(broken)?;
                *value = *value << 4 | u64::from(nibble);
            }
            rest = others;
        }
        let [sender, number, sent_at] = values;
        let sender = sender as usize;
        if !rest.starts_with(self.rest.as_bytes()) {
            return Err(broken());
        }
        if let Some(finder) = &mut self.name {
            let place = finder.find(text).ok_or_else(broken)?;
            let name = self.names.get(sender).ok_or_else(broken)?;
            if !text[place..].starts_with(name.as_bytes()) {
                return Err(format!("not from {name}: {}", broken()));
            }
        }
        Ok(Some(Head {
            sender,
            number: number as u32,
            sent_at,
        }))
    }
}

/// Returns a filler of this length: letters, and where `has_lines` a line's end as JSON has it after each 60 of them.
pub fn filler(length: usize, has_lines: bool) -> String {
    let line = "a=candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ";
    let line = format!("{line}{}", if has_lines { r"\r\n" } else { "." });
    let mut filler = line.repeat(length / line.len());
    filler.extend(std::iter::repeat_n('x', length - filler.len()));
    filler
}
