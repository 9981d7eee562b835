//! The programs of the attacks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every process forks for ever, and so do those that outlive their parents.
pub(super) const FORK_BOMB: &str = r"
#include <unistd.h>
int main(void) { for (;;) fork(); }
";

pub(super) const SESSION_BOMB: &str = r"
import os
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
";

/// Threads up to the limit, all of them busy.
pub(super) const THREAD_BOMB: &str = r"
#include <pthread.h>
static void *spin(void *none) { for (;;) ; return none; }
int main(void) { pthread_t thread; for (;;) pthread_create(&thread, 0, spin, 0); }
";

/// Forks twice, leaves its session and its streams.
pub(super) const DAEMON: &str = r"
import os, signal, time
print('gone', flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        os.chdir('/'); os.closerange(0, 100)
        time.sleep(600)
    os._exit(0)
os.wait()
";

pub(super) const TRACED_CHILD: &str = r#"
#include <stdio.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    pid_t child = fork();
    if (child == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); pause(); }
    waitpid(child, 0, 0);
    return puts("gone") < 0;
}
"#;

pub(super) const CHILDREN: &str = r"
import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b'x') * (40 << 20)
        time.sleep(600)
time.sleep(600)
";

pub(super) const SHARED: &str = r"
import mmap, os, time
for _ in range(4):
    if os.fork() == 0:
        held = mmap.mmap(-1, 40 << 20)
        for at in range(0, 40 << 20, 4096): held[at] = 1
        time.sleep(600)
time.sleep(600)
";

pub(super) const SHM_FILES: &str = r"
for number in range(40):
    try:
        with open(f'/dev/shm/{number}', 'wb') as f: f.write(b'x' * (8 << 20))
    except OSError: pass
";

/// In no address space, and each as long as a file may be.
pub(super) const MEMFDS: &str = r"
import os
held = []
for _ in range(20):
    fd = os.memfd_create('x')
    try:
        while os.write(fd, b'x' * (1 << 20)): pass
    except OSError: pass
    held.append(fd)
";

pub(super) const PIPES: &str = r"
import fcntl, os
held = []
try:
    while True:
        pair = os.pipe2(os.O_NONBLOCK)
        held.append(pair)
        try: fcntl.fcntl(pair[1], 1031, 1 << 20)
        except OSError: pass
        try:
            while os.write(pair[1], b'x' * 65536): pass
        except BlockingIOError: pass
except OSError: pass
";

pub(super) const SOCKETS: &str = r"
import socket
held = []
try:
    while True:
        pair = socket.socketpair()
        held.append(pair)
        for one in pair:
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            try:
                while one.send(b'x' * 65536): pass
            except BlockingIOError: pass
except OSError: pass
";

/// Sockets that hold each other, which nobody has open any more.
pub(super) const IN_FLIGHT: &str = r"
import array, socket
try:
    while True:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        fds = array.array('i', [one.fileno(), other.fileno()] * 50)
        for _ in range(10):
            one.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
except OSError: pass
";

/// What is refused, by its errno: EPERM.
pub(super) const SYSV: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
int main(void) {
    printf("shm %d\n", shmget(IPC_PRIVATE, 64 << 20, 0600) < 0 ? errno : 0);
    printf("sem %d\n", semget(IPC_PRIVATE, 8, 0600) < 0 ? errno : 0);
    printf("msg %d\n", msgget(IPC_PRIVATE, 0600) < 0 ? errno : 0);
    return 0;
}
"#;

/// ENOMEM.
pub(super) const LOCKED: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
int main(void) {
    printf("%d\n", mlock(malloc(16 << 20), 16 << 20) ? errno : 0);
    return 0;
}
"#;

pub(super) const FILL_DISK: &str = r"
try:
    with open('/tmp/f', 'wb', 0) as f:
        while True: f.write(b'x' * 65536)
except OSError as error: print(error.errno)
";

pub(super) const FILL_NAMES: &str = r"
try:
    number = 0
    while True:
        open(f'{number}', 'w').close(); number += 1
except OSError as error: print(error.errno)
";

pub(super) const DESCRIPTORS: &str = r"
held = []
try:
    while True: held.append(open('/dev/null'))
except OSError as error: print(error.errno)
";

/// A path has room for 2000 of them: the tree grows at its root.
pub(super) const DEEP: &str = r"
p=$(printf 'd/%.0s' {1..2000}); mkdir t
for i in {1..10}; do mkdir -p n/$p && mv t n/$p && mv n t || exit; done
echo 20000
";

