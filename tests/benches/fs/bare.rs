//! The least that a FUSE filesystem can be: names and attributes, told once and kept for ever.
//!
//! Nobody asks it a second time, so what a warm row takes on it is the kernel's own way through
//! FUSE, whatever serves it: the floor for ours. Served by a thread of this process, which sleeps
//! meanwhile. Holds no bytes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, InitFlags, KernelConfig, MountOption, OpenFlags, ReplyAttr, ReplyEntry, ReplyOpen,
    Request, SessionACL,
};

use crate::set::Set;

const FOR_EVER: Duration = Duration::from_hours(24);

/// The tree: node `n` is `nodes[n - 1]`, the first its root.
#[derive(Debug)]
struct Bare {
    nodes: Vec<FileAttr>,
    entries: HashMap<(u64, OsString), usize>,
}

/// Mounts a tree that has the paths of the set, until the answer is dropped.
pub(crate) fn mount(set: &Set, at: &Path) -> BackgroundSession {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::DefaultPermissions,
    ];
    let session = fuser::Session::new(Bare::new(set), at, &config).expect("root may mount");
    session.spawn().expect("a thread")
}

impl Bare {
    fn new(set: &Set) -> Self {
        let mut bare = Self {
            nodes: vec![attr(1, &set.plain)],
            entries: HashMap::new(),
        };
        let mut numbers = HashMap::from([(PathBuf::new(), 1)]);
        for path in &set.paths {
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            let parent = numbers[path.parent().expect("below the root")];
            let position = bare.nodes.len();
            let number = u64::try_from(position).expect("few") + 1;
            bare.nodes.push(attr(number, &set.plain.join(path)));
            let name = path.file_name().expect("a name").to_owned();
            bare.entries.insert((parent, name), position);
            numbers.insert(path.to_owned(), number);
        }
        bare
    }
}

fn attr(number: u64, path: &Path) -> FileAttr {
    let meta = std::fs::symlink_metadata(path).expect("it is there");
    FileAttr {
        ino: INodeNo(number),
        size: meta.size(),
        blocks: meta.blocks(),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::from_std(meta.file_type()).expect("a known kind"),
        perm: u16::try_from(meta.mode() & 0o7777).expect("12 bits"),
        nlink: 1,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let unasked = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_PARALLEL_DIROPS;
        config.add_capabilities(unasked).expect("this kernel can");
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.entries.get(&(parent.0, name.to_owned())) {
            Some(position) => reply.entry(&FOR_EVER, &self.nodes[*position], Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let position = usize::try_from(ino.0 - 1).expect("64 bits");
        reply.attr(&FOR_EVER, &self.nodes[position]);
    }

    /// "Never ask again."
    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }
}
