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

/// Room for the calls of a process that borrows this one's memory, above pages that nobody can
/// touch.
#[derive(Debug)]
pub(super) struct Stack {
    lowest: *mut libc::c_void,
}

impl Stack {
    /// Bytes that nobody can touch; a multiple of every page size.
    const GUARD: usize = 64 << 10;

    /// Bytes of it all.
    const LENGTH: usize = Self::GUARD + (512 << 10);

    /// Makes one. What is never touched of it costs nothing.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let lowest = unsafe { libc::mmap(anywhere, Self::LENGTH, libc::PROT_NONE, flags, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest };
        let above = stack.above(Self::GUARD);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the pages are those of the mapping made above, which nobody uses yet.
        match unsafe { libc::mprotect(above, Self::LENGTH - Self::GUARD, access) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn above(&self, bytes: usize) -> *mut libc::c_void {
        self.lowest.wrapping_byte_add(bytes)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and whoever ran on it borrowed the value.
        unsafe { libc::munmap(self.lowest, Self::LENGTH) };
    }
}

/// What a process that borrows this one's memory does; what it returns is its exit code, should it
/// come to an end without having executed a program.
pub(super) type Borrower<'a> = dyn FnMut() -> u8 + 'a;

/// Runs `child` in a new process that borrows this one's memory; returns its pid when it has
/// executed a program or ended. This process stands still until then, so for both it is as if the
/// call were an ordinary one, but for what the kernel keeps of a process: descriptors, identity,
/// namespaces, limits, signals. Nothing of the memory is copied, which is most of what a fork costs.
pub(super) fn start(
    _thread: &OneThread,
    stack: &Stack,
    mut child: &mut Borrower<'_>,
) -> io::Result<i32> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.above(Stack::LENGTH);
    let argument = (&raw mut child).cast();
    // SAFETY: `top` is the end of a mapping that `stack` keeps and on which nothing runs yet: this
    // process, which has no other thread, stands still (CLONE_VFORK) until the new one has given
    // the memory back. `argument` is what `borrow` takes and outlives that.
    let pid = unsafe { libc::clone(borrow, top, flags, argument) };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid)
    }
}

/// The same for a process that is born in the control group (version 2) whose directory is `group`:
/// it is never anywhere else.
#[cfg(target_arch = "x86_64")]
pub(super) fn start_in_group(
    _thread: &OneThread,
    stack: &Stack,
    group: impl AsFd,
    mut child: &mut Borrower<'_>,
) -> io::Result<i32> {
    let number = |value: i32| u64::try_from(value).map_err(io::Error::other);
    // The first version of the structure with a place for the group: what is known of all kernels
    // that have the flag.
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | number(libc::CLONE_VM | libc::CLONE_VFORK)?,
        exit_signal: number(libc::SIGCHLD)?,
        cgroup: number(group.as_fd().as_raw_fd())?,
        stack: u64::try_from(stack.above(Stack::GUARD).addr()).map_err(io::Error::other)?,
        stack_size: u64::try_from(Stack::LENGTH - Stack::GUARD).map_err(io::Error::other)?,
        ..CloneArguments::default()
    };
    let argument: *mut libc::c_void = (&raw mut child).cast();
    let pid: i64;
    // SAFETY: as in `start`. The new process goes on behind the system call with an empty stack,
    // calls `borrow`, which never returns, and so never comes back to code that the compiler knows.
    // This one goes on there with the registers that it had; the kernel changes rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => pid,
            in("rdi") &raw const arguments,
            in("rsi") size_of::<CloneArguments>(),
            in("r12") borrow as extern "C" fn(*mut libc::c_void) -> libc::c_int,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Not on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn start_in_group(
    _thread: &OneThread,
    _stack: &Stack,
    _group: impl AsFd,
    _child: &mut Borrower<'_>,
) -> io::Result<i32> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Where a process begins that borrows memory: `child` points to a `&mut Borrower`.
extern "C" fn borrow(child: *mut libc::c_void) -> libc::c_int {
    let child = child.cast::<&mut Borrower<'_>>();
    // SAFETY: both callers pass a pointer to such a reference, of their own, and do nothing
    // until this process has executed a program or ended.
    let child = unsafe { &mut *child };
    // A panic must not unwind beyond this stack.
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
    leave(code.unwrap_or(127))
}

/// The kernel's `struct clone_args`, as of Linux 5.7.
#[cfg(target_arch = "x86_64")]
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
#[cfg(target_arch = "x86_64")]
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
