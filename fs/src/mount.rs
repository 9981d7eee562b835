//! A mounted filesystem and what is published in it.
//!
//! Owns the life of a mount: `mount/point.rs` prepares the mount point and deals with what an
//! earlier server left there, the workers are fuser's, and dropping a [`Server`] ends both.
//!
//! Invariants: the kernel is told of a publication after it is visible to the workers, by a thread
//! that holds nothing a worker needs. Nothing here does a file operation below the mount point.
//! The watchdog never waits for a disk.
//!
//! The threads of a mount: fuser's workers, which read requests; one that waits for them
//! (`fs-workers`); some that work ahead (`fs-ahead`); the watchdog (`fs-watchdog`) and the one that
//! writes hot lists (`fs-hot`), `mount/helpers.rs`; `fs-spare` for workers that hang.

mod ended;
mod helpers;
mod point;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL, SessionUnmounter};
use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::fuse::Fuse;
use crate::layer::Placed;
pub use crate::stats::Stats;
use crate::vfs::{Change, PublishError, Vfs, ViewPath};
use ended::{Ended, EndedOnDrop};
use helpers::Service;

/// The device that all FUSE filesystems are served through.
const DEVICE: &str = "/dev/fuse";

/// How long a dropped server waits for its workers. They end at once, unless somebody outside of
/// our reach keeps the filesystem busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Directory to mount on; created when missing. A stale mount of a dead server is detached.
    pub path: PathBuf,
    /// Threads that read requests, at least three: one reads on whatever the others do, and of
    /// those no requester has all.
    pub threads: usize,
    /// Bound of the block cache in bytes.
    pub cache_bytes: usize,
    /// How long a request may take; what takes longer fails with an input/output error. See
    /// [`DEADLINE`].
    pub deadline: Duration,
}

/// A good deadline: a process that waits for us can't be killed meanwhile, and no disk that works
/// needs so long.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why mounting or publishing fails.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount itself.
    #[error("cannot mount on {path}: {reason}")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why, with the remedy.
        reason: String,
    },
    /// A path is taken, missing or malformed.
    #[error("cannot publish {path}: {reason}")]
    Publish {
        /// Path in the mount.
        path: String,
        /// Why.
        reason: String,
    },
    /// A path that is to be unpublished is missing or malformed.
    #[error("cannot unpublish {path}: {reason}")]
    Unpublish {
        /// Path in the mount.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Ends a mount.
#[derive(Debug)]
enum Unmounter {
    /// We mounted with mount(2) and unmount with umount2(2).
    Direct(point::Mounted),
    /// The set-user-id helper mounted, and is asked to unmount.
    Helper(Mutex<SessionUnmounter>),
}

/// A filesystem that is mounted and served by threads of this process; dropping it unmounts.
///
/// All methods may be called from any thread. They never touch the mount itself, so a caller
/// can't deadlock on its own server.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    vfs: Arc<Vfs>,
    notifier: Notifier,
    unmounter: Unmounter,
    ended: Arc<Ended>,
    /// The order in which the kernel is told is the order in which things were published.
    publishing: Mutex<()>,
}

impl Server {
    /// Mounts with mount(2) (needs `CAP_SYS_ADMIN` in the current user namespace) and serves.
    pub fn mount(options: &MountOptions) -> Result<Self, MountError> {
        let path = point::prepare(&options.path)?;
        let device = open_device(&path)?;
        let service = Service::new(options);
        mount_device(&path, &device)?;
        let mounted = point::Mounted::find(&path);
        let config = config(&service, SessionACL::All);
        let fuse = Fuse::new(Arc::clone(&service.desk));
        let session = Session::from_fd(fuse, OwnedFd::from(device), SessionACL::All, config)
            .map_err(|error| {
                mounted.unmount();
                mount_error(&path, format!("the kernel broke off: {error}"))
            })?;
        Self::serve(path, service, session, Unmounter::Direct(mounted))
    }

