//! Package files in, packages out.

use piston_client::api::{Code, InstallState};
use piston_fs::image::pack::Compressor;

use super::super::*;
use super::support::*;

#[tokio::test]
async fn an_installed_package_is_listed_shown_and_leased() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    let reply = world.install(&python("3.11.2")).await.unwrap();
    assert_eq!(reply.package, package("python-3.11.2"));
    assert_eq!(reply.state, InstallState::Installed);
    assert_eq!(world.installed(), ["base-12.0.0", "python-3.11.2"]);
    assert_eq!(
        world.recorder.paths(),
        [
            "packages/base/12.0.0",
            "packages/python/3.11.2",
            "views/base/12.0.0",
            "views/python/3.11.2"
        ]
    );
    assert_eq!(
        world.recorder.layers("views/python/3.11.2"),
        [
            "memory@/",
            "image@/",
            "image@/piston/packages/python/3.11.2",
            "memory@/",
            "memory@/"
        ]
    );
    assert_eq!(world.recorder.layers("packages/python/3.11.2"), ["image@/"]);

    let lease = world
        .packages
        .lease(&"python".parse().unwrap(), &any())
        .unwrap();
    let installed = &lease.installed;
    assert_eq!(installed.view, "views/python/3.11.2");
    let run = Entry::Script("/piston/packages/python/3.11.2/run".to_owned());
    assert_eq!(installed.run, Some(run));
    let path = &installed
        .environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .unwrap()
        .1;
    assert!(
        path.starts_with("/piston/packages/python/3.11.2/bin:/opt/base/bin:/usr/"),
        "{path}"
    );
    assert!(
        installed
            .environment
            .contains(&("LANG".to_owned(), "C".to_owned()))
    );

    let listed = world.packages.list();
    assert_eq!(listed[0].dependents, [package("python-3.11.2")]);
    assert_eq!(
        listed[1].layers,
        [package("base-12.0.0"), package("python-3.11.2")]
    );
    let (lease, language) = world.packages.lease_runtime("py", &any()).unwrap();
    assert_eq!(language.as_str(), "python");
    assert_eq!(lease.installed.package, package("python-3.11.2"));
    let runtimes = world.packages.runtimes(&|_, _| api::StageLimits::default());
    assert_eq!(runtimes.len(), 1, "base runs nothing");
    let error = world
        .packages
        .lease(&"base".parse().unwrap(), &any())
        .unwrap_err();
    assert_eq!(error.code(), Code::NotExecutable);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    world.install(&python("3.11.2")).await.unwrap();
    let before = world.packages.list();
    let shown = world.recorder.paths();
    let world = world.restarted().await;
    assert_eq!(world.packages.list(), before);
    assert_eq!(world.recorder.paths(), shown);
}

#[tokio::test]
async fn the_same_package_again_is_already_installed_and_another_is_a_conflict() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    let again = world.install(&base("12.0.0")).await.unwrap();
    assert_eq!(again.state, InstallState::AlreadyInstalled);
    let other = make(
        r#"{"language":"base","version":"12.0.0","mount":"/"}"#,
        &[("/x", "y")],
        &[],
    );
    let error = world.install(&other).await.unwrap_err();
    assert_eq!(error.code(), Code::VersionConflict);
    assert_eq!(world.files(), 2, "one image with its index, no garbage");
}

#[tokio::test]
async fn two_installs_at_once_are_one() {
    let world = World::new().await;
    let made = base("12.0.0");
    let copies: Vec<_> = (0..4)
        .map(|n| world.dir.path().join(format!("copy{n}")))
        .collect();
    for copy in &copies {
        std::fs::copy(&made.file, copy).unwrap();
    }
    let installs = copies
        .into_iter()
        .map(|copy| world.packages.install_file(copy, true));
    let replies = futures_util::future::join_all(installs).await;
    let new = replies
        .iter()
        .filter(|reply| reply.as_ref().unwrap().state == InstallState::Installed);
    assert_eq!(new.count(), 1);
    assert_eq!(world.files(), 2);
}

