//! The package manager as a whole: real package files, real images, the real check in a child
//! process, a real HTTP server; the filesystem is a recorder except in `mounted`.

mod crash;
mod downloads;
mod installing;
mod mounted;
mod repairing;
mod repositories;
mod server;
mod signing;
mod support;
