//! Layers: what one image, or a tree made up by the caller, contributes to a view.

pub mod memory;

use std::sync::Arc;

use crate::image::Image;

/// The contents of one layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// An installed image.
    Image(Arc<Image>),
    /// A small synthetic tree: mount points, a package's scripts.
    Memory(Arc<memory::MemoryTree>),
}

/// A layer and the absolute path in the view where its root sits (`/` for the whole view).
#[derive(Debug, Clone)]
pub struct Placed {
    /// The contents.
    pub layer: Layer,
    /// Where: absolute, no `.`, `..` or empty component.
    pub at: String,
}
