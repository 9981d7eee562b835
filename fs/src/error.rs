//! What can go wrong with one request, and the errno that says so.
//!
//! Owns the one table from error to errno. Does not log: `fuse.rs` does, once per damaged file.

use std::sync::Arc;

use fuser::Errno;

use crate::image::ImageError;

/// Why a request is not answered with what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FsError {
    /// The directory that was searched is gone: it was unpublished.
    #[error("the directory was removed")]
    Gone,
    /// The node is gone: what held it was unpublished.
    #[error("the node was removed")]
    Stale,
    /// A directory was expected.
    #[error("not a directory")]
    NotDirectory,
    /// A regular file was expected.
    #[error("is a directory")]
    IsDirectory,
    /// Only a regular file or a symlink has what was asked for.
    #[error("wrong kind of node")]
    WrongKind,
    /// There is no extended attribute of that name.
    #[error("no such attribute")]
    NoAttribute,
    /// The caller's buffer is too small for the answer.
    #[error("buffer too small")]
    Range,
    /// Everything that writes.
    #[error("read-only filesystem")]
    ReadOnly,
    /// Requests that the kernel answers better itself; it stops asking after the first.
    #[error("not needed")]
    NotNeeded,
    /// A block of an image can't be read or is damaged.
    #[error("damaged image")]
    Image(#[source] Arc<ImageError>),
    /// An image's index and its data don't fit together.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// A bug of ours, contained to this request.
    #[error("request panicked: {0}")]
    Panicked(String),
}

impl FsError {
    /// What the caller's system call fails with.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            // As the kernel answers a search in a removed directory that is still open.
            Self::Gone => Errno::ENOENT,
            Self::Stale => Errno::ESTALE,
            Self::NotDirectory => Errno::ENOTDIR,
            Self::IsDirectory => Errno::EISDIR,
            // What readlink(2) says of something that is not a symlink.
            Self::WrongKind => Errno::EINVAL,
            Self::NoAttribute => Errno::NO_XATTR,
            Self::Range => Errno::ERANGE,
            Self::ReadOnly => Errno::EROFS,
            Self::NotNeeded => Errno::ENOSYS,
            Self::Image(_) | Self::Inconsistent(_) | Self::Panicked(_) => Errno::EIO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_errno_that_a_kernel_filesystem_would_give() {
        let damaged = FsError::Image(Arc::new(ImageError::Block {
            path: "x.squashfs".into(),
            start: 96,
            reason: "too short".into(),
        }));
        for (error, errno) in [
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
            (FsError::Panicked("oops".into()), 5),
        ] {
            assert_eq!(i32::from(error.errno()), errno, "{error:?}");
        }
    }
}
