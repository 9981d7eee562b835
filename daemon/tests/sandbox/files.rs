//! The workspace between the daemon and a job that does not play by the rules.
#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::io::ErrorKind;

use piston_client::units::Bytes;
use pistond::sandbox::{JobPath, SandboxError, Slot, Workspace};

use crate::bench::{everywhere, shell};

fn path(text: &str) -> JobPath {
    text.parse().unwrap()
}

#[test]
fn files_are_written_with_their_folders_and_belong_to_the_job() {
    everywhere(
        "files::files_are_written_with_their_folders_and_belong_to_the_job",
        async |bench| {
            let workspace = bench.workspace();
            workspace.write(&path("a/b/c.txt"), 0o640, b"one").unwrap();
            workspace.write(&path("a/d"), 0o4755, b"two").unwrap();
            workspace
                .write(&path("a/b/c.txt"), 0o600, b"three")
                .unwrap();
            let script = "cat a/b/c.txt; echo; find . -printf '%m %u %g %p\\n'; echo more >> a/d";
            let outcome = bench
                .launch(shell(script), &workspace)
                .await
                .unwrap()
                .finish()
                .await;
            let out = outcome.unwrap().out;
            let (text, found) = out.split_once('\n').unwrap();
            let mut found: Vec<_> = found.lines().collect();
            found.sort_unstable_by_key(|line| line.rsplit(' ').next());
            let expected = [
                "755 1000 1000 .",
                "755 1000 1000 ./a",
                "755 1000 1000 ./a/b",
                "600 1000 1000 ./a/b/c.txt",
                "755 1000 1000 ./a/d",
            ];
            assert_eq!((text, &*found), ("three", expected.as_slice()));
            let files = workspace.collect(&|_| true, Bytes::mib(1)).unwrap();
            assert_eq!(files.last().unwrap().bytes, b"twomore\n");
        },
    );
}

#[test]
fn what_does_not_fit_is_an_error_of_the_storage() {
    everywhere(
        "files::what_does_not_fit_is_an_error_of_the_storage",
        async |bench| {
            let workspace = Workspace::new(Bytes::kib(64), Slot(1), bench.ids).unwrap();
            match workspace.write(&path("big"), 0o644, &vec![1; 100_000]) {
                Err(SandboxError::Workspace { path, source, .. }) => {
                    assert_eq!((&*path, source.kind()), ("big", ErrorKind::StorageFull));
                }
                other => panic!("{other:?}"),
            }
        },
    );
}

#[test]
fn links_that_a_job_left_lead_the_daemon_nowhere() {
    everywhere(
        "files::links_that_a_job_left_lead_the_daemon_nowhere",
        async |bench| {
            let workspace = bench.workspace();
            let script = "ln -s /tmp up; ln -s ../tmp/x out; ln -s . here; mkdir d; echo x > d/f; ln d/f hard";
            let live = bench.launch(shell(script), &workspace).await.unwrap();
            assert_eq!(live.finish().await.unwrap().err, "");
            for through in ["up/f", "here/f"] {
                let error = workspace.write(&path(through), 0o644, b"x");
                assert!(
                    matches!(error, Err(SandboxError::Workspace { .. })),
                    "{through}: {error:?}"
                );
            }
            // In the place of the link, not where it leads.
            workspace.write(&path("out"), 0o644, b"new").unwrap();
            let files = workspace.collect(&|_| true, Bytes::mib(1)).unwrap();
            let names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
            assert_eq!(names, ["d/f", "hard", "out"]);
        },
    );
}

#[test]
fn pipes_sparse_giants_and_closed_folders_do_not_hold_up_the_daemon() {
    let name = "files::pipes_sparse_giants_and_closed_folders_do_not_hold_up_the_daemon";
    everywhere(name, async |bench| {
        let workspace = bench.workspace();
        let mut spec = shell(
            "mkfifo pipe; dd if=/dev/zero of=giant bs=1 count=1 seek=1000G status=none
             mkdir shut; echo x > shut/f; chmod 0 shut",
        );
        spec.rlimits.file_size = u64::MAX >> 1;
        let outcome = bench
            .launch(spec, &workspace)
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
        assert_eq!(outcome.err, "");
        let all = workspace.collect(&|_| true, Bytes::mib(1));
        assert!(
            matches!(all, Err(SandboxError::TooMuch { what: "bytes", .. })),
            "{all:?}"
        );
        let small = workspace
            .collect(&|path| path.as_str() != "giant", Bytes::mib(1))
            .unwrap();
        assert_eq!(small.len(), 1);
        assert_eq!(small[0].path.as_str(), "shut/f");
    });
}

#[test]
fn a_tree_of_20_000_levels_is_neither_walked_nor_in_the_way() {
    let name = "files::a_tree_of_20_000_levels_is_neither_walked_nor_in_the_way";
    everywhere(name, async |bench| {
        let workspace = Workspace::new(Bytes::mib(128), Slot(1), bench.ids).unwrap();
        // A path has room for 2000 of them: the tree grows at its root.
        let script = "p=$(printf 'd/%.0s' {1..2000}); mkdir t
                      for i in {1..10}; do mkdir -p n/$p && mv t n/$p && mv n t || exit; done";
        let live = bench.launch(shell(script), &workspace).await.unwrap();
        let outcome = live.finish().await.unwrap();
        assert_eq!(outcome.err, "");
        let all = workspace.collect(&|_| true, Bytes::mib(1));
        assert!(
            matches!(
                all,
                Err(SandboxError::TooMuch {
                    what: "levels of folders",
                    ..
                })
            ),
            "{all:?}"
        );
        drop(workspace);
    });
}

#[test]
fn a_workspace_serves_one_stage() {
    everywhere("files::a_workspace_serves_one_stage", async |bench| {
        let workspace = bench.workspace();
        let live = bench.launch(shell("true"), &workspace).await.unwrap();
        live.finish().await.unwrap();
        match bench.launch(shell("true"), &workspace).await {
            Err(SandboxError::Step { step, .. }) => assert_eq!(step, "mount the workspace"),
            other => panic!("{:?}", other.map(|live| live.running)),
        }
    });
}
