//! Jobs in real languages: what goes in, what comes out, how it ended.

use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

as_root_and_user!(
    python_runs_with_its_standard_library_and_native_modules,
    a_bash_job_gets_its_files_arguments_environment_and_input,
    how_a_program_ended_is_told_exactly,
    c_and_cpp_compile_and_run,
    a_compile_error_is_told_and_nothing_runs,
    limits_end_a_job_and_say_which,
    jobs_run_side_by_side,
);

/// A bash program's run stage.
fn bash(daemon: &Daemon, code: &str, more: Value) -> Value {
    let mut body = json!({"code": code});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    daemon.execute("bash", &body)["run"].clone()
}

fn python_runs_with_its_standard_library_and_native_modules(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let code = "import ssl, json, hashlib, zlib, unicodedata, ctypes, sqlite3, sys, math\n\
        print(json.dumps({'sum': sum(range(10)), 'path': sys.argv}))\n\
        print(hashlib.sha256(b'x').hexdigest()[:8], file=sys.stderr)\n\
        sys.exit(3)\n";
    let reply = daemon.execute(
        "python",
        &json!({"files": [{"name": "main.py", "content": code}], "args": ["a b", "\u{e9}"]}),
    );
    assert_eq!(reply["language"], "python");
    assert!(reply.get("compile").is_none(), "{reply}");
    let run = &reply["run"];
    assert_eq!(
        run["stdout"],
        "{\"sum\": 45, \"path\": [\"main.py\", \"a b\", \"\\u00e9\"]}\n"
    );
    assert_eq!(run["stderr"], "2d711642\n");
    assert_eq!(
        (&run["code"], &run["status"]),
        (&json!(3), &json!("RE")),
        "{run}"
    );
    assert!(run["memory_bytes"].as_u64() > Some(1 << 20), "{run}");
    // A traceback names the file as it was submitted.
    let broken = json!({"files": [{"name": "dir/oops.py", "content": "1/0"}]});
    let run = &daemon.execute("python", &broken)["run"];
    let stderr = run["stderr"].as_str().expect("text");
    assert!(stderr.contains("dir/oops.py\", line 1"), "{stderr}");
    assert!(
        stderr.ends_with("ZeroDivisionError: division by zero\n"),
        "{stderr}"
    );
}

fn a_bash_job_gets_its_files_arguments_environment_and_input(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let code = "pwd; echo \"$HOME\"; cat data/x.txt; xxd=$(od -An -tx1 raw.bin); echo $xxd\n\
        printf '%s|' \"$@\"; echo; echo \"$GREETING\"; cat; echo end >&2";
    let reply = daemon.execute(
        "bash",
        &json!({
            "files": [
                {"name": "main.sh", "content": code},
                {"name": "data/x.txt", "content": "text\n"},
                {"name": "raw.bin", "content": "AP8=", "encoding": "base64"},
            ],
            "args": ["one", "", "t w o", "*"],
            "stdin": "line 1\nline 2",
            "env": {"GREETING": "hello $HOME"},
        }),
    );
    let run = &reply["run"];
    assert_eq!(
        run["stdout"],
        "/piston/job\n/piston/job\ntext\n00 ff\none||t w o|*|\nhello $HOME\nline 1\nline 2",
        "{run}"
    );
    assert_eq!(run["stderr"], "end\n");
    assert_eq!((&run["code"], &run["status"]), (&json!(0), &Value::Null));
    // Without input the program reads its end at once.
    assert_eq!(bash(&daemon, "wc -c", json!({}))["stdout"], "0\n");
    // Half a megabyte through a pipe that holds 64 KiB; a program that does not read it.
    let long = "x".repeat(500_000);
    assert_eq!(
        bash(&daemon, "wc -c", json!({"stdin": long}))["stdout"],
        "500000\n"
    );
    assert_eq!(
        bash(&daemon, "echo done", json!({"stdin": long}))["stdout"],
        "done\n"
    );
    // Bytes that are not UTF-8.
    let raw = bash(
        &daemon,
        "printf '\\xff\\x00a'",
        json!({"encoding": "base64"}),
    );
    assert_eq!(raw["stdout"], "/wBh");
    let lossy = bash(&daemon, "printf '\\xffa'", json!({}));
    assert_eq!(
        (&lossy["stdout"], &lossy["lossy"]),
        (&json!("\u{fffd}a"), &json!(true))
    );
}

