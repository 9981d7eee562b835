//! The mount point: what is there already, whether it is ours to replace, and its end.
//!
//! Looking at a path where a FUSE filesystem is mounted means asking that filesystem's server,
//! which may be dead (ENOTCONN) or stuck (no answer). So looking is done by a thread of its own,
//! with a time limit, and what is mounted is read from `/proc/self/mountinfo`, which asks nobody.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::{MountError, mount_error};

/// How long a server that is mounted there already may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Dead mounts on top of each other that are cleared away.
const DEAD_MOUNTS: usize = 16;

/// Makes a path fit to be mounted on and gives its absolute name: creates the directory, detaches
/// what dead servers left there, and refuses to cover a live one.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, MountError> {
    let fail = |reason: String| mount_error(path, reason);
    for _ in 0..DEAD_MOUNTS {
        let seen = look(path).ok_or_else(|| {
            fail(format!(
                "the filesystem that is mounted there does not answer; end its server, then \
                 `umount -l {}`",
                path.display()
            ))
        })?;
        match seen {
            Ok(Seen::Directory(path)) => return Ok(path),
            Ok(Seen::LiveServer) => {
                let remedy = "another server is mounted there and alive; stop it first";
                return Err(fail(remedy.to_owned()));
            }
            Ok(Seen::Other) => return Err(fail("it is not a directory".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path)
                    .map_err(|error| fail(format!("cannot create the directory: {error}")))?;
            }
            Err(error) if is_dead(&error) => {
                umount2(path, MntFlags::MNT_DETACH).map_err(|errno| {
                    fail(format!(
                        "a dead server's mount is in the way and can't be detached ({}); \
                         `umount -l {}` as root, or `fusermount3 -uz` as the user who mounted it",
                        errno.desc(),
                        path.display()
                    ))
                })?;
                tracing::info!(path = %path.display(), "detached the mount of a dead server");
            }
            Err(error) => return Err(fail(format!("cannot look at the directory: {error}"))),
        }
    }
    Err(fail("too many dead mounts on top of each other".to_owned()))
}

/// What a path is.
#[derive(Debug)]
enum Seen {
    /// A directory, by its absolute name.
    Directory(PathBuf),
    /// The root of another FUSE filesystem.
    LiveServer,
    /// Something else.
    Other,
}

/// Looks at a path; none when that takes too long.
fn look(path: &Path) -> Option<io::Result<Seen>> {
    let path = path.to_owned();
    let (answer, answered) = mpsc::channel();
    let look = move || {
        // Nobody waits for an answer that comes too late.
        answer.send(look_now(&path)).unwrap_or_default();
    };
    let thread = thread::Builder::new().name("fs-look".to_owned());
    match thread.spawn(look) {
        Ok(_) => answered.recv_timeout(ANSWER).ok(),
        Err(error) => Some(Err(error)),
    }
}

fn look_now(path: &Path) -> io::Result<Seen> {
    // Attributes may be cached by the kernel after the server's death, statfs is never.
    let kind = statfs(path)?.filesystem_type();
    let path = fs::canonicalize(path)?;
    Ok(if !fs::metadata(&path)?.is_dir() {
        Seen::Other
    } else if kind == FUSE_SUPER_MAGIC && topmost(&path).is_some() {
        Seen::LiveServer
    } else {
        Seen::Directory(path)
    })
}

fn is_dead(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOTCONN | Errno::ECONNABORTED))
}

/// A mount that we made, told from whatever is mounted at its path later.
#[derive(Debug)]
pub(super) struct Mounted {
    path: PathBuf,
    id: Option<u64>,
    /// What the kernel calls its connection.
    device: Option<u64>,
}

impl Mounted {
    /// The mount that was just made at a path.
    pub(super) fn find(path: &Path) -> Self {
        let line = topmost(path);
        Self {
            path: path.to_owned(),
            id: line.as_ref().map(|line| line.id),
            device: line.map(|line| line.device),
        }
    }

    /// Breaks the connection to its server off, which ends the mount for whoever waits in it, also
    /// where [`Mounted::unmount`] may not force it. The last resort.
    pub(super) fn abort(&self) {
        if let Some(device) = self.device {
            let control = format!("/sys/fs/fuse/connections/{device}/abort");
            match fs::write(&control, "1") {
                Ok(()) => return,
                Err(error) => tracing::warn!(control, %error, "cannot abort the connection"),
            }
        }
        self.unmount();
    }

    /// Ends it, whoever uses it, unless it is gone already. Its requests under way fail.
    pub(super) fn unmount(&self) {
        if self.id != topmost(&self.path).map(|line| line.id) {
            return;
        }
        // FORCE ends the connection, so that the workers end even when somebody keeps a file
        // open; not permitted in every user namespace.
        let forced = umount2(&self.path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
        let ended = forced.or_else(|_| umount2(&self.path, MntFlags::MNT_DETACH));
        if let Err(errno) = ended {
            tracing::warn!(path = %self.path.display(), error = errno.desc(), "cannot unmount");
        }
    }
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Number of the mount.
    id: u64,
    /// Minor number of its device.
    device: u64,
    at: PathBuf,
}

/// The mount that is seen at a path, if its root is there.
fn topmost(path: &Path) -> Option<Line> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    let mut mounts = table.split(|byte| *byte == b'\n').filter_map(parse_mount);
    mounts.rfind(|line| line.at == path)
}

fn parse_mount(line: &[u8]) -> Option<Line> {
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let device = fields.nth(1)?.rsplit(|byte| *byte == b':').next()?;
    let at = unescape(fields.nth(1)?);
    Some(Line {
        id,
        device: number(device)?,
        at: PathBuf::from(std::ffi::OsString::from_vec(at)),
    })
}

/// Undoes the kernel's `\040` for blanks and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn mountinfo_lines_give_number_device_and_mount_point() {
        let line = b"36 35 98:0 /mnt1 /mnt/with\\040blank rw,noatime - ext3 /dev/root rw";
        let line = parse_mount(line).unwrap();
        assert_eq!((line.id, line.device), (36, 0));
        assert_eq!(line.at.as_os_str().as_bytes(), b"/mnt/with blank");
        assert_eq!(parse_mount(b""), None);
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        for (field, plain) in [
            (r"a\040b", "a b"),
            (r"a\134b", r"a\b"),
            (r"a\9", r"a\9"),
            (r"a\", r"a\"),
        ] {
            assert_eq!(unescape(field.as_bytes()), plain.as_bytes());
        }
    }
}
