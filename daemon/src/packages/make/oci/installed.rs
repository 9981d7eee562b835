//! Layers that are installed already, as packages of images that came before: what a maker is told of
//! them, so that it neither fetches nor packs them again.
//!
//! Invariant: a layer is known by its whole chain id, which its package says, and not by what that is
//! called. Layers are taken from the lowest up to the first that is not installed.

use std::collections::BTreeMap;
use std::path::Path;

use piston_client::ids::Digest;
use piston_fs::tree::ViewTree;
use serde::{Deserialize, Serialize};

use super::OciError;
use crate::packages::files;
use crate::packages::make::TargetLayer;

/// Longest list that is read.
const MAX_BYTES: u64 = 64 << 20;

/// The layers that are installed, by their chain ids.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InstalledLayers(BTreeMap<String, TargetLayer>);

/// What a layer's package says of it in its `pkg-info.json`.
#[derive(Deserialize)]
struct Info {
    layer: Option<Identity>,
}

#[derive(Deserialize)]
struct Identity {
    chain_id: String,
}

impl InstalledLayers {
    /// The chain id of the layer that a package is, by its `pkg-info.json`; none when it is none.
    pub fn chain_id(info: &str) -> Option<String> {
        let info: Info = serde_json::from_str(info).ok()?;
        info.layer.map(|layer| layer.chain_id)
    }

    /// Adds a layer.
    pub fn add(&mut self, chain_id: String, layer: TargetLayer) {
        self.0.insert(chain_id, layer);
    }

    /// Reads what the daemon wrote down; nothing is installed where it wrote nothing.
    pub(super) fn read(list: Option<&Path>) -> Result<Self, OciError> {
        let Some(list) = list else {
            return Ok(Self::default());
        };
        let bytes = files::read_bounded(list, MAX_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| OciError::image(&list.display(), error.to_string()))
    }

    /// How many of an image's layers are there, from the lowest on, and what they show.
    pub(super) fn view(&self, chains: &[Digest]) -> Result<(usize, ViewTree), String> {
        let all = chains.iter();
        let known = all.map_while(|chain| self.0.get(&format!("sha256:{chain}")));
        let placed = known.map(TargetLayer::placed);
        let placed = placed.collect::<Result<Vec<_>, _>>();
        let placed = placed.map_err(|error| crate::error::chain(&error))?;
        let view = ViewTree::merge(&placed).map_err(|error| error.to_string())?;
        Ok((placed.len(), view))
    }
}
