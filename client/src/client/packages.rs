//! Operations on installed packages: install, upload, make, list, uninstall.

use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncWrite;

use crate::api::{
    InstallEvent, InstallReply, InstalledPackage, MakeFilesParameters, MakeReply, MakeRequest,
    Runtime, UninstallReply, VerifyReply,
};
use crate::error::{Error, TransportError};
use crate::http::{Body, Download, Method, Source};
use crate::ids::{Language, PackageRef};
use crate::units::Bytes;

use super::{Call, Client, Events, path, with_query};

/// A package file that the daemon sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFile {
    /// The file name that the daemon gave it, a plain name without a directory.
    pub name: Option<String>,
    /// Its length.
    pub length: Bytes,
}

impl Client {
    /// `GET /packages`: what is installed.
    pub async fn packages(&self) -> Result<Vec<InstalledPackage>, Error> {
        self.get(path(&["packages"])).await
    }

    /// `GET /packages/{package}`: the installed versions of a package.
    pub async fn package_versions(&self, name: &Language) -> Result<Vec<InstalledPackage>, Error> {
        self.get(path(&["packages", name.as_str()])).await
    }

    /// `GET /packages/{package}/{version}`: one installed package.
    pub async fn package(&self, package: &PackageRef) -> Result<InstalledPackage, Error> {
        self.get(package_path(package)).await
    }

    /// `GET /runtimes`: what can be executed.
    pub async fn runtimes(&self) -> Result<Vec<Runtime>, Error> {
        self.get(path(&["runtimes"])).await
    }

    /// `POST /repos/{repo}/packages/{package}/{version}/install`: the newest version in `range`
    /// and what it depends on, from one repository or `all`.
    pub async fn install(
        &self,
        repository: &str,
        package: &Language,
        range: &str,
    ) -> Result<InstallReply, Error> {
        self.call(install_call(repository, package, range)).await
    }

    /// The same, streamed: tells how far it is, phase by phase. Returns when it is known what is to
    /// be installed. The installation goes on when the events are dropped.
    pub async fn install_events(
        &self,
        repository: &str,
        package: &Language,
        range: &str,
    ) -> Result<Events<InstallEvent>, Error> {
        let call = install_call(repository, package, range);
        self.events(call, |result| InstallEvent::Result { result })
            .await
    }

    /// `POST /packages`: installs a package file, which is read as it is sent. What it depends on
    /// must be installed.
    pub async fn upload(&self, file: &Path) -> Result<InstallReply, Error> {
        self.call(upload_call(file).await?).await
    }

    /// The same, streamed: returns when the daemon has the file and has looked into it, and tells
    /// what it does with it.
    pub async fn upload_events(&self, file: &Path) -> Result<Events<InstallEvent>, Error> {
        let call = upload_call(file).await?;
        self.events(call, |result| InstallEvent::Result { result })
            .await
    }

    /// `DELETE /packages/{package}/{version}`: removes a package that no other depends on.
    pub async fn uninstall(&self, package: &PackageRef) -> Result<UninstallReply, Error> {
        self.call(Call::new(Method::Delete, package_path(package)).work())
            .await
    }

    /// The same with `cascade`: removes what depends on it as well.
    pub async fn uninstall_cascade(&self, package: &PackageRef) -> Result<UninstallReply, Error> {
        let path = with_query(package_path(package), &[("cascade", "true")]);
        self.call(Call::new(Method::Delete, path).work()).await
    }

    /// `POST /packages/{package}/{version}/verify`: whether what is on the disk is what was installed.
    pub async fn verify(&self, package: &PackageRef) -> Result<VerifyReply, Error> {
        let version = package.version.to_string();
        let path = path(&["packages", package.language.as_str(), &version, "verify"]);
        self.call(Call::new(Method::Post, path).work()).await
    }

    /// `POST /packages/gc`: removes dependencies that nothing needs and nobody asked for.
    pub async fn gc(&self) -> Result<UninstallReply, Error> {
        self.call(Call::new(Method::Post, path(&["packages", "gc"])).work())
            .await
    }

