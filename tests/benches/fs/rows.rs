//! The rows of the table: which workload, how often, and what it has to reach.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use piston_fs::image::verify::{Bounds, verify};

use crate::server::{Contents, Serving};
use crate::set::Set;
use crate::subject::{Mounted, Subject, run};
use crate::table::{Asked, Figure, Unit, Verdict};
use crate::work::{ABSENT, Hammer, Work, cool};

/// Whether caches are dropped and everything is mounted anew before every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caches {
    Cold,
    Warm,
}

/// What a row measures.
#[derive(Debug, Clone, Copy)]
enum Measured {
    /// A workload on all subjects, with bounds of our time over others'.
    Rivals(Work, Caches, &'static [(Subject, f64)]),
    /// Something of ours alone: the figures, each with its bound.
    Alone(fn(&Set, usize) -> Vec<Figure>),
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// What it is called and chosen by.
    pub(crate) name: &'static str,
    measured: Measured,
}

use Caches::{Cold, Warm};
use Measured::{Alone, Rivals};
use Subject::{Bare, Kernel, Plain};

/// All rows.
pub(crate) const ROWS: &[Row] = &[
    row("find-cold", Rivals(Work::Find, Cold, &[(Kernel, 0.75)])),
    row("find-warm", Rivals(Work::Find, Warm, &[(Plain, 1.05)])),
    // Where nobody is asked, what is left is the kernel's: ext4 has a shorter way in it than any
    // FUSE filesystem, so the bound is on what such a one takes at the least.
    row("lstat-warm", Rivals(Work::Lstat, Warm, &[(Bare, 1.05)])),
    row("open-warm", Rivals(Work::Open, Warm, &[(Bare, 1.05)])),
    row(
        "read-cold",
        Rivals(Work::ReadAll(1), Cold, &[(Kernel, 0.85)]),
    ),
    row(
        "read2-cold",
        Rivals(Work::ReadAll(2), Cold, &[(Kernel, 1.0)]),
    ),
    // A zstd block can only be inflated whole, 128 KiB for each 4, here as in the kernel; the rest is
    // the disk's. Smaller blocks would be the remedy.
    row(
        "random-cold",
        Rivals(Work::RandomReads, Cold, &[(Kernel, 0.8)]),
    ),
    row("python-cold", Rivals(Work::Python, Cold, &[(Kernel, 1.0)])),
    row("python-warm", Rivals(Work::Python, Warm, &[(Plain, 1.05)])),
    row("g++-cold", Rivals(Work::Compile, Cold, &[(Kernel, 0.8)])),
    row("g++-warm", Rivals(Work::Compile, Warm, &[(Plain, 1.03)])),
    row("request", Alone(request)),
    row("memory", Alone(memory)),
    row("publish", Alone(publish)),
    row("start", Alone(start)),
    row("verify", Alone(verification)),
    row("hammer", Alone(hammer)),
];

const fn row(name: &'static str, measured: Measured) -> Row {
    Row { name, measured }
}

impl Row {
    /// Measures it in so many rounds and prints it as it comes.
    pub(crate) fn run(&self, set: &Set, rounds: usize) -> Verdict {
        match self.measured {
            Alone(measure) => {
                let figures = measure(set, rounds);
                figures
                    .iter()
                    .map(|figure| figure.print(self.name))
                    .collect()
            }
            Rivals(work, caches, bounds) => {
                let subjects: Vec<_> = Subject::ALL
                    .into_iter()
                    .filter(|one| *one != Bare || bounds.iter().any(|(rival, _)| *rival == Bare))
                    .collect();
                let (times, asked) = match caches {
                    Cold => cold(set, work, &subjects, rounds),
                    Warm => warm(set, work, &subjects, 3 * rounds),
                };
                crate::table::print(self.name, &times, asked, bounds)
            }
        }
    }
}

/// Times of each subject in the order of [`Subject::ALL`], of which the last may be left out.
type Times = [Vec<Duration>; 5];

fn mount(set: &Set, work: Work, subject: Subject) -> Mounted {
    let mounted = subject.mount(set);
    if work.needs_tmp() {
        mounted.with_tmp()
    } else {
        mounted
    }
}

/// The subjects in an order that every round begins with another.
fn in_turn(subjects: &[Subject], round: usize) -> impl Iterator<Item = usize> {
    let count = subjects.len();
    (0..count).map(move |position| (position + round) % count)
}

/// What our server was asked: all requests, and those that caches should answer.
fn asked(mounted: &mut [Mounted]) -> (u64, u64) {
    let ours = mounted
        .iter_mut()
        .find_map(|mounted| mounted.server.as_mut());
    let counted = ours.map(Serving::counted);
    counted.map_or((0, 0), |counted| (counted.requests, counted.avoidable))
}

/// Times of all subjects, and the requests of a round.
fn cold(set: &Set, work: Work, subjects: &[Subject], rounds: usize) -> (Times, Asked) {
    let mut times = Times::default();
    let mut requests = 0;
    set.forget_hot_lists();
    if work.is_start() {
        work.measure(set, &mount(set, work, Subject::Ours));
    }
    for round in 0..rounds {
        for subject in in_turn(subjects, round) {
            if !work.is_start() {
                set.forget_hot_lists();
            }
            let mut mounted = [mount(set, work, subjects[subject])];
            cool(set);
            let (before, _) = asked(&mut mounted);
            times[subject].push(work.measure(set, &mounted[0]));
            requests += asked(&mut mounted).0 - before;
        }
    }
    let requests = requests / u64::try_from(rounds).expect("few");
    (times, Asked::Cold(requests))
}

/// Times of all subjects, and the requests of all rounds. The kernel asks for some things always
/// (the size of the filesystem, whether a file is a terminal); lookups, opens, reads and listings
/// are not among them.
fn warm(set: &Set, work: Work, subjects: &[Subject], rounds: usize) -> (Times, Asked) {
    let mut mounted: Vec<_> = subjects.iter().map(|&one| mount(set, work, one)).collect();
    for one in mounted.iter().chain(&mounted) {
        work.measure(set, one);
    }
    let mut times = Times::default();
    let (_, before) = asked(&mut mounted);
    for round in 0..rounds {
        for subject in in_turn(subjects, round) {
            times[subject].push(work.measure(set, &mounted[subject]));
        }
    }
    (times, Asked::Warm(asked(&mut mounted).1 - before))
}

/// The median of what some rounds of a measurement give.
fn median(rounds: usize, measure: impl FnMut() -> Duration) -> f64 {
    let mut times: Vec<_> = std::iter::repeat_with(measure).take(rounds).collect();
    crate::table::median(&mut times)
}

/// Resident memory that the tables of the set take, for each node.
fn memory(set: &Set, rounds: usize) -> Vec<Figure> {
    let at = set.scratch.join("memory");
    let mut bytes: Vec<_> = (0..rounds)
        .map(|_| {
            let empty = Serving::start(set, &at, Contents::Nothing).memory();
            let mut full = Serving::start(set, &at, Contents::Set);
            let taken = full.memory().saturating_sub(empty);
            Duration::from_nanos(taken * 1000 / full.counted().nodes)
        })
        .collect();
    let bytes = crate::table::median(&mut bytes) * 1e6;
    vec![Figure::new("tables by node", bytes, Unit::Bytes, 120.0)]
}

/// What a request takes by itself, whoever answers: for the rows in which requests are what costs.
fn request(set: &Set, rounds: usize) -> Vec<Figure> {
    let mounted = Bare.mount(set);
    let time = median(3 * rounds, || Work::Absent.measure(set, &mounted));
    let micros = time * 1e6 / f64::from(ABSENT);
    let name = "a name that a FUSE filesystem looks up in no time";
    vec![Figure::told(name, micros, Unit::Micros)]
}

fn publish(set: &Set, rounds: usize) -> Vec<Figure> {
    let mut server = Serving::start(set, &set.scratch.join("publish"), Contents::Set);
    let time = median(3 * rounds, || server.publish());
    let name = format!("a view of {} paths", set.paths.len());
    vec![Figure::new(&name, time * 1e3, Unit::Millis, 10.0)]
}

fn start(set: &Set, rounds: usize) -> Vec<Figure> {
    let at = set.scratch.join("start");
    let mut figures = Vec::new();
    for (contents, name, bound) in [
        (Contents::View, "one view", 20.0),
        (Contents::Hundred, "100 packages, 99 views", 500.0),
    ] {
        let mut nodes = 0;
        let time = median(rounds, || {
            let mut server = Serving::start(set, &at, contents);
            nodes = server.counted().nodes;
            server.started_in
        });
        let name = format!("{name}, {nodes} nodes");
        figures.push(Figure::new(&name, time * 1e3, Unit::Millis, bound));
    }
    figures
}

/// Verifying against unpacking, both of an image that is in the page cache.
fn verification(set: &Set, rounds: usize) -> Vec<Figure> {
    let (index, unpacked) = (set.scratch.join("index"), set.scratch.join("unpacked"));
    let package = set.largest();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        verify(&package.image, &index, &Bounds::default()).expect("a sound image");
        ours.push(start.elapsed());
        std::fs::remove_file(&index).expect("it was written");
        let start = Instant::now();
        run(
            Command::new("unsquashfs").args(["-q", "-n", "-d"]),
            &[&unpacked, &package.image],
        );
        theirs.push(start.elapsed());
        std::fs::remove_dir_all(&unpacked).expect("it was unpacked");
    }
    let (ours, theirs) = (
        crate::table::median(&mut ours),
        crate::table::median(&mut theirs),
    );
    let name = format!("{} in {:.0} ms, over unsquashfs", package.name, ours * 1e3);
    vec![Figure::new(&name, ours / theirs, Unit::Ratio, 1.0)]
}

