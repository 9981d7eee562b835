//! Operations on repositories and what they list.
//!
//! `all`, as the name of a repository, means every configured one together.

use crate::api::{AvailablePackage, Repository, RepositorySettings};
use crate::error::Error;
use crate::http::Method;
use crate::ids::{Language, PackageRef};

use super::{Call, Client, path, with_query};

/// Which packages of a repository to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AvailableQuery {
    /// Download the index first, rather than using the stored copy.
    pub sync: bool,
    /// Only those whose name or alias contains this.
    pub search: Option<String>,
    /// Only those of this language.
    pub language: Option<Language>,
}

impl Client {
    /// `GET /repos`: the configured repositories.
    pub async fn repositories(&self) -> Result<Vec<Repository>, Error> {
        self.get(path(&["repos"])).await
    }

    /// `GET /repos/{repo}`: one of them.
    pub async fn repository(&self, name: &str) -> Result<Repository, Error> {
        self.get(path(&["repos", name])).await
    }

    /// `PUT /repos/{repo}`: adds it, or changes where it is.
    pub async fn set_repository(
        &self,
        name: &str,
        settings: &RepositorySettings,
    ) -> Result<Repository, Error> {
        self.call(Call::new(Method::Put, path(&["repos", name])).json(settings))
            .await
    }

    /// `DELETE /repos/{repo}`: forgets it; what was installed from it stays.
    pub async fn remove_repository(&self, name: &str) -> Result<(), Error> {
        self.command(Call::new(Method::Delete, path(&["repos", name])))
            .await
    }

    /// `GET /repos/{repo}/packages`: what it lists.
    pub async fn available(
        &self,
        repository: &str,
        query: &AvailableQuery,
    ) -> Result<Vec<AvailablePackage>, Error> {
        let mut pairs = Vec::new();
        if query.sync {
            pairs.push(("sync", "true"));
        }
        if let Some(search) = &query.search {
            pairs.push(("q", search));
        }
        if let Some(language) = &query.language {
            pairs.push(("language", language.as_str()));
        }
        let path = with_query(path(&["repos", repository, "packages"]), &pairs);
        // Also without `sync` the first use downloads the index.
        self.call(Call::new(Method::Get, path).work()).await
    }

    /// `GET /repos/{repo}/packages/{package}`: all versions that it lists of a package.
    pub async fn available_versions(
        &self,
        repository: &str,
        package: &Language,
    ) -> Result<Vec<AvailablePackage>, Error> {
        let path = path(&["repos", repository, "packages", package.as_str()]);
        self.call(Call::new(Method::Get, path).work()).await
    }

    /// `GET /repos/{repo}/packages/{package}/{version}`: one version of a package.
    pub async fn available_package(
        &self,
        repository: &str,
        package: &PackageRef,
    ) -> Result<AvailablePackage, Error> {
        let version = package.version.to_string();
        let segments = [
            "repos",
            repository,
            "packages",
            package.language.as_str(),
            &version,
        ];
        self.call(Call::new(Method::Get, path(&segments)).work())
            .await
    }
}
