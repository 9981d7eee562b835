//! The filter, run by a small interpreter of classic BPF against the whole table.

use super::*;

/// What the kernel hands to a filter.
#[derive(Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn new(number: u32, first: u64) -> Self {
        Self {
            arch: table::AUDIT_ARCH,
            number,
            arguments: [first, 0, 0, 0, 0, 0],
        }
    }

    /// `struct seccomp_data`.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_ne_bytes());
        bytes.extend(self.arch.to_ne_bytes());
        bytes.extend(0_u64.to_ne_bytes());
        for argument in self.arguments {
            bytes.extend(argument.to_ne_bytes());
        }
        bytes
    }
}

/// Runs a filter as the kernel does; panics on what the kernel would not load.
fn run(filter: &Filter, call: Call) -> u32 {
    let data = call.bytes();
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, jt, jf, k } = filter.instructions[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            0x20 => {
                let from = usize::try_from(k).unwrap();
                accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x15 => at += jump(accumulator == k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            0x05 => at += usize::try_from(k).unwrap(),
            0x06 => return k,
            code => panic!("no such instruction: {code:#x}"),
        }
    }
}

const EPERM: Verdict = Verdict::Errno(libc::EPERM);
const ENOSYS: Verdict = Verdict::Errno(libc::ENOSYS);

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap()
}

fn check(call: libc::c_long, first: u64, verdict: Verdict) {
    let filter = Filter::for_jobs().unwrap();
    let answer = run(&filter, Call::new(number(call), first));
    assert_eq!(answer, verdict.code(), "call {call} with {first:#x}");
}

#[test]
fn every_number_is_answered_as_the_table_says() {
    let filter = Filter::for_jobs().unwrap();
    let rules = table::rules(&BTreeSet::new());
    let newest = rules.last().unwrap().0;
    for call in 0..1024 {
        let rule = rules
            .binary_search_by_key(&call, |(call, _)| *call)
            .map(|at| rules[at].1);
        let expected = match rule {
            // With no argument set.
            Ok(Rule::Allow | Rule::Clone | Rule::Fcntl | Rule::NotInit | Rule::Personality) => {
                Verdict::Allow
            }
            Ok(Rule::Socket(_)) => Verdict::Errno(libc::EAFNOSUPPORT),
            Ok(Rule::Unknown) => ENOSYS,
            Ok(Rule::Refuse | Rule::Kill) => unreachable!(),
            Err(_) if call > newest => ENOSYS,
            Err(_) => EPERM,
        };
        assert_eq!(
            run(&filter, Call::new(call, 0)),
            expected.code(),
            "call {call}"
        );
    }
}

#[test]
fn no_call_is_listed_twice() {
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = table::listed().filter(|call| !seen.insert(*call)).collect();
    assert_eq!(twice, [0; 0]);
}

#[test]
fn a_relaxation_allows_its_calls_and_no_other() {
    let usual = Filter::for_jobs().unwrap();
    let check = |relaxation, calls: &[libc::c_long]| {
        let filter = Filter::relaxed(&BTreeSet::from([relaxation])).unwrap();
        let newest = table::rules(&BTreeSet::new()).last().unwrap().0;
        for call in 0..newest {
            let (before, after) = (
                run(&usual, Call::new(call, 0)),
                run(&filter, Call::new(call, 0)),
            );
            if calls.contains(&libc::c_long::from(call)) {
                assert_eq!(after, Verdict::Allow.code(), "{relaxation:?} {call}");
            } else {
                assert_eq!(after, before, "{relaxation:?} {call}");
            }
        }
        for call in [X32_BIT, X32_BIT + 1] {
            assert_eq!(run(&filter, Call::new(call, 0)), Verdict::Kill.code());
        }
    };
    check(
        Relaxation::IoUring,
        &[
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ],
    );
    check(
        Relaxation::SysvIpc,
        &[libc::SYS_shmget, libc::SYS_msgget, libc::SYS_semget],
    );
    check(Relaxation::Userfaultfd, &[libc::SYS_userfaultfd]);
    check(Relaxation::PerfEvents, &[libc::SYS_perf_event_open]);
    let netlink = Filter::relaxed(&BTreeSet::from([Relaxation::Netlink])).unwrap();
    let socket = |family: i32| {
        let call = Call::new(number(libc::SYS_socket), u64::from(family.unsigned_abs()));
        run(&netlink, call)
    };
    assert_eq!(socket(libc::AF_NETLINK), Verdict::Allow.code());
    assert_eq!(
        socket(libc::AF_PACKET),
        Verdict::Errno(libc::EAFNOSUPPORT).code()
    );
    let nested = Filter::relaxed(&BTreeSet::from([Relaxation::UserNamespaces])).unwrap();
    let clone = Call::new(number(libc::SYS_clone), 1 << 28);
    assert_eq!(run(&nested, clone), Verdict::Allow.code());
}

