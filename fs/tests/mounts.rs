//! What a mounted filesystem does, seen through the kernel. Needs root and /dev/fuse.

#[path = "mounts/support.rs"]
mod support;

#[path = "mounts/command.rs"]
mod command;
#[path = "mounts/contents.rs"]
mod contents;
#[path = "mounts/counted.rs"]
mod counted;
#[path = "mounts/deadlines.rs"]
mod deadlines;
#[path = "mounts/kernel.rs"]
mod kernel;
#[path = "mounts/life.rs"]
mod life;
// `cfg(test)` always holds here; it tells clippy that helpers in these modules are test code.
#[cfg(test)]
#[path = "mounts/overlay.rs"]
mod overlay;
#[path = "mounts/publishing.rs"]
mod publishing;
#[cfg(test)]
#[path = "mounts/survival.rs"]
mod survival;
