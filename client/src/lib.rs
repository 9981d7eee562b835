//! Client of the Piston code execution engine.
//!
//! Owns three things: the wire types of the v3 API ([`api`], plain serde, used by the daemon as
//! well), the small validated words those types are made of ([`ids`], [`units`]), and, behind the
//! feature `http`, a typed async client over a Unix socket or TCP. The command line `piston`
//! (feature `cli`) uses nothing else. This crate knows nothing of filesystems or sandboxes.

pub mod api;
pub mod ids;
pub mod units;