fn how_a_program_ended_is_told_exactly(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let check = |code: &str, exit: Value, signal: Value, status: Value| {
        let run = bash(&daemon, code, json!({}));
        assert_eq!(
            (&run["code"], &run["signal"], &run["status"]),
            (&exit, &signal, &status),
            "{code}: {run}"
        );
    };
    check("true", json!(0), Value::Null, Value::Null);
    check("exit 7", json!(7), Value::Null, json!("RE"));
    check("exit 300", json!(44), Value::Null, json!("RE"));
    check("kill -ABRT $$", Value::Null, json!("SIGABRT"), json!("SG"));
    check("kill -TERM $$", Value::Null, json!("SIGTERM"), json!("SG"));
    check("kill -KILL $$", Value::Null, json!("SIGKILL"), json!("SG"));
    check("kill -SEGV $$", Value::Null, json!("SIGSEGV"), json!("SG"));
    // A program that leaves a child behind ends when it ends itself.
    let run = bash(&daemon, "(sleep 60; echo late) & echo early", json!({}));
    assert_eq!(run["stdout"], "early\n");
    assert!(run["wall_time_ms"].as_u64() < Some(2000), "{run}");
    // Time on the processors counts children that have died.
    let spin = "for i in 1 2; do (i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done); done";
    let run = bash(&daemon, spin, json!({}));
    let (cpu, wall) = (run["cpu_time_ms"].as_u64(), run["wall_time_ms"].as_u64());
    assert!(cpu > Some(20) && cpu <= wall.map(|wall| wall + 20), "{run}");
    let system = run["system_time_ms"].as_u64();
    assert!(system.is_some() && system <= cpu, "{run}");
    // What the kernel does for a program is told apart.
    let asks = "exec dd if=/dev/zero of=/dev/null bs=64M count=20 iflag=fullblock status=none";
    let run = bash(&daemon, asks, json!({}));
    let (cpu, system) = (run["cpu_time_ms"].as_u64(), run["system_time_ms"].as_u64());
    assert!(
        system > Some(20) && system.map(|system| system * 2) > cpu,
        "{run}"
    );
}

fn c_and_cpp_compile_and_run(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let c = "#include <stdio.h>\n#include <math.h>\n#include \"add.h\"\n\
        int main(int n, char **v) { printf(\"%d %.1f %s\\n\", add(2, 3), sqrt(4.0), v[1]); return 5; }\n";
    let reply = daemon.execute(
        "gcc",
        &json!({
            "language": "c",
            "files": [
                {"name": "main.c", "content": c},
                {"name": "add.c", "content": "int add(int a, int b) { return a + b; }"},
                {"name": "add.h", "content": "int add(int, int);"},
            ],
            "args": ["arg"],
        }),
    );
    assert_eq!(reply["compile"]["code"], 0, "{reply}");
    assert_eq!(reply["run"]["stdout"], "5 2.0 arg\n", "{reply}");
    assert_eq!(reply["run"]["code"], 5);
    let cpp = "#include <iostream>\n#include <vector>\n#include <cstdlib>\n\
        int main() { std::vector<int> v{1, 2, 3}; std::cout << v.size() << std::endl; std::abort(); }\n";
    let reply = daemon.execute(
        "gcc",
        &json!({"language": "c++", "files": [{"name": "main.cpp", "content": cpp}]}),
    );
    assert_eq!(reply["language"], "c++");
    assert_eq!(reply["run"]["stdout"], "3\n", "{reply}");
    assert_eq!(reply["run"]["signal"], "SIGABRT", "{reply}");
}

