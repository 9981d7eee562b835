//! What can go wrong with one request. The errno of each is in `fuse/convert.rs`; it is logged in
//! `fuse.rs`, once per damaged file.

use std::sync::Arc;

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
    /// Reading an image takes longer than a request may.
    #[error("reading the image takes too long")]
    Late,
    /// A bug of ours, contained to this request.
    #[error("request panicked: {0}")]
    Panicked(String),
}
