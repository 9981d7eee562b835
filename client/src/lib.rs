//! Client of the Piston code execution engine.
//!
//! Owns three things: the wire types of the v3 API ([`api`], plain serde, used by the daemon as
//! well), the small validated words those types are made of ([`ids`], [`units`]), and, behind the
//! feature `http`, a typed async client over a Unix socket or TCP, with TLS behind the feature
//! `tls`. The command line `piston` (feature `cli`) uses nothing else; `wrap` breaks the lines of it
//! and of `pistond`. This crate knows nothing of filesystems or sandboxes.
//!
#![cfg_attr(feature = "http", doc = include_str!("guide.md"))]

pub mod api;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "http")]
mod client;
#[cfg(feature = "http")]
mod content;
#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod host;
#[cfg(feature = "http")]
mod http;
pub mod ids;
pub mod units;
#[doc(hidden)]
pub mod wrap;

#[cfg(feature = "http")]
pub use client::{
    AvailableQuery, Client, Events, Keyboard, MadeFile, Secret, SetRunnersMode, Settings,
};
#[cfg(feature = "http")]
pub use content::InvalidContent;
#[cfg(feature = "http")]
pub use error::{DecodeError, Error, Obstacle, TransportError};
#[cfg(feature = "http")]
pub use host::{Host, HttpAddress, InvalidHost};
#[cfg(feature = "tls")]
pub use http::tls::{Authorities, InvalidAuthorities};
