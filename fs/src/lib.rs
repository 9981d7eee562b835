//! Squashfs images and their dependency views as one userspace filesystem.
//!
//! The model, in reading order: an [`image::Image`] is one squashfs file with its validated index;
//! a [`layer::Layer`] is an image's (or a synthetic tree's) contribution to a view; a view is the
//! merged tree of ordered layers at a path of the mount (`view.rs`); a [`mount::Server`] serves all
//! published views through FUSE, and a [`tree::ViewTree`] is one read without a mount. Behind the mount, `vfs.rs` answers every request without knowing FUSE,
//! `cache.rs` keeps inflated blocks, `crew.rs` shares the threads out, and `fuse.rs` is the thin adapter to the kernel's protocol.
//! [`image::verify`] is the only code that reads untrusted image structures, [`image::pack`] writes
//! images. This crate knows nothing of HTTP, jobs or repositories.

pub mod image;
pub mod layer;
pub mod mount;
pub mod node;
pub mod stats;
pub mod tree;

mod cache;
mod crew;
mod error;
mod fuse;
mod ino;
mod num;
mod owners;
mod vfs;
mod view;
