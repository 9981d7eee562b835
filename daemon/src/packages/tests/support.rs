//! What the tests share: packages to install, a recorder for the filesystem, the check's child.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use piston_fs::image::pack::{Compressor, Meta, Source, Tree};
use piston_fs::layer::{Layer, Placed};
use piston_fs::mount::MountError;
use tempfile::TempDir;

use super::super::view::Publish;
use super::super::*;

/// Records what would be shown; refuses what it is told to.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) shown: Mutex<BTreeMap<String, Vec<Placed>>>,
    pub(super) refuse: Mutex<BTreeSet<String>>,
}

impl Publish for Recorder {
    fn publish(&self, path: &str, layers: &[Placed]) -> Result<Vec<String>, MountError> {
        let refuse = |reason: &str| {
            Err(MountError::Publish {
                path: path.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.refuse.lock().unwrap().contains(path) {
            return refuse("told so");
        }
        let before = self
            .shown
            .lock()
            .unwrap()
            .insert(path.to_owned(), layers.to_vec());
        if before.is_some() {
            return refuse("there already");
        }
        Ok(Vec::new())
    }

    fn unpublish(&self, path: &str) -> Result<(), MountError> {
        self.shown
            .lock()
            .unwrap()
            .remove(path)
            .map(drop)
            .ok_or_else(|| MountError::Publish {
                path: path.to_owned(),
                reason: "not there".to_owned(),
            })
    }
}

/// Shown by `publisher`, without any rule.
pub(super) fn shown(publisher: Arc<dyn Publish>) -> Shown {
    Shown {
        publisher,
        rules: CacheRules::default(),
    }
}

impl Recorder {
    pub(super) fn paths(&self) -> Vec<String> {
        self.shown.lock().unwrap().keys().cloned().collect()
    }

    /// `image@place` and `memory@place`, lowest first.
    pub(super) fn layers(&self, path: &str) -> Vec<String> {
        let shown = self.shown.lock().unwrap();
        let layers = shown.get(path).map(Vec::as_slice).unwrap_or_default();
        let name = |placed: &Placed| match placed.layer {
            Layer::Image(_) => format!("image@{}", placed.at),
            Layer::Memory(_) => format!("memory@{}", placed.at),
        };
        layers.iter().map(name).collect()
    }
}

/// This test binary as the hidden subcommand `verify-image`.
pub(super) fn verifier() -> Verifier {
    let script = r#""$0" --exact packages::tests::support::verify_image_child --nocapture "$@" | sed -n 's/.*\({"[vr]e.*}\)$/\1/p'"#;
    let binary = std::env::current_exe().unwrap();
    Verifier::other(
        "/bin/sh".into(),
        vec!["-c".into(), script.into(), binary.into()],
    )
}

/// Not a test by itself: the body of the child when it is given an image and an index.
#[test]
fn verify_image_child() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [.., flag, image, index] = arguments.as_slice()
        && flag == "--nocapture"
    {
        let _code = verify_image_main(Path::new(image), Path::new(index));
    }
}

/// The same, and this test binary as the hidden subcommand `recompress-image`, for xz and gzip.
pub(super) fn recompressing() -> Verifier {
    let script =
        r#""$0" --exact packages::tests::support::recompress_image_child --nocapture "$@""#;
    let binary = std::env::current_exe().unwrap();
    let compressors = vec!["xz".to_owned(), "gzip".to_owned()];
    verifier().recompressing(Recompressor::other(
        "/bin/sh".into(),
        vec!["-c".into(), script.into(), binary.into()],
        compressors,
    ))
}

/// Not a test by itself: the body of the child when it is given what it needs.
#[test]
fn recompress_image_child() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [.., flag, image, index, out, seconds] = arguments.as_slice()
        && flag == "--nocapture"
    {
        let (image, index) = (Path::new(image), Path::new(index));
        let seconds = seconds.parse().unwrap();
        recompress_image_main(image, index, Path::new(out), seconds).unwrap();
    }
}

/// A data directory with an open package manager.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) recorder: Arc<Recorder>,
    pub(super) packages: Arc<Packages>,
}

pub(super) fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        silence: Duration::from_millis(700),
        pause: Duration::from_millis(5),
        index: Duration::from_secs(5),
        package: Duration::from_secs(5),
    }
}

pub(super) async fn open(root: &Path, recorder: &Arc<Recorder>) -> Arc<Packages> {
    open_with(root, recorder, verifier()).await
}

