//! The one walk over untrusted image bytes: checks everything, writes the index.

use std::path::Path;

/// Bounds of the walk.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Nodes at most.
    pub nodes: u32,
    /// Depth of directories at most.
    pub depth: u32,
    /// Metadata bytes (inflated) at most.
    pub metadata_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes: 4 << 20,
            depth: 512,
            metadata_bytes: 512 << 20,
        }
    }
}

/// What the walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// sha256 of the image file.
    pub digest: [u8; 32],
    /// Nodes in it.
    pub nodes: u32,
    /// Sum of file lengths in bytes.
    pub content_bytes: u64,
}

/// Why an image is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something else than I/O is wrong with the image.
    #[error("image refused: {0}")]
    Refused(String),
}

/// Walks `image` once and writes its index to `index` (created, must not exist).
///
/// Meant to run in a disposable child process with limits; the daemon never calls it in its own.
pub fn verify(_image: &Path, _index: &Path, _bounds: &Bounds) -> Result<Verified, VerifyError> {
    unimplemented!()
}
