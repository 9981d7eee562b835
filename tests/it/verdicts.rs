//! The status of a job tells for certain why it ended, at each limit's boundary and in each race.

use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

as_root_and_user!(
    every_end_has_its_own_status,
    output_is_kept_up_to_the_limit_to_the_byte_on_each_stream,
    output_of_a_child_that_outlives_the_program_counts,
    a_program_that_ends_as_its_time_does_is_one_or_the_other,
    processor_time_of_children_that_nobody_waits_for_counts,
    limits_of_compiling_and_of_running_are_two,
);

fn run(daemon: &Daemon, package: &str, code: &str, limits: &Value) -> Value {
    let body = json!({"code": code, "limits": {"run": limits}});
    daemon.execute(package, &body)["run"].clone()
}

/// Status, signal and exit code.
fn end(run: &Value) -> (&str, &str, i64) {
    (
        run["status"].as_str().unwrap_or("-"),
        run["signal"].as_str().unwrap_or("-"),
        run["code"].as_i64().unwrap_or(-1),
    )
}

fn every_end_has_its_own_status(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python", "bash"]);
    let none = json!({});
    let check = |package: &str, code: &str, limits: &Value, expected: (&str, &str, i64)| {
        let run = run(&daemon, package, code, limits);
        assert_eq!(end(&run), expected, "{package}: {code}\n{run}");
        run
    };
    check("python", "pass", &none, ("-", "-", 0));
    check("python", "raise SystemExit(3)", &none, ("RE", "-", 3));
    // What a shell says of a killed program is no signal.
    check("bash", "exit 137", &none, ("RE", "-", 137));
    // A program may send itself whatever a limit would send.
    for signal in ["SIGKILL", "SIGXCPU", "SIGXFSZ", "SIGSEGV", "SIGTERM"] {
        check(
            "bash",
            &format!("kill -s {signal} $$"),
            &none,
            ("SG", signal, -1),
        );
    }
    let aborts = "import os; os.abort()";
    check("python", aborts, &none, ("SG", "SIGABRT", -1));

    let soon = json!({"wall_time_ms": 300});
    let late = check("bash", "exec sleep 60", &soon, ("TO", "SIGKILL", -1));
    assert_eq!(late["message"], "Time limit exceeded (wall clock)");
    assert!(late["wall_time_ms"].as_u64() >= Some(300), "{late}");
    let deaf = "import signal, time\n\
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n\
        \x20   signal.signal(number, signal.SIG_IGN)\n\
        while True: time.sleep(60)\n";
    check("python", deaf, &soon, ("TO", "SIGKILL", -1));
    check("bash", "kill -s STOP $$", &soon, ("TO", "SIGKILL", -1));

    // The limit on a file's length is a signal, to who does not ignore it an error.
    let short = json!({"file_size_bytes": 1000});
    let fills = "exec dd if=/dev/zero of=f bs=1000 count=2 status=none";
    check("bash", fills, &short, ("SG", "SIGXFSZ", -1));
    let fits = "exec dd if=/dev/zero of=f bs=1000 count=1 status=none";
    check("bash", fits, &short, ("-", "-", 0));
    let told = check(
        "python",
        "f = open('f', 'wb', 0)\nprint(f.write(b'x' * 2000))\ntry: f.write(b'x')\n\
         except OSError as error: print(error.errno)\n",
        &short,
        ("-", "-", 0),
    );
    assert_eq!(told["stdout"], "1000\n27\n", "EFBIG");
    let told = check(
        "python",
        "files = []\ntry:\n    while True: files.append(open('/dev/null'))\n\
         except OSError as error: print(len(files) + 3, error.errno)\n",
        &json!({"open_files": 20}),
        ("-", "-", 0),
    );
    assert_eq!(told["stdout"], "20 24\n", "EMFILE");
    let told = check(
        "python",
        "f = open('/tmp/f', 'wb', 0)\ntry:\n    while True: f.write(b'x' * 4096)\n\
         except OSError as error: print(error.errno, f.tell() <= 1 << 20)\n",
        &json!({"disk_bytes": 1 << 20}),
        ("-", "-", 0),
    );
    assert_eq!(told["stdout"], "28 True\n", "ENOSPC");
}

fn output_is_kept_up_to_the_limit_to_the_byte_on_each_stream(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let limits = json!({"output_bytes": 70_000});
    let check = |out: usize, err: usize, expected: (&str, &str, i64)| {
        let code = format!(
            "import os\ndef put(fd, n):\n    while n > 0: n -= os.write(fd, b'x' * min(n, 4096))\n\
             put(1, {out})\nput(2, {err})\n"
        );
        let run = run(&daemon, "python", &code, &limits);
        assert_eq!(end(&run), expected, "{out} {err}");
        let kept = |name: &str| run[name].as_str().map(str::len);
        assert_eq!(kept("stdout"), Some(out.min(70_000)), "{out} {err}");
        if expected.0 == "OL" {
            return;
        }
        assert_eq!(kept("stderr"), Some(err.min(70_000)), "{out} {err}");
        assert_eq!(kept("output"), Some(out.min(70_000) + err.min(70_000)));
        assert_eq!(run["truncated"], expected.0 != "-");
    };
    check(70_000, 70_000, ("-", "-", 0));
    check(69_999, 1, ("-", "-", 0));
    check(70_001, 0, ("OL", "SIGKILL", -1));
    check(0, 70_001, ("EL", "SIGKILL", -1));
    check(70_000, 1_000_000, ("EL", "SIGKILL", -1));
    // No output at all is a limit too.
    let quiet = json!({"output_bytes": 0});
    assert_eq!(end(&run(&daemon, "python", "pass", &quiet)).0, "-");
    let spoke = run(&daemon, "python", "print()", &quiet);
    assert_eq!((end(&spoke).0, &spoke["stdout"]), ("OL", &json!("")));
}

