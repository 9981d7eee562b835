//! What a job costs: every row is measured in alternation with its anchors in one run.
//!
//! Rows can be chosen by name; without any all are measured. Times are in microseconds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod api;
mod programs;
mod sandbox;
mod times;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use piston_tests::{Daemon, Who, packages};

use api::{Connection, request};
use times::{Times, alternate};

/// A row of the table.
type Row = (&'static str, fn(&Bench));

const ROWS: [Row; 8] = [
    ("sandbox", sandbox_alone),
    ("memory", large_daemon),
    ("api", through_the_api),
    ("throughput", many_clients),
    ("burst", all_at_once),
    ("batch", many_cases),
    ("lasting", many_jobs),
    ("view", warm_python),
];

/// Clients at once, where throughput is measured.
const CLIENTS: usize = 16;

/// Submissions at once.
const BURST: usize = 1000;

/// Cases of a batch.
const CASES: u32 = 100;

/// What all rows share.
struct Bench {
    rounds: usize,
    daemon: Daemon,
    /// A root directory with the static program, in a folder of its own.
    native: PathBuf,
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let rounds = std::env::var("PISTON_BENCH_ROUNDS").ok();
    let folder = tempfile::tempdir().expect("folder");
    let native = programs::root(folder.path());
    let daemon = Daemon::start(Who::Root);
    packages::install(&daemon, &["bash", "python"]);
    let uploaded = daemon.upload(&programs::package(folder.path(), &native));
    assert!(matches!(uploaded.status, 200 | 201), "{uploaded:?}");
    let bench = Bench {
        rounds: rounds.and_then(|text| text.parse().ok()).unwrap_or(200),
        daemon,
        native,
    };
    for (name, row) in ROWS {
        // Cargo adds a flag of its own.
        let named = chosen.iter().any(|word| word == name);
        if named || chosen.iter().all(|word| word.starts_with("--")) {
            row(&bench);
        }
    }
}

impl Bench {
    fn connect(&self) -> Connection {
        Connection::open(&self.daemon.socket())
    }

    fn program(&self) -> String {
        path(&self.native.join("bin/hi"))
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// The sandbox over a bare spawn of the same static program.
fn sandbox_alone(bench: &Bench) {
    println!("sandbox of a static program, against a bare spawn of it");
    let sandbox = sandbox::Bench::start(bench.native.parent().expect("a folder"));
    let (program, root) = (bench.program(), path(&bench.native));
    let mut bare = || programs::spawn(&[&program], "hi\n");
    let mut piston = || sandbox.run();
    let mut bubblewrap = || programs::spawn(&programs::bubblewrap(&root), "hi\n");
    let mut nsjail = || programs::spawn(&programs::nsjail(&root), "hi\n");
    let mut subjects: Vec<(&str, &mut dyn FnMut())> =
        vec![("bare spawn", &mut bare), ("sandbox", &mut piston)];
    if programs::installed("bwrap") {
        subjects.push(("bubblewrap", &mut bubblewrap));
    }
    if programs::installed("nsjail") {
        subjects.push(("nsjail", &mut nsjail));
    }
    let times = alternate(bench.rounds, &mut subjects);
    over("sandbox over bare spawn", &times[1], &times[0], 0.8);
}

/// Prints a difference of medians and what was promised.
fn over(what: &str, subject: &Times, anchor: &Times, promised: f64) {
    let over = (subject.median() - anchor.median()) / 1000.0;
    println!("  {what}: {over:.2} ms at the median (aim: at most {promised})\n");
}

/// The same sandbox from a process that uses 1 GB.
fn large_daemon(bench: &Bench) {
    println!("sandbox from a process of 1 GB, against the same process without");
    let sandbox = sandbox::Bench::start(bench.native.parent().expect("a folder"));
    let (mut small, mut large) = (Times::default(), Times::default());
    for batch in 0..6 {
        let memory = vec![1_u8; 1 << 30];
        for _ in 0..=bench.rounds / 5 {
            let time = Instant::now();
            sandbox.run();
            if batch > 0 {
                large.push(time.elapsed());
            }
        }
        assert_eq!(std::hint::black_box(&memory)[memory.len() / 2], 1);
        drop(memory);
        for _ in 0..=bench.rounds / 5 {
            let time = Instant::now();
            sandbox.run();
            if batch > 0 {
                small.push(time.elapsed());
            }
        }
    }
    small.report("small process");
    large.report("process of 1 GB");
    println!(
        "  ratio of the medians: {:.3} (promised: at most 1.20)\n",
        large.median() / small.median()
    );
}

/// Whole jobs over the socket, one at a time, against bare spawns of the same command lines.
fn through_the_api(bench: &Bench) {
    let folder = bench.daemon.folder();
    let (bash, python) = (folder.join("hi.sh"), folder.join("one.py"));
    std::fs::write(&bash, "echo hi").expect("script");
    std::fs::write(&python, "print(1)").expect("script");
    let (bash, python, native) = (path(&bash), path(&python), bench.program());
    let rows: [(&str, &str, &str, &[&str], f64); 3] = [
        ("bash", "echo hi", "hi\n", &["/bin/bash", &bash], 1.5),
        (
            "python",
            "print(1)",
            "1\n",
            &["/usr/bin/python3", &python],
            2.5,
        ),
        ("native", "", "hi\n", &[&native], 1.5),
    ];
    for (package, code, printed, command, promised) in rows {
        println!("{package} through the API, against a bare spawn of the same");
        let request = request(package, code);
        let mut connection = bench.connect();
        let mut job = || connection.run(&request, printed);
        let mut bare = || programs::spawn(command, printed);
        let mut subjects: [(&str, &mut dyn FnMut()); 2] =
            [("bare spawn", &mut bare), ("job", &mut job)];
        let times = alternate(bench.rounds, &mut subjects);
        over("job over bare spawn", &times[1], &times[0], promised);
    }
}

/// Jobs a second of many clients, against loops of bare spawns and of bubblewrap.
fn many_clients(bench: &Bench) {
    println!("a second, on {} processors", cores());
    let request = request("native", "");
    let (program, root) = (bench.program(), path(&bench.native));
    let span = Duration::from_secs(2);
    let mut rates = [(); 3].map(|()| Vec::new());
    for _ in 0..3 {
        rates[0].push(rate(CLIENTS, span, || {
            let mut connection = bench.connect();
            let request = &request;
            move || connection.run(request, "hi\n")
        }));
        rates[1].push(rate(cores(), span, || {
            || programs::spawn(&[&program], "hi\n")
        }));
        if programs::installed("bwrap") {
            rates[2].push(rate(cores(), span, || {
                || programs::spawn(&programs::bubblewrap(&root), "hi\n")
            }));
        }
    }
    let names = ["jobs of 16 clients", "bare spawns", "bubblewrap"];
    for (name, rates) in names.into_iter().zip(&mut rates) {
        rates.sort_unstable_by(f64::total_cmp);
        if let Some(median) = rates.get(rates.len() / 2) {
            println!("  {name:<34} {median:8.0}/s");
        }
    }
    println!("  (aim: at least 700 jobs on 2 processors)\n");
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How often a second `workers` threads together do what each makes for itself.
fn rate<A: FnMut()>(workers: usize, span: Duration, make: impl Fn() -> A + Sync) -> f64 {
    let start = Instant::now();
    let done = Mutex::new(0_u32);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut action = make();
                let mut count = 0;
                while start.elapsed() < span {
                    action();
                    count += 1;
                }
                *done.lock().expect("no panic") += count;
            });
        }
    });
    let done = *done.lock().expect("no panic");
    f64::from(done) / start.elapsed().as_secs_f64()
}

