//! How a directory's listing is packed: runs of entries, each run with a header.
//!
//! Only decodes; what the entries may say is checked by [`super::tree`].

use crate::image::bytes::Bytes;

/// Most entries that a header may be followed by.
pub(super) const RUN_MAX: u32 = 256;

/// The header of a run of entries in a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The metadata block that holds the entries' inodes, from the inode table's start.
    pub(super) block: u64,
    /// The inode number that those of the entries are told relative to.
    pub(super) number: u32,
}

/// A run's number of entries, and what they share.
pub(super) fn run_header(listing: &mut Bytes<'_>) -> Option<(u32, Run)> {
    let count = listing.u32()?.checked_add(1)?;
    let (block, number) = (listing.u32()?, listing.u32()?);
    let block = u64::from(block);
    Some((count, Run { block, number }))
}

/// An entry's inode offset, inode number from the run's, kind and name.
pub(super) fn entry_fields<'b>(listing: &mut Bytes<'b>) -> Option<(u16, i16, u16, &'b [u8])> {
    let (offset, delta, kind) = (listing.u16()?, listing.i16()?, listing.u16()?);
    let length = usize::from(listing.u16()?).checked_add(1)?;
    Some((offset, delta, kind, listing.take(length)?))
}