fn output_of_a_child_that_outlives_the_program_counts(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    // The program ends well when its child has written; the child goes on.
    let code = |bytes: usize| {
        format!(
            "import os, time\nread, write = os.pipe()\n\
             if os.fork() == 0:\n\
             \x20   os.write(1, b'x' * {bytes})\n\
             \x20   os.write(write, b'.')\n\
             \x20   time.sleep(60)\n\
             os.read(read, 1)\n"
        )
    };
    let limits = json!({"output_bytes": 1000});
    let within = run(&daemon, "python", &code(1000), &limits);
    assert_eq!(end(&within), ("-", "-", 0), "{within}");
    assert_eq!(within["stdout"].as_str().map(str::len), Some(1000));
    let over = run(&daemon, "python", &code(1001), &limits);
    assert_eq!(end(&over), ("OL", "SIGKILL", -1), "{over}");
    assert_eq!(over["stdout"].as_str().map(str::len), Some(1000));
}

fn a_program_that_ends_as_its_time_does_is_one_or_the_other(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let mut seen = std::collections::BTreeSet::new();
    for extra in 0..12 {
        // From clearly before the end to clearly after it.
        let code = format!("sleep 0.{:03}; echo done", 40 + extra * 6);
        let run = run(&daemon, "bash", &code, &json!({"wall_time_ms": 100}));
        let wall = run["wall_time_ms"].as_u64().expect("a number");
        match end(&run) {
            ("-", "-", 0) => assert!(wall < 100 && run["stdout"] == "done\n", "{run}"),
            ("TO", "SIGKILL", -1) => assert!(wall >= 100, "{run}"),
            other => panic!("{other:?}: {run}"),
        }
        seen.insert(run["status"].to_string());
    }
    assert!(seen.contains("\"TO\""), "{seen:?}");
}

fn processor_time_of_children_that_nobody_waits_for_counts(who: Who) {
    let daemon = Daemon::start_with(who, "[limits.run]\nwall_time = \"30s\"\n", &[]);
    packages::install(&daemon, &["python"]);
    // The kernel throws their figures away; each says that it is done by closing a pipe.
    let code = "import os, signal, time\n\
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
        for _ in range(20):\n\
        \x20   read, write = os.pipe()\n\
        \x20   if os.fork() == 0:\n\
        \x20       while time.process_time() < 0.15: pass\n\
        \x20       os._exit(0)\n\
        \x20   os.close(write)\n\
        \x20   os.read(read, 1)\n\
        \x20   os.close(read)\n";
    let limits = json!({"cpu_time_ms": 600, "wall_time_ms": 30_000});
    let run = run(&daemon, "python", code, &limits);
    assert_eq!(end(&run), ("TO", "SIGKILL", -1), "{run}");
    assert_eq!(run["message"], "Time limit exceeded", "{run}");
}

fn limits_of_compiling_and_of_running_are_two(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let execute = |code: &str, limits: &Value| {
        let body = json!({"language": "c", "code": code, "cache": "none", "limits": limits,
                          "files": []});
        daemon.execute("gcc", &body)
    };
    let loud = "#warning first\n#warning second\nint main(void) { return 0; }\n";
    let quiet = json!({"compile": {"output_bytes": 20}});
    let reply = execute(loud, &quiet);
    assert_eq!(end(&reply["compile"]), ("EL", "SIGKILL", -1), "{reply}");
    assert_eq!(reply["compile"]["stderr"].as_str().map(str::len), Some(20));
    assert_eq!(reply["run"], Value::Null);
    // The same limit for the run is no limit of the compiler.
    let reply = execute(loud, &json!({"run": {"output_bytes": 20}}));
    assert_eq!(end(&reply["compile"]), ("-", "-", 0), "{reply}");
    assert_eq!(end(&reply["run"]), ("-", "-", 0), "{reply}");

    let program = "#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n\
        int main(void) {\n\
        char *held = malloc(96 << 20);\n\
        if (!held) { puts(\"refused\"); return 4; }\n\
        memset(held, 1, 96 << 20);\n\
        for (volatile long n = 0; n < 40000000; n++) {}\n\
        puts(\"held\"); return held[5] - 1; }\n";
    let reply = execute(program, &json!({"run": {"memory_bytes": 200 << 20}}));
    assert_eq!(reply["run"]["stdout"], "held\n", "{reply}");
    let reply = execute(program, &json!({"run": {"memory_bytes": 64 << 20}}));
    assert_eq!(end(&reply["compile"]), ("-", "-", 0), "{reply}");
    let run = &reply["run"];
    assert!(
        run["status"] == "ML" || (run["code"] == 4 && run["stdout"] == "refused\n"),
        "{run}"
    );
    let forever = "int main(void) { for (volatile int n = 0;; n++) {} }\n";
    let reply = execute(forever, &json!({"run": {"cpu_time_ms": 200}}));
    assert_eq!(reply["run"]["message"], "Time limit exceeded", "{reply}");
    let fault = "int main(void) { *(volatile int *)0 = 1; }\n";
    let reply = execute(fault, &json!({}));
    assert_eq!(end(&reply["run"]), ("SG", "SIGSEGV", -1), "{reply}");
}
