//! Extended attributes of a tree: the table of names and values, and the sets that inodes refer to.
//!
//! Invariant: equal sets are stored once; values stand with their names, never elsewhere.

use std::collections::HashMap;
use std::io::{Seek, Write};

use super::compress::Encoder;
use super::metadata::Writer;
use super::tree::Node;
use super::{Output, PackError, count};
use crate::image::format::{NAME_MAX, NONE, XATTR_PREFIXES, XATTR_VALUE_MAX};
use crate::num::{to_u64, to_usize};

/// An attribute whose name and value squashfs can hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attribute {
    /// Number of its namespace.
    kind: u16,
    /// Its name in that.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    /// Checks a full name and a value; the error is what is wrong with them.
    pub(super) fn new(name: &[u8], value: Vec<u8>) -> Result<Self, &'static str> {
        if name.len() > NAME_MAX || name.contains(&0) {
            return Err("its name holds a NUL or is longer than 255 bytes");
        }
        if value.len() > to_usize(XATTR_VALUE_MAX) {
            return Err("its value is longer than 64 KiB");
        }
        (0..)
            .zip(XATTR_PREFIXES)
            .find_map(|(kind, prefix)| Some((kind, name.strip_prefix(prefix)?)))
            .filter(|(_, name)| !name.is_empty())
            .map(|(kind, name)| Self {
                kind,
                name: name.to_vec(),
                value,
            })
            .ok_or("only user.*, trusted.* and security.* have a place in squashfs")
    }
}

/// Puts an attribute into a list that is sorted by name, in place of one of its name.
pub(super) fn set(list: &mut Vec<Attribute>, attribute: Attribute) {
    let key = |one: &Attribute| (one.kind, one.name.clone());
    match list.binary_search_by_key(&key(&attribute), key) {
        Ok(position) => list[position] = attribute,
        Err(position) => list.insert(position, attribute),
    }
}

/// The sets of attributes of a tree, numbered.
#[derive(Debug, Default)]
pub(super) struct Sets<'a> {
    sets: Vec<&'a [Attribute]>,
    numbers: HashMap<&'a [Attribute], u32>,
}

impl<'a> Sets<'a> {
    /// Numbers the sets in the order of the nodes.
    pub(super) fn of(nodes: &'a [Node]) -> Result<Self, PackError> {
        let mut found = Self::default();
        for node in nodes.iter().filter(|node| !node.attributes.is_empty()) {
            let attributes = node.attributes.as_slice();
            if !found.numbers.contains_key(attributes) {
                let number = count(found.sets.len(), "sets of extended attributes")?;
                found.numbers.insert(attributes, number);
                found.sets.push(attributes);
            }
        }
        Ok(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// What a node's inode says of its attributes.
    pub(super) fn number(&self, node: &Node) -> u32 {
        let number = self.numbers.get(node.attributes.as_slice());
        number.copied().unwrap_or(NONE)
    }

    /// Writes the tables; the answer is where the last one is, which leads to the others.
    pub(super) fn write<W: Write + Seek>(
        &self,
        out: &mut Output<W>,
        (names, numbers): (Encoder, Encoder),
    ) -> Result<u64, PackError> {
        let mut pairs = Writer::new(names);
        let mut sets = Writer::new(numbers);
        for set in &self.sets {
            let (block, offset) = pairs.position();
            let bytes = encode(set)?;
            pairs.write(&bytes);
            let size = count(bytes.len(), "bytes of extended attributes")?;
            sets.write(&((block << 16) | u64::from(offset)).to_le_bytes());
            sets.write(&count(set.len(), "extended attributes")?.to_le_bytes());
            sets.write(&size.to_le_bytes());
        }
        let first_pair = out.position;
        out.write(&pairs.finish().0)?;
        let first_set = out.position;
        let (bytes, starts) = sets.finish();
        out.write(&bytes)?;
        let table = out.position;
        out.write(&first_pair.to_le_bytes())?;
        out.write(&to_u64(self.sets.len()).to_le_bytes())?;
        out.list(first_set, &starts)?;
        Ok(table)
    }
}

/// The names and values of a set.
fn encode(set: &[Attribute]) -> Result<Vec<u8>, PackError> {
    let mut out = Vec::new();
    for Attribute { kind, name, value } in set {
        let size = u16::try_from(name.len()).expect("Invariant: at most 255 bytes");
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(&count(value.len(), "bytes in a value")?.to_le_bytes());
        out.extend_from_slice(value);
    }
    Ok(out)
}
