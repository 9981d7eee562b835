//! The pipeline of an installation: fetched, unpacked, checked, ready.
//!
//! Each step is a type and consumes the one before, so that nothing unchecked can be registered:
//! [`Fetched`] (a package file whose checksum is right) -> [`Unpacked`] (its members, bounded)
//! -> [`Checked`] (its image walked in the limited child) -> `state::Ready` (its record, closure
//! and environment worked out). Works only in staging directories; `state` makes it visible.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use piston_client::ids::{Digest, PackageRef};
use piston_fs::image::{Image, ImageNode};
use piston_fs::node::Kind;

use super::archive::{self, ArchiveError, Scripts};
use super::data::Staging;
use super::environment::{self, Variables};
use super::error::PackagesError;
use super::files::{self, AtPath as _};
use super::info::{self, MAX_INFO_BYTES, PackageInfo, Platform};
use super::installed::Slot;
use super::recompress::Recompressor;
use super::resolve::{self, Candidate, Catalog, Place, Shelf, Trust};
use super::state::Ready;
use super::verify::{Verifier, VerifyError};
use crate::error::chain;
use crate::store::records::{PackageRecord, PackageSettings};

/// First bytes of a squashfs image.
const SQUASHFS_MAGIC: &[u8] = b"hsqs";

/// Where a package file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The repository; none for uploads and packages made here.
    pub(crate) repository: Option<String>,
    /// What the repository said it is.
    pub(crate) expected: Option<PackageRef>,
    /// Whether it was asked for by name.
    pub(crate) requested: bool,
    /// Fingerprint of the key that signed it, where that had to be.
    pub(crate) signed_by: Option<String>,
}

/// A package file in a staging directory, its checksum verified when there is one to verify.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The file.
    pub(crate) file: PathBuf,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// The directory for everything that is made of it.
    pub(crate) staging: Staging,
    /// Its sha256 where that was found already.
    pub(crate) digest: Option<Digest>,
}

/// Its members: metadata and scripts in memory (none yet for a bare image), the image on disk.
#[derive(Debug)]
pub(crate) struct Unpacked {
    info: Option<(PackageInfo, Vec<u8>)>,
    scripts: Scripts,
    image: PathBuf,
    image_digest: Digest,
    image_bytes: u64,
    file_digest: Digest,
    origin: Origin,
    staging: Staging,
    anew: Option<Anew>,
}

/// What became of an image that was written anew.
#[derive(Debug)]
struct Anew {
    /// sha256 of the image as the package has it.
    original: Digest,
    /// Its compressor.
    compressor: &'static str,
}

/// Everything about it is checked but its place among the installed packages.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Its metadata.
    pub(crate) info: PackageInfo,
    /// sha256 of the image, as it is installed.
    pub(crate) image_digest: Digest,
    /// sha256 of the package file.
    pub(crate) file_digest: Digest,
    /// Where it comes from.
    pub(crate) origin: Origin,
    info_json: Vec<u8>,
    scripts: Scripts,
    image: PathBuf,
    index: PathBuf,
    image_bytes: u64,
    content_bytes: u64,
    anew: Option<Anew>,
    /// Removed when the files have been moved into place, or were not needed.
    _staging: Staging,
}

