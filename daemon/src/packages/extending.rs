//! What the child that makes a package on top of others is told of them: of the one that it extends its
//! metadata and the images of its view, of an image's layers which are there.
//!
//! Invariant: a package stays as it is while the child works, because of the lease. Of several
//! that run a language the one is extended that runs it now, so that extending again adds to it.

use piston_client::ids::{Language, PackageRef};

use super::error::PackagesError;
use super::installed::Slot;
use super::make::{Folder, InstalledLayers, Target, TargetLayer};
use super::version::VersionRange;
use super::{Lease, Packages};

/// Adding libraries or files to an installed package.
#[derive(Debug, Clone)]
pub struct Extension {
    /// The language or package.
    pub extends: String,
    /// Which of its versions.
    pub range: VersionRange,
    /// What to call the result, and the language that it runs.
    pub name: Option<Language>,
    /// Python libraries, as requirements.
    pub pip: Vec<String>,
    /// The index that they come from.
    pub index: Option<String>,
    /// JavaScript libraries, with the versions that will do.
    pub npm: Vec<String>,
    /// The registry that they come from.
    pub registry: Option<String>,
    /// Files, and where they go.
    pub files: Option<Folder>,
}

impl Extension {
    /// Adds nothing yet.
    pub fn of(extends: String, range: VersionRange) -> Self {
        Self {
            extends,
            range,
            name: None,
            pip: Vec::new(),
            index: None,
            npm: Vec::new(),
            registry: None,
            files: None,
        }
    }
}

impl Packages {
    /// The package that is extended, held, and what a maker needs to know of it.
    pub(super) fn target(&self, what: &Extension) -> Result<(Lease, Target), PackagesError> {
        let lease = match self.lease_runtime(&what.extends, &what.range) {
            Ok((lease, _)) => lease,
            Err(error) => match what.extends.parse() {
                Ok(package) => self.lease(&package, &what.range)?,
                Err(_) => return Err(error),
            },
        };
        let package = &lease.installed.package;
        let gone = |package: &PackageRef| PackagesError::Internal(format!("{package} is gone"));
        let registry = &self.state.registry;
        let slot = registry.get(package).ok_or_else(|| gone(package))?;
        let layer = |package: &PackageRef| {
            let slot = registry.get(package).ok_or_else(|| gone(package))?;
            Ok(self.layer(&slot))
        };
        let layers: Result<Vec<_>, PackagesError> = slot.record.layers.iter().map(layer).collect();
        let installed = &lease.installed;
        let target = Target::new(
            slot.record.info.as_bytes(),
            installed.run.as_ref(),
            installed.compile.as_ref(),
            layers?,
        );
        let target = target.map_err(|error| PackagesError::CannotMake(error.to_string()))?;
        Ok((lease, target))
    }

    /// The layers of images that are packages of their own, held.
    pub(super) fn layers(&self) -> (Vec<Lease>, InstalledLayers) {
        let (mut leases, mut layers) = (Vec::new(), InstalledLayers::default());
        for slot in self.state.registry.all() {
            let package = &slot.record.package;
            let Some(chain_id) = InstalledLayers::chain_id(&slot.record.info) else {
                continue;
            };
            // What can't be used now is made anew.
            if let Some(Ok(lease)) = self.hold(|other| other.record.package == *package) {
                leases.push(lease);
                layers.add(chain_id, self.layer(&slot));
            }
        }
        (leases, layers)
    }

    fn layer(&self, slot: &Slot) -> TargetLayer {
        let [image, index, _] = self.state.data.files_of(&slot.record.image);
        TargetLayer {
            image,
            index,
            mount: slot.info.mount.clone(),
        }
    }
}
