//! The records of an index's tables, and their fixed little-endian encoding.

use crate::image::bytes::Bytes;

/// Something of a fixed size in an index.
pub(crate) trait Record: Sized {
    /// Bytes of one record.
    const SIZE: usize;
    /// Appends the record.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads a record; none at the end of the bytes.
    fn get(from: &mut Bytes<'_>) -> Option<Self>;
}

/// Defines a record: its fields in file order.
macro_rules! record {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        // As small in memory as in the file: half of the tables are these.
        #[repr(C, packed(2))]
        pub(crate) struct $name {
            $($(#[$field_about])* pub(crate) $field: $kind,)+
        }

        impl Record for $name {
            const SIZE: usize = 0 $(+ size_of::<$kind>())+;

            fn put(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$field.to_le_bytes());)+
            }

            fn get(from: &mut Bytes<'_>) -> Option<Self> {
                $(let $field = from.$kind()?;)+
                Some(Self { $($field),+ })
            }
        }
    };
}

record! {
    /// A node: what `stat` tells, and where the rest is.
    Node {
        /// Kind (a [`Tag`]) in the highest four bits, permission bits in the others.
        mode: u16,
        /// Position of the owner in the table of owners.
        user: u16,
        /// Position of the group in the table of owners.
        group: u16,
        /// Unix time in seconds.
        mtime: u32,
        /// Number of links.
        nlink: u32,
        /// By kind: position in the table of directories, files or symlinks, or device number.
        payload: u32,
    }
}

record! {
    /// The entries of a directory.
    Directory {
        /// Position of the first entry.
        first: u32,
        /// Number of entries.
        count: u32,
        /// Length that the image gives it.
        size: u32,
    }
}

record! {
    /// An entry of a directory; its name ends where the length says.
    Entry {
        /// Where the name starts in the text.
        name: u32,
        /// Bytes of the name.
        length: u16,
        /// The node.
        node: u32,
    }
}

record! {
    /// Where a regular file's bytes are.
    RegularFile {
        /// Length in bytes.
        size: u64,
        /// Where its first block starts in the image.
        start: u64,
        /// Position of its first block in the table of blocks.
        first_block: u32,
        /// Position of the fragment that holds its tail; all ones when there is none.
        fragment: u32,
        /// Where the tail starts in the fragment.
        skip: u32,
    }
}

record! {
    /// A regular file with holes.
    Sparse {
        /// Position in the table of files.
        file: u32,
        /// Bytes that are in holes.
        bytes: u64,
    }
}

record! {
    /// A block that holds the tails of several files.
    Fragment {
        /// Where it starts in the image.
        start: u64,
        /// Its word, as squashfs packs it.
        word: u32,
        /// Bytes of it that files use.
        length: u32,
    }
}

record! {
    /// A stretch of the text.
    Span {
        /// Where it starts.
        start: u32,
        /// Its bytes.
        length: u32,
    }
}

record! {
    /// The extended attributes of a node.
    NodeXattrs {
        /// The node.
        node: u32,
        /// Position of its first attribute.
        first: u32,
        /// Number of its attributes.
        count: u32,
        /// Bytes that the image says they take.
        size: u32,
    }
}

record! {
    /// An extended attribute: in the text, the value follows the name.
    Xattr {
        /// Where the name starts.
        start: u32,
        /// Bytes of the name.
        name: u32,
        /// Bytes of the value.
        value: u32,
    }
}

impl Record for u32 {
    const SIZE: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(from: &mut Bytes<'_>) -> Option<Self> {
        from.u32()
    }
}

/// The kind of a node, numbered as squashfs numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

const TAGS: [(u16, Tag); 7] = [
    (1, Tag::Directory),
    (2, Tag::File),
    (3, Tag::Symlink),
    (4, Tag::BlockDevice),
    (5, Tag::CharDevice),
    (6, Tag::Fifo),
    (7, Tag::Socket),
];

impl Tag {
    /// The number of it.
    pub(crate) fn id(self) -> u16 {
        TAGS.iter()
            .find_map(|(id, tag)| (*tag == self).then_some(*id))
            .expect("Invariant: every kind is in the table")
    }

    /// The kind of a number.
    pub(crate) fn from_id(id: u16) -> Option<Self> {
        TAGS.iter()
            .find_map(|(known, tag)| (*known == id).then_some(*tag))
    }
}

impl Node {
    /// Kind and permissions in one.
    pub(crate) fn mode_of(tag: Tag, permissions: u16) -> u16 {
        (tag.id() << 12) | (permissions & 0o7777)
    }

    /// Its kind; none when the index is damaged.
    pub(crate) fn tag(&self) -> Option<Tag> {
        Tag::from_id(self.mode >> 12)
    }

    /// Its permission bits.
    pub(crate) fn permissions(&self) -> u16 {
        self.mode & 0o7777
    }
}

impl Entry {
    /// Where its name is.
    pub(crate) fn name(&self) -> Span {
        Span {
            start: self.name,
            length: u32::from(self.length),
        }
    }
}

impl Xattr {
    /// Where its name is.
    pub(crate) fn name(&self) -> Span {
        Span {
            start: self.start,
            length: self.name,
        }
    }

    /// Where its value is; none when that would be past any text.
    pub(crate) fn value(&self) -> Option<Span> {
        Some(Span {
            start: self.start.checked_add(self.name)?,
            length: self.value,
        })
    }
}