#[tokio::test]
async fn an_image_of_two_packages_is_stored_once_and_stays_for_the_other() {
    let world = World::new().await;
    for name in ["a", "b"] {
        let json = format!(r#"{{"language":"{name}","version":"1.0.0"}}"#);
        world
            .install(&make(&json, &[("/f", "same")], &[]))
            .await
            .unwrap();
    }
    assert_eq!(world.files(), 2);
    world
        .packages
        .uninstall(&package("a-1.0.0"), false)
        .await
        .unwrap();
    assert_eq!(world.files(), 2);
    world
        .packages
        .uninstall(&package("b-1.0.0"), false)
        .await
        .unwrap();
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn a_missing_dependency_is_named_and_nothing_stays() {
    let world = World::new().await;
    world.install(&base("11.0.0")).await.unwrap();
    let error = world.install(&python("3.11.2")).await.unwrap_err();
    assert_eq!(error.code(), Code::DependencyUnresolved);
    let text = error.to_string();
    assert!(text.contains("python-3.11.2 needs base >=12.0.0"), "{text}");
    assert!(text.contains("there is base 11.0.0"), "{text}");
    assert_eq!(world.installed(), ["base-11.0.0"]);
    assert_eq!(world.files(), 2);
}

#[tokio::test]
async fn what_is_refused_is_refused_with_its_reason_and_nothing_stays() {
    let world = World::new().await;
    let arch = make(
        r#"{"language":"a","version":"1.0.0","build_platform":"debian-sparc"}"#,
        &[("/f", "x")],
        &[],
    );
    let substitution = make(
        r#"{"language":"a","version":"1.0.0"}"#,
        &[("/f", "x")],
        &[("environment", "export A=$(id)")],
    );
    let provides = make(
        r#"{"language":"a","version":"1.0.0","provides":[{"language":"b"}]}"#,
        &[("/f", "x")],
        &[],
    );
    for (made, expected) in [
        (arch, "built for sparc"),
        (substitution, "command substitution"),
        (provides, "neither a `run` script"),
    ] {
        let error = world.install(&made).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidPackage, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn a_broken_image_is_refused_with_its_reason() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    image(&good, &[("/a", "text"), ("/b", "more")]);
    let bytes = std::fs::read(&good).unwrap();
    let json = br#"{"language":"a","version":"1.0.0"}"#;
    // Behind the length that the superblock names there is only padding.
    let used = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    let used = usize::try_from(used).unwrap();
    for cut in [0, 50, 96, used / 2, used - 1] {
        let bad = dir.path().join("bad");
        std::fs::write(&bad, &bytes[..cut]).unwrap();
        let file = dir.path().join("bad.pkg.tar.gz");
        archive::write(&file, json, &bad, &[]).unwrap();
        let error = world.packages.install_file(file, true).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidPackage, "cut at {cut}: {error}");
        assert!(
            error.to_string().starts_with("a-1.0.0 refused: "),
            "{error}"
        );
    }
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn a_bare_image_with_metadata_at_its_root_is_a_package() {
    let world = World::new().await;
    let file = world.dir.path().join("bare.squashfs");
    let json = r#"{"language":"lua","version":"5.4.0"}"#;
    let files = [
        ("/pkg-info.json", json),
        ("/run", "#!/bin/sh\n"),
        ("/environment", "export LUA=$PWD"),
    ];
    image(&file, &files);
    world.packages.install_file(file, true).await.unwrap();
    let lease = world
        .packages
        .lease(&"lua".parse().unwrap(), &any())
        .unwrap();
    let lua = ("LUA".to_owned(), "/piston/packages/lua/5.4.0".to_owned());
    assert!(lease.installed.environment.contains(&lua));
    assert!(matches!(lease.installed.run, Some(Entry::Script(_))));

    let file = world.dir.path().join("empty.squashfs");
    image(&file, &[("/x", "y")]);
    let error = world.packages.install_file(file, true).await.unwrap_err();
    assert!(error.to_string().contains("no pkg-info.json"), "{error}");
}

/// A bare gzip image of a package with that script.
fn gzip_image(world: &World, script: &str) -> PathBuf {
    let file = world.dir.path().join("gzip.squashfs");
    let json = r#"{"language":"lua","version":"5.4.0"}"#;
    let text = "text ".repeat(50_000);
    let files = [("/pkg-info.json", json), ("/run", script), ("/text", &text)];
    image_with(&file, &files, Compressor::Gzip(6));
    file
}

/// The number of the compressor of the only image that is installed.
fn installed_compressor(world: &World) -> u8 {
    let images = std::fs::read_dir(world.dir.path().join("data/images")).unwrap();
    let mut images = images.map(|entry| entry.unwrap().path());
    let image = images.find(|path| path.extension().is_some_and(|end| end == "squashfs"));
    std::fs::read(image.unwrap()).unwrap()[20]
}

#[tokio::test]
async fn an_image_that_is_written_anew_is_still_known_by_its_original_checksum() {
    let world = World::checked_by(recompressing()).await;
    let install = async |world: &World, script| {
        let file = gzip_image(world, script);
        world.packages.install_file(file, true).await
    };
    install(&world, "#!/bin/sh\n").await.unwrap();
    assert_eq!(installed_compressor(&world), 6);
    assert_eq!(world.files(), 2);
    let again = install(&world, "#!/bin/sh\n").await.unwrap();
    assert_eq!(again.state, InstallState::AlreadyInstalled);
    let error = install(&world, "#!/bin/other\n").await.unwrap_err();
    assert!(matches!(error, PackagesError::Conflict { .. }), "{error}");

    // Also by a daemon that writes nothing anew.
    let world = world.restarted().await;
    assert_eq!(world.installed(), ["lua-5.4.0"]);
    let again = install(&world, "#!/bin/sh\n").await.unwrap();
    assert_eq!(again.state, InstallState::AlreadyInstalled);
    assert_eq!(installed_compressor(&world), 6);
}

#[tokio::test]
async fn an_image_that_can_t_be_written_anew_is_installed_as_it_is() {
    let failing = Recompressor::other("/bin/false".into(), Vec::new(), vec!["gzip".to_owned()]);
    for verifier in [verifier().recompressing(failing), verifier()] {
        let world = World::checked_by(verifier).await;
        let file = gzip_image(&world, "#!/bin/sh\n");
        world.packages.install_file(file, true).await.unwrap();
        assert_eq!(installed_compressor(&world), 1);
        assert_eq!(world.files(), 2);
    }
}

#[tokio::test]
async fn a_package_that_can_t_be_shown_is_not_installed() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    world
        .recorder
        .refuse
        .lock()
        .unwrap()
        .insert("views/python/3.11.2".to_owned());
    let error = world.install(&python("3.11.2")).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(world.installed(), ["base-12.0.0"]);
    assert_eq!(world.files(), 2);
    assert_eq!(
        world.recorder.paths(),
        ["packages/base/12.0.0", "views/base/12.0.0"]
    );
    let world = world.restarted().await;
    assert_eq!(world.installed(), ["base-12.0.0"]);
}

#[tokio::test]
async fn uninstall_names_dependents_and_cascades() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    world.install(&python("3.11.2")).await.unwrap();
    let base = package("base-12.0.0");
    let error = world.packages.uninstall(&base, false).await.unwrap_err();
    assert_eq!(error.code(), Code::PackageInUse);
    assert!(error.to_string().contains("python-3.11.2"), "{error}");
    let reply = world.packages.uninstall(&base, true).await.unwrap();
    assert_eq!(reply.removed, [package("python-3.11.2"), base.clone()]);
    assert_eq!((world.installed().len(), world.files()), (0, 0));
    assert!(world.recorder.paths().is_empty());
    let error = world.packages.uninstall(&base, false).await.unwrap_err();
    assert_eq!(error.code(), Code::PackageNotFound);
    assert!(world.restarted().await.installed().is_empty());
}

#[tokio::test]
async fn a_package_in_use_goes_when_its_last_job_ends() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    let made = python("3.11.2");
    world.install(&made).await.unwrap();
    let python = "python".parse().unwrap();
    let lease = world.packages.lease(&python, &any()).unwrap();
    let second = lease.clone();
    world
        .packages
        .uninstall(&package("python-3.11.2"), false)
        .await
        .unwrap();
    let error = world.packages.lease(&python, &any()).unwrap_err();
    assert_eq!(error.code(), Code::PackageNotFound);
    assert_eq!(world.recorder.paths().len(), 4, "still shown");
    assert_eq!(world.files(), 4);
    drop(lease);
    assert_eq!(world.recorder.paths().len(), 4, "a clone still holds it");
    // An install of the same waits for the old one to go.
    let reinstall = world.install(&made);
    let (reply, ()) = tokio::join!(reinstall, async { drop(second) });
    assert_eq!(reply.unwrap().state, InstallState::Installed);
    assert_eq!(world.installed(), ["base-12.0.0", "python-3.11.2"]);
    assert_eq!((world.recorder.paths().len(), world.files()), (4, 4));
}

