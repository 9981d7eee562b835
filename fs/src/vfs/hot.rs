//! Hot lists: which blocks of an image the first reads touched, in their order, as a file.
//!
//! # Format (version 1)
//!
//! All numbers are little-endian.
//!
//! | at | bytes | what |
//! |----|-------|------|
//! | 0  | 8     | `PSTNHOT` and a zero byte |
//! | 8  | 4     | version, 1 |
//! | 12 | 4     | CRC-32 of everything from byte 16 to the end |
//! | 16 | 32    | sha256 of the image |
//! | 48 | 8 * n | places, at most [`SPOTS`]: two numbers of 4 bytes each, a node and which of its blocks; or all ones and which fragment |
//!
//! A list is advice. Whatever its bytes say, it can only name places that the image's index has,
//! and reading one can only fail as a whole, which costs time at the next start and nothing else.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::image::order::Spot;
use crate::image::{Image, ImageNode};
use crate::num::to_u64;

const MAGIC: [u8; 8] = *b"PSTNHOT\0";
const VERSION: u32 = 1;
const CHECKED_FROM: usize = 16;
const HEADER: usize = 48;
const SPOT: usize = 8;
/// In place of a node: a fragment.
const FRAGMENT: u32 = u32::MAX;

/// Places in a list at most.
pub(super) const SPOTS: usize = 2048;

/// The blocks of the first reads, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotList {
    /// sha256 of the image.
    digest: [u8; 32],
    /// Where they are.
    pub(super) spots: Vec<Spot>,
}

impl HotList {
    /// An empty list for an image.
    pub(super) fn of(image: &Image) -> Self {
        Self {
            digest: image.digest(),
            spots: Vec::new(),
        }
    }

    /// Writes the list, in place of what is there.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".part");
        fs::write(&unfinished, self.encode())?;
        // Not synced: a list that a power cut takes is recorded again.
        fs::rename(&unfinished, path)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + SPOT * self.spots.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.digest);
        for spot in &self.spots {
            let (node, number) = match *spot {
                Spot::Block(node, number) => (node.0, number),
                Spot::Fragment(number) => (FRAGMENT, number),
            };
            bytes.extend_from_slice(&node.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let sum = libdeflater::crc32(&bytes[CHECKED_FROM..]);
        bytes[12..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, spots) = bytes.split_at_checked(HEADER)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        let known = header[..8] == MAGIC && number(&header[8..12])? == VERSION;
        let whole =
            number(&header[12..CHECKED_FROM])? == libdeflater::crc32(&bytes[CHECKED_FROM..]);
        if !known || !whole || spots.len() > SPOT * SPOTS || !spots.len().is_multiple_of(SPOT) {
            return None;
        }
        let spot = |bytes: &[u8]| {
            let (node, place) = bytes.split_at(SPOT / 2);
            let (node, place) = (number(node)?, number(place)?);
            Some(match node {
                FRAGMENT => Spot::Fragment(place),
                _ => Spot::Block(ImageNode(node), place),
            })
        };
        Some(Self {
            digest: header[CHECKED_FROM..].try_into().ok()?,
            spots: spots.chunks_exact(SPOT).map(spot).collect::<Option<_>>()?,
        })
    }
}

/// Loads the list of an image; none when there is none that is whole and the image's.
pub(super) fn load(path: &Path, image: &Image) -> Option<HotList> {
    let most = to_u64(HEADER + SPOT * SPOTS);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read a hot list");
            return None;
        }
    }
    let mut list = HotList::decode(&bytes).filter(|list| list.digest == image.digest())?;
    // Memory for it is bounded by what there is to load.
    let mut seen = std::collections::HashSet::new();
    list.spots.retain(|spot| seen.insert(*spot));
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> HotList {
        HotList {
            digest: [7; 32],
            spots: vec![
                Spot::Block(ImageNode(3), 0),
                Spot::Fragment(2),
                Spot::Block(ImageNode(1), 70_000),
            ],
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_laid_out_as_documented() {
        let bytes = list().encode();
        assert_eq!(bytes.len(), 48 + 3 * 8);
        assert_eq!(bytes[..12], *b"PSTNHOT\0\x01\0\0\0");
        assert_eq!(bytes[16..48], [7; 32]);
        assert_eq!(bytes[48..56], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[56..64], [0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]);
        assert_eq!(HotList::decode(&bytes), Some(list()));
    }

    #[test]
    fn damage_of_any_byte_or_length_makes_a_list_nothing() {
        let bytes = list().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(HotList::decode(&damaged), None, "byte {at}");
            assert_eq!(HotList::decode(&bytes[..at]), None, "length {at}");
        }
        let mut long = list();
        long.spots = vec![Spot::Fragment(0); SPOTS + 1];
        assert_eq!(HotList::decode(&long.encode()), None);
    }
}
