//! A tree as a tar archive: whatever a filesystem can hold, without having to be made on one.

use tar::{Builder, EntryType, Header};

use crate::support::noise;

/// An archive in the making.
pub(super) struct Archive(Builder<Vec<u8>>);

/// Owner, permissions and time of an entry.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    pub(super) mtime: u64,
}

pub(super) const META: Meta = Meta {
    mode: 0o644,
    owner: (0, 0),
    mtime: 1_700_000_000,
};

/// A value that the kernel takes for one of `security.capability`: version 2, `CAP_NET_BIND_SERVICE`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Archive {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, meta: Meta, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(meta.owner.0);
        header.set_gid(meta.owner.1);
        header.set_mtime(meta.mtime);
        header.set_size(u64::try_from(size).expect("64 bits"));
        header
    }

    pub(super) fn file(&mut self, path: &str, meta: Meta, bytes: &[u8]) {
        let mut header = Self::header(EntryType::Regular, meta, bytes.len());
        self.0
            .append_data(&mut header, path, bytes)
            .expect("memory takes it");
    }

    pub(super) fn directory(&mut self, path: &str, meta: Meta) {
        let mut header = Self::header(EntryType::Directory, meta, 0);
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("memory takes it");
    }

    pub(super) fn symlink(&mut self, path: &str, meta: Meta, target: &str) {
        let mut header = Self::header(EntryType::Symlink, meta, 0);
        self.0
            .append_link(&mut header, path, target)
            .expect("memory takes it");
    }

    pub(super) fn hard_link(&mut self, path: &str, target: &str) {
        let mut header = Self::header(EntryType::Link, META, 0);
        self.0
            .append_link(&mut header, path, target)
            .expect("memory takes it");
    }

    pub(super) fn device(&mut self, path: &str, kind: EntryType, (major, minor): (u32, u32)) {
        let mut header = Self::header(kind, META, 0);
        header.set_device_major(major).expect("memory takes it");
        header.set_device_minor(minor).expect("memory takes it");
        self.0
            .append_data(&mut header, path, &[][..])
            .expect("memory takes it");
    }

    /// The next entry has these extended attributes.
    pub(super) fn attributes(&mut self, attributes: &[(&str, &[u8])]) {
        let named = attributes
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value));
        let named: Vec<_> = named.collect();
        let pairs = named.iter().map(|(name, value)| (name.as_str(), *value));
        self.0
            .append_pax_extensions(pairs)
            .expect("memory takes it");
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes it")
    }
}

/// Something of everything that an archive can hold.
pub(super) fn everything() -> Vec<u8> {
    let mut tar = Archive::new();
    for (path, mode) in [("empty/", 0o1777), ("deep/", 0o755), ("deep/er/", 0o2750)] {
        tar.directory(path, Meta { mode, ..META });
    }
    contents(&mut tar);
    tar.hard_link("deep/again", "noise-4097");
    tar.hard_link("deep/er/once-more", "noise-4097");
    tar.hard_link("same-noise", "noise-131073");
    tar.symlink("link", META, "deep/er");
    tar.symlink("long-link", META, &"x".repeat(4095));
    tar.hard_link("same-link", "link");
    tar.device("pipe", EntryType::Fifo, (0, 0));
    tar.device("null", EntryType::Char, (1, 3));
    tar.device("disk", EntryType::Block, (259, 70_000));
    tar.file(&"n".repeat(255), META, b"the longest name");
    tar.file(
        &format!("deep/{}", "\u{e9}".repeat(127)),
        META,
        b"not ASCII",
    );
    for (path, mode) in [("set-user", 0o4755), ("set-group", 0o2755), ("nothing", 0)] {
        tar.file(path, Meta { mode, ..META }, path.as_bytes());
    }
    for (number, mtime) in [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
        .into_iter()
        .enumerate()
    {
        tar.file(&format!("time-{number}"), Meta { mtime, ..META }, b"");
    }
    for (number, owner) in [(1, 2), (65_535, 65_536), (70_000, 4_294_967_294)]
        .iter()
        .enumerate()
    {
        let owner = *owner;
        tar.file(&format!("owner-{number}"), Meta { owner, ..META }, b"x");
    }
    with_attributes(&mut tar);
    tar.finish()
}

/// Files of every length that is next to a block's, and of every kind of bytes.
fn contents(tar: &mut Archive) {
    for length in [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 300_000] {
        let seed = u32::try_from(length).expect("small");
        tar.file(&format!("noise-{length}"), META, &noise(seed, length));
    }
    tar.file("exactly-a-large-block", META, &vec![b'l'; 1 << 20]);
    let text = b"compressible text\n".repeat(70_000);
    tar.file("text", META, &text);
    tar.file("deep/same-text", META, &text);
    tar.file("zeros", META, &vec![0; 300_000]);
    tar.file("large-zeros", META, &vec![0; 2 << 20]);
    let mut holes = noise(1, 2_500_000);
    holes[131_072..1_200_000].fill(0);
    holes[1_300_000..].fill(0);
    tar.file("holes-and-a-tail", META, &holes);
    holes.extend(b"end");
    tar.file("holes-and-an-end", META, &holes);
    for number in 0..40_usize {
        let bytes = noise(u32::try_from(number).expect("few"), 600 + number);
        tar.file(&format!("many/{number:02}"), META, &bytes);
        tar.file(&format!("many/again-{number:02}"), META, &bytes);
    }
    for number in 0..700 {
        tar.file(&format!("crowd/{}-{number}", "c".repeat(30)), META, b"");
    }
}

fn with_attributes(tar: &mut Archive) {
    let long = b"long ".repeat(700);
    tar.attributes(&[("user.color", b"blue"), ("user.long", &long)]);
    tar.file("attributes-1", META, b"has some");
    tar.attributes(&[("user.long", &long), ("security.capability", &CAPABILITY)]);
    tar.file("attributes-2", META, b"has others");
    tar.attributes(&[("user.empty", b"")]);
    tar.file("attributes-3", META, b"");
    tar.attributes(&[("trusted.of-a-directory", &[0, 1, 2])]);
    tar.directory("attributes-4/", META);
    tar.attributes(&[("trusted.of-a-link", b"x")]);
    tar.symlink("attributes-5", META, "nowhere");
    tar.attributes(&[("security.of-a-device", b"x")]);
    tar.device("attributes-6", EntryType::Char, (5, 6));
}
