//! Uninstalling: by name, with dependents, and what nothing needs.
//!
//! Decides which packages go and in what order; `state` takes them away.

use piston_client::api::UninstallReply;
use piston_client::ids::PackageRef;

use super::error::PackagesError;
use super::list;
use super::state::State;

/// Uninstalls a package; with `cascade`, what depends on it as well.
pub(super) fn uninstall(
    state: &State,
    package: &PackageRef,
    cascade: bool,
    not_installed: PackagesError,
) -> Result<UninstallReply, PackagesError> {
    let changing = state.change();
    let all = state.registry.all();
    if state.registry.get(package).is_none() {
        return Err(not_installed);
    }
    let mut packages = list::users(package, &all);
    if !packages.is_empty() && !cascade {
        return Err(PackagesError::InUse {
            package: package.clone(),
            by: packages,
        });
    }
    packages.push(package.clone());
    let removed = list::dependents_first(&packages, &all);
    changing.uninstall(&removed)?;
    Ok(UninstallReply { removed })
}

/// Removes dependencies that nothing needs and nobody asked for.
pub(super) fn gc(state: &State) -> Result<UninstallReply, PackagesError> {
    let changing = state.change();
    let all = state.registry.all();
    let removed = list::dependents_first(&list::unneeded(&all), &all);
    if !removed.is_empty() {
        changing.uninstall(&removed)?;
    }
    Ok(UninstallReply { removed })
}
