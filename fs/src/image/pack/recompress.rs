//! The tree of an image, to be written anew with another compressor or block size.
//!
//! Nothing that squashfs can hold gets lost but what no reader shows: inodes without a name. Link
//! counts are those of the names that there are. Files are read block by block while the new image
//! is written; of fragments, which many files share, the last few stay inflated.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::attributes::{self, Attribute};
use super::tree::{Content, Node, Tree};
use super::{Meta, PackError, Source, Special};
use crate::image::{BlockRef, Image, ImageNode};
use crate::node::Kind;
use crate::num::{to_u64, to_usize};

/// Fragments that stay inflated, at most 1 MiB each.
const FRAGMENTS: usize = 8;

/// A regular file of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    shared: Arc<Shared>,
    node: ImageNode,
}

/// What all files of an image share.
#[derive(Debug)]
struct Shared {
    image: Arc<Image>,
    fragments: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl Tree {
    /// The tree that an image shows.
    pub fn of_image(image: &Arc<Image>) -> Result<Self, PackError> {
        let shared = Arc::new(Shared {
            image: Arc::clone(image),
            fragments: Mutex::new(VecDeque::new()),
        });
        let nodes = (0..image.node_count()).map(|number| node(&shared, ImageNode(number)));
        let mut tree = Self {
            nodes: nodes.collect::<Result<_, _>>()?,
        };
        tree.nodes[0].names = 1;
        for directory in (0..image.node_count()).map(ImageNode) {
            for (_, child) in image.entries(directory) {
                tree.nodes[to_usize(child.0)].names += 1;
            }
        }
        Ok(tree)
    }
}

/// A node of the image, names not counted.
fn node(shared: &Arc<Shared>, node: ImageNode) -> Result<Node, PackError> {
    let image = &shared.image;
    let attr = image.attr(node);
    let content = match attr.kind {
        Kind::Directory => Content::Directory(entries(image, node)),
        Kind::File { .. } => Content::File(Source::Image(ImageFile {
            shared: Arc::clone(shared),
            node,
        })),
        Kind::Symlink => Content::Symlink(image.symlink(node).to_vec()),
        Kind::BlockDevice { rdev } => Content::Special(Special::BlockDevice(rdev)),
        Kind::CharDevice { rdev } => Content::Special(Special::CharDevice(rdev)),
        Kind::Fifo => Content::Special(Special::Fifo),
        Kind::Socket => Content::Special(Special::Socket),
    };
    let mut found = Vec::new();
    for (name, value) in image.xattrs(node) {
        let attribute =
            Attribute::new(name, value.to_vec()).map_err(|reason| PackError::Attribute {
                path: image.path().to_owned(),
                name: name.escape_ascii().to_string(),
                reason,
            })?;
        attributes::set(&mut found, attribute);
    }
    let meta = Meta {
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        mtime: attr.mtime,
    };
    Ok(Node {
        attributes: found,
        names: 0,
        ..Node::new(meta, content)
    })
}

fn entries(image: &Image, directory: ImageNode) -> BTreeMap<Vec<u8>, usize> {
    let entries = image.entries(directory);
    entries
        .map(|(name, child)| (name.to_vec(), to_usize(child.0)))
        .collect()
}

impl ImageFile {
    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.shared.image.attr(self.node).size
    }

    /// The image that it is in.
    pub(super) fn path(&self) -> &Path {
        self.shared.image.path()
    }

    /// Reads it from the start.
    pub(super) fn open(&self) -> impl Read + use<> {
        Reader {
            file: self.clone(),
            offset: 0,
            block: Arc::default(),
            left: 0,
        }
    }
}

impl Shared {
    /// A fragment, inflated.
    fn fragment(&self, block: &BlockRef) -> io::Result<Arc<Vec<u8>>> {
        // A panic while it was held left it as it was before.
        let lock = || {
            self.fragments
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let known = |(start, bytes): &(u64, Arc<Vec<u8>>)| {
            (*start == block.start).then(|| Arc::clone(bytes))
        };
        if let Some(bytes) = lock().iter().find_map(known) {
            return Ok(bytes);
        }
        let bytes = self.inflate(block)?;
        let mut fragments = lock();
        fragments.push_front((block.start, Arc::clone(&bytes)));
        fragments.truncate(FRAGMENTS);
        Ok(bytes)
    }

    fn inflate(&self, block: &BlockRef) -> io::Result<Arc<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.image.read_block(block, &mut bytes);
        read.map_err(io::Error::other)?;
        Ok(Arc::new(bytes))
    }
}

/// Reads a file of an image.
struct Reader {
    file: ImageFile,
    /// Where the stretch behind the one at hand starts.
    offset: u64,
    block: Arc<Vec<u8>>,
    /// Bytes at the end of the stretch at hand that were not given yet, and where they end.
    left: usize,
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.next()? {
            return Ok(0);
        }
        let start = self.block.len() - self.left;
        let count = self.left.min(out.len());
        out[..count].copy_from_slice(&self.block[start..start + count]);
        self.left -= count;
        Ok(count)
    }
}

impl Reader {
    /// Goes on to the next stretch; false at the end of the file.
    fn next(&mut self) -> io::Result<bool> {
        let shared = &self.file.shared;
        let Some(extent) = shared.image.extent(self.file.node, self.offset) else {
            return Ok(false);
        };
        let (skip, length) = (to_usize(extent.skip), to_usize(extent.len));
        if extent.fragment {
            let fragment = shared.fragment(&extent.block)?;
            let piece = fragment.get(skip..skip + length);
            let piece = piece.ok_or_else(|| io::Error::other("a tail is not in its fragment"))?;
            self.block = Arc::new(piece.to_vec());
        } else {
            self.block = shared.inflate(&extent.block)?;
        }
        self.left = length.min(self.block.len());
        self.offset += to_u64(length);
        Ok(true)
    }
}