#[test]
fn what_programs_need_is_allowed() {
    for call in [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_mmap,
        libc::SYS_execve,
        libc::SYS_futex,
        libc::SYS_wait4,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_memfd_create,
        libc::SYS_exit_group,
    ] {
        check(call, 0, Verdict::Allow);
    }
}

#[test]
fn what_reaches_the_kernel_beyond_a_program_is_refused() {
    for call in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_mount_setattr,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_swapon,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_syslog,
        libc::SYS_quotactl,
        libc::SYS_open_by_handle_at,
        libc::SYS_inotify_init1,
        libc::SYS_inotify_add_watch,
        libc::SYS_fanotify_init,
        libc::SYS_fanotify_mark,
        libc::SYS_shmget,
        libc::SYS_msgget,
        libc::SYS_semget,
    ] {
        check(call, 0, EPERM);
    }
}

#[test]
fn threads_and_forks_are_made_but_no_namespaces() {
    let thread = 0x003d_0f00;
    check(libc::SYS_clone, thread, Verdict::Allow);
    check(
        libc::SYS_clone,
        u64::from(libc::SIGCHLD.unsigned_abs()),
        Verdict::Allow,
    );
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        check(libc::SYS_clone, thread | 1 << bit, EPERM);
    }
    check(libc::SYS_clone3, 0, ENOSYS);
}

#[test]
fn sockets_are_local_or_of_the_internet_and_nothing_else() {
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        check(
            libc::SYS_socket,
            u64::from(family.unsigned_abs()),
            Verdict::Allow,
        );
    }
    for family in [
        libc::AF_NETLINK,
        libc::AF_PACKET,
        libc::AF_VSOCK,
        libc::AF_ALG,
        0,
        45,
    ] {
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            let verdict = Verdict::Errno(libc::EAFNOSUPPORT);
            check(call, u64::from(family.unsigned_abs()), verdict);
        }
    }
}

#[test]
fn file_commands_that_reach_other_jobs_are_refused() {
    let filter = Filter::for_jobs().unwrap();
    let fcntl = |command: i32| {
        let mut call = Call::new(number(libc::SYS_fcntl), 0);
        call.arguments[1] = u64::from(command.unsigned_abs());
        run(&filter, call)
    };
    for command in [libc::F_DUPFD_CLOEXEC, libc::F_SETLK, libc::F_GETLEASE] {
        assert_eq!(fcntl(command), Verdict::Allow.code(), "{command}");
    }
    for command in [libc::F_SETLEASE, libc::F_NOTIFY, 1040] {
        assert_eq!(fcntl(command), EPERM.code(), "{command}");
    }
}

#[test]
fn limits_are_a_matter_of_the_jobs_own_processes() {
    check(libc::SYS_prlimit64, 0, Verdict::Allow);
    check(libc::SYS_prlimit64, 2, Verdict::Allow);
    check(libc::SYS_prlimit64, 1, EPERM);
}

#[test]
fn personalities_other_than_linux_are_refused() {
    check(libc::SYS_personality, 0xffff_ffff, Verdict::Allow);
    check(libc::SYS_personality, 0x0004_0000, Verdict::Allow);
    check(libc::SYS_personality, 0x0040_0000, EPERM);
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let filter = Filter::for_jobs().unwrap();
    // AUDIT_ARCH_I386, AUDIT_ARCH_ARM.
    for arch in [0x4000_0003, 0x4000_0028] {
        let call = Call {
            arch,
            ..Call::new(0, 0)
        };
        assert_eq!(run(&filter, call), Verdict::Kill.code(), "{arch:#x}");
    }
    for call in [X32_BIT, X32_BIT + 59, u32::MAX] {
        assert_eq!(
            run(&filter, Call::new(call, 0)),
            Verdict::Kill.code(),
            "{call:#x}"
        );
    }
}

#[test]
fn jumps_that_are_too_far_for_a_condition_still_arrive() {
    let every_other: Vec<_> = (0..400).map(|call| (call * 2, Rule::Allow)).collect();
    let filter = Filter {
        instructions: assemble(1, &every_other).finish().unwrap(),
    };
    for number in 0..800 {
        let call = Call {
            arch: 1,
            number,
            arguments: [0; 6],
        };
        let expected = if number == 799 {
            ENOSYS
        } else if number % 2 == 0 {
            Verdict::Allow
        } else {
            EPERM
        };
        assert_eq!(run(&filter, call), expected.code(), "{number}");
    }
}
