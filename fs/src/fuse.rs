//! The adapter between the kernel's protocol and `vfs.rs`: unpack, ask, reply.
//!
//! Owns what the kernel may keep and for how long: everything, for years. Nothing changes in this
//! filesystem but views that come and go, and `mount.rs` tells the kernel about those.
//!
//! `desk.rs` is where the answers come from, and the panic boundary. Reads that have to load
//! something go through the crew, fairly; everything else is answered by the thread that read the
//! request. `pending.rs` knows what is under way and for how long, `requesters.rs` whom it is for.
//!
//! # Locks
//!
//! A file is one inode in all views, so a lock that the kernel kept by itself would be seen by all
//! jobs: one could find out what another does, and keep it waiting. So locks come here, and all
//! are granted. Keeping them truly for each job can't be done beside the rest: a lock ends when
//! its file is closed, which a server is told by FLUSH (POSIX locks) and RELEASE (flock). The kernel
//! sends those for every close of every file or, once FLUSH and OPEN were answered with ENOSYS,
//! for none; and a lock of which nobody learns that it ended would stop its own job for ever
//! (open, lock, close, open, lock). What is lost is mutual exclusion by means of read-only files;
//! none of them can change, so there is nothing else that such a lock could guard.

mod convert;
mod desk;
mod pending;
mod requesters;

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::error::FsError;
use crate::ino::Ino;
use crate::stats::Asked;
use crate::vfs::Item;
use convert::{BLOCK_SIZE, attr, errno, file_type, no_entry, reply_xattr};
pub(crate) use desk::Desk;
use desk::SCRATCH;
pub(crate) use pending::LOOKS;

/// How long the kernel may keep names, also of what is not there, and attributes.
const FOR_YEARS: Duration = Duration::from_hours(10 * 365 * 24);

/// Numbers are never used twice, so they need no generation to tell them apart.
const GENERATION: Generation = Generation(0);

/// Read-ahead requests that the kernel may have under way. Beyond that it keeps a queue of its own,
/// where those who hammer are before all others; so it is to have none.
const MAX_BACKGROUND: u16 = 1024;

/// From how many of them on the kernel leaves out those that nobody waits for yet.
const CONGESTED: u16 = 64;

/// Longest name.
const NAME_BYTES: u32 = 255;

/// What is asked of the kernel, each if it can.
const WANTED: [InitFlags; 9] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // Locks come to us, so that they are not the kernel's: a file is one inode in all views, and
    // a lock that one job holds must not be seen by another.
    InitFlags::FUSE_POSIX_LOCKS,
    InitFlags::FUSE_FLOCK_LOCKS,
];

/// The filesystem as fuser drives it.
#[derive(Debug)]
pub(crate) struct Fuse {
    desk: Arc<Desk>,
    /// Whether the kernel takes ENOSYS for an open as "never ask again".
    opens_itself: bool,
    /// The same for directories.
    opens_directories_itself: bool,
}

impl Fuse {
    /// An adapter for a desk.
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            opens_itself: false,
            opens_directories_itself: false,
        }
    }

    /// The errno of a request that is refused whatever it holds.
    fn refuse(&self, asked: Asked, error: &FsError) -> Errno {
        self.desk.count(asked);
        errno(error)
    }

    fn read_only(&self) -> Errno {
        self.refuse(Asked::Other, &FsError::ReadOnly)
    }

    fn not_needed(&self) -> Errno {
        self.refuse(Asked::Other, &FsError::NotNeeded)
    }
}

/// Requests that are refused whatever they hold: the method with the types of its arguments.
macro_rules! refuse {
    ($refusal:ident: $($name:ident($($argument:ty),*) -> $reply:ty;)*) => {
        $(fn $name(&self, _: &Request, $(_: $argument,)* reply: $reply) {
            reply.error(self.$refusal());
        })*
    };
}