    /// `POST /make`: makes a package, and what it depends on, and installs them.
    pub async fn make(&self, request: &MakeRequest) -> Result<MakeReply, Error> {
        self.call(make_call(&MakeRequest {
            install: true,
            ..request.clone()
        }))
        .await
    }

    /// `POST /make` without installing: writes the package file to `writer`.
    pub async fn make_file(
        &self,
        request: &MakeRequest,
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<MadeFile, Error> {
        let call = make_call(&MakeRequest {
            install: false,
            ..request.clone()
        });
        self.made_file(call, writer).await
    }

    /// `POST /make/files`: makes a package of a file, and installs it. `archive` is that file, which is read
    /// as it is sent: a tar of files to add to an installed package, an archive of an image, a package of
    /// the released Piston.
    pub async fn make_files(
        &self,
        what: &MakeFilesParameters,
        archive: &Path,
    ) -> Result<MakeReply, Error> {
        self.call(make_files_call(what, archive, true).await?).await
    }

    /// The same without installing: writes the package file to `writer`.
    pub async fn make_files_file(
        &self,
        what: &MakeFilesParameters,
        archive: &Path,
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<MadeFile, Error> {
        let call = make_files_call(what, archive, false).await?;
        self.made_file(call, writer).await
    }

    async fn made_file(
        &self,
        call: Call,
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<MadeFile, Error> {
        match self.connection.download(call.0, writer).await? {
            Download::Done { length, name } => Ok(MadeFile {
                name,
                length: Bytes(length),
            }),
            Download::Refused(reply) => {
                let reply = self.accept(reply)?;
                Err(self
                    .undecodable(&reply, "no package file in it".to_owned())
                    .into())
            }
        }
    }
}

fn install_call(repository: &str, package: &Language, range: &str) -> Call {
    let segments = [
        "repos",
        repository,
        "packages",
        package.as_str(),
        range,
        "install",
    ];
    Call::new(Method::Post, path(&segments)).work()
}

async fn upload_call(file: &Path) -> Result<Call, Error> {
    let body = Body::Package(source(file).await?);
    Ok(Call::new(Method::Post, path(&["packages"]))
        .body(body)
        .work())
}

async fn make_files_call(
    what: &MakeFilesParameters,
    archive: &Path,
    install: bool,
) -> Result<Call, Error> {
    let install = install.to_string();
    let all = [
        ("from", Some(what.from.as_str().to_owned())),
        ("file", what.file.clone()),
        ("extends", what.extends.clone()),
        ("version", what.version.clone()),
        ("name", what.name.as_ref().map(ToString::to_string)),
        ("at", what.at.clone()),
        ("image", what.image.clone()),
        ("run", what.run.clone()),
        ("compile", what.compile.clone()),
        ("aliases", what.aliases.clone()),
        ("layers", what.layers.then(|| "true".to_owned())),
        ("base", what.base.as_ref().map(ToString::to_string)),
        ("install", Some(install)),
    ];
    let given = all
        .iter()
        .filter_map(|(key, value)| Some((*key, value.as_deref()?)));
    let query: Vec<(&str, &str)> = given.collect();
    let path = with_query(path(&["make", "files"]), &query);
    let body = Body::Package(source(archive).await?);
    Ok(Call::new(Method::Post, path).body(body).work())
}

/// A file that is read as it is sent.
async fn source(file: &Path) -> Result<Source, Error> {
    let unreadable = |source| TransportError::Read {
        path: file.to_owned(),
        source,
    };
    let reader = File::open(file).await.map_err(unreadable)?;
    let metadata = reader.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()).into());
    }
    Ok(Source {
        path: file.to_owned(),
        reader: Box::new(reader),
        length: metadata.len(),
    })
}

fn make_call(request: &MakeRequest) -> Call {
    Call::new(Method::Post, path(&["make"]))
        .json(&request)
        .work()
}

fn package_path(package: &PackageRef) -> String {
    path(&[
        "packages",
        package.language.as_str(),
        &package.version.to_string(),
    ])
}
