//! What the tests share: a mount in a scratch directory, images made by mksquashfs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use piston_fs::image::Image;
use piston_fs::image::verify::{Bounds, verify};
use piston_fs::layer::memory::MemoryTree;
use piston_fs::layer::{Layer, Placed};
use piston_fs::mount::{DEADLINE, MountOptions, Server};

/// Fails with the reason when this machine can't mount.
pub(crate) fn require_fuse() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test mounts filesystems: run it as root"
    );
    let mut options = fs::OpenOptions::new();
    if let Err(error) = options.read(true).write(true).open("/dev/fuse") {
        panic!("this test needs /dev/fuse: {error}");
    }
}

/// Whether the test is root of the whole machine, who owns other users' files and makes devices;
/// false where `PISTON_TEST_ALLOW_SKIP` names `root`, as contrib/test.sh does for other users.
#[must_use]
pub(crate) fn machine_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("proc");
    if map.split_whitespace().eq(["0", "0", "4294967295"]) && nix::unistd::geteuid().is_root() {
        return true;
    }
    let allowed = std::env::var("PISTON_TEST_ALLOW_SKIP").unwrap_or_default();
    assert!(
        allowed.split(',').any(|word| word == "root"),
        "this test needs root, or PISTON_TEST_ALLOW_SKIP=root"
    );
    #[expect(clippy::print_stdout, reason = "a skip must be seen")]
    let () = println!("skipped: needs root");
    false
}

/// A directory that other users may search, and that goes away with the test.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file with its parents.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("directories");
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// Packs the directory `tree` with mksquashfs.
    pub(crate) fn squash(&self, tree: impl AsRef<Path>, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        let mut command = Command::new("mksquashfs");
        command.arg(tree.as_ref()).arg(&image);
        command.args(["-noappend", "-no-progress", "-comp", "zstd"]);
        run(command.args(options));
        image
    }

    /// Packs the directory `tree` and opens the image.
    pub(crate) fn image(&self, tree: impl AsRef<Path>, options: &[&str]) -> Arc<Image> {
        let number = fs::read_dir(self.dir.path()).expect("it is there").count();
        let path = self.squash(tree, &format!("{number}.squashfs"), options);
        open(&path)
    }
}

/// Verifies and opens an image.
pub(crate) fn open(path: &Path) -> Arc<Image> {
    let index = path.with_extension("index");
    verify(path, &index, &Bounds::default()).expect("a sound image");
    Arc::new(Image::open(path, &index).expect("an index that loads"))
}

/// A mount of its own.
pub(crate) struct Mount {
    pub(crate) server: Server,
    pub(crate) scratch: Scratch,
}

impl Mount {
    pub(crate) fn new() -> Self {
        require_fuse();
        let scratch = Scratch::new();
        let server = mount(&scratch.path("mount")).expect("a mount");
        Self { server, scratch }
    }

    /// A path in the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.server.path().join(name)
    }

    pub(crate) fn publish(&self, path: &str, layers: &[Placed]) {
        self.server.publish(path, layers).expect("a publication");
    }
}

pub(crate) fn mount(path: &Path) -> Result<Server, piston_fs::mount::MountError> {
    Server::mount(&MountOptions {
        path: path.to_owned(),
        threads: 3,
        cache_bytes: 8 << 20,
        deadline: DEADLINE,
    })
}

/// Something that the kernel mounted without us, until it is dropped.
pub(crate) struct KernelMount(PathBuf);

impl KernelMount {
    /// An image, by the kernel's own squashfs.
    pub(crate) fn new(image: &Path, at: PathBuf) -> Self {
        let mut command = Command::new("mount");
        command.args(["-t", "squashfs", "-o", "loop,ro"]).arg(image);
        Self::mounted(&mut command, at)
    }

    /// Some of them, the lowest first, merged by overlayfs.
    pub(crate) fn overlay(layers: &[Self], at: PathBuf) -> Self {
        let lower = layers
            .iter()
            .rev()
            .map(|layer| layer.0.display().to_string());
        let option = format!("lowerdir={}", lower.collect::<Vec<_>>().join(":"));
        let mut command = Command::new("mount");
        command.args(["-t", "overlay", "overlay", "-o", &option]);
        Self::mounted(&mut command, at)
    }

    fn mounted(command: &mut Command, at: PathBuf) -> Self {
        fs::create_dir(&at).expect("a directory");
        let output = command.arg(&at).output().expect("mount runs");
        assert!(
            output.status.success(),
            "this test needs the kernel's squashfs, overlayfs and loop devices: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(at)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

/// A tree in memory with these files, placed at the root.
pub(crate) fn files(files: &[(&str, &str)]) -> Placed {
    let mut tree = MemoryTree::default();
    for (name, bytes) in files {
        tree.file(name, 0o644, (*bytes).into());
    }
    whole(Layer::Memory(Arc::new(tree)))
}

/// A layer placed at the root.
pub(crate) fn whole(layer: Layer) -> Placed {
    Placed {
        layer,
        at: "/".to_owned(),
    }
}

/// An image placed at the root.
pub(crate) fn image(image: &Arc<Image>) -> Placed {
    whole(Layer::Image(Arc::clone(image)))
}

/// Names in a directory, sorted.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("a name in UTF-8")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// The errno that something fails with.
pub(crate) fn errno<T>(result: std::io::Result<T>) -> nix::errno::Errno {
    let error = result.map(drop).expect_err("it fails");
    nix::errno::Errno::from_raw(error.raw_os_error().expect("a system call failed"))
}

/// Runs a command that succeeds.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a line of shell that succeeds, and gives what it prints.
pub(crate) fn shell(line: &str) -> String {
    let output = run(Command::new("sh").args(["-euc", line]));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Whether something is mounted at a path.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let path = path.to_str().expect("UTF-8");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

/// Bytes that don't compress away, other ones for every seed.
pub(crate) fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let [.., top] = state.to_le_bytes();
        top
    };
    std::iter::repeat_with(&mut byte).take(length).collect()
}
