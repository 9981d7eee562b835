//! Random bytes of the kernel, drawn in bulk: a request needs two dozen, and each draw is a system
//! call.
//!
//! Invariant: no byte is given out twice. A buffer belongs to its thread, and the daemon never
//! forks.

use std::cell::RefCell;

/// Bytes drawn at once.
const BULK: usize = 1024;

struct Buffer {
    bytes: [u8; BULK],
    /// How many were given out.
    used: usize,
}

thread_local! {
    static BUFFER: RefCell<Buffer> = const {
        RefCell::new(Buffer {
            bytes: [0; BULK],
            used: BULK,
        })
    };
}

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    const { assert!(N <= BULK) };
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.used > BULK - N {
            getrandom::fill(&mut buffer.bytes)?;
            buffer.used = 0;
        }
        let given = &mut buffer.bytes[buffer.used..buffer.used + N];
        buffer.used += N;
        let mut bytes = [0; N];
        bytes.swap_with_slice(given);
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_draws_are_equal_across_refills_sizes_and_threads() {
        let draw = || (0..500).map(|_| bytes::<16>().unwrap()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw);
        let mut all: BTreeSet<_> = draw().into_iter().collect();
        assert_eq!(bytes::<1000>().unwrap().len(), 1000);
        all.extend(draw());
        all.extend(other.join().unwrap());
        assert_eq!(all.len(), 1500);
    }
}
