//! Which system calls a job may make: the list that [`super`] turns into a filter.
//!
//! The reference is the default profile of Docker (moby/profiles/seccomp) for a container without
//! capabilities. Less than there: inotify, fanotify, dnotify and leases (one inode of a view serves
//! all jobs, who would see each other, and could hold each other up), `io_uring`, `shmget`,
//! `msgget` and `semget` (what they make is memory that no limit counts without a memory cgroup:
//! semaphores alone could take all of the host's), `prlimit` on init, and all socket families but
//! three. More than there: `pidfd_getfd` (`ptrace` and
//! `process_vm` are allowed, and the kernel asks the same question for all three) and the
//! personality without address randomisation (sanitizers and gdb).

use std::collections::{BTreeMap, BTreeSet};

use super::super::spec::Relaxation;

/// What is done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Made.
    Allow,
    /// Known and refused: `EPERM`.
    Refuse,
    /// Newer than this list: `ENOSYS`.
    Unknown,
    /// Another ABI: the process is killed.
    Kill,
    /// Made unless it asks for a namespace.
    Clone,
    /// Made for these families, else `EAFNOSUPPORT`.
    Socket(&'static [u32]),
    /// Made unless its command is one of [`FOREIGN_COMMANDS`].
    Fcntl,
    /// Made unless it is for process [`INIT`].
    NotInit,
    /// Made for those of [`PERSONALITIES`].
    Personality,
}

/// The kernel's number of the architecture (`AUDIT_ARCH_*`: ELF machine, 64 bits, little endian).
#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_003e;
/// The kernel's number of the architecture (`AUDIT_ARCH_*`: ELF machine, 64 bits, little endian).
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_00b7;

/// `CLONE_NEW*`: user, mount, PID, network, IPC, UTS and cgroup.
pub(super) const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// `AF_UNIX`, `AF_INET`, `AF_INET6`; the network namespace has nothing but its own loopback.
const SOCKET_FAMILIES: &[u32] = &[1, 2, 10];

/// The same and `AF_NETLINK`.
const SOCKET_FAMILIES_AND_NETLINK: &[u32] = &[1, 2, 10, 16];

/// Commands of `fcntl` by which a job would learn of other jobs that use the same file of a view,
/// or make them wait: `F_SETLEASE`, `F_NOTIFY`, `F_SETDELEG`.
pub(super) const FOREIGN_COMMANDS: [u32; 3] = [1024, 1026, 1040];

/// The pid of a job's init. Where jobs share the daemon's user the kernel would let them set its
/// limits.
pub(super) const INIT: u32 = 1;

/// Linux, its 32-bit and 64-bit forms, the one without address randomisation, and the question
/// which one it is.
pub(super) const PERSONALITIES: [u32; 6] = [
    0,
    0x0008,
    0x0002_0000,
    0x0002_0008,
    0x0004_0000,
    0xffff_ffff,
];

/// Numbers that are the same everywhere and that the C library's crate has no name for yet.
const NEW: [libc::c_long; 11] = [
    451, // cachestat
    452, // fchmodat2
    453, // map_shadow_stack
    454, // futex_wake
    455, // futex_wait
    456, // futex_requeue
    462, // mseal
    463, // setxattrat
    464, // getxattrat
    465, // listxattrat
    466, // removexattrat
];

/// Calls of every architecture.
const COMMON: [libc::c_long; 240] = [
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_adjtimex,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioctl,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_mremap,
    libc::SYS_msgctl,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pselect6,
    libc::SYS_ptrace,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_remap_file_pages,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What the older architecture has besides.
#[cfg(target_arch = "x86_64")]
const OWN: [libc::c_long; 41] = [
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_ctl_old,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_wait_old,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_get_thread_area,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_set_thread_area,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
    333, // io_pgetevents
];
/// What this architecture has besides.
#[cfg(target_arch = "aarch64")]
const OWN: [libc::c_long; 1] = [
    292, // io_pgetevents
];

/// Calls with a rule of their own.
const SPECIAL: [(libc::c_long, Rule); 7] = [
    (libc::SYS_clone, Rule::Clone),
    // Its flags are in memory, where a filter can't look; the C library falls back to clone.
    (libc::SYS_clone3, Rule::Unknown),
    (libc::SYS_socket, Rule::Socket(SOCKET_FAMILIES)),
    (libc::SYS_socketpair, Rule::Socket(SOCKET_FAMILIES)),
    (libc::SYS_fcntl, Rule::Fcntl),
    (libc::SYS_prlimit64, Rule::NotInit),
    (libc::SYS_personality, Rule::Personality),
];

/// What a relaxation changes: calls with their rule from then on.
fn changes(relaxation: Relaxation) -> Vec<(libc::c_long, Rule)> {
    let allowed = |calls: &[libc::c_long]| calls.iter().map(|call| (*call, Rule::Allow)).collect();
    match relaxation {
        Relaxation::Inotify => allowed(&INOTIFY),
        Relaxation::IoUring => allowed(&[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ]),
        Relaxation::Netlink => {
            let rule = Rule::Socket(SOCKET_FAMILIES_AND_NETLINK);
            vec![(libc::SYS_socket, rule), (libc::SYS_socketpair, rule)]
        }
        Relaxation::Numa => allowed(&[
            libc::SYS_get_mempolicy,
            libc::SYS_set_mempolicy,
            libc::SYS_mbind,
            libc::SYS_migrate_pages,
            libc::SYS_move_pages,
        ]),
        Relaxation::PerfEvents => allowed(&[libc::SYS_perf_event_open]),
        Relaxation::SysvIpc => allowed(&[libc::SYS_shmget, libc::SYS_msgget, libc::SYS_semget]),
        Relaxation::UserNamespaces => allowed(&[
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
        ]),
        Relaxation::Userfaultfd => allowed(&[libc::SYS_userfaultfd]),
    }
}

#[cfg(target_arch = "x86_64")]
const INOTIFY: [libc::c_long; 4] = [
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];
#[cfg(target_arch = "aarch64")]
const INOTIFY: [libc::c_long; 3] = [
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

/// Every call that is not simply refused, in the order of the numbers; `more` is allowed besides.
pub(super) fn rules(more: &BTreeSet<Relaxation>) -> Vec<(u32, Rule)> {
    let allowed = COMMON
        .into_iter()
        .chain(OWN)
        .chain(NEW)
        .map(|call| (call, Rule::Allow));
    let usual = allowed.chain(SPECIAL);
    let changed = more.iter().flat_map(|relaxation| changes(*relaxation));
    // Later ones take the place of earlier ones.
    let rules: BTreeMap<u32, Rule> = usual
        .chain(changed)
        .filter_map(|(call, rule)| Some((u32::try_from(call).ok()?, rule)))
        .collect();
    rules.into_iter().collect()
}

/// The lists by which `rules` is made, for a test that no call is in two of them.
#[cfg(test)]
pub(super) fn listed() -> impl Iterator<Item = libc::c_long> {
    let special = SPECIAL.into_iter().map(|(call, _)| call);
    COMMON.into_iter().chain(OWN).chain(NEW).chain(special)
}
