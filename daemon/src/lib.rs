//! The daemon of Piston: packages, one filesystem, sandboxed jobs, an HTTP API.
//!
//! [`packages`] installs language packages and publishes them in the filesystem of `piston-fs`;
//! [`job`] runs submissions in [`sandbox`]es whose root is a package's view; [`http`] is the only
//! way in. [`cache`] keeps what equal jobs need not do again. Dependencies point one way:
//! `http -> job -> {cache, packages, sandbox}`, `{cache, packages, tokens} -> store`.
//! [`serve`] puts them together; [`config`] says how, [`shutdown`] when it ends.

pub mod cache;
mod changes;
pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod job;
pub mod metrics;
pub mod packages;
mod random;
pub mod sandbox;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod tokens;
