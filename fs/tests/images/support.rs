//! What the tests share: a scratch directory, the outside tools, and trees to compare.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use piston_fs::image::verify::{Bounds, Verified, VerifyError, verify};
use piston_fs::image::{Image, ImageError, ImageNode};
use piston_fs::node::Kind;

/// A directory that goes away with the test.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `mksquashfs` over a directory.
    pub(crate) fn mksquashfs(&self, tree: &Path, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        let mut command = tool("mksquashfs");
        command.arg(tree).arg(&image);
        command.args(["-noappend", "-no-progress"]).args(options);
        run(command);
        image
    }
}

/// Verifies an image; its index goes beside it.
pub(crate) fn verified(image: &Path) -> Result<(Verified, PathBuf), VerifyError> {
    verified_within(image, &Bounds::default())
}

pub(crate) fn verified_within(
    image: &Path,
    bounds: &Bounds,
) -> Result<(Verified, PathBuf), VerifyError> {
    let index = image.with_extension("index");
    if index.exists() {
        fs::remove_file(&index).expect("the old index goes");
    }
    Ok((verify(image, &index, bounds)?, index))
}

/// Verifies and opens a sound image.
pub(crate) fn opened(image: &Path) -> Image {
    let (_, index) = verified(image).expect("the image is sound");
    Image::open(image, &index).expect("its index loads")
}

/// An outside tool of squashfs-tools.
pub(crate) fn tool(name: &str) -> Command {
    let found = Command::new(name).arg("-version").output();
    assert!(
        found.is_ok(),
        "{name} is needed by this test: install the package squashfs-tools"
    );
    Command::new(name)
}

/// Runs a command that must succeed.
pub(crate) fn run(mut command: Command) {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What a path of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u32,
    pub(crate) nlink: u32,
    pub(crate) what: What,
}

/// The kind of a path, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Device(u32),
    Fifo,
    Socket,
}

/// A tree by path, without leading slash; the root is the empty path.
pub(crate) type Listing = BTreeMap<Vec<u8>, Seen>;

/// A tree on the host.
pub(crate) fn host_tree(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).expect("an entry of the tree");
        if meta.is_dir() {
            for entry in fs::read_dir(&full).expect("a directory of the tree") {
                pending.push(path.join(entry.expect("an entry").file_name()));
            }
        }
        let key = path.as_os_str().as_bytes().to_vec();
        listing.insert(key, host_entry(&full, &meta));
    }
    listing
}

fn host_entry(path: &Path, meta: &fs::Metadata) -> Seen {
    let kind = meta.file_type();
    let device = || u32::try_from(meta.rdev()).expect("small device numbers");
    let what = if kind.is_dir() {
        What::Directory
    } else if kind.is_file() {
        What::File(fs::read(path).expect("a readable file"))
    } else if kind.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        What::Symlink(target.as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        What::Fifo
    } else if kind.is_socket() {
        What::Socket
    } else {
        What::Device(device())
    };
    Seen {
        mode: u16::try_from(meta.mode() & 0o7777).expect("twelve bits"),
        owner: (meta.uid(), meta.gid()),
        mtime: u32::try_from(meta.mtime()).expect("a time after 1970"),
        nlink: directory_links(path, meta),
        what,
    }
}

/// Links as squashfs counts them: some host filesystems give every directory one.
fn directory_links(path: &Path, meta: &fs::Metadata) -> u32 {
    if !meta.is_dir() {
        return u32::try_from(meta.nlink()).expect("few links");
    }
    let entries = fs::read_dir(path).expect("a directory");
    let children = entries.filter(|entry| {
        let kind = entry.as_ref().map(fs::DirEntry::file_type);
        kind.is_ok_and(|kind| kind.is_ok_and(|kind| kind.is_dir()))
    });
    2 + u32::try_from(children.count()).expect("few directories")
}

/// The tree that an image shows; every byte of every file is read.
pub(crate) fn image_tree(image: &Image) -> Result<Listing, ImageError> {
    let mut listing = Listing::new();
    let mut pending = vec![(Vec::new(), ImageNode(0))];
    while let Some((path, node)) = pending.pop() {
        for (name, child) in image.entries(node) {
            let mut full = path.clone();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(name);
            pending.push((full, child));
        }
        listing.insert(path, image_entry(image, node)?);
    }
    Ok(listing)
}

/// Names and values of extended attributes.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Extended attributes of every path that has some, in the order in which they are told.
pub(crate) fn xattrs_by_path(image: &Image) -> BTreeMap<Vec<u8>, Attributes> {
    let mut found = BTreeMap::new();
    let mut pending = vec![(Vec::new(), ImageNode(0))];
    while let Some((path, node)) = pending.pop() {
        for (name, child) in image.entries(node) {
            let mut full = path.clone();
            full.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
            full.extend_from_slice(name);
            pending.push((full, child));
        }
        let attributes = image.xattrs(node);
        let attributes: Attributes = attributes
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        if !attributes.is_empty() {
            found.insert(path, attributes);
        }
    }
    found
}

fn image_entry(image: &Image, node: ImageNode) -> Result<Seen, ImageError> {
    let attr = image.attr(node);
    let what = match attr.kind {
        Kind::Directory => What::Directory,
        Kind::File { size } => What::File(read_file(image, node, size)?),
        Kind::Symlink => What::Symlink(image.symlink(node).to_vec()),
        Kind::BlockDevice { rdev } | Kind::CharDevice { rdev } => What::Device(rdev),
        Kind::Fifo => What::Fifo,
        Kind::Socket => What::Socket,
    };
    Ok(Seen {
        mode: attr.mode,
        owner: (attr.uid, attr.gid),
        mtime: attr.mtime,
        nlink: attr.nlink,
        what,
    })
}

/// The bytes of a file, stretch by stretch; at most 64 MiB of it.
pub(crate) fn read_file(image: &Image, node: ImageNode, size: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let mut block = Vec::new();
    while let Some(extent) = image.extent(node, u64::try_from(bytes.len()).expect("64 bits")) {
        image.read_block(&extent.block, &mut block)?;
        let skip = usize::try_from(extent.skip).expect("32 bits");
        let len = usize::try_from(extent.len).expect("32 bits");
        bytes.extend_from_slice(&block[skip..skip + len]);
        if bytes.len() > 64 << 20 {
            return Ok(bytes);
        }
    }
    assert_eq!(u64::try_from(bytes.len()).ok(), Some(size));
    Ok(bytes)
}

/// Says which paths differ, and not all of their bytes.
pub(crate) fn assert_same(expected: &Listing, found: &Listing) {
    let paths: Vec<_> = expected.keys().collect();
    assert_eq!(paths, found.keys().collect::<Vec<_>>(), "other paths");
    for (path, one) in expected {
        let other = &found[path];
        let name = OsStr::from_bytes(path);
        assert_eq!(
            (one.mode, one.owner, one.mtime, one.nlink),
            (other.mode, other.owner, other.mtime, other.nlink),
            "attributes of {name:?}"
        );
        assert!(one.what == other.what, "contents of {name:?} differ");
    }
}
