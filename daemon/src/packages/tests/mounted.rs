//! Packages in the real filesystem, mounted as root.

use std::path::Path;

use piston_fs::mount::{DEADLINE, MountOptions, Server};

use super::super::*;
use super::support::*;

fn mount(at: &Path) -> Arc<Server> {
    let options = MountOptions {
        path: at.to_owned(),
        threads: 3,
        cache_bytes: 8 << 20,
        deadline: DEADLINE,
    };
    Arc::new(Server::mount(&options).unwrap())
}

async fn world(at: &Path) -> World {
    let dir = tempfile::tempdir().unwrap();
    let packages = open_on(dir.path(), mount(at), verifier()).await;
    World {
        dir,
        recorder: Arc::default(),
        packages,
    }
}

/// Mounting needs a privilege: whoever lacks it has to say that these tests may be left out.
fn can_mount() -> bool {
    if nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists() {
        return true;
    }
    let allowed = std::env::var("PISTON_TEST_ALLOW_SKIP").unwrap_or_default();
    assert!(
        allowed.split(',').any(|word| word == "root"),
        "root and /dev/fuse are needed, or PISTON_TEST_ALLOW_SKIP=root"
    );
    println!("skipped: needs root");
    false
}

/// A look from another process: the server's own threads must not wait for themselves.
async fn shell(script: String) -> String {
    let command = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .output();
    let output = command.await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_there_from_installation_to_removal() {
    if !can_mount() {
        return;
    }
    let mountpoint = tempfile::tempdir().unwrap();
    let at = mountpoint.path().to_owned();
    let world = world(&at).await;
    world.install(&base("12.0.0")).await.unwrap();
    world.install(&python("3.11.2")).await.unwrap();
    let view = at.join("views/python/3.11.2");
    let see = |what: &str| shell(format!("cd {} && {what}", view.display()));
    assert_eq!(see("cat etc/version").await, "12.0.0");
    assert_eq!(
        see("cat piston/packages/python/3.11.2/bin/python").await,
        "3.11.2"
    );
    assert_eq!(
        see("head -c 9 piston/packages/python/3.11.2/run").await,
        "#!/bin/sh"
    );
    assert_eq!(
        see("stat -c %a piston/packages/python/3.11.2/run").await,
        "755"
    );
    assert_eq!(see("ls").await, "bin\ndev\netc\npiston\nproc\ntmp");
    assert_eq!(
        see("stat -c %F proc dev tmp piston/job | uniq").await,
        "directory"
    );
    let alone = shell(format!(
        "cat {}/packages/python/3.11.2/bin/python",
        at.display()
    ))
    .await;
    assert_eq!(alone, "3.11.2");

    world
        .packages
        .uninstall(&package("python-3.11.2"), false)
        .await
        .unwrap();
    let gone = shell(format!("ls {}/views", at.display())).await;
    assert!(!gone.contains("python"), "{gone}");
    let still = shell(format!(
        "cat {}/views/base/12.0.0/etc/version",
        at.display()
    ))
    .await;
    assert_eq!(still, "12.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_image_can_put_a_symlink_where_a_sandbox_mounts() {
    if !can_mount() {
        return;
    }
    let mountpoint = tempfile::tempdir().unwrap();
    let at = mountpoint.path().to_owned();
    let world = world(&at).await;
    let files = [
        ("/proc", "a file"),
        ("/tmp", "a file"),
        ("/piston", "a file"),
        ("/ok", "x"),
    ];
    let json = r#"{"language":"evil","version":"1.0.0","mount":"/"}"#;
    world.install(&make(json, &files, &[])).await.unwrap();
    let script = format!(
        "cd {}/views/evil/1.0.0 && stat -c %F proc tmp piston/job | uniq && cat ok",
        at.display()
    );
    assert_eq!(shell(script).await, "directory\nx");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_reads_touched_is_kept_and_goes_with_the_package() {
    if !can_mount() {
        return;
    }
    let mountpoint = tempfile::tempdir().unwrap();
    let at = mountpoint.path().to_owned();
    let World { dir, packages, .. } = {
        let world = world(&at).await;
        world.install(&base("12.0.0")).await.unwrap();
        let version = at.join("views/base/12.0.0/etc/version");
        assert_eq!(shell(format!("cat {}", version.display())).await, "12.0.0");
        world
    };
    drop(packages);
    let data = DataDirectory {
        root: dir.path().join("data"),
    };
    let hot_lists = || {
        let files = std::fs::read_dir(data.images()).unwrap();
        let names = files.map(|file| file.unwrap().path());
        names
            .filter(|path| path.extension().is_some_and(|kind| kind == "hot"))
            .count()
    };
    assert_eq!(hot_lists(), 1);

    let packages = open_on(dir.path(), mount(&at), verifier()).await;
    assert_eq!(hot_lists(), 1, "an image's, and so not swept");
    packages
        .uninstall(&package("base-12.0.0"), false)
        .await
        .unwrap();
    assert_eq!(hot_lists(), 0);
}
