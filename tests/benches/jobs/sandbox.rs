//! The sandbox alone, without the API, as the daemon uses it.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use piston_client::units::Bytes;
use pistond::sandbox::{
    Ended, Grants, Launcher, Rlimits, Slot, Spec, Stdio, TreeLimits, Workspace, rootless,
};

/// A launcher over the folder `native` of a folder, and the runtime that it is used from.
pub(crate) struct Bench {
    runtime: tokio::runtime::Runtime,
    launcher: Launcher,
    ids: Option<u32>,
}

impl Bench {
    /// Starts the launcher.
    pub(crate) fn start(folder: &Path) -> Self {
        let ids = rootless::enter().expect("root").ids();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let program = piston_tests::binary("pistond");
        let launcher = runtime
            .block_on(Launcher::start_program(&program, folder, ids, None))
            .expect("a launcher");
        Self {
            runtime,
            launcher,
            ids,
        }
    }

    /// Runs `bin/hi`.
    pub(crate) fn run(&self) {
        self.runtime.block_on(async {
            let workspace = Workspace::new(Bytes::mib(64), Slot(0), self.ids).expect("space");
            let (stdin, _) = std::io::pipe().expect("pipe");
            let (mut output, stdout) = std::io::pipe().expect("pipe");
            let stdio = Stdio {
                stdin: stdin.into(),
                stderr: stdout.try_clone().expect("pipe").into(),
                stdout: stdout.into(),
            };
            let running = self.launcher.spawn(&spec(), &workspace, stdio).await;
            let running = running.expect("a sandbox");
            let exit = running.wait().await.expect("an end");
            assert_eq!(exit.ended, Ended::Exited(0));
            let mut text = String::new();
            output.read_to_string(&mut text).expect("output");
            assert_eq!(text, "hi\n");
            // As the daemon does: not on the job's time.
            drop(tokio::task::spawn_blocking(move || {
                drop((running, workspace));
            }));
        });
    }
}

fn spec() -> Spec {
    Spec {
        view: "native".to_owned(),
        argv: vec!["/bin/hi".to_owned()],
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        rlimits: Rlimits {
            cpu_seconds: 10,
            data_bytes: 512 << 20,
            processes: 64,
            open_files: 2048,
            file_size: 10 << 20,
        },
        tree: TreeLimits {
            memory: 512 << 20,
            wall: u64::try_from(Duration::from_secs(10).as_nanos()).expect("it fits"),
            cpu: u64::try_from(Duration::from_secs(10).as_nanos()).expect("it fits"),
        },
        slot: 0,
        grants: Grants::default(),
        terminal: None,
    }
}