impl Fetched {
    /// Reads the package file, or takes a bare image as it is. Blocks.
    pub(crate) fn unpack(self) -> Result<Unpacked, PackagesError> {
        let (file_digest, length) = match self.digest {
            Some(digest) => (digest, files::length(&self.file)?),
            None => files::digest(&self.file)?,
        };
        let mut magic = [0; 4];
        let bare = File::open(&self.file)
            .and_then(|mut file| file.read_exact(&mut magic))
            .is_ok()
            && magic == SQUASHFS_MAGIC;
        if bare {
            let image = self.staging.path.join(archive::IMAGE);
            take_file(&self.file, &image)?;
            return Ok(Unpacked {
                info: None,
                scripts: Scripts::default(),
                image,
                image_digest: file_digest,
                image_bytes: length,
                file_digest,
                origin: self.origin,
                staging: self.staging,
                anew: None,
            });
        }
        let contents = archive::read(&self.file, &self.staging.path).map_err(without_path)?;
        // The file is not needed any more and its space may be; but a download is kept up to the end,
        // so that a daemon that dies before that need not do it again.
        if self.file.starts_with(&self.staging.path) {
            files::remove_if_there(&self.file)?;
        }
        admit(&contents.info, &self.origin)?;
        Ok(Unpacked {
            info: Some((contents.info, contents.info_json)),
            scripts: contents.scripts,
            image: contents.image,
            image_digest: contents.image_digest,
            image_bytes: contents.image_bytes,
            file_digest,
            origin: self.origin,
            staging: self.staging,
            anew: None,
        })
    }
}

/// Where the file lay in the meantime tells nobody anything.
fn without_path(error: ArchiveError) -> PackagesError {
    match error {
        ArchiveError::Damaged { reason, .. } => PackagesError::refused(
            &"the file is",
            format!("it is not a whole package file (a gzipped tar) nor an image: {reason}"),
        ),
        error => error.into(),
    }
}

impl Unpacked {
    /// Checks the image in the limited child, then reads from it what the package file lacks.
    pub(crate) async fn check(mut self, verifier: &Verifier) -> Result<Checked, PackagesError> {
        let mut index = self.staging.path.join("package.index");
        let verified = verifier.verify(&self.image, &index).await;
        let verified = verified.map_err(|error| match error {
            VerifyError::Refused(reason) => PackagesError::refused(&self.name(), reason),
            VerifyError::Child(reason) => PackagesError::Internal(reason),
        })?;
        if Digest::from_bytes(verified.digest) != self.image_digest {
            let reason = "the image changed while it was checked";
            return Err(PackagesError::Internal(reason.to_owned()));
        }
        if let Some(recompressor) = &verifier.recompressor {
            let content = verified.content_bytes;
            match self
                .write_anew((verifier, recompressor), &index, content)
                .await
            {
                Ok(Some(anew)) => index = anew,
                Ok(None) => {}
                Err(reason) => {
                    let package = self.name();
                    tracing::warn!(package, reason, "the image is installed as it is");
                }
            }
        }
        super::blocking(move || self.complete(index, verified.content_bytes)).await
    }

    /// Has the image written anew where that is wanted, and takes that one; the answer is its index.
    async fn write_anew(
        &mut self,
        (verifier, recompressor): (&Verifier, &Recompressor),
        index: &Path,
        content_bytes: u64,
    ) -> Result<Option<PathBuf>, String> {
        let (path, known) = (self.image.clone(), index.to_owned());
        let opened = tokio::task::spawn_blocking(move || Image::open(&path, &known));
        let opened = opened.await.map_err(|error| error.to_string())?;
        let compressor = opened.map_err(|error| chain(&error))?.compressor();
        if !recompressor.wants(compressor, self.image_bytes, content_bytes) {
            return Ok(None);
        }
        let image = self.staging.path.join("anew.squashfs");
        let index_anew = self.staging.path.join("anew.index");
        recompressor
            .run((&self.image, index), &image, content_bytes)
            .await?;
        let verified = verifier.verify(&image, &index_anew).await;
        let verified = verified.map_err(|error| chain(&error))?;
        if verified.content_bytes != content_bytes {
            return Err("what was written anew has other contents".to_owned());
        }
        let length = std::fs::metadata(&image).map_err(|error| error.to_string())?;
        files::remove_if_there(&self.image).map_err(|error| chain(&error))?;
        self.anew = Some(Anew {
            original: self.image_digest,
            compressor,
        });
        self.image_digest = Digest::from_bytes(verified.digest);
        self.image_bytes = length.len();
        self.image = image;
        Ok(Some(index_anew))
    }