fn a_compile_error_is_told_and_nothing_runs(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let body = json!({"language": "c", "files": [{"name": "bad.c", "content": "int main( {"}]});
    let reply = daemon.execute("gcc", &body);
    assert_eq!(reply["compile"]["status"], "RE", "{reply}");
    let stderr = reply["compile"]["stderr"].as_str().expect("text");
    assert!(stderr.contains("bad.c:1:"), "{stderr}");
    assert!(reply.get("run").is_none(), "{reply}");
}

fn limits_end_a_job_and_say_which(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let run = bash(
        &daemon,
        "echo before; sleep 60 & sleep 60",
        json!({"limits": {"run": {"wall_time_ms": 300}}}),
    );
    assert_eq!(
        (&run["status"], &run["stdout"]),
        (&json!("TO"), &json!("before\n")),
        "{run}"
    );
    assert_eq!(
        (&run["signal"], &run["code"]),
        (&json!("SIGKILL"), &Value::Null),
        "{run}"
    );
    let wall = run["wall_time_ms"].as_u64();
    assert!(wall >= Some(300) && wall < Some(1000), "{run}");
    // Exactly as many bytes as the limit, of each stream.
    let run = bash(
        &daemon,
        "while :; do echo 0123456789; done",
        json!({"limits": {"run": {"output_bytes": 1000}}}),
    );
    assert_eq!(
        (&run["status"], &run["truncated"]),
        (&json!("OL"), &json!(true)),
        "{run}"
    );
    assert_eq!(run["stdout"].as_str().map(str::len), Some(1000));
    let run = bash(
        &daemon,
        "while :; do echo 0123456789 >&2; done",
        json!({"limits": {"run": {"output_bytes": 1000}}}),
    );
    assert_eq!(
        (&run["status"], run["stderr"].as_str().map(str::len)),
        (&json!("EL"), Some(1000))
    );
    // Processor time.
    let run = bash(
        &daemon,
        "while :; do :; done",
        json!({"limits": {"run": {"cpu_time_ms": 1000}}}),
    );
    assert_eq!(run["status"], "TO", "{run}");
    // Disk, file size, processes, open files: the program sees the error.
    let run = bash(
        &daemon,
        "head -c 3000000 /dev/zero > big",
        json!({"limits": {"run": {"disk_bytes": 1 << 20}}}),
    );
    assert!(
        run["stderr"]
            .as_str()
            .is_some_and(|text| text.contains("No space left")),
        "{run}"
    );
    let run = bash(
        &daemon,
        "trap '' XFSZ; head -c 3000000 /dev/zero > big",
        json!({"limits": {"run": {"file_size_bytes": 1 << 20}}}),
    );
    assert!(
        run["stderr"]
            .as_str()
            .is_some_and(|text| text.contains("File too large")),
        "{run}"
    );
    let run = bash(
        &daemon,
        "for i in $(seq 50); do sleep 5 & done; wait",
        json!({"limits": {"run": {"processes": 10}}}),
    );
    assert!(
        run["stderr"]
            .as_str()
            .is_some_and(|text| text.contains("fork")),
        "{run}"
    );
    // A request only lowers a limit.
    let body = json!({"code": "true", "limits": {"run": {"wall_time_ms": 86_400_000}}});
    let reply = daemon.send("POST", "/api/v3/packages/bash/*/execute", &body);
    assert_eq!(
        (reply.status, &reply.json()["code"]),
        (422, &json!("limit_too_high"))
    );
    let detail = reply.json()["detail"].as_str().expect("text").to_owned();
    assert!(
        detail.contains("limits.run.wall_time_ms") && detail.ends_with(" is 3 s"),
        "{detail}"
    );
}

fn jobs_run_side_by_side(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let daemon = &daemon;
            scope.spawn(move || {
                // Each sees its own directory and process ids, and no trace of the others.
                let code = format!("echo {number} > mine; ls; ls /tmp; echo $$; cat mine");
                let run = bash(daemon, &code, json!({}));
                let expected = format!("file0.code\nmine\n2\n{number}\n");
                assert_eq!(run["stdout"], expected.as_str(), "{run}");
            });
        }
    });
}
