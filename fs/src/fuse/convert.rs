//! Answers in the kernel's terms. Owns the one table from error to errno.

use std::time::{Duration, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, ReplyXattr};

use crate::error::FsError;
use crate::node::Kind;
use crate::vfs::Stat;

/// What `stat` and `statfs` give as the block size.
pub(super) const BLOCK_SIZE: u32 = 4096;

/// What the caller's system call fails with.
pub(super) fn errno(error: &FsError) -> Errno {
    match error {
        // As the kernel answers a search in a removed directory that is still open.
        FsError::Gone => Errno::ENOENT,
        FsError::Stale => Errno::ESTALE,
        FsError::NotDirectory => Errno::ENOTDIR,
        FsError::IsDirectory => Errno::EISDIR,
        // What readlink(2) says of something that is not a symlink.
        FsError::WrongKind => Errno::EINVAL,
        FsError::NoAttribute => Errno::NO_XATTR,
        FsError::Range => Errno::ERANGE,
        FsError::ReadOnly => Errno::EROFS,
        FsError::NotNeeded => Errno::ENOSYS,
        FsError::Image(_) | FsError::Inconsistent(_) | FsError::Late | FsError::Panicked(_) => {
            Errno::EIO
        }
    }
}

/// Attribute values have a protocol of their own: size 0 asks how large the answer is.
pub(super) fn reply_xattr(answer: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    let answer = answer.and_then(|bytes| {
        let length = u32::try_from(bytes.len()).map_err(|_| errno(&FsError::Range))?;
        Ok((bytes, length))
    });
    match answer {
        Ok((_, length)) if size == 0 => reply.size(length),
        Ok((_, length)) if length > size => reply.error(errno(&FsError::Range)),
        Ok((bytes, _)) => reply.data(&bytes),
        Err(errno) => reply.error(errno),
    }
}

/// What the kernel takes as "there is no such name, and you may remember that".
pub(super) fn no_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// What `stat` shows, as the kernel wants it.
pub(super) fn attr(stat: &Stat) -> FileAttr {
    let time = UNIX_EPOCH + Duration::from_secs(u64::from(stat.attr.mtime));
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: stat.attr.size,
        blocks: stat.attr.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(stat.attr.kind),
        perm: stat.attr.mode,
        nlink: stat.attr.nlink,
        uid: stat.attr.uid,
        gid: stat.attr.gid,
        rdev: match stat.attr.kind {
            Kind::BlockDevice { rdev } | Kind::CharDevice { rdev } => rdev,
            _ => 0,
        },
        ..no_entry()
    }
}

/// The kind, as the kernel wants it.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File { .. } => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::BlockDevice { .. } => FileType::BlockDevice,
        Kind::CharDevice { .. } => FileType::CharDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::ImageError;

    #[test]
    fn each_error_has_the_errno_that_a_kernel_filesystem_would_give() {
        let damaged = FsError::Image(Arc::new(ImageError::Block {
            path: "x.squashfs".into(),
            start: 96,
            reason: "too short".into(),
        }));
        for (error, number) in [
            (FsError::Gone, 2),
            (FsError::Stale, 116),
            (FsError::NotDirectory, 20),
            (FsError::IsDirectory, 21),
            (FsError::WrongKind, 22),
            (FsError::NoAttribute, 61),
            (FsError::Range, 34),
            (FsError::ReadOnly, 30),
            (FsError::NotNeeded, 38),
            (damaged, 5),
            (FsError::Inconsistent("short"), 5),
            (FsError::Late, 5),
            (FsError::Panicked("oops".into()), 5),
        ] {
            assert_eq!(i32::from(errno(&error)), number, "{error:?}");
        }
    }
}
