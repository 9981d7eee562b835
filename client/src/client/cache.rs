//! Operations on the cache.

use crate::api::{CacheInfo, CachePurge, InstalledPackage, PackageCache, PackagePatch};
use crate::error::Error;
use crate::http::Method;
use crate::ids::PackageRef;

use super::{Call, Client, path};

impl Client {
    /// `GET /cache`: how much is kept of jobs.
    pub async fn cache(&self) -> Result<CacheInfo, Error> {
        self.get(path(&["cache"])).await
    }

    /// `DELETE /cache`: removes everything that is kept.
    pub async fn purge_cache(&self) -> Result<CachePurge, Error> {
        self.call(Call::new(Method::Delete, path(&["cache"])).work())
            .await
    }

    /// `GET /packages/{package}/{version}/cache`: how much is kept of one package's jobs.
    pub async fn package_cache(&self, package: &PackageRef) -> Result<PackageCache, Error> {
        self.get(package_cache(package)).await
    }

    /// `PATCH /packages/{package}/{version}`: what is kept of one package's jobs from now on.
    pub async fn set_package(
        &self,
        package: &PackageRef,
        change: &PackagePatch,
    ) -> Result<InstalledPackage, Error> {
        let version = package.version.to_string();
        let place = path(&["packages", package.language.as_str(), &version]);
        self.call(Call::new(Method::Patch, place).json(change))
            .await
    }

    /// `DELETE /packages/{package}/{version}/cache`: removes what is kept of one package's jobs.
    pub async fn purge_package_cache(&self, package: &PackageRef) -> Result<CachePurge, Error> {
        self.call(Call::new(Method::Delete, package_cache(package)).work())
            .await
    }
}

fn package_cache(package: &PackageRef) -> String {
    let version = package.version.to_string();
    path(&["packages", package.language.as_str(), &version, "cache"])
}