async fn open_with(root: &Path, recorder: &Arc<Recorder>, verifier: Verifier) -> Arc<Packages> {
    open_on(root, Arc::<Recorder>::clone(recorder), verifier).await
}

/// Packages of a data directory below `root`, shown by that publisher.
pub(super) async fn open_on(
    root: &Path,
    publisher: Arc<dyn Publish>,
    verifier: Verifier,
) -> Arc<Packages> {
    let data = DataDirectory {
        root: root.join("data"),
    };
    Packages::open_with(
        data,
        shown(publisher),
        verifier,
        patience(),
        Builtin::Absent,
    )
    .await
    .unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        Self::checked_by(verifier()).await
    }

    pub(super) async fn checked_by(verifier: Verifier) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Arc::new(Recorder::default());
        let packages = open_with(dir.path(), &recorder, verifier).await;
        Self {
            dir,
            recorder,
            packages,
        }
    }

    /// Opens the same data again, as after a restart.
    pub(super) async fn restarted(self) -> Self {
        let recorder = Arc::new(Recorder::default());
        drop(self.packages);
        let packages = open(self.dir.path(), &recorder).await;
        Self {
            dir: self.dir,
            recorder,
            packages,
        }
    }

    pub(super) async fn install(&self, package: &Made) -> Result<api::InstallReply, PackagesError> {
        let copy = self.dir.path().join("upload.pkg.tar.gz");
        std::fs::copy(&package.file, &copy).unwrap();
        let reply = self.packages.install_file(copy.clone(), true).await;
        assert!(!copy.exists(), "the file is moved into the data directory");
        reply
    }

    pub(super) fn installed(&self) -> Vec<String> {
        let list = self.packages.list();
        list.iter()
            .map(|p| format!("{}-{}", p.language, p.version))
            .collect()
    }

    /// Files below the data directory but the database and the lock, without the image digests.
    pub(super) fn files(&self) -> usize {
        ["images", "staging", "downloads"]
            .iter()
            .map(|name| {
                std::fs::read_dir(self.dir.path().join("data").join(name))
                    .unwrap()
                    .count()
            })
            .sum()
    }
}

/// A package file.
pub(super) struct Made {
    _dir: TempDir,
    pub(super) file: PathBuf,
}

pub(super) fn image(to: &Path, files: &[(&str, &str)]) {
    image_with(to, files, Compressor::Zstd(3));
}

pub(super) fn image_with(to: &Path, files: &[(&str, &str)], compressor: Compressor) {
    let meta = |mode| Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: 0,
    };
    let mut tree = Tree::new();
    for (path, text) in files {
        tree.file(path, meta(0o755), Source::Bytes(text.as_bytes().to_vec()))
            .unwrap();
    }
    tree.write(File::create(to).unwrap(), compressor).unwrap();
}

/// Makes a package file of `pkg-info.json`, the image's files and the scripts.
pub(super) fn make(json: &str, files: &[(&str, &str)], scripts: &[(&str, &str)]) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let squashfs = dir.path().join("image");
    image(&squashfs, files);
    let scripts: Vec<(&str, u32, &[u8])> = scripts
        .iter()
        .map(|(name, text)| (*name, 0o755, text.as_bytes()))
        .collect();
    let file = dir.path().join("made.pkg.tar.gz");
    archive::write(&file, json.as_bytes(), &squashfs, &scripts).unwrap();
    Made { _dir: dir, file }
}

/// A base system, mounted at `/`.
pub(super) fn base(version: &str) -> Made {
    make(
        &format!(r#"{{"language":"base","version":"{version}","mount":"/"}}"#),
        &[("/bin/sh", "shell"), ("/etc/version", version)],
        &[("environment", "export LANG=C PATH=/opt/base/bin")],
    )
}

/// A language on top of a base system.
pub(super) fn python(version: &str) -> Made {
    make(
        &format!(
            r#"{{"language":"python","version":"{version}","dependencies":{{"base":"^12"}},"aliases":["py"]}}"#
        ),
        &[("/bin/python", version)],
        &[
            ("run", "#!/bin/sh\n"),
            ("environment", "export PATH=$PWD/bin:$PATH"),
        ],
    )
}

pub(super) fn package(text: &str) -> PackageRef {
    let (language, version) = text.split_once('-').unwrap();
    PackageRef::new(language.parse().unwrap(), version.parse().unwrap())
}

pub(super) fn any() -> VersionRange {
    VersionRange::any()
}
