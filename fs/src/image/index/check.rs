//! The invariants of an index, checked before anything is served from it.
//!
//! Runs on what the walk found and on what was loaded, so neither has to be trusted by readers.

use super::{Directory, Entry, Fragment, Node, RegularFile, Tables, Tag, slice};
use crate::image::format::{self, NONE};
use crate::num::{to_u32, to_usize};

/// What an invariant that does not hold is called.
type Fault = String;

impl Tables {
    /// Checks every invariant that the module's documentation lists.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if !format::block_size_is_legal(self.facts.block_size) {
            return Err(format!("block size {}", self.facts.block_size));
        }
        if self.nodes.first().and_then(Node::tag) != Some(Tag::Directory) {
            return Err("its first node is not a directory".to_owned());
        }
        for (number, node) in self.nodes.iter().enumerate() {
            self.check_node(node)
                .map_err(|fault| format!("node {number}: {fault}"))?;
        }
        self.check_tree()?;
        self.check_fragments()?;
        self.check_files()?;
        self.check_xattrs()
    }

    fn check_node(&self, node: &Node) -> Result<(), Fault> {
        let owners = self.owners.len();
        if usize::from(node.user) >= owners || usize::from(node.group) >= owners {
            return Err("its owner is not in the table".to_owned());
        }
        let tag = node.tag().ok_or("its kind is unknown")?;
        let payload = to_usize(node.payload);
        let known = match tag {
            Tag::Directory => payload < self.directories.len(),
            Tag::File => payload < self.files.len(),
            Tag::Symlink => self
                .symlinks
                .get(payload)
                .and_then(|target| self.text(*target))
                .is_some_and(|target| format::target_fault(target).is_none()),
            Tag::BlockDevice | Tag::CharDevice | Tag::Fifo | Tag::Socket => true,
        };
        known
            .then_some(())
            .ok_or_else(|| format!("its payload {payload} is out of range"))
    }

    /// Directories form a tree, counted breadth first, and every node is in it.
    fn check_tree(&self) -> Result<(), Fault> {
        let mut seen = vec![false; self.nodes.len()];
        if let Some(root) = seen.first_mut() {
            *root = true;
        }
        let mut counted = 0;
        let mut found = 1;
        for (number, node) in self.nodes.iter().enumerate() {
            if node.tag() == Some(Tag::Directory) {
                if node.payload != counted {
                    return Err(format!("directory {number} is not in its place"));
                }
                counted += 1;
                self.check_directory(number, node, &mut seen, &mut found)
                    .map_err(|fault| format!("directory {number}: {fault}"))?;
            }
        }
        match seen.iter().position(|seen| !seen) {
            Some(number) => Err(format!("node {number} is in no directory")),
            None => Ok(()),
        }
    }

    fn check_directory(
        &self,
        number: usize,
        node: &Node,
        seen: &mut [bool],
        found: &mut u32,
    ) -> Result<(), Fault> {
        let directory: Directory = *self
            .directories
            .get(to_usize(node.payload))
            .ok_or("it is not in the table")?;
        let entries = self
            .entries_of(directory)
            .ok_or("its entries are out of range")?;
        let mut before: &[u8] = b"";
        for entry in entries {
            let name = self.check_name(entry, before)?;
            before = name;
            let child = to_usize(entry.node);
            let seen = seen
                .get_mut(child)
                .ok_or("an entry's node is out of range")?;
            let is_directory = self.nodes[child].tag() == Some(Tag::Directory);
            if is_directory && (*seen || child <= number) {
                return Err(format!("directory {child} is reached twice"));
            }
            if is_directory {
                if self.nodes[child].payload != *found {
                    return Err(format!("directory {child} is not in its place"));
                }
                *found += 1;
            }
            *seen = true;
        }
        Ok(())
    }

    fn check_name(&self, entry: &Entry, before: &[u8]) -> Result<&[u8], Fault> {
        let name = self.text(entry.name()).ok_or("a name is out of range")?;
        if let Some(fault) = format::name_fault(name) {
            return Err(format!(
                "name {:?}: {fault}",
                name.escape_ascii().to_string()
            ));
        }
        if name <= before {
            return Err(format!(
                "name {:?} is not sorted or not unique",
                name.escape_ascii().to_string()
            ));
        }
        Ok(name)
    }

    fn check_fragments(&self) -> Result<(), Fault> {
        let sorted = self
            .fragments
            .is_sorted_by(|one, next| one.start <= next.start);
        let sound = self
            .fragments
            .iter()
            .all(|fragment| self.fragment_is_sound(fragment));
        (sorted && sound)
            .then_some(())
            .ok_or_else(|| "a fragment is out of range".to_owned())
    }

    fn fragment_is_sound(&self, fragment: &Fragment) -> bool {
        let block_size = self.facts.block_size;
        let end = format::data_word(fragment.word)
            .filter(|(stored, compressed)| {
                (1..=block_size).contains(stored) && (*compressed || *stored >= fragment.length)
            })
            .and_then(|(stored, _)| fragment.start.checked_add(u64::from(stored)));
        fragment.length <= block_size && end.is_some_and(|end| end <= self.facts.image_bytes)
    }

    fn check_files(&self) -> Result<(), Fault> {
        let mut content: u64 = 0;
        for (position, file) in self.files.iter().enumerate() {
            self.check_file(file)
                .map_err(|fault| format!("file {position}: {fault}"))?;
            content = content
                .checked_add(file.size)
                .ok_or("the files' lengths are too large")?;
        }
        if content != self.facts.content_bytes {
            return Err("the files' lengths do not add up".to_owned());
        }
        self.check_sparse()
    }

    fn check_sparse(&self) -> Result<(), Fault> {
        let sorted = self.sparse.is_sorted_by(|one, next| one.file < next.file);
        let within = self.sparse.iter().all(|sparse| {
            let file = self.files.get(to_usize(sparse.file));
            file.is_some_and(|file| sparse.bytes <= file.size)
        });
        (sorted && within)
            .then_some(())
            .ok_or_else(|| "a file's holes are out of range".to_owned())
    }

    fn check_file(&self, file: &RegularFile) -> Result<(), Fault> {
        let block_size = self.facts.block_size;
        let blocks = format::block_count(file.size, block_size, file.fragment != NONE);
        let words = u32::try_from(blocks)
            .ok()
            .and_then(|count| slice(&self.blocks, file.first_block, count))
            .ok_or("its blocks are out of range")?;
        let mut end = file.start;
        for (number, word) in (0_u64..).zip(words) {
            let length = file.size - number * u64::from(block_size);
            let length = length.min(u64::from(block_size));
            end = block_end(end, *word, length, block_size)
                .ok_or_else(|| format!("block {number} has a wrong size"))?;
        }
        if end > self.facts.image_bytes {
            return Err("its blocks are beyond the image's end".to_owned());
        }
        self.check_tail(file)
    }

    fn check_tail(&self, file: &RegularFile) -> Result<(), Fault> {
        if file.fragment == NONE {
            return Ok(());
        }
        let tail = file.size % u64::from(self.facts.block_size);
        let fragment = self
            .fragments
            .get(to_usize(file.fragment))
            .ok_or("its fragment is out of range")?;
        let end = u64::from(file.skip) + tail;
        (tail > 0 && end <= u64::from(fragment.length))
            .then_some(())
            .ok_or_else(|| "its tail is not within its fragment".to_owned())
    }

    fn check_xattrs(&self) -> Result<(), Fault> {
        let sorted = self
            .xattr_nodes
            .is_sorted_by(|one, next| one.node < next.node);
        let nodes = to_u32(self.nodes.len()).unwrap_or(u32::MAX);
        let sets_sound = self
            .xattr_nodes
            .iter()
            .all(|set| set.node < nodes && slice(&self.xattrs, set.first, set.count).is_some());
        let attributes_sound = self.xattrs.iter().all(|xattr| {
            let name = self.text(xattr.name());
            let value = xattr.value().and_then(|value| self.text(value));
            name.is_some_and(|name| !name.is_empty() && !name.contains(&0)) && value.is_some()
        });
        (sorted && sets_sound && attributes_sound)
            .then_some(())
            .ok_or_else(|| "its extended attributes are out of range".to_owned())
    }
}

