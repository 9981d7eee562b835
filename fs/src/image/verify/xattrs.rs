//! Extended attributes: the table of sets, and the names and values they refer to.
//!
//! Attributes of a namespace that Linux does not know are left out, as the kernel does.

use super::VerifyError;
use super::metadata::{Source, Table};
use crate::image::bytes::Bytes;
use crate::image::format::{
    Codec, METADATA_SIZE, NAME_MAX, NO_TABLE, SuperBlock, XATTR_PREFIXES, XATTR_VALUE_MAX,
};
use crate::num::{to_u64, to_usize};

/// Set in a key's type when its value stands elsewhere.
const OUT_OF_LINE: u16 = 0x100;

/// The sets of attributes that inodes refer to, and the table that holds the attributes.
#[derive(Debug)]
pub(super) struct Sets {
    sets: Vec<Set>,
    table: Table,
}

/// Full name and value of an attribute.
type Attribute<'a> = (Vec<u8>, &'a [u8]);

/// Where the attributes of a set start, and how many there are.
#[derive(Debug, Clone, Copy)]
struct Set {
    reference: u64,
    count: u32,
    size: u32,
}

impl Sets {
    /// Reads both tables; lowers `first_after` to where they start.
    pub(super) fn read(
        source: &mut Source<'_>,
        superblock: &SuperBlock,
        codec: Codec,
        first_after: &mut u64,
    ) -> Result<Option<Self>, VerifyError> {
        const PART: &str = "extended attribute table";
        let position = superblock.xattr_table;
        if position == NO_TABLE {
            return Ok(None);
        }
        let mut header = [0; 16];
        source.read(PART, position, &mut header)?;
        let mut from = Bytes::new(&header);
        let (Some(start), Some(count)) = (from.u64(), from.u32()) else {
            return Ok(None);
        };
        if count == 0 {
            return Ok(None);
        }
        let ids = source.lookup_table(PART, codec, position + 16, u64::from(count) * 16)?;
        let table = source.table(PART, codec, (start, ids.first_block))?;
        *first_after = start.min(*first_after);

        let mut sets = Vec::with_capacity(to_usize(count));
        let mut from = Bytes::new(&ids.bytes);
        while let (Some(reference), Some(count), Some(size)) = (from.u64(), from.u32(), from.u32())
        {
            sets.push(Set {
                reference,
                count,
                size,
            });
        }
        Ok(Some(Self { sets, table }))
    }

    /// Bytes that set `number` says it takes.
    pub(super) fn size(&self, number: u32) -> u32 {
        let set = self.sets.get(to_usize(number));
        set.map_or(0, |set| set.size)
    }

    /// The attributes of set `number`, each byte charged to the budget.
    pub(super) fn attributes(
        &self,
        source: &mut Source<'_>,
        number: u32,
    ) -> Result<Vec<Attribute<'_>>, VerifyError> {
        let damaged = || {
            let reason = "it refers to attributes that are not there";
            VerifyError::damaged("extended attribute set", u64::from(number), reason)
        };
        let set = self.sets.get(to_usize(number)).ok_or_else(damaged)?;
        let mut from = self.cursor(set.reference).ok_or_else(damaged)?;
        let mut attributes = Vec::new();
        for _ in 0..set.count {
            let (kind, name) = key(&mut from).ok_or_else(damaged)?;
            let inline = value(&mut from).ok_or_else(damaged)?;
            let value = if kind & OUT_OF_LINE == 0 {
                inline
            } else {
                self.elsewhere(inline).ok_or_else(damaged)?
            };
            // The 16 bytes are what an attribute takes in memory besides its text.
            source.charge(to_u64(name.len() + value.len() + 16))?;
            let Some(prefix) = XATTR_PREFIXES.get(usize::from(kind & !OUT_OF_LINE)) else {
                continue;
            };
            let full = [prefix, name].concat();
            if full.len() > NAME_MAX || full.contains(&0) {
                return Err(damaged());
            }
            attributes.push((full, value));
        }
        Ok(attributes)
    }

    /// The value that an inline value of eight bytes refers to.
    fn elsewhere(&self, reference: &[u8]) -> Option<&[u8]> {
        let reference = Bytes::new(reference).u64()?;
        value(&mut self.cursor(reference)?)
    }

    fn cursor(&self, reference: u64) -> Option<Bytes<'_>> {
        let (block, offset) = split_reference(reference)?;
        self.table.from(block, offset)
    }
}

/// A key: its type and its name without prefix.
fn key<'a>(from: &mut Bytes<'a>) -> Option<(u16, &'a [u8])> {
    let (kind, size) = (from.u16()?, from.u16()?);
    Some((kind, from.take(usize::from(size))?))
}

fn value<'a>(from: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let size = from.u32().filter(|size| *size <= XATTR_VALUE_MAX)?;
    from.take(to_usize(size))
}

/// Block and offset of a metadata reference.
pub(super) fn split_reference(reference: u64) -> Option<(u64, u16)> {
    let offset = u16::try_from(reference & 0xffff).ok()?;
    (usize::from(offset) < METADATA_SIZE).then_some((reference >> 16, offset))
}
