//! What the operator may allow a language besides, and that nobody has it otherwise.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use piston_tests::{Daemon, Who, free_port, packages};
use serde_json::{Value, json};

as_root_and_user!(
    system_calls_are_allowed_by_group_to_the_language_that_is_named,
    a_call_of_another_abi_ends_the_program,
    a_job_traces_its_own_processes_and_reaches_no_other,
    the_hosts_network_is_seen_by_the_language_that_is_named_but_for_abstract_sockets,
    a_daemon_that_listens_on_tcp_gives_no_job_its_network,
);

/// What the kernel says to calls of each group: the errno, or 0.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *name, long result) {
    printf("%s %d\n", name, result < 0 ? errno : 0);
}

int main(void) {
    say("inotify", syscall(SYS_inotify_init1, 0));
    say("io_uring", syscall(SYS_io_uring_setup, 1, 0));
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    say("sysv_ipc", shmget(IPC_PRIVATE, 4096, 0600));
    say("bpf", syscall(SYS_bpf, 0, 0, 0));
    say("user_namespaces", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    say("mount", mount("none", "/tmp", "tmpfs", 0, 0));
    return 0;
}
"#;

fn set(daemon: &Daemon, runners: &Value) {
    let reply = daemon.send("PUT", "/api/v3/runners", &json!({"runners": runners}));
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
}

fn run(daemon: &Daemon, package: &str, code: &str) -> Value {
    let body = json!({"code": code, "cache": "output"});
    daemon.execute(package, &body)["run"].clone()
}

fn stdout(run: &Value) -> &str {
    run["stdout"].as_str().expect("text")
}

fn system_calls_are_allowed_by_group_to_the_language_that_is_named(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let refused =
        "inotify 1\nio_uring 1\nnetlink 97\nsysv_ipc 1\nbpf 1\nuser_namespaces 1\nmount 1\n";
    assert_eq!(stdout(&run(&daemon, "gcc", CALLS)), refused);
    let groups = json!(["inotify", "io_uring", "netlink", "sysv_ipc"]);
    set(&daemon, &json!([{"language": "c", "allow": groups}]));
    // Another filter is another job: what was kept is not taken for it. EFAULT is the kernel's.
    let allowed =
        "inotify 0\nio_uring 14\nnetlink 0\nsysv_ipc 0\nbpf 1\nuser_namespaces 1\nmount 1\n";
    assert_eq!(stdout(&run(&daemon, "gcc", CALLS)), allowed);
    // The other language of the package has none of it.
    let body = json!({"code": CALLS, "language": "c++"});
    let other = daemon.execute("gcc", &body)["run"].clone();
    assert_eq!(stdout(&other), refused, "{other}");
    let nested = json!([{"language": "c", "allow": groups},
                        {"language": "gcc", "allow": ["user_namespaces"]}]);
    set(&daemon, &nested);
    let allowed =
        "inotify 1\nio_uring 1\nnetlink 97\nsysv_ipc 1\nbpf 1\nuser_namespaces 0\nmount 0\n";
    assert_eq!(stdout(&run(&daemon, "gcc", CALLS)), allowed);
}

fn a_call_of_another_abi_ends_the_program(who: Who) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    // 20 is getpid of the 32-bit ABI; x32 sets a bit in the number.
    let of_32_bit = "__asm__ volatile(\"int $0x80\" : \"=a\"(result) : \"a\"(20));";
    let x32 = "result = syscall(0x40000000 + SYS_getpid);";
    for call in [of_32_bit, x32] {
        let code = format!(
            "#include <sys/syscall.h>\n#include <unistd.h>\n#include <stdio.h>\n\
             int main(void) {{ long result; puts(\"before\"); fflush(stdout); {call}\n\
             printf(\"%ld\\n\", result); return 0; }}\n"
        );
        let run = run(&daemon, "gcc", &code);
        assert_eq!(
            (&run["status"], &run["signal"], stdout(&run)),
            (&json!("SG"), &json!("SIGSYS"), "before\n"),
            "{run}"
        );
    }
}