    /// Mounts with the set-user-id helper `fusermount3`, as an ordinary user. Only that user can
    /// see into the mount, and no user namespace of his; so it is no base for jobs.
    pub fn mount_as_user(options: &MountOptions) -> Result<Self, MountError> {
        let path = point::prepare(&options.path)?;
        let service = Service::new(options);
        let mut config = config(&service, SessionACL::Owner);
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::DefaultPermissions,
            MountOption::FSName("piston".to_owned()),
            MountOption::Subtype("piston".to_owned()),
        ];
        let fuse = Fuse::new(Arc::clone(&service.desk));
        let mut session = Session::new(fuse, &path, &config).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no fusermount3 program; install the package `fuse3`".to_owned()
                }
                _ => format!("fusermount3 refused: {}", error.to_string().trim_end()),
            };
            mount_error(&path, reason)
        })?;
        let unmounter = Unmounter::Helper(Mutex::new(session.unmount_callable()));
        Self::serve(path, service, session, unmounter)
    }

    fn serve(
        path: PathBuf,
        service: Service,
        session: Session<Fuse>,
        unmounter: Unmounter,
    ) -> Result<Self, MountError> {
        let ended = Arc::new(Ended::default());
        // When a thread can't be had, dropping `server` unmounts.
        let server = Self {
            path,
            vfs: Arc::clone(&service.vfs),
            notifier: session.notifier(),
            unmounter,
            ended: Arc::clone(&ended),
            publishing: Mutex::new(()),
        };
        let on_end = EndedOnDrop(Arc::clone(&ended));
        let work = move || {
            let _on_end = on_end;
            if let Err(error) = session.run() {
                tracing::error!(%error, "the filesystem's workers ended");
            }
        };
        let mounted = point::Mounted::find(&server.path);
        spawn("fs-workers", work)
            .and_then(|()| helpers::start(service, &ended, mounted))
            .map_err(|error| {
                mount_error(&server.path, format!("cannot start a thread: {error}"))
            })?;
        Ok(server)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the merged tree of `layers` (lowest first) visible at `path`, e.g.
    /// `views/python/3.11.2`; parents are made as needed. Returns names of files in which two
    /// layers overlap, at most a hundred.
    pub fn publish(&self, path: &str, layers: &[Placed]) -> Result<Vec<String>, MountError> {
        let parsed = ViewPath::parse(path).map_err(|error| publish_error(path, &error.into()))?;
        self.publish_at(&parsed, layers)
    }

    /// Makes the merged tree of `layers` (lowest first) the root of the mount, which must be empty.
    pub fn publish_root(&self, layers: &[Placed]) -> Result<Vec<String>, MountError> {
        self.publish_at(&ViewPath::root(), layers)
    }

    fn publish_at(&self, path: &ViewPath, layers: &[Placed]) -> Result<Vec<String>, MountError> {
        let _order = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let published = self.vfs.publish(path, layers);
        let (change, overlaps) =
            published.map_err(|error| publish_error(&path.to_string(), &error))?;
        self.tell(&change);
        Ok(overlaps)
    }

    /// Makes `path` invisible. The caller sees to it that no job uses it any more: the kernel
    /// detaches every mount below it, in all namespaces.
    pub fn unpublish(&self, path: &str) -> Result<(), MountError> {
        let _order = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let parsed = ViewPath::parse(path).map_err(PublishError::from);
        let change = parsed.and_then(|parsed| self.vfs.unpublish(&parsed));
        let change = change.map_err(|error| MountError::Unpublish {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        self.tell(&change);
        Ok(())
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.vfs.stats()
    }

    /// Blocks until the filesystem is unmounted, by whomever.
    pub fn wait(&self) {
        self.ended.wait();
    }

    /// Unmounts and waits for the workers to end, but not for ever when somebody outside of our
    /// reach keeps the filesystem busy. Dropping does the same.
    pub fn unmount(&self) {
        match &self.unmounter {
            Unmounter::Direct(mounted) => mounted.unmount(),
            Unmounter::Helper(unmounter) => {
                let mut unmounter = unmounter.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = unmounter.unmount() {
                    tracing::warn!(path = %self.path.display(), %error, "cannot unmount");
                }
            }
        }
        if !self.ended.wait_for(PATIENCE) {
            tracing::warn!(
                path = %self.path.display(),
                "the filesystem is still in use somewhere; its workers end with this process"
            );
        }
        helpers::keep_hot_lists(&self.vfs, Instant::now());
    }

    /// Tells the kernel what it may have cached and is no longer true.
    ///
    /// Names first: the kernel takes the directory's lock for each, so that a listing that was
    /// read before the change has found its way into the cache by then, and is dropped with the
    /// directory's pages after.
    fn tell(&self, change: &Change) {
        let parent = INodeNo(change.parent.0);
        for name in &change.names {
            let told = self.notifier.inval_entry(parent, OsStr::from_bytes(name));
            self.note_untold(told);
        }
        self.note_untold(self.notifier.inval_inode(parent, 0, 0));
    }

    /// The kernel refuses when it is no longer mounted; there is nobody to tell then. (ENOENT, for
    /// what was never looked up, is success to fuser.)
    fn note_untold(&self, told: io::Result<()>) {
        if let Err(error) = told {
            tracing::warn!(path = %self.path.display(), %error, "cannot invalidate kernel caches");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended.wait_for(Duration::ZERO) {
            self.unmount();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}

fn config(service: &Service, acl: SessionACL) -> Config {
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(service.crew.readers());
    config.clone_fd = true;
    config
}

fn open_device(path: &Path) -> Result<File, MountError> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    device.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no /dev/fuse; load the kernel module (`modprobe fuse`), or give the \
                 container the device (`--device /dev/fuse`)"
            }
            io::ErrorKind::PermissionDenied => {
                "/dev/fuse may not be opened by this user; `chmod 666 /dev/fuse` allows it, as \
                 distributions do"
            }
            _ if error.raw_os_error().map(Errno::from_raw) == Some(Errno::ENODEV) => {
                "the kernel has no FUSE; load its module (`modprobe fuse`)"
            }
            _ => return mount_error(path, format!("cannot open /dev/fuse: {error}")),
        };
        mount_error(path, reason.to_owned())
    })
}

fn mount_device(path: &Path, device: &File) -> Result<(), MountError> {
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        device.as_raw_fd(),
        nix::unistd::geteuid(),
        nix::unistd::getegid(),
    );
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let kind = Some("fuse.piston");
    let mounted = nix::mount::mount(Some("piston"), path, kind, flags, Some(options.as_str()));
    mounted.map_err(|errno| {
        let reason = match errno {
            Errno::EPERM | Errno::EACCES => format!(
                "mount(2) is not permitted ({}); run as root, or in a user namespace with a mount \
                 namespace of its own (`unshare -Urm`), and allow mount(2) in the container",
                errno.desc()
            ),
            Errno::ENODEV => "the kernel has no FUSE; load its module (`modprobe fuse`)".to_owned(),
            Errno::EINVAL => "mount(2) refused its options; /dev/fuse is perhaps of another user \
                              namespace's making"
                .to_owned(),
            _ => format!("mount(2): {}", errno.desc()),
        };
        mount_error(path, reason)
    })
}

fn mount_error(path: &Path, reason: String) -> MountError {
    MountError::Mount {
        path: path.to_owned(),
        reason,
    }
}

fn publish_error(path: &str, error: &PublishError) -> MountError {
    MountError::Publish {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