#[tokio::test]
async fn gc_removes_what_nobody_asked_for_and_nothing_needs() {
    let world = World::new().await;
    let copy = world.dir.path().join("base");
    std::fs::copy(&base("12.0.0").file, &copy).unwrap();
    world.packages.install_file(copy, false).await.unwrap();
    world.install(&python("3.11.2")).await.unwrap();
    assert!(world.packages.gc().await.unwrap().removed.is_empty());
    world
        .packages
        .uninstall(&package("python-3.11.2"), false)
        .await
        .unwrap();
    assert_eq!(
        world.packages.gc().await.unwrap().removed,
        [package("base-12.0.0")]
    );
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn the_newest_match_is_leased() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    for version in ["3.9.1", "3.11.2", "3.10.7"] {
        world.install(&python(version)).await.unwrap();
    }
    let lease = |range: &str| {
        let lease = world
            .packages
            .lease_runtime("python", &range.parse().unwrap());
        lease.map(|(lease, _)| lease.installed.package.version.to_string())
    };
    assert_eq!(lease("*").unwrap(), "3.11.2");
    assert_eq!(lease("3.10").unwrap(), "3.10.7");
    let text = lease("4").unwrap_err().to_string();
    assert!(
        text.contains("installed: python 3.9.1, 3.10.7, 3.11.2"),
        "{text}"
    );
    let text = world
        .packages
        .lease_runtime("pythn", &any())
        .unwrap_err()
        .to_string();
    assert!(text.contains("did you mean python?"), "{text}");
}

#[tokio::test]
async fn a_lost_index_is_renewed_and_a_lost_image_is_reported() {
    let world = World::new().await;
    world.install(&base("12.0.0")).await.unwrap();
    let images = world.dir.path().join("data/images");
    let remove = |ending: &str| {
        for entry in std::fs::read_dir(&images).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with(ending) {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    remove(".index");
    let world = world.restarted().await;
    assert_eq!(world.recorder.paths().len(), 2);
    assert_eq!(world.files(), 2);
    remove(".squashfs");
    let world = world.restarted().await;
    assert!(world.recorder.paths().is_empty());
    assert!(world.packages.list()[0].notes[0].starts_with("not usable"));
    world
        .packages
        .uninstall(&package("base-12.0.0"), false)
        .await
        .unwrap();
    assert_eq!(world.files(), 0);
}