/// Where a block that starts at `start` ends, if its word fits `length` bytes of content.
pub(crate) fn block_end(start: u64, word: u32, length: u64, block_size: u32) -> Option<u64> {
    let (stored, compressed) = format::data_word(word)?;
    if stored > block_size || (!compressed && u64::from(stored) != length) {
        return None;
    }
    start.checked_add(u64::from(stored))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::image::format::Codec;
    use crate::image::index::{Facts, NodeXattrs, Span, Sparse, Xattr};

    /// Makes an invariant of a sound index not hold.
    type Breaker = fn(&mut Tables);

    fn node(tag: Tag, payload: u32) -> Node {
        Node {
            mode: Node::mode_of(tag, 0o644),
            user: 0,
            group: 0,
            mtime: 0,
            nlink: 1,
            payload,
        }
    }

    fn entry(name: u32, node: u32) -> Entry {
        Entry {
            name,
            length: 1,
            node,
        }
    }

    /// `/a` is a directory that holds the file `b`, `/c` is a link to `a`; the file has a block, a
    /// tail and an attribute.
    pub(in crate::image::index) fn sound() -> Tables {
        let mut tables = Tables::new(Facts {
            digest: [7; 32],
            image_bytes: 10_000,
            content_bytes: 5000,
            block_size: 4096,
            codec: Codec::Zstd,
        });
        tables.owners = vec![0];
        tables.text = b"abcax".to_vec();
        tables.nodes = vec![
            node(Tag::Directory, 0),
            node(Tag::Directory, 1),
            node(Tag::Symlink, 0),
            node(Tag::File, 0),
        ];
        tables.directories = vec![
            Directory {
                first: 0,
                count: 2,
                size: 33,
            },
            Directory {
                first: 2,
                count: 1,
                size: 24,
            },
        ];
        tables.entries = vec![entry(0, 1), entry(2, 2), entry(1, 3)];
        tables.symlinks = vec![Span {
            start: 3,
            length: 1,
        }];
        tables.files = vec![RegularFile {
            size: 5000,
            start: 96,
            first_block: 0,
            fragment: 0,
            skip: 100,
        }];
        tables.sparse = vec![Sparse {
            file: 0,
            bytes: 5000,
        }];
        tables.blocks = vec![3000];
        tables.fragments = vec![Fragment {
            start: 4000,
            word: 800,
            length: 1004,
        }];
        tables.xattr_nodes = vec![NodeXattrs {
            node: 3,
            first: 0,
            count: 1,
            size: 10,
        }];
        tables.xattrs = vec![Xattr {
            start: 3,
            name: 1,
            value: 1,
        }];
        tables
    }

    /// Makes the root's second entry a directory that comes before its first.
    fn swap_directories(tables: &mut Tables) {
        tables.nodes[2] = node(Tag::Directory, 1);
        tables.nodes[1].payload = 2;
        tables.directories.push(tables.directories[1]);
    }

    #[test]
    fn a_sound_index_passes() {
        assert_eq!(sound().check(), Ok(()));
    }

    #[test]
    fn each_broken_invariant_is_named() {
        let cases: [(&str, Breaker); 26] = [
            ("block size", |t| t.facts.block_size = 5000),
            ("first node", |t| t.nodes[0] = t.nodes[2]),
            ("first node", |t| t.nodes.clear()),
            ("kind is unknown", |t| t.nodes[3].mode = 0xf000),
            ("owner", |t| t.nodes[3].group = 1),
            ("payload", |t| t.nodes[1].payload = 2),
            ("not in its place", |t| t.nodes[1].payload = 0),
            ("not in its place", swap_directories),
            ("payload", |t| t.symlinks[0].start = u32::MAX),
            ("reached twice", |t| t.entries[2].node = 1),
            ("reached twice", |t| t.entries[2].node = 0),
            ("in no directory", |t| t.entries[2].node = 2),
            ("node is out of range", |t| t.entries[2].node = 4),
            ("entries are out of range", |t| t.directories[1].count = 2),
            ("not sorted", |t| t.entries.swap(0, 1)),
            ("slash", |t| t.text[1] = b'/'),
            ("empty", |t| t.entries[0].length = 0),
            ("blocks are out of range", |t| t.files[0].first_block = 1),
            ("wrong size", |t| t.blocks[0] = 5000),
            ("holes", |t| t.sparse[0].bytes = 5001),
            ("holes", |t| t.sparse[0].file = 1),
            ("holes", |t| t.sparse.push(t.sparse[0])),
            ("beyond the image", |t| t.files[0].start = 8000),
            ("tail", |t| t.files[0].skip = 101),
            ("add up", |t| t.facts.content_bytes = 1),
            ("attributes", |t| t.xattr_nodes[0].count = 2),
        ];
        for (expected, break_it) in cases {
            let mut tables = sound();
            break_it(&mut tables);
            let fault = tables.check().expect_err(expected);
            assert!(fault.contains(expected), "{fault:?} without {expected:?}");
        }
    }
}
