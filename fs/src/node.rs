//! What a filesystem object is: its kind and its attributes, as squashfs can express them.

/// What kind of object a node is, with what only that kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of a length in bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink,
    /// A block device: shown, inert (nodev).
    BlockDevice {
        /// Device number as Linux encodes it in 32 bits.
        rdev: u32,
    },
    /// A character device: shown, inert (nodev). 0:0 is a whiteout in a view.
    CharDevice {
        /// Device number as Linux encodes it in 32 bits.
        rdev: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Attributes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits (12 bits).
    pub mode: u16,
    /// Owner as the image has it.
    pub uid: u32,
    /// Group as the image has it.
    pub gid: u32,
    /// Unix time in seconds (squashfs has 32 unsigned bits).
    pub mtime: u32,
    /// Links as the image counts them: names of the object within it, or 2 + subdirectories.
    pub nlink: u32,
    /// Bytes: of a file, of a symlink's target, of a directory as the image counts it; else 0.
    pub size: u64,
    /// Blocks of 512 bytes: a file inflated and without its holes, extended attributes of anything.
    pub blocks: u64,
}