/// Everybody submits in the same moment.
fn all_at_once(bench: &Bench) {
    println!("{BURST} submissions at once");
    let request = request("native", "");
    let answers = Mutex::new((Times::default(), Times::default(), 0));
    let start = std::sync::Barrier::new(BURST);
    std::thread::scope(|scope| {
        for _ in 0..BURST {
            let client = || {
                let mut connection = bench.connect();
                start.wait();
                let begun = Instant::now();
                let (status, reply) = connection.exchange(&request);
                let whole = begun.elapsed();
                let mut answers = answers.lock().expect("no panic");
                match status {
                    200 if reply["run"]["stdout"] == "hi\n" => {
                        let queued = reply["timings"]["queue_us"].as_u64().expect("a time");
                        answers.0.push(whole);
                        answers.1.push(Duration::from_micros(queued));
                    }
                    429 => answers.2 += 1,
                    _ => panic!("{status}: {reply}"),
                }
            };
            std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, client)
                .expect("a thread");
        }
    });
    let (whole, queued, refused) = answers.into_inner().expect("no panic");
    whole.report("answered with the result");
    queued.report("of that, in the queue");
    println!("  answered with 429: {refused}; lost: 0\n");
}

/// A program run against many inputs by one request: one after another, and as many at a time as
/// there are processors, as a judge asks for.
fn many_cases(bench: &Bench) {
    println!("{CASES} cases in one request, a case against a bare spawn");
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let count = usize::try_from(CASES).expect("few");
    let requests = [1, processors].map(|parallel| api::batch("native", count, "hi\n", parallel));
    let program = bench.program();
    let mut connection = bench.connect();
    let (mut cases, mut bare) = ([Times::default(), Times::default()], Times::default());
    for round in 0..=bench.rounds / 20 {
        for (request, times) in requests.iter().zip(&mut cases) {
            let start = Instant::now();
            let (status, reply) = connection.exchange(request);
            let time = start.elapsed() / CASES;
            assert_eq!(status, 200, "{reply}");
            if round > 0 {
                times.push(time);
            }
        }
        for _ in 0..CASES {
            bare.measure(|| programs::spawn(&[&program], "hi\n"));
        }
    }
    let [single, parallel] = cases;
    bare.report("bare spawn");
    single.report("case, one at a time");
    parallel.report(&format!("case, {processors} at a time"));
    over("one at a time over bare spawn", &single, &bare, 1.2);
    over("in parallel over bare spawn", &parallel, &bare, 1.2);
}

