//! A process that is killed in the middle of a change leaves the old or the new state.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::*;
use crate::packages::{DataDirectory, DataLock};

/// Kills at points spread over two installations and an uninstallation.
const KILLS: u32 = 200;

/// Not a test by itself: installs the files that follow the data directory on the command line,
/// and uninstalls the last.
#[tokio::test]
async fn install_child() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|word| word == "--nocapture") else {
        return;
    };
    let [root, files @ ..] = &arguments[at + 1..] else {
        return;
    };
    let _lock = lock(Path::new(root));
    let packages = open(Path::new(root), &std::sync::Arc::default()).await;
    for file in files {
        packages.install_file(file.into(), true).await.unwrap();
    }
    packages
        .uninstall(&package("python-3.11.2"), false)
        .await
        .unwrap();
}

/// As the daemon does first.
fn lock(root: &Path) -> DataLock {
    let data = DataDirectory {
        root: root.join("data"),
    };
    data.lock().unwrap()
}

fn child(root: &Path, files: &[std::path::PathBuf]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "packages::tests::crash::install_child",
            "--nocapture",
        ])
        .arg(root)
        .args(files)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn copies(root: &Path, made: &[&Made]) -> Vec<std::path::PathBuf> {
    let copy = |(number, made): (usize, &&Made)| {
        let to = root.join(format!("upload{number}"));
        std::fs::copy(&made.file, &to).unwrap();
        to
    };
    made.iter().enumerate().map(copy).collect()
}

#[tokio::test]
async fn a_killed_change_leaves_the_old_state_or_the_new_one() {
    let (base, python) = (base("12.0.0"), python("3.11.2"));
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let whole = dir.path().join("whole");
    std::fs::create_dir(&whole).unwrap();
    let status = child(&whole, &copies(&whole, &[&base, &python]))
        .status()
        .unwrap();
    assert!(
        status.success(),
        "the helper installs when it is left alone"
    );
    let duration = started.elapsed();

    let mut seen = std::collections::BTreeSet::new();
    for kill in 0..KILLS {
        let root = dir.path().join(format!("{kill}"));
        std::fs::create_dir(&root).unwrap();
        let mut helper = child(&root, &copies(&root, &[&base, &python]))
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(f64::from(kill) / f64::from(KILLS)));
        helper.kill().unwrap();
        helper.wait().unwrap();
        // The check's child may still be writing where nobody looks any more.
        std::thread::sleep(Duration::from_millis(5));

        let _lock = lock(&root);
        let recorder = std::sync::Arc::default();
        let packages = open(&root, &recorder).await;
        let names: Vec<String> = packages
            .list()
            .iter()
            .map(|p| p.language.to_string())
            .collect();
        assert!(
            ["", "base", "base python"].contains(&names.join(" ").as_str()),
            "kill {kill}: {names:?}"
        );
        assert!(
            packages
                .list()
                .iter()
                .all(|package| package.notes.is_empty())
        );
        assert_eq!(
            recorder.paths().len(),
            names.len() * 2,
            "what is installed is shown"
        );
        let images = std::fs::read_dir(root.join("data/images")).unwrap().count();
        assert_eq!(images, names.len() * 2, "kill {kill}: no garbage");
        let records = std::fs::read_dir(root.join("data/records")).unwrap();
        assert_eq!(
            records.count(),
            names.len(),
            "kill {kill}: a copy of each row"
        );
        seen.insert(names.len());
        drop(packages);
        std::fs::remove_dir_all(&root).unwrap();
    }
    assert!(seen.len() > 1, "the kills hit one state only: {seen:?}");
}
