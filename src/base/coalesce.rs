//! Many pieces as the two that are written with one system call.

use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::{Mutex, PoisonError};

/// Largest piece in bytes that is copied, together with its neighbors, into one buffer before it is
/// written. Copying small pieces costs less than having the kernel gather them; where
/// that ends depends on the kernel, and 8 KiB is an estimate.
const MAX_COALESCED_PIECE: usize = 8 * 1024;

/// Largest size of that buffer in bytes.
const MAX_COALESCED_BYTES: usize = 64 * 1024;

/// Buffers that no thread uses yet. A thread that allocated its own at its first write could do so in a storm, and
/// would keep the storm's memory (see [`crate::base::spare`]).
static BUFFERS: Mutex<Vec<&mut Vec<u8>>> = Mutex::new(Vec::new());

thread_local! {
    /// The buffer that small pieces are copied into. Its content is used within one write only. It is never freed,
    /// since a destructor would have to be registered, which allocates, too.
    static COALESCE_BUFFER: RefCell<&'static mut Vec<u8>> = {
        let buffer = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        RefCell::new(buffer.unwrap_or_else(new_buffer))
    };
}

fn new_buffer() -> &'static mut Vec<u8> {
    Box::leak(Box::new(Vec::with_capacity(MAX_COALESCED_BYTES)))
}

/// Allocates what each of this many threads needs to write frames.
pub(crate) fn allocate_buffers(threads: usize) {
    let mut buffers = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    buffers.extend((0..threads).map(|_| new_buffer()));
}

/// Writes the first of these pieces: the small ones before the first large one, copied into one buffer, and the large
/// one.
pub(crate) fn with_coalesced<'a, T>(
    pieces: impl Iterator<Item = &'a [u8]>,
    write: impl FnOnce(&[IoSlice<'_>; 2]) -> T,
) -> T {
    COALESCE_BUFFER.with_borrow_mut(|small| {
        small.clear();
        let mut large: &[u8] = &[];
        for piece in pieces {
            if piece.len() > MAX_COALESCED_PIECE {
                large = piece;
                break;
            }
            if small.len() + piece.len() > MAX_COALESCED_BYTES {
                break;
            }
            small.extend_from_slice(piece);
        }
        write(&[IoSlice::new(small), IoSlice::new(large)])
    })
}