    /// Its name and version; not known of a bare image yet.
    pub(crate) fn package(&self) -> Option<&PackageRef> {
        let (info, _) = self.info.as_ref()?;
        Some(&info.package)
    }

    fn name(&self) -> String {
        let package = self.package();
        package.map_or_else(|| "image".to_owned(), ToString::to_string)
    }

    /// Takes metadata and scripts from the image where the package file has none.
    fn complete(self, index: PathBuf, content_bytes: u64) -> Result<Checked, PackagesError> {
        let image = Image::open(&self.image, &index)
            .map_err(|error| PackagesError::refused(&self.name(), chain(&error)))?;
        let (info, info_json) = if let Some(info) = self.info {
            info
        } else {
            let json = small_file(&image, archive::INFO, MAX_INFO_BYTES)?
                .ok_or(ArchiveError::Missing(archive::INFO))?;
            let info = PackageInfo::parse(&json)?;
            admit(&info, &self.origin)?;
            (info, json)
        };
        let mut scripts = self.scripts;
        if info.mount == info::directory(&info.package) {
            for (script, name) in [
                (&mut scripts.run, archive::RUN),
                (&mut scripts.compile, archive::COMPILE),
                (&mut scripts.environment, archive::ENVIRONMENT),
            ] {
                if script.is_none() {
                    *script = small_file(&image, name, archive::MAX_SCRIPT_BYTES)?;
                }
            }
        }
        if info.run.is_none() && scripts.run.is_none() && !info.provides.is_empty() {
            let reason = "it provides languages, but has neither a `run` script nor a run command";
            return Err(PackagesError::refused(&info.package, reason));
        }
        Ok(Checked {
            info,
            info_json,
            scripts,
            image: self.image,
            index,
            image_digest: self.image_digest,
            image_bytes: self.image_bytes,
            content_bytes,
            file_digest: self.file_digest,
            origin: self.origin,
            anew: self.anew,
            _staging: self.staging,
        })
    }
}

impl Checked {
    /// Works out closure and environment among what is installed and what comes with it.
    ///
    /// The result names files in the staging directory, so `self` must live until they are moved.
    pub(crate) fn ready(
        &self,
        shelf: &Shelf,
        known: &dyn Fn(&PackageRef) -> Option<Variables>,
    ) -> Result<Ready, PackagesError> {
        let package = &self.info.package;
        let root = Candidate {
            package: package.clone(),
            dependencies: self.info.dependencies.clone(),
            // What may stand on what was decided when it was chosen.
            trust: Trust::Ours,
        };
        let catalog = Catalog {
            repositories: Vec::new(),
            installed: shelf,
        };
        let picks = resolve::closure(&catalog, &root, Place::Given)?;
        let own_environment = self.own_environment()?;
        // Nearest first: the layers from the top.
        let below: Vec<_> = picks
            .iter()
            .rev()
            .skip(1)
            .filter_map(|pick| known(&pick.package))
            .collect();
        let record = PackageRecord {
            package: package.clone(),
            info: self.info_text(),
            image: self.image_digest,
            original: self.anew.as_ref().map(|anew| anew.original),
            image_bytes: self.image_bytes,
            content_bytes: self.content_bytes,
            file: self.file_digest,
            repository: self.origin.repository.clone(),
            signed_by: self.origin.signed_by.clone(),
            requested: self.origin.requested,
            run: self.scripts.run.clone(),
            compile: self.scripts.compile.clone(),
            environment: environment::merge(&own_environment, below.iter()),
            own_environment,
            dependencies: picks
                .last()
                .map(|pick| pick.dependencies.clone())
                .unwrap_or_default(),
            layers: picks.into_iter().map(|pick| pick.package).collect(),
            notes: self.notes(),
            installed_at: now(),
            settings: PackageSettings::default(),
        };
        Ok(Ready {
            record,
            info: self.info.clone(),
            files: (self.image.clone(), self.index.clone()),
        })
    }