fn a_job_traces_its_own_processes_and_reaches_no_other(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let mechanisms = daemon.get("/api/v3/info").json()["mechanisms"].clone();
    let is_there = |name: &str| {
        let all = mechanisms.as_array().expect("a list");
        all.iter()
            .any(|one| one["name"] == name && one["available"] == true)
    };
    assert!(
        is_there("landlock") && is_there("landlock_scopes"),
        "{mechanisms}"
    );
    let code = r#"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    long word = 7;
    pid_t child = fork();
    if (child == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); _exit(5); }
    int status;
    waitpid(child, &status, 0);
    long read = ptrace(PTRACE_PEEKDATA, child, &word, 0);
    printf("traced %d %ld\n", WIFSTOPPED(status), read);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    printf("ended %d\n", WEXITSTATUS(status));
    /* Init has the job's own user where all have one: only Landlock keeps signals from it. */
    printf("signal %d\n", kill(1, 0) ? errno : 0);
    printf("trace %d\n", ptrace(PTRACE_SEIZE, 1, 0, 0) ? errno : 0);
    return 0;
}
"#;
    let run = run(&daemon, "gcc", code);
    assert_eq!(
        stdout(&run),
        "traced 1 7\nended 5\nsignal 1\ntrace 1\n",
        "{run}"
    );
}

fn the_hosts_network_is_seen_by_the_language_that_is_named_but_for_abstract_sockets(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let name = format!("piston-test-{port}");
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _others = UnixListener::bind_addr(&address).expect("an abstract socket");
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().expect("a client");
        client.write_all(b"hello").expect("sent");
    });
    let code = format!(
        "import socket\n\
         def reach(family, address):\n\
         \x20   with socket.socket(family) as s:\n\
         \x20       try: s.connect(address)\n\
         \x20       except OSError as error: return error.errno\n\
         \x20       return s.recv(9) if family == socket.AF_INET else b'in'\n\
         print(reach(socket.AF_INET, ('127.0.0.1', {port})))\n\
         print(reach(socket.AF_UNIX, '\\0{name}'))\n\
         own = socket.socket(socket.AF_UNIX)\n\
         own.bind('\\0{name}-own')\n\
         own.listen()\n\
         print(reach(socket.AF_UNIX, '\\0{name}-own'))\n\
         try: print(len(open('/etc/resolv.conf').read()), len(open('/etc/hosts').read()))\n\
         except OSError as error: print(error)\n\
         try: open('/etc/hosts', 'a')\n\
         except OSError as error: print(error.errno)\n"
    );
    let alone = run(&daemon, "python", &code);
    let lines: Vec<&str> = stdout(&alone).lines().collect();
    // ECONNREFUSED: the job's own loopback, its own names.
    assert_eq!(lines[..3], ["111", "111", "b'in'"], "{alone}");
    assert!(lines[3].starts_with("0 "), "{alone}");

    set(&daemon, &json!([{"language": "python", "network": "host"}]));
    let seen = run(&daemon, "python", &code);
    let lines: Vec<&str> = stdout(&seen).lines().collect();
    // EPERM: the name is there, and closed to jobs.
    assert_eq!(lines[..3], ["b'hello'", "1", "b'in'"], "{seen}");
    answering.join().expect("answered");
    let length = |file| std::fs::metadata(file).map_or(0, |file| file.len());
    let expected = format!("{} {}", length("/etc/resolv.conf"), length("/etc/hosts"));
    assert_eq!(lines[3], expected, "{seen}");
    // EACCES where the file is another user's, else EROFS.
    assert!(["13", "30"].contains(&lines[4]), "{seen}");
    // Nothing is kept of such a job, whatever it asks for.
    let body = json!({"code": "print(1)", "cache": "output"});
    for _ in 0..2 {
        assert_eq!(daemon.execute("python", &body)["cache"], "miss");
    }
}

fn a_daemon_that_listens_on_tcp_gives_no_job_its_network(who: Who) {
    let address = free_port().to_string();
    let daemon = Daemon::start_with(who, "", &["--listen", &address]);
    packages::install(&daemon, &["bash"]);
    set(&daemon, &json!([{"language": "bash", "network": "host"}]));
    let reply = daemon.send(
        "POST",
        "/api/v3/packages/bash/*/execute",
        &json!({"code": ""}),
    );
    let problem = reply.json();
    assert_eq!(
        (reply.status, &problem["code"]),
        (503, &json!("sandbox_unavailable"))
    );
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("http.listen"), "{detail}");
}