pub(super) const GIANT: &str = r"
import resource
size = resource.getrlimit(resource.RLIMIT_FSIZE)[0] - 1
for number in range(100):
    with open(f'{number}', 'wb') as f: f.truncate(size)
";

pub(super) const LINKS: &str = r"
ln -s /etc/passwd passwd; ln -s / root; ln -s /proc/self/mem mem; ln -s . here
ln -s ../../etc up; mkfifo pipe; mkdir d; ln -s /etc d/etc
echo done
";

/// While files are taken, what they are changes: the program does not end by itself.
pub(super) const RACING_LINKS: &str = r"
import os
os.mkdir('a'); open('a/f', 'w').write('x')
while True:
    os.rename('a', 'b'); os.symlink('/etc', 'a'); os.unlink('a'); os.rename('b', 'a')
";

pub(super) const REPLACED: &str = r"
rm -f file0.code; ln -s /etc/shadow file0.code; mkdir -p main; rm -rf ../job/x; echo done
";

pub(super) const FLOOD: &str = r"
#include <string.h>
#include <unistd.h>
int main(void) { static char all[65536]; memset(all, 'x', sizeof all); for (;;) write(1, all, sizeof all); }
";

pub(super) const ERRORS: &str = r"
import os
while True: os.write(2, b'x' * 65536)
";

pub(super) const FLOODS: &str = r"
import os
for _ in range(8): os.fork()
while True: os.write(1, b'x' * 4096); os.write(2, b'x' * 4096)
";

pub(super) const DEAF: &str = r"
import os, signal, time
os.fork()
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True: time.sleep(60)
";

pub(super) const SIGNALS: &str = r"
import os, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
for _ in range(6): os.fork()
while True:
    try: os.kill(-1, signal.SIGUSR1)
    except OSError: pass
    try: os.kill(1, signal.SIGKILL)
    except OSError: pass
";