/// What somebody who keeps the server busy costs somebody else.
fn hammer(set: &Set, rounds: usize) -> Vec<Figure> {
    let beside = |hammer: Hammer, caches: Caches| {
        let mounted = Subject::Ours.mount(set);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| hammer.until(set, &mounted, || stop.load(Ordering::Relaxed)));
            let times = median(if caches == Cold { rounds } else { 3 * rounds }, || {
                if caches == Cold {
                    cool(set);
                }
                Work::Python.measure(set, &mounted)
            });
            stop.store(true, Ordering::Relaxed);
            times
        })
    };
    let alone = beside(Hammer::Nobody, Cold);
    let burnt = beside(Hammer::Computing, Warm);
    let mut figures = Vec::new();
    for (hammer, name) in [(Hammer::Lookups, "lookups"), (Hammer::Reads, "reads")] {
        let cold = beside(hammer, Cold) / alone;
        let warm = beside(hammer, Warm) / burnt;
        let name = |what: &str| format!("{what} beside {name}");
        figures.push(Figure::new(
            &name("a cold Python, over alone,"),
            cold,
            Unit::Ratio,
            3.0,
        ));
        let over = "a warm Python, over beside computing,";
        figures.push(Figure::new(&name(over), warm, Unit::Ratio, 1.0));
    }
    figures
}
