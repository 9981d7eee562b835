//! The few system calls without a safe wrapper elsewhere, each behind a safe function.
//!
//! This is the only file of the sandbox with unsafe code. What makes forking unsafe in general
//! (other threads holding locks) is ruled out by a type: [`OneThread`] exists only where the
//! process was seen to have a single thread, cannot leave that thread, and is asked for by every
//! function here that creates a process.
#![expect(
    unsafe_code,
    reason = "fork, clone, mount_setattr, seccomp, kcmp, signal dispositions and _exit have no safe wrapper"
)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::mount::MountAttrFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::seccomp::Filter;

/// Proof that this process has exactly one thread.
///
/// Invariant: only the launcher, init and what becomes the program hold one, and none of them
/// starts threads.
#[derive(Debug)]
pub(super) struct OneThread {
    /// Neither `Send` nor `Sync`: the proof stays with the thread that it is about.
    _not_send: PhantomData<*const ()>,
}

impl OneThread {
    /// Counts the threads of this process.
    pub(super) fn check() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self {
                _not_send: PhantomData,
            })
        } else {
            Err(io::Error::other(format!(
                "{threads} threads where there has to be one"
            )))
        }
    }
}

/// The two sides of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forked {
    /// In the process that asked; the pid of the other.
    Parent(i32),
    /// In the new process.
    Child,
}

/// Forks.
pub(super) fn fork(_thread: &OneThread) -> io::Result<Forked> {
    // SAFETY: the child of a multi-threaded process may only call async-signal-safe functions;
    // `OneThread` shows that this process has no other thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// Forks into a new PID namespace, whose PID 1 the child is.
///
/// The plain system call: `unshare` refuses a second PID namespace, and `clone3` is refused by
/// the seccomp filters of many container engines.
pub(super) fn fork_into_pid_namespace(_thread: &OneThread) -> io::Result<Forked> {
    let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM and with no stack given this is a fork, and `OneThread` shows that
    // no other thread exists. What the C library's fork would do besides (atfork handlers, cached
    // thread id) concerns threads; the child creates none.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => Ok(Forked::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks into the control group (version 2) whose directory is `group`: the child is never
/// anywhere else.
pub(super) fn fork_into_group(_thread: &OneThread, group: impl AsFd) -> io::Result<Forked> {
    // The first version of the structure with a place for the group: what is known of all kernels
    // that have the flag.
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::try_from(libc::SIGCHLD).map_err(io::Error::other)?,
        cgroup: u64::try_from(group.as_fd().as_raw_fd()).map_err(io::Error::other)?,
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM and with no stack given this is a fork, and `OneThread` shows that
    // no other thread exists. `arguments` has the size that is passed and outlives the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => Ok(Forked::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kernel's `struct clone_args`, as of Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Of `clone3` alone, which takes 64 bits of flags.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Ends this process at once: no destructors, no exit handlers of the process it was forked from.
pub(super) fn leave(code: u8) -> ! {
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Adds attributes (read-only, no set-id, ...) to the mount that `mount` is on, and with
/// `recursive` to all below it. Attributes that are already there stay, so that this works on
/// mounts whose attributes are locked.
pub(super) fn add_mount_attributes(
    mount: impl AsFd,
    attributes: MountAttrFlags,
    recursive: Recursive,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH
        | match recursive {
            Recursive::No => 0,
            Recursive::Yes => libc::AT_RECURSIVE,
        };
    // SAFETY: the path is a NUL-terminated constant, `attr` is a mount_attr of the size that is
    // passed, and both outlive the call; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether a mount operation covers the mounts below as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recursive {
    /// This mount alone.
    No,
    /// Everything below it too.
    Yes,
}

/// Puts this process and all it becomes under `filter`. `no_new_privs` has to be set.
pub(super) fn install_filter(filter: &Filter) -> io::Result<()> {
    let instructions = filter.instructions();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(io::Error::other)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    let mode = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    let flags: libc::c_ulong = 0;
    // SAFETY: `program` points to `len` instructions that `filter` keeps alive during the call;
    // the kernel copies them and never writes through the pointer.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a process does on a signal, as far as the sandbox cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// The kernel's default.
    Default,
    /// Nothing.
    Ignore,
}

/// Sets the disposition of every signal of `signals` that can have one.
///
/// The plain system call: the C library refuses its own signals (32 and 33), which a parent that
/// ignores everything leaves ignored, and that would break threads in programs.
pub(super) fn set_dispositions(signals: impl IntoIterator<Item = i32>, disposition: Disposition) {
    let handler: libc::c_ulong = match disposition {
        Disposition::Default => 0, // SIG_DFL
        Disposition::Ignore => 1,  // SIG_IGN
    };
    // The kernel's `struct sigaction`: handler, flags, restorer, mask.
    let action: [libc::c_ulong; 4] = [handler, 0, 0, 0];
    let mask_size = size_of::<libc::c_ulong>();
    let no_old = std::ptr::null_mut::<libc::c_void>();
    for signal in signals {
        // SAFETY: `action` is as long as the kernel's structure and outlives the call; neither
        // disposition runs code of ours, so there is no handler that could be unsound. The result
        // is not needed: KILL and STOP have no disposition and answer EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                no_old,
                mask_size,
            )
        };
    }
}

/// Lets exec close every descriptor from `first` on, whoever opened it.
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: with this flag no descriptor is closed now, so nobody's ownership of one is broken.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether two processes have one address space. False where the kernel does not tell.
pub(super) fn share_memory(one: i32, other: i32) -> bool {
    const KCMP_VM: libc::c_int = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: kcmp takes numbers only and changes nothing.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, none, none) == 0 }
}

/// Registers a descriptor with the runtime. Nobody may take it out of the `AsyncFd` by swapping.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor has to stay the same and open for as long as it is registered; an
    // `OwnedFd` never changes its number by itself and closes it only when dropped, which
    // `AsyncFd` does after deregistering.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