/// Says what could be done to init.
pub(super) const INIT: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
static int done;
static void say(const char *what, long result) { if (result >= 0) { puts(what); done = 1; } }
int main(void) {
    char byte;
    struct iovec here = { &byte, 1 }, there = { (void *)main, 1 };
    say("attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
    say("seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
    say("read", process_vm_readv(1, &here, 1, &there, 1, 0));
    say("write", process_vm_writev(1, &here, 1, &there, 1, 0));
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    say("descriptor", syscall(SYS_pidfd_getfd, pidfd, 3, 0));
    say("advice", syscall(SYS_process_madvise, pidfd, &there, 1, 4, 0));
    say("namespaces", syscall(SYS_setns, pidfd, 0x20000000));
    say("mem", open("/proc/1/mem", O_RDONLY));
    say("root", open("/proc/1/root", O_PATH | O_DIRECTORY));
    say("executable", open("/proc/1/exe", O_RDONLY));
    if (!done) puts("nothing");
    return 0;
}
"#;

/// Files of init that tell something, and descriptors of it.
pub(super) const PROC_OF_INIT: &str = r"
import os
told = []
for name in ('environ', 'maps', 'mem', 'stack', 'syscall', 'io', 'auxv', 'cmdline', 'status', 'wchan'):
    try:
        with open(f'/proc/1/{name}', 'rb') as f:
            if f.read(1): told.append(name)
    except OSError: pass
for name in ('fd', 'task', 'ns', 'map_files'):
    try: told.extend(os.listdir(f'/proc/1/{name}'))
    except OSError: pass
try:
    open('/proc/1/oom_score_adj', 'w').write('1000'); told.append('score')
except OSError: pass
print(told)
";

pub(super) const NAMESPACES: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>
static int done;
static void say(const char *what, long result) { if (result == 0) { puts(what); done = 1; } }
int main(void) {
    static const unsigned long kinds[] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET,
        CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP, 0x80, CLONE_NEWUSER | CLONE_NEWNS };
    unsigned long arguments[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
    for (unsigned n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        say("unshare", unshare(kinds[n]));
        if (kinds[n] == 0x80) continue; /* CLONE_NEWTIME is of unshare and clone3 only */
        long child = syscall(SYS_clone, kinds[n] | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) _exit(0);
        if (child > 0) { puts("clone"); done = 1; }
    }
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    if (child > 0) { puts("clone3"); done = 1; }
    say("mount", mount("none", "/tmp", "tmpfs", 0, 0));
    say("remount", mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
    say("umount", umount2("/proc", MNT_DETACH));
    say("chroot", chroot("/tmp"));
    say("pivot_root", syscall(SYS_pivot_root, ".", "."));
    if (syscall(SYS_open_tree, -100, "/", 1) >= 0 || syscall(SYS_fsopen, "tmpfs", 0) >= 0) { puts("mount api"); done = 1; }
    if (!done) puts("nothing");
    return 0;
}
"#;

/// Each of them would give a descriptor, or do something.
pub(super) const FORBIDDEN: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/swap.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>
static int done;
static void say(const char *what, long result) { if (result >= 0) { puts(what); done = 1; } }
int main(void) {
    char attribute[128] = { 1 };
    say("bpf", syscall(SYS_bpf, 0, attribute, sizeof attribute));
    say("perf", syscall(SYS_perf_event_open, attribute, 0, -1, -1, 0));
    say("io_uring", syscall(SYS_io_uring_setup, 1, attribute));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("fanotify", syscall(SYS_fanotify_init, 0, 0));
    say("inotify", syscall(SYS_inotify_init1, 0));
    say("handle", syscall(SYS_open_by_handle_at, -100, attribute, 0));
    say("swapon", swapon("/tmp/x", 0));
    say("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    say("module", syscall(SYS_init_module, "", 0, ""));
    say("module", syscall(SYS_finit_module, 0, "", 0));
    say("reboot", reboot(RB_DISABLE_CAD));
    say("clock", syscall(SYS_clock_settime, 0, attribute));
    say("log", syscall(SYS_syslog, 3, attribute, 100));
    say("acct", syscall(SYS_acct, 0));
    say("quota", syscall(SYS_quotactl, 0, 0, 0, 0));
    say("hostname", sethostname("x", 1));
    say("lease", fcntl(open("/etc/passwd", O_RDONLY), F_SETLEASE, F_RDLCK));
    say("vhangup", vhangup());
    say("memory policy", syscall(SYS_move_pages, 0, 0, 0, 0, 0, 0));
    if (!done) puts("nothing");
    return 0;
}
"#;

pub(super) const INT80: &str = r#"
int main(void) { long result; __asm__ volatile("int $0x80" : "=a"(result) : "a"(20)); return 0; }
"#;

pub(super) const X32: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { syscall(0x40000000 + SYS_getpid); return 0; }
";

pub(super) const KEYS: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static int done;
static void say(const char *what, long result) { if (result >= 0) { puts(what); done = 1; } }
int main(void) {
    say("add_key", syscall(SYS_add_key, "user", "piston", "x", 1, -4));
    say("session", syscall(SYS_keyctl, 0, -3, 1));
    say("join", syscall(SYS_keyctl, 1, 0));
    say("search", syscall(SYS_keyctl, 10, -4, "user", "piston", 0));
    say("request", syscall(SYS_request_key, "user", "piston", 0, 0));
    if (!done) puts("nothing");
    return 0;
}
"#;

/// All but `AF_UNIX` (1), `AF_INET` (2) and `AF_INET6` (10).
pub(super) const FAMILIES: &str = r"
import socket
made = []
for family in range(50):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            if family not in (1, 2, 10): made.append(family)
            if kind == 3 and family != 1: made.append((family, kind))
        except OSError: pass
print(made)
";

pub(super) const WRITE_VIEW: &str = r"
import ctypes, fcntl, mmap, os, sys
done = []
def attempt(name, action):
    try: action(); done.append(name)
    except (OSError, ValueError): pass
program = sys.executable
for path in (program, '/etc/passwd', '/usr', '/', '/proc/self/exe', '/dev'):
    attempt('write ' + path, lambda: open(path, 'r+b').close())
    attempt('append ' + path, lambda: open(path, 'ab').close())
    attempt('mode ' + path, lambda: os.chmod(path, 0o777))
    attempt('owner ' + path, lambda: os.chown(path, 1000, 1000))
    attempt('time ' + path, lambda: os.utime(path))
    attempt('attribute ' + path, lambda: os.setxattr(path, 'user.x', b'x'))
    attempt('remove ' + path, lambda: os.unlink(path))
    attempt('rename ' + path, lambda: os.rename(path, path + 'x'))
    attempt('link ' + path, lambda: os.link(path, '/piston/job/x'))
    attempt('make ' + path, lambda: os.mkdir(path + '/x'))
with open(program, 'rb') as f:
    attempt('map', lambda: mmap.mmap(f.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
print(done)
";

pub(super) const HOST_FILES: &str = r"
import os
found = [path for path in ('/root', '/home', '/sys', '/boot', '/var/lib/piston', '/run/piston', '/etc/shadow', '/dev/fuse', '/dev/mem', '/dev/sda', '/dev/vda', '/piston/view') if os.path.exists(path)]
for name in ('kcore', 'keys', 'timer_list', 'sched_debug', 'interrupts', 'key-users'):
    try:
        if open('/proc/' + name, 'rb').read(1): found.append(name)
    except OSError: pass
try:
    open('/proc/sysrq-trigger', 'w').write('h'); open('/proc/sys/kernel/hostname', 'w').write('x'); found.append('proc')
except OSError: pass
print(found)
";

/// Holds one of everything that has a name, and a lock, until its time is nearly up.
pub(super) const SIGNPOSTS: &str = r"
import fcntl, os, socket, sys, time
held = []
for number in range(3):
    one = socket.socket(socket.AF_UNIX); one.bind(f'\0piston-{number}'); one.listen(); held.append(one)
server = socket.socket(); server.bind(('127.0.0.1', 5999)); server.listen()
for place in ('/tmp', '/dev/shm', '/piston/job'): open(place + '/signpost', 'w').close()
program = open(sys.executable, 'rb'); fcntl.flock(program, fcntl.LOCK_EX)
time.sleep(1.8)
print('held')
";

/// What there is to be found of the other.
pub(super) const SEEKER: &str = r"
import fcntl, os, socket, sys
found = []
for number in range(3):
    try:
        with socket.socket(socket.AF_UNIX) as s: s.connect(f'\0piston-{number}'); found.append('abstract')
    except OSError: pass
try: socket.create_connection(('127.0.0.1', 5999), 1); found.append('port')
except OSError: pass
for place in ('/tmp', '/dev/shm', '/piston/job'):
    if os.path.exists(place + '/signpost'): found.append(place)
try: fcntl.flock(open(sys.executable, 'rb'), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError: found.append('lock')
if len([name for name in os.listdir('/proc') if name.isdigit()]) > 1: found.append('process')
for name in ('sysvipc/shm', 'sysvipc/sem', 'sysvipc/msg', 'net/unix', 'net/tcp'):
    try:
        if open('/proc/' + name).read().count('\n') > 1: found.append(name)
    except OSError: pass
print(found)
";

/// A package whose program has set-id bits and tells who it is, and opens the device nodes that the
/// image has. EACCES is 13.
pub(super) fn package_with_devices(folder: &Path) -> PathBuf {
    let parts = folder.join("devices");
    let tree = parts.join("tree");
    std::fs::create_dir_all(tree.join("bin")).expect("folder");
    let source = parts.join("main.c");
    std::fs::write(&source, DEVICES).expect("source");
    succeed(
        Command::new("cc")
            .arg("-static")
            .arg("-o")
            .arg(tree.join("bin/who"))
            .arg(&source),
    );
    let image = parts.join("package.squashfs");
    succeed(
        Command::new("mksquashfs")
            .args([&tree, &image])
            .args(["-all-root", "-no-progress", "-quiet"])
            .args(["-p", "bin/who m 6755 0 0", "-p", "null c 666 0 0 1 3"])
            .args(["-p", "mem c 666 0 0 1 1", "-p", "disk b 666 0 0 254 0"]),
    );
    let info = r#"{"language": "devices", "version": "1.0.0", "mount": "/", "run": {"command": ["/bin/who"]}}"#;
    std::fs::write(parts.join("pkg-info.json"), info).expect("file");
    let file = folder.join("devices-1.0.0.pkg.tar.gz");
    succeed(
        Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(&parts)
            .args(["pkg-info.json", "package.squashfs"]),
    );
    file
}

const DEVICES: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
static void open_device(const char *path) { printf("%s %d\n", path + 1, open(path, O_RDONLY) < 0 ? errno : 0); }
int main(void) {
    printf("%d %d\n", geteuid(), getegid());
    open_device("/null"); open_device("/mem"); open_device("/disk");
    return 0;
}
"#;

fn succeed(command: &mut Command) {
    let output = command.output();
    assert!(
        output.as_ref().is_ok_and(|output| output.status.success()),
        "{command:?}: {output:?}"
    );
}
