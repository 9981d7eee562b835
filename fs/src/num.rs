//! Integer conversions between counts in memory and counts in files; each says why it holds.

/// A 32-bit count or position as an index into memory.
pub(crate) fn to_usize(value: u32) -> usize {
    usize::try_from(value).expect("Invariant: Linux has at least 32-bit addresses")
}

/// A length in memory as a file size.
pub(crate) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("Invariant: no address space is larger than 64 bits")
}

/// A length or position in memory as a table position, where the format has 32 bits for it.
pub(crate) fn to_u32(value: usize) -> Option<u32> {
    u32::try_from(value).ok()
}