/// Memory of a daemon that has run many jobs.
fn many_jobs(bench: &Bench) {
    println!("memory of the daemon after 10,000 jobs, against after 1,000");
    let request = request("native", "");
    let run = |jobs: usize| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = bench.connect();
                    (0..jobs.div_ceil(CLIENTS)).for_each(|_| connection.run(&request, "hi\n"));
                });
            }
        });
        bench.daemon.resident() >> 10
    };
    let (before, after) = (run(1000), run(9000));
    println!("  {before} KiB and {after} KiB (promised: at most 20 % more)\n");
}

/// A warm Python start inside the view against the same files in a plain directory.
fn warm_python(bench: &Bench) {
    println!("python3 -c pass in the view, against a plain directory");
    let view = only(&bench.daemon.mount().join("views/python"));
    let plain = bench.daemon.folder().join("plain");
    let copied = Command::new("cp").arg("-a").args([&view, &plain]).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying");
    let mut inside = || chroot(&view);
    let mut outside = || chroot(&plain);
    let mut subjects: [(&str, &mut dyn FnMut()); 2] = [
        ("in the view", &mut inside),
        ("in a plain directory", &mut outside),
    ];
    let times = alternate(bench.rounds / 4, &mut subjects);
    println!(
        "  ratio of the medians: {:.3} (promised: at most 1.10)\n",
        times[0].median() / times[1].median()
    );
}

fn chroot(root: &Path) {
    let status = Command::new("/usr/sbin/chroot")
        .arg(root)
        .args(["/usr/bin/python3", "-c", "pass"])
        .env_clear()
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "python in {}",
        root.display()
    );
}

/// The only folder in a folder.
fn only(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).expect("a folder");
    entries.next().expect("an entry").expect("an entry").path()
}
