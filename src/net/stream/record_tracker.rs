//! Following the records of TLS (RFC 8446 section 5.1) that a client sends, so that what rustls holds of them is known.

use crate::broker::{MIN_PROGRESS_BYTES, MessageProgress};

/// Bytes of a record's header: its type, a version, and the length of the rest.
const HEADER: usize = 5;

/// Most bytes that rustls holds undecrypted: a message of the TLS handshake in parts (KeyUpdate is the only one that follows
/// the handshake).
const MAX_UNDECRYPTED: usize = 64 * 1024;

/// Bytes of whole records without plaintext that are no sign of anything unfinished: KeyUpdate, and empty records.
const HARMLESS_BYTES: usize = 4 * 1024;

/// Follows the bytes that rustls is given.
#[derive(Default)]
pub(super) struct RecordTracker {
    /// Bytes of the record that has begun and is not whole.
    begun: usize,
    /// The length of its rest, as far as its header has come.
    length: usize,
    /// Bytes of whole records since the last plaintext. They may be a message of the handshake in parts.
    silent: usize,
    /// Whether something has begun since that was last asked for, before which nothing was unfinished.
    has_begun: bool,
    /// Bytes since the last progress.
    progress_bytes: usize,
}

impl RecordTracker {
    /// Follows bytes that rustls is given.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        // That of records which end now is told only after this.
        let was_silent = self.silent > HARMLESS_BYTES;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.begun == 0 && !was_silent {
                self.has_begun = true;
                self.progress_bytes = 0;
            }
            let taken = if self.begun < HEADER {
                match self.begun {
                    3 => self.length = usize::from(first) << 8,
                    4 => self.length |= usize::from(first),
                    _ => {}
                }
                bytes = rest;
                1
            } else {
                let taken = (HEADER + self.length - self.begun).min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                taken
            };
            self.begun += taken;
            self.progress_bytes += taken;
            if self.begun >= HEADER && self.begun == HEADER + self.length {
                self.silent += std::mem::take(&mut self.begun);
            }
        }
    }

    /// Records that rustls has returned plaintext: all records before it are decrypted.
    pub(super) fn record_plaintext(&mut self) {
        self.silent = 0;
    }

    /// Returns the most bytes that rustls may hold undecrypted.
    pub(super) fn undecrypted(&self) -> usize {
        (self.silent + self.begun).min(MAX_UNDECRYPTED)
    }

    /// Returns the bytes of what has begun and is not whole.
    pub(super) fn unfinished(&self) -> usize {
        match self.silent {
            0..=HARMLESS_BYTES => self.begun,
            _ => self.undecrypted(),
        }
    }

    /// Returns how what has begun stands, since this was last asked for.
    pub(super) fn take_progress(&mut self) -> MessageProgress {
        let has_begun = std::mem::take(&mut self.has_begun);
        let has_advanced = self.progress_bytes >= MIN_PROGRESS_BYTES;
        if self.unfinished() == 0 {
            MessageProgress::Finished
        } else if has_begun {
            MessageProgress::Begun
        } else if has_advanced {
            self.progress_bytes %= MIN_PROGRESS_BYTES;
            MessageProgress::Advanced
        } else {
            MessageProgress::Unchanged
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a record with this many bytes after its header.
    fn record(length: u16) -> Vec<u8> {
        let mut record = vec![0x17, 3, 3];
        record.extend(length.to_be_bytes());
        record.resize(HEADER + usize::from(length), 0xff);
        record
    }

    #[test]
    fn a_record_is_unfinished_from_its_first_byte_to_its_last_however_it_is_read() {
        let records = [record(300), record(0), record(20), record(1000)].concat();
        for read in [1, 2, 7, 304, 305, 306, records.len()] {
            let (mut tracker, mut received) = (RecordTracker::default(), 0);
            for part in records.chunks(read) {
                tracker.advance(part);
                received += part.len();
                let whole = [0, 305, 310, 335, records.len()];
                let before = whole.iter().rfind(|&&it| it <= received).unwrap();
                assert_eq!(tracker.unfinished(), received - before);
                assert_eq!(tracker.undecrypted(), received);
            }
        }
    }

    #[test]
    fn whole_records_without_plaintext_are_unfinished_only_above_4_kib() {
        let mut tracker = RecordTracker::default();
        for _ in 0..HARMLESS_BYTES / 25 {
            tracker.advance(&record(20));
            assert_eq!(tracker.take_progress(), MessageProgress::Finished);
        }
        tracker.advance(&record(20));
        assert!(tracker.unfinished() > HARMLESS_BYTES);
        assert_eq!(tracker.take_progress(), MessageProgress::Begun);
        tracker.advance(&record(20));
        assert_eq!(tracker.take_progress(), MessageProgress::Unchanged);
        tracker.record_plaintext();
        assert_eq!(tracker.take_progress(), MessageProgress::Finished);
    }

    #[test]
    fn progress_is_a_new_record_or_1_kib() {
        let mut tracker = RecordTracker::default();
        let mut progress_after = |bytes: &[u8]| {
            tracker.advance(bytes);
            tracker.record_plaintext();
            tracker.take_progress()
        };
        let long = record(5000);
        assert_eq!(progress_after(&[]), MessageProgress::Finished);
        assert_eq!(progress_after(&long[..1]), MessageProgress::Begun);
        assert_eq!(progress_after(&long[1..1000]), MessageProgress::Unchanged);
        assert_eq!(progress_after(&long[1000..1024]), MessageProgress::Advanced);
        assert_eq!(
            progress_after(&long[1024..2047]),
            MessageProgress::Unchanged
        );
        // The next is as long by then as the one before was.
        let next = [&long[2047..], &long[..2047]].concat();
        assert_eq!(progress_after(&next), MessageProgress::Begun);
        assert_eq!(progress_after(&long[2047..]), MessageProgress::Finished);
    }
}
