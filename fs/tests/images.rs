//! Images as the crate's users meet them: made by us or by squashfs-tools, sound or hostile.
//!
//! The tests of `corpus` and `hostile` run `mksquashfs`, those of `packed` run `unsquashfs`; both
//! are in the package squashfs-tools, and without them the tests fail and say so.

#[path = "images/corpus.rs"]
mod corpus;
#[path = "images/support.rs"]
mod support;
