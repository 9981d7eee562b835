//! What became of installed packages on the disk: found, mended where it can be, rebuilt.

use std::path::Path;

use piston_client::api::{Code, RepositorySettings};

use super::super::repair::repair_with;
use super::super::*;
use super::support::*;

/// base and python, installed.
async fn two() -> World {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    world.install(&python("3.11.2")).await.unwrap();
    world
}

fn data(root: &Path) -> DataDirectory {
    DataDirectory {
        root: root.join("data"),
    }
}

fn image_of(world: &World, name: &str) -> PathBuf {
    let list = world.packages.list();
    let found = list
        .iter()
        .find(|package| package.language.as_str() == name);
    data(world.dir.path()).image(&found.unwrap().image)
}

/// Flips a bit in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

async fn problems(world: &World, name: &str) -> Vec<String> {
    let reply = world.packages.verify(&package(name)).await.unwrap();
    assert_eq!(reply.notes, Vec::<String>::new());
    reply.problems
}

#[tokio::test]
async fn a_check_finds_an_image_that_is_another_or_gone() {
    let world = two().await;
    assert_eq!(
        problems(&world, "python-3.11.2").await,
        Vec::<String>::new()
    );
    let image = image_of(&world, "python");
    damage(&image);
    let found = problems(&world, "python-3.11.2").await;
    assert!(found[0].contains("it was installed with"), "{found:?}");
    std::fs::remove_file(&image).unwrap();
    let found = problems(&world, "python-3.11.2").await;
    assert!(found[0].contains("cannot open"), "{found:?}");
    assert_eq!(problems(&world, "base-12.0.0").await, Vec::<String>::new());
    let absent = world.packages.verify(&package("lua-5.4.4")).await;
    assert_eq!(absent.unwrap_err().code(), Code::PackageNotFound);
}

#[tokio::test]
async fn a_check_mends_an_index() {
    let world = two().await;
    let index = image_of(&world, "base").with_extension("index");
    let good = std::fs::read(&index).unwrap();
    damage(&index);
    let reply = world
        .packages
        .verify(&package("base-12.0.0"))
        .await
        .unwrap();
    assert_eq!(reply.problems, Vec::<String>::new());
    assert!(reply.notes[0].contains("written anew"), "{:?}", reply.notes);
    assert_eq!(std::fs::read(&index).unwrap(), good);
    assert_eq!(problems(&world, "base-12.0.0").await, Vec::<String>::new());
}

/// Closes a world; its directory and what it listed.
fn closed(world: World) -> (tempfile::TempDir, Vec<api::InstalledPackage>) {
    let listed = world.packages.list();
    drop(world.packages);
    (world.dir, listed)
}

async fn repaired(root: &Path) -> Rebuilt {
    match repair_with(&data(root), &verifier()).await.unwrap() {
        Repair::Rebuilt(rebuilt) => rebuilt,
        Repair::Whole(packages) => panic!("whole, with {packages} packages"),
    }
}

#[tokio::test]
async fn a_database_that_is_whole_is_left_alone() {
    let (dir, listed) = closed(two().await);
    let repair = repair_with(&data(dir.path()), &verifier()).await.unwrap();
    assert!(matches!(repair, Repair::Whole(2)), "{repair:?}");
    let files = std::fs::read_dir(data(dir.path()).root).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    let more = names
        .iter()
        .filter(|name| name.to_string_lossy().contains("redb."));
    assert_eq!(more.count(), 0, "{names:?}");
    assert_eq!(open(dir.path(), &Arc::default()).await.list(), listed);
}

#[tokio::test]
async fn a_database_that_is_gone_or_damaged_is_rebuilt_from_what_lies_beside_it() {
    let (dir, listed) = closed(two().await);
    let database = data(dir.path()).database();
    for garbage in [None, Some(vec![7; 4096])] {
        std::fs::remove_file(&database).unwrap();
        if let Some(garbage) = &garbage {
            std::fs::write(&database, garbage).unwrap();
        }
        let refused = State::open(data(dir.path()), shown(Arc::new(Recorder::default())));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("`pistond repair`"), "{text}");

        let rebuilt = repaired(dir.path()).await;
        assert_eq!(rebuilt.packages.len(), 2);
        assert_eq!(rebuilt.left_out, []);
        assert_eq!(rebuilt.set_aside.is_some(), garbage.is_some());
        let packages = open(dir.path(), &Arc::default()).await;
        assert_eq!(packages.list(), listed);
    }
}

#[tokio::test]
async fn a_damaged_row_costs_no_repository_and_a_damaged_image_its_package_and_dependents() {
    let world = two().await;
    let url = "file:///srv/packages".to_owned();
    let settings = RepositorySettings::unsigned(url);
    world
        .packages
        .set_repository("mine", &settings)
        .await
        .unwrap();
    let image = image_of(&world, "base");
    let (dir, _) = closed(world);
    let database = data(dir.path()).database();
    let mut bytes = std::fs::read(&database).unwrap();
    let row = b"\"requested\":true";
    for at in 0..bytes.len() - row.len() {
        if bytes[at..].starts_with(row) {
            bytes[at + 1] ^= 1;
        }
    }
    std::fs::write(&database, bytes).unwrap();
    damage(&image);
    let rebuilt = repaired(dir.path()).await;
    assert_eq!((rebuilt.packages.len(), rebuilt.repositories), (0, 1));
    let reasons: Vec<&str> = rebuilt
        .left_out
        .iter()
        .map(|(_, why)| why.as_str())
        .collect();
    assert!(reasons[0].contains("it was installed with"), "{reasons:?}");
    assert!(reasons[1].contains("it needs base-12.0.0"), "{reasons:?}");
    let packages = open(dir.path(), &Arc::default()).await;
    assert_eq!(packages.list(), []);
    assert_eq!(packages.repositories()[0].name, "mine");
}
