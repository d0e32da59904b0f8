//! Buffers of frames that are gone, for the next ones.
//!
//! A relayed message is allocated on the thread of its sender and freed on that of the broker. malloc has a lock for the
//! memory that a thread allocates: with several threads, every sixth message had one of them wait for the other.

use std::sync::Mutex;

/// Smallest capacity in bytes of a buffer that is kept. Smaller ones malloc keeps for each thread, without a lock.
const MIN_CAPACITY: usize = 1024;
const MAX_CAPACITY: usize = 4096;

/// Buffers that are kept at most: about what is under way at a time.
const MAX_BUFFERS: usize = 512;

pub(super) static BUFFERS: Buffers = Buffers(Mutex::new(Vec::new()));

/// Empty buffers. No thread waits for them while another one has them: malloc is faster than that.
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Returns an empty buffer with a capacity of at least `bytes`. Of those that are kept it looks only at the one that
    /// was given back last, and frees it if it does not fit: so sizes that are no longer asked for do not stay.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        // The part beyond the frame is hardly accounted for.
        let most = bytes + bytes / 8;
        let may_be_kept = (MIN_CAPACITY..=MAX_CAPACITY).contains(&bytes);
        let kept = may_be_kept.then(|| self.0.try_lock().ok()).flatten();
        let kept = kept.and_then(|mut kept| kept.pop());
        let fitting = kept.filter(|buffer| (bytes..=most).contains(&buffer.capacity()));
        fitting.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Keeps a buffer for another frame, or frees it.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        if let Ok(mut kept) = self.0.try_lock() {
            if kept.len() < MAX_BUFFERS {
                kept.push(buffer);
            }
        }
    }

    /// Frees all.
    pub(super) fn free_all(&self) {
        let kept = self.0.try_lock().map(|mut kept| std::mem::take(&mut *kept));
        drop(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers() -> Buffers {
        Buffers(Mutex::default())
    }

    fn kept(buffers: &Buffers) -> usize {
        buffers.0.lock().unwrap().len()
    }

    #[test]
    fn a_buffer_is_used_again_for_what_fills_most_of_it() {
        let buffers = buffers();
        for other in [2600, 3001, 5000] {
            buffers.give_back(vec![1; 3000]);
            let buffer = buffers.take(other);
            assert_eq!((buffer.len(), buffer.capacity()), (0, other));
        }
        buffers.free_all();
        buffers.give_back(vec![1; 3000]);
        let buffer = buffers.take(2700);
        assert_eq!((buffer.len(), buffer.capacity()), (0, 3000));
        assert_eq!(kept(&buffers), 0);
    }

    #[test]
    fn a_buffer_that_does_not_fit_does_not_keep_those_below_it_from_being_used() {
        let buffers = buffers();
        buffers.give_back(vec![1; 1500]);
        buffers.give_back(vec![1; 4000]);
        assert_eq!(buffers.take(1400).capacity(), 1400);
        assert_eq!(buffers.take(1400).capacity(), 1500);
    }

    #[test]
    fn the_buffers_that_are_kept_are_bounded_in_size_and_number_and_can_be_freed() {
        let buffers = buffers();
        for other in [MIN_CAPACITY - 1, MAX_CAPACITY + 1] {
            buffers.give_back(Vec::with_capacity(other));
        }
        assert_eq!(kept(&buffers), 0);
        for _ in 0..MAX_BUFFERS + 1 {
            buffers.give_back(Vec::with_capacity(MAX_CAPACITY));
        }
        assert_eq!(kept(&buffers), MAX_BUFFERS);
        buffers.free_all();
        assert_eq!(kept(&buffers), 0);
    }

    #[test]
    fn nobody_waits_for_another_thread_to_take_or_give_back() {
        let buffers = buffers();
        let _other = buffers.0.lock().unwrap();
        buffers.give_back(vec![1; 3000]);
        assert!(buffers.take(3000).capacity() >= 3000);
        buffers.free_all();
    }
}
