//! Inode numbers of a mount.
//!
//! Owns the number space. Invariant: a number is handed out once in the life of a mount, so a
//! number that the kernel still holds for something that was unpublished can't come to mean
//! something else. Numbers are dense and small, because people and 32-bit programs see them.
//!
//! A number is the first one of its layer or view and the position in it, and positions follow
//! from the images alone. So whoever wanted to take a mount over in a later process would keep the
//! first number of each layer (by digest) and view (by path), and the next free one; nothing does
//! so now, a new process makes a new mount.

use std::fmt;

/// The number of a node, as the kernel and `stat` see it. 1 is the root of the mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ino(pub(crate) u64);

impl Ino {
    /// The root of the mount.
    pub(crate) const ROOT: Self = Self(1);
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hands out runs of numbers that were never handed out before.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: u64,
}

impl Numbers {
    /// Starts after the root's number.
    pub(crate) fn new() -> Self {
        Self {
            next: Ino::ROOT.0 + 1,
        }
    }

    /// The first of `count` consecutive new numbers. 64 bits don't run out: a mount would have to
    /// publish the largest possible image every microsecond for over a century.
    pub(crate) fn take(&mut self, count: u32) -> Ino {
        let first = self.next;
        self.next += u64::from(count);
        Ino(first)
    }
}
