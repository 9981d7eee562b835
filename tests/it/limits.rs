//! Limits on whole process trees, and the figures of the replies.

use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

as_root_and_user!(
    children_that_are_together_over_the_memory_limit_end_the_job,
    one_process_over_its_memory_limit_fails_by_itself_or_ends_the_job,
    processor_time_over_its_limit_ends_the_job_at_once,
    peak_memory_is_told_of_children_too_and_alike_for_equal_jobs,
    pages_that_processes_share_are_counted_once,
    a_fork_bomb_stays_under_its_number_of_processes,
);

const MIB: u64 = 1 << 20;

/// A Python program's run stage.
fn python(daemon: &Daemon, code: &str, limits: &Value) -> Value {
    daemon.execute("python", &json!({"code": code, "limits": limits}))["run"].clone()
}

fn memory(run: &Value) -> u64 {
    run["memory_bytes"].as_u64().expect("a number")
}

fn children_that_are_together_over_the_memory_limit_end_the_job(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let code = "import os, time\n\
        for _ in range(4):\n\
        \x20   if os.fork() == 0:\n\
        \x20       held = bytearray(b'x') * (60 << 20)\n\
        \x20       time.sleep(60)\n\
        print('up', flush=True)\n\
        time.sleep(60)\n";
    let body = json!({"code": code, "limits": {"run": {"memory_bytes": 128 * MIB}}});
    let run = daemon.execute("python", &body)["run"].clone();
    assert_eq!(
        (&run["status"], &run["signal"], &run["message"]),
        (
            &json!("ML"),
            &json!("SIGKILL"),
            &json!("memory limit exceeded")
        ),
        "{run}"
    );
    assert_eq!(run["stdout"], "up\n");
    assert!(run["wall_time_ms"].as_u64() < Some(2000), "{run}");
    // Shared memory counts as well.
    let code = "import mmap, os, time\n\
        for _ in range(3):\n\
        \x20   if os.fork() == 0:\n\
        \x20       held = mmap.mmap(-1, 60 << 20)\n\
        \x20       for at in range(0, 60 << 20, 4096): held[at] = 1\n\
        \x20       time.sleep(60)\n\
        time.sleep(60)\n";
    let run = python(&daemon, code, &json!({"run": {"memory_bytes": 128 * MIB}}));
    assert_eq!(run["status"], "ML", "{run}");
    // The released Piston knows no such status: there it is a signal.
    let body = json!({
        "language": "python", "version": "*", "files": [{"content": code}],
        "run_memory_limit": 128 * MIB,
    });
    let run = &daemon.send("POST", "/api/v2/execute", &body).json()["run"];
    assert_eq!(
        (&run["status"], &run["signal"], &run["message"]),
        (
            &json!("SG"),
            &json!("SIGKILL"),
            &json!("Caught fatal signal 9")
        ),
        "{run}"
    );
}

fn one_process_over_its_memory_limit_fails_by_itself_or_ends_the_job(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let limits = json!({"run": {"memory_bytes": 128 * MIB}});
    let code = "held = bytearray(b'x' * (200 << 20))\nprint('held')\n";
    let run = python(&daemon, code, &limits);
    let failed = run["stderr"]
        .as_str()
        .is_some_and(|text| text.contains("MemoryError"));
    assert!(failed || run["status"] == "ML", "{run}");
    assert_eq!(run["stdout"], "", "{run}");
    // Address space alone is not memory.
    let code = "import mmap\nheld = mmap.mmap(-1, 8 << 30)\nprint('reserved')\n";
    let run = python(&daemon, code, &limits);
    assert_eq!(
        (&run["stdout"], &run["status"]),
        (&json!("reserved\n"), &Value::Null),
        "{run}"
    );
}

fn processor_time_over_its_limit_ends_the_job_at_once(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let limits = json!({"run": {"cpu_time_ms": 300, "wall_time_ms": 3000}});
    let check = |code: &str| {
        let run = python(&daemon, code, &limits);
        assert_eq!(
            (&run["status"], &run["message"], &run["signal"]),
            (
                &json!("TO"),
                &json!("Time limit exceeded"),
                &json!("SIGKILL")
            ),
            "{run}"
        );
        let used = run["cpu_time_ms"].as_u64().expect("a number");
        assert!((300..450).contains(&used), "{run}");
    };
    check("while True: pass\n");
    // The sum over processes counts, those that are dead and reaped too.
    check("import os\nos.fork()\nwhile True: pass\n");
    let generations = "import os, time\n\
        while True:\n\
        \x20   if os.fork() == 0:\n\
        \x20       end = time.process_time() + 0.03\n\
        \x20       while time.process_time() < end: pass\n\
        \x20       os._exit(0)\n\
        \x20   os.wait()\n";
    check(generations);
    // Waiting costs nothing.
    let run = python(&daemon, "import time; time.sleep(0.7)\n", &limits);
    assert_eq!(run["status"], Value::Null, "{run}");
}

fn peak_memory_is_told_of_children_too_and_alike_for_equal_jobs(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let own = "import time\nheld = bytearray(b'x') * (100 << 20)\ntime.sleep(0.2)\n";
    let first = memory(&python(&daemon, own, &json!({})));
    assert!((95 * MIB..130 * MIB).contains(&first), "{first}");
    let second = memory(&python(&daemon, own, &json!({})));
    assert!(first.abs_diff(second) * 20 < first, "{first} {second}");
    // Both hold it at once, however busy the machine is.
    let together = "import os, time\n\
        held, holds = os.pipe()\n\
        ended, end = os.pipe()\n\
        for _ in range(2):\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.close(end)\n\
        \x20       mine = bytearray(b'x') * (50 << 20)\n\
        \x20       os.write(holds, b'x')\n\
        \x20       os.read(ended, 1)\n\
        \x20       os._exit(0)\n\
        os.read(held, 1); os.read(held, 1)\n\
        time.sleep(0.3)\n\
        os.close(end)\n\
        os.wait(); os.wait()\n";
    let sum = memory(&python(&daemon, together, &json!({})));
    assert!((95 * MIB..140 * MIB).contains(&sum), "{sum}");
}

fn pages_that_processes_share_are_counted_once(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let code = "import os, time\n\
        held = bytearray(b'x') * (80 << 20)\n\
        for _ in range(4):\n\
        \x20   if os.fork() == 0:\n\
        \x20       time.sleep(0.3)\n\
        \x20       os._exit(0)\n\
        for _ in range(4): os.wait()\n\
        print('fine')\n";
    let run = python(&daemon, code, &json!({"run": {"memory_bytes": 200 * MIB}}));
    assert_eq!(
        (&run["stdout"], &run["status"]),
        (&json!("fine\n"), &Value::Null),
        "{run}"
    );
    assert!((75 * MIB..130 * MIB).contains(&memory(&run)), "{run}");
}

fn a_fork_bomb_stays_under_its_number_of_processes(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let code = "import os, time\n\
        made = 0\n\
        try:\n\
        \x20   while True:\n\
        \x20       if os.fork() == 0: time.sleep(60)\n\
        \x20       made += 1\n\
        except BlockingIOError:\n\
        \x20   print(made)\n";
    let run = python(&daemon, code, &json!({"run": {"processes": 20}}));
    let made: u64 = run["stdout"]
        .as_str()
        .and_then(|text| text.trim().parse().ok())
        .expect("a number");
    assert!((17..=19).contains(&made), "{run}");
    assert_eq!(run["code"], 0, "{run}");
}
