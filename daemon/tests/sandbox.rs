//! Real sandboxes over a view that is a plain directory: what programs in them can and can't do.
//!
//! Every test runs its body twice when it is started as root: as root, where each slot has a user
//! of its own, and as an unprivileged user in a user namespace, as the rootless daemon does.

#[path = "sandbox/bench.rs"]
mod bench;
#[path = "sandbox/escapes.rs"]
mod escapes;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/host.rs"]
mod host;
#[path = "sandbox/life.rs"]
mod life;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/world.rs"]
mod world;