    /// `pkg-info.json` as the package has it.
    pub(crate) fn info_text(&self) -> String {
        String::from_utf8_lossy(&self.info_json).into_owned()
    }

    /// Variables of the package's own `environment`.
    pub(crate) fn own_environment(&self) -> Result<Variables, PackagesError> {
        let Some(file) = &self.scripts.environment else {
            return Ok(Vec::new());
        };
        environment::parse(file, &info::directory(&self.info.package))
            .map_err(|error| PackagesError::refused(&self.info.package, error.to_string()))
    }

    /// Whether what is installed under the same name and version is this very package.
    pub(crate) fn same_as(&self, slot: &Slot) -> Result<(), PackagesError> {
        let installed = slot.record.original.unwrap_or(slot.record.image);
        let new = self.anew.as_ref();
        let new = new.map_or(self.image_digest, |anew| anew.original);
        if installed == new {
            return Ok(());
        }
        Err(PackagesError::Conflict {
            package: Box::new(self.info.package.clone()),
            installed,
            new,
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.info.notes.clone();
        notes.extend(self.info.platform.as_ref().and_then(other_distribution));
        let anew = self.anew.as_ref();
        notes.extend(anew.map(|anew| {
            let Anew {
                compressor,
                original,
            } = anew;
            format!("its image, {compressor} with sha256 {original}, was written anew with zstd")
        }));
        notes
    }
}

/// Refuses what can't run here, or is not what the index said.
fn admit(info: &PackageInfo, origin: &Origin) -> Result<(), PackagesError> {
    let package = &info.package;
    if let Some(expected) = origin
        .expected
        .as_ref()
        .filter(|expected| *expected != package)
    {
        let reason = format!("the index says that this file is {expected}");
        return Err(PackagesError::refused(package, reason));
    }
    let built_for = info
        .platform
        .as_ref()
        .and_then(|p| p.architecture.as_deref());
    let here = std::env::consts::ARCH;
    match built_for {
        Some(architecture) if architecture != here => {
            let reason = format!("it is built for {architecture}, this machine is {here}");
            Err(PackagesError::refused(package, reason))
        }
        _ => Ok(()),
    }
}

/// A remark when the package was built on another distribution than the host's.
fn other_distribution(platform: &Platform) -> Option<String> {
    let built_on = platform.distribution.as_deref()?;
    let release = files::read_bounded(Path::new("/etc/os-release"), 64 << 10).ok()?;
    let release = String::from_utf8_lossy(&release).into_owned();
    let here = release.lines().find_map(|line| line.strip_prefix("ID="))?;
    let here = here.trim_matches('"');
    (here != built_on).then(|| format!("built on {built_on}, this host is {here}"))
}

/// A regular file at the root of a checked image, when there is one.
fn small_file(image: &Image, name: &str, limit: u64) -> Result<Option<Vec<u8>>, PackagesError> {
    let refused =
        |reason: String| PackagesError::refused(&format!("`{name}` of the image"), reason);
    let mut entries = image.entries(ImageNode(0));
    let Some((_, node)) = entries.find(|(entry, _)| *entry == name.as_bytes()) else {
        return Ok(None);
    };
    let Kind::File { size } = image.attr(node).kind else {
        return Ok(None);
    };
    if size > limit {
        return Err(refused(format!(
            "is {size} bytes long, {limit} are the most"
        )));
    }
    let bytes = image.read(node).map_err(|error| refused(chain(&error)))?;
    Ok(Some(bytes))
}

/// Moves a file into a staging directory, across file systems when it must be.
pub(crate) fn take_file(from: &Path, to: &Path) -> Result<(), PackagesError> {
    if std::fs::rename(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to).at("copy", from)?;
    std::fs::remove_file(from).at("remove", from)?;
    Ok(())
}

/// Seconds of Unix time.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
