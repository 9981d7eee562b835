//! The writable space of one stage, and how the daemon fills and reads it.
//!
//! A workspace is a tmpfs of its own with the directories `job`, `tmp` and `shm`: one
//! superblock, so one bound on bytes and on names for all three. The daemon makes it, detached
//! from every mount namespace, keeps a descriptor of it, and hands the mount to the sandbox. When
//! the last descriptor is closed it is gone as a whole, whatever a job has built in it.
//!
//! Invariant: the daemon reaches files only beneath the job directory, without following any
//! link, and opens nothing that could block.

mod collect;
mod path;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use piston_client::units::Bytes;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::mount::MountAttrFlags;

pub use self::path::{InvalidJobPath, JobPath};
use super::error::SandboxError;
use super::mounts::{network_file, new_tmpfs};
use super::network;
use super::spec::Slot;

/// One name is allowed for so many bytes of space.
const BYTES_PER_NAME: u64 = 4096;

/// Names that even the smallest workspace may hold.
const MIN_NAMES: u64 = 1024;

/// A tmpfs without a size is unbounded.
const MIN_SIZE: u64 = 4096;

/// The writable space of one stage: a tmpfs that is not mounted anywhere but in the sandbox.
#[derive(Debug)]
pub struct Workspace {
    /// The mount; once it is in a sandbox, a descriptor of its root all the same.
    mount: OwnedFd,
    /// The job directory.
    job: OwnedFd,
    /// Who owns what the daemon writes, when that isn't the daemon's own user.
    owner: Option<u32>,
}

/// A file taken out of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceFile {
    /// Where it was.
    pub path: JobPath,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Workspace {
    /// An empty workspace bounded by `size` bytes, owned by the slot's user.
    pub fn new(size: Bytes, slot: Slot, ids: Option<u32>) -> Result<Self, SandboxError> {
        const STEP: &str = "make the workspace";
        let owner = match ids {
            None => None,
            Some(first) => Some(first.checked_add(slot.0).ok_or_else(|| {
                SandboxError::step(STEP, io::Error::other("the slot has no host id"))
            })?),
        };
        Self::mount_new(size, owner).map_err(|error| SandboxError::step(STEP, error))
    }

    fn mount_new(size: Bytes, owner: Option<u32>) -> io::Result<Self> {
        let size = size.0.max(MIN_SIZE);
        let names = (size / BYTES_PER_NAME).max(MIN_NAMES);
        let options = [
            ("size", &*size.to_string()),
            ("nr_inodes", &*names.to_string()),
            ("mode", "0755"),
        ];
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = new_tmpfs(&options, attributes)?;
        for (name, mode) in [("job", 0o755), ("tmp", 0o1777), ("shm", 0o1777)] {
            rustix::fs::mkdirat(&mount, name, Mode::empty())?;
            // The mode of mkdir is subject to the umask.
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(&mount, name, mode, AtFlags::empty())?;
        }
        let job = open_directory(mount.as_fd(), "job")?;
        let workspace = Self { mount, job, owner };
        workspace.give_to_owner(&workspace.job)?;
        Ok(workspace)
    }

    /// The mount, for the sandbox.
    pub(super) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Writes a file with its folders (openat2 beneath the job directory, no symlinks), in the
    /// place of a file that is there.
    pub fn write(&self, path: &JobPath, mode: u32, bytes: &[u8]) -> Result<(), SandboxError> {
        self.write_file(path, mode, bytes)
            .map_err(|source| SandboxError::Workspace {
                action: "write",
                path: path.to_string(),
                source,
            })
    }

    fn write_file(&self, path: &JobPath, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let folder = self.make_folders(path)?;
        let directory = folder.as_ref().map_or(self.job.as_fd(), OwnedFd::as_fd);
        // O_EXCL after an unlink: what is opened is always a new file.
        match rustix::fs::unlinkat(directory, path.file_name(), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let owner_only = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat2(directory, path.file_name(), flags, owner_only, BENEATH)?;
        self.give_to_owner(&file)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        io::Write::write_all(&mut std::fs::File::from(file), bytes)
    }

    /// Opens the folder of `path`, making what is missing; none when it is the job directory.
    fn make_folders(&self, path: &JobPath) -> io::Result<Option<OwnedFd>> {
        let mut folder: Option<OwnedFd> = None;
        for name in path.folders() {
            let parent = folder.as_ref().map_or(self.job.as_fd(), OwnedFd::as_fd);
            let next = match open_directory(parent, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
                    let made = open_directory(parent, name)?;
                    // The mode of mkdir is subject to the umask.
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                    self.give_to_owner(&made)?;
                    made
                }
                result => result?,
            };
            folder = Some(next);
        }
        Ok(folder)
    }

    /// Puts the host's files by which programs find names in its network beside the job directory,
    /// as they are now; one that the host lacks is empty.
    pub fn add_network_files(&self) -> Result<(), SandboxError> {
        let add = |(index, file)| {
            let name = network_file(index);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&self.mount, name, flags, Mode::from_raw_mode(0o644))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o644))?;
            let bytes = match std::fs::read(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                bytes => bytes?,
            };
            io::Write::write_all(&mut std::fs::File::from(made), &bytes)
        };
        let added: io::Result<()> = network::FILES.into_iter().enumerate().try_for_each(add);
        added.map_err(|error| SandboxError::step("copy the network's files", error))
    }

    /// Regular files of the job directory that `wanted` accepts, in path order; fails when they
    /// hold more than `bound` bytes together, or when there are more names or levels than any
    /// honest job leaves. Links, sockets and pipes are not files, and names that no [`JobPath`]
    /// can be are passed over.
    pub fn collect(
        &self,
        wanted: &dyn Fn(&JobPath) -> bool,
        bound: Bytes,
    ) -> Result<Vec<WorkspaceFile>, SandboxError> {
        collect::collect(self.job.as_fd(), wanted, bound)
    }

    fn give_to_owner(&self, file: &OwnedFd) -> io::Result<()> {
        if let Some(id) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?;
        }
        Ok(())
    }
}

/// How every path is resolved.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens a directory for reading.
fn open_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        parent,
        name,
        flags,
        Mode::empty(),
        BENEATH,
    )?)
}
