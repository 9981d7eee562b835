//! Repositories whose packages have to be signed.

use std::path::Path;

use piston_client::api::{Code, RepositorySettings};

use super::super::signature::tests::{GOOD, OTHER, key_file};
use super::super::*;
use super::repositories::{add, folder, install};
use super::support::*;

fn sign(folder: &Path) {
    let secret = tempfile::tempdir().unwrap();
    let signer = Signer::read(&key_file(secret.path()), "").unwrap();
    index::write_index(folder, Some(&signer)).unwrap();
}

async fn add_signed(world: &World, folder: &Path, keys: &str) {
    let settings = RepositorySettings {
        keys: Some(keys.to_owned()),
        ..RepositorySettings::unsigned(folder.to_str().unwrap())
    };
    world
        .packages
        .set_repository("signed", &settings)
        .await
        .unwrap();
}

/// Why python can't be installed; nothing of it is left.
async fn refusal(world: &World) -> String {
    let error = install(world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::SignatureRefused, "{error}");
    assert_eq!(world.files(), 0, "{error}");
    error.to_string()
}

fn state(world: &World) -> (u64, String) {
    let state = world.packages.repositories().remove(0).state;
    (state.packages, state.last_error.unwrap_or_default())
}

#[tokio::test]
async fn packages_that_a_trusted_key_signed_are_installed_and_say_so() {
    let (world, folder) = (World::new().await, folder());
    sign(folder.path());
    add_signed(&world, folder.path(), GOOD).await;
    install(&world, "*").await.unwrap();
    let keys = world.packages.repositories()[0].keys.clone();
    for package in world.packages.list() {
        assert_eq!(package.signed_by.as_ref(), Some(&keys[0]));
    }
    let world = world.restarted().await;
    assert_eq!(world.packages.list()[0].signed_by.as_ref(), Some(&keys[0]));
    // The index keeps its signatures, and its bytes, as long as nothing changes.
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let before = (read("index.yaml"), read("index.yaml.asc"));
    sign(folder.path());
    assert_eq!((read("index.yaml"), read("index.yaml.asc")), before);
}

#[tokio::test]
async fn a_package_without_a_good_signature_is_refused() {
    let (world, folder) = (World::new().await, folder());
    add_signed(&world, folder.path(), GOOD).await;
    let text = refusal(&world).await;
    assert!(text.contains("it is not signed; it has to be by"), "{text}");
    sign(folder.path());
    add_signed(&world, folder.path(), OTHER).await;
    let error = world.packages.available("signed", true).await.unwrap_err();
    assert!(error.to_string().contains("not trusted"), "{error}");

    // The packages' signatures among each other: each is good, for another file.
    let file = folder.path().join("index.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let index = index::Index::parse(text.as_bytes()).unwrap();
    let signature = |name: &str| {
        let entry = &index.entries[&package(name)];
        let signature = entry.signature.clone().unwrap();
        let lines = signature.lines().map(str::to_owned);
        lines.collect::<Vec<String>>()
    };
    let (python, base) = (signature("python-3.12.0"), signature("base-12.1.0"));
    let lines = python
        .iter()
        .zip(&base)
        .filter(|(python, base)| python != base);
    let swapped = lines.fold(text, |text, (python, base)| text.replace(python, base));
    std::fs::write(&file, swapped).unwrap();
    std::fs::remove_file(folder.path().join("index.yaml.asc")).unwrap();
    add_signed(&world, folder.path(), GOOD).await;
    refusal(&world).await;
}

#[tokio::test]
async fn an_index_that_was_signed_stays_signed_and_never_gets_older() {
    let (world, folder) = (World::new().await, folder());
    sign(folder.path());
    let path = |name: &str| folder.path().join(name);
    let old = [path("index.yaml"), path("index.yaml.asc")]
        .map(|path| (std::fs::read(&path).unwrap(), path));
    add_signed(&world, folder.path(), GOOD).await;
    world.packages.available("signed", true).await.unwrap();
    assert_eq!(state(&world), (4, String::new()));

    // Changed by somebody without the key.
    let mut changed = old[0].0.clone();
    changed.extend_from_slice(b"# a line\n");
    std::fs::write(path("index.yaml"), &changed).unwrap();
    world.packages.available("signed", true).await.unwrap();
    assert!(state(&world).1.contains("the index") && state(&world).1.contains("is not what"));
    // Without its signature.
    std::fs::remove_file(path("index.yaml.asc")).unwrap();
    world.packages.available("signed", true).await.unwrap();
    assert!(
        state(&world).1.contains("was signed before"),
        "{}",
        state(&world).1
    );
    let text = index::write_index(folder.path(), None);
    assert!(
        text.is_ok(),
        "no signature is there that would be left wrong"
    );

    // Signed again with less in it, and then the old one again, which is signed as well.
    std::fs::remove_file(path("python-3.11.2.pkg.tar.gz")).unwrap();
    sign(folder.path());
    let text = index::write_index(folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(text.contains("--sign"), "{text}");
    world.packages.available("signed", true).await.unwrap();
    assert_eq!(state(&world), (3, String::new()));
    for (bytes, path) in &old {
        std::fs::write(path, bytes).unwrap();
    }
    let world = world.restarted().await;
    world.packages.available("signed", true).await.unwrap();
    let (packages, error) = state(&world);
    assert!(packages == 3 && error.contains("older"), "{error}");
}

#[tokio::test]
async fn a_signed_package_takes_no_dependency_from_an_unsigned_repository() {
    let (world, signed, open) = (World::new().await, folder(), folder());
    for base in ["base-12.0.0", "base-12.1.0"] {
        std::fs::remove_file(signed.path().join(format!("{base}.pkg.tar.gz"))).unwrap();
    }
    sign(signed.path());
    add(&world, "open", open.path().to_str().unwrap()).await;
    add_signed(&world, signed.path(), GOOD).await;
    let python = "python".parse().unwrap();
    let error = world
        .packages
        .install("signed", &python, &any())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DependencyUnresolved, "{error}");
    assert!(error.to_string().contains("is not signed"), "{error}");
    // What the operator uploads is the operator's word.
    world.install(&base("12.0.0")).await.unwrap();
    let reply = world
        .packages
        .install("signed", &python, &any())
        .await
        .unwrap();
    assert_eq!(reply.dependencies, []);
    let bad = RepositorySettings {
        keys: Some("no keys".to_owned()),
        ..RepositorySettings::unsigned("/srv/x")
    };
    let error = world.packages.set_repository("x", &bad).await.unwrap_err();
    assert!(error.code() == Code::InvalidField && error.to_string().starts_with("keys"));
}
