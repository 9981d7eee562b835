//! Images as the crate's users meet them: made by us or by squashfs-tools, sound or hostile.
//!
//! The tests of `corpus`, `damage` and `hostile` run `mksquashfs`, some of `packed` and
//! `everything` run `unsquashfs`; both are in the package squashfs-tools, and without them the tests fail and say
//! so.

// `cfg(test)` always holds here; it tells clippy that helpers in these modules are test code.
#[cfg(test)]
#[path = "images/bombs.rs"]
mod bombs;
#[cfg(test)]
#[path = "images/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "images/damage.rs"]
mod damage;
#[cfg(test)]
#[path = "images/everything.rs"]
mod everything;
#[cfg(test)]
#[path = "images/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "images/packed.rs"]
mod packed;
#[cfg(test)]
#[path = "images/support.rs"]
mod support;