impl Filesystem for Fuse {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            if config.add_capabilities(flag).is_err() {
                tracing::info!(?flag, "this kernel's FUSE lacks a capability");
            }
        }
        let able = config.capabilities();
        self.opens_itself = able.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.opens_directories_itself = able.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        let background = config.set_max_background(MAX_BACKGROUND).is_ok()
            && config.set_congestion_threshold(CONGESTED).is_ok();
        let granularity = config.set_time_granularity(Duration::from_secs(1)).is_ok();
        debug_assert!(
            background && granularity,
            "constants that fuser documents as good"
        );
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = Ino(parent.0);
        match self.desk.ask((Asked::Lookup, parent), |vfs| {
            vfs.lookup(parent, name.as_bytes())
        }) {
            Ok(found) => {
                let attr = found.map_or_else(no_entry, |stat| attr(&stat));
                reply.entry(&FOR_YEARS, &attr, GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _request: &Request, _ino: INodeNo, _lookups: u64) {}

    fn getattr(&self, _request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let ino = Ino(ino.0);
        match self.desk.ask((Asked::Other, ino), |vfs| vfs.getattr(ino)) {
            Ok(stat) => reply.attr(&FOR_YEARS, &attr(&stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let ino = Ino(ino.0);
        match self.desk.ask((Asked::Other, ino), |vfs| vfs.readlink(ino)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let errno = self.refuse(Asked::Open, &FsError::NotNeeded);
        if self.opens_itself {
            reply.error(errno);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let errno = self.refuse(Asked::Open, &FsError::NotNeeded);
        if self.opens_directories_itself {
            reply.error(errno);
        } else {
            let keep = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
            reply.opened(FileHandle(0), keep);
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let ino = Ino(ino.0);
        let desk = &self.desk;
        let reply = SCRATCH.with_borrow_mut(|scratch| {
            let asked = (Asked::Read, ino);
            match desk.ask(asked, |vfs| vfs.read_ready(ino, offset, size, scratch)) {
                Ok(Some(bytes)) => reply.data(&bytes),
                Ok(None) => return Some(reply),
                Err(errno) => reply.error(errno),
            }
            None
        });
        if let Some(reply) = reply {
            let who = (request.uid(), request.pid());
            desk.submit(who, reply, (ino, offset, size));
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let ino = Ino(ino.0);
        let add = |item: &Item<'_>| {
            let name = OsStr::from_bytes(item.name);
            let kind = file_type(item.stat.attr.kind);
            flow(reply.add(INodeNo(item.stat.ino.0), item.next, kind, name))
        };
        match self
            .desk
            .ask((Asked::Listing, ino), |vfs| vfs.readdir(ino, offset, add))
        {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ino = Ino(ino.0);
        let add = |item: &Item<'_>| {
            let name = OsStr::from_bytes(item.name);
            let attr = attr(&item.stat);
            flow(reply.add(attr.ino, item.next, name, &FOR_YEARS, &attr, GENERATION))
        };
        match self
            .desk
            .ask((Asked::Listing, ino), |vfs| vfs.readdir(ino, offset, add))
        {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self
            .desk
            .ask((Asked::Other, Ino(ino.0)), |vfs| Ok(vfs.totals()))
        {
            Ok(totals) => {
                let blocks = totals.bytes.div_ceil(u64::from(BLOCK_SIZE));
                let nodes = totals.nodes;
                reply.statfs(blocks, 0, 0, nodes, 0, BLOCK_SIZE, NAME_BYTES, BLOCK_SIZE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let ino = Ino(ino.0);
        let answer = self.desk.ask((Asked::Other, ino), |vfs| {
            vfs.getxattr(ino, name.as_bytes())
        });
        reply_xattr(answer, size, reply);
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let ino = Ino(ino.0);
        let answer = self.desk.ask((Asked::Other, ino), |vfs| vfs.listxattr(ino));
        reply_xattr(answer, size, reply);
    }

    fn getlk(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        self.desk.count(Asked::Other);
        reply.locked(0, 0, nix::libc::F_UNLCK, 0);
    }

    /// Every lock is granted, see the head of this file.
    fn setlk(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.desk.count(Asked::Other);
        reply.ok();
    }

    // What the kernel does well enough by itself. It stops asking after the first ENOSYS.
    refuse! { not_needed:
        access(INodeNo, AccessFlags) -> ReplyEmpty;
        flush(INodeNo, FileHandle, LockOwner) -> ReplyEmpty;
        fsync(INodeNo, FileHandle, bool) -> ReplyEmpty;
        fsyncdir(INodeNo, FileHandle, bool) -> ReplyEmpty;
        lseek(INodeNo, FileHandle, i64, i32) -> ReplyLseek;
        ioctl(INodeNo, FileHandle, IoctlFlags, u32, &[u8], u32) -> ReplyIoctl;
        poll(INodeNo, FileHandle, PollNotifier, PollEvents, PollFlags) -> ReplyPoll;
    }

    // What writes. The mount is read-only, so these come only when somebody remounts it.
    refuse! { read_only:
        setattr(
            INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>,
            Option<TimeOrNow>, Option<SystemTime>, Option<FileHandle>, Option<SystemTime>,
            Option<SystemTime>, Option<SystemTime>, Option<BsdFileFlags>
        ) -> ReplyAttr;
        mknod(INodeNo, &OsStr, u32, u32, u32) -> ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) -> ReplyEntry;
        unlink(INodeNo, &OsStr) -> ReplyEmpty;
        rmdir(INodeNo, &OsStr) -> ReplyEmpty;
        symlink(INodeNo, &OsStr, &Path) -> ReplyEntry;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) -> ReplyEmpty;
        link(INodeNo, INodeNo, &OsStr) -> ReplyEntry;
        write(
            INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags, Option<LockOwner>
        ) -> ReplyWrite;
        create(INodeNo, &OsStr, u32, u32, i32) -> ReplyCreate;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) -> ReplyEmpty;
        removexattr(INodeNo, &OsStr) -> ReplyEmpty;
        fallocate(INodeNo, FileHandle, u64, u64, i32) -> ReplyEmpty;
        copy_file_range(
            INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags
        ) -> ReplyWrite;
    }
}

/// Whether a listing goes on after an entry was offered.
fn flow(full: bool) -> ControlFlow<()> {
    if full {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_missing_have_the_number_that_the_kernel_remembers_as_missing() {
        assert_eq!(no_entry().ino, INodeNo(0));
    }
}
