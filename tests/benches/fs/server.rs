//! Our server as a process of its own: this program started anew, spoken to in lines.
//!
//! It publishes as the daemon does: every package by itself, and a view of it over the base.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use piston_fs::image::Image;
use piston_fs::layer::{Layer, Placed};
use piston_fs::mount::{DEADLINE, MountOptions, Server};

use crate::set::Set;

/// Where the measured view is in the mount.
pub(crate) const VIEW: &str = "views/all/1.0.0";

/// How this program is told to serve.
pub(crate) const COMMAND: &str = "serve";

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nothing.
    Nothing,
    /// The packages and views of the set.
    Set,
    /// Only the measured view.
    View,
    /// A hundred packages, made of those of the set, each with its view over the base.
    Hundred,
}

impl Contents {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Nothing, "nothing"),
        (Self::Set, "set"),
        (Self::View, "view"),
        (Self::Hundred, "hundred"),
    ];
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// From opening the first index to the last publication.
    pub(crate) started_in: Duration,
}

/// Counters of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Requests of the kernel.
    pub(crate) requests: u64,
    /// Of those, the ones that caches should answer: lookups, opens, reads, listings.
    pub(crate) avoidable: u64,
    /// Nodes in the tables.
    pub(crate) nodes: u64,
}

impl Serving {
    /// Starts a server on a mount point.
    pub(crate) fn start(set: &Set, at: &Path, contents: Contents) -> Self {
        let this = std::env::current_exe().expect("this program");
        let named = Contents::ALL
            .into_iter()
            .find(|(known, _)| *known == contents);
        let (_, word) = named.expect("all are there");
        let mut command = Command::new(this);
        command.arg(COMMAND).arg(word).arg(at);
        for package in set.packages() {
            command.arg(&package.image).arg(&package.index);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("this program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut serving = Self {
            child,
            input,
            output,
            started_in: Duration::ZERO,
        };
        serving.started_in = Duration::from_micros(serving.numbers()[0]);
        serving
    }

    fn numbers(&mut self) -> Vec<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        let numbers: Result<_, _> = line.split_whitespace().map(str::parse).collect();
        numbers.expect("numbers")
    }

    fn ask(&mut self, question: &str) -> Vec<u64> {
        let input = self.input.as_mut().expect("taken when dropped");
        writeln!(input, "{question}").expect("the server listens");
        self.numbers()
    }

    /// Its counters.
    pub(crate) fn counted(&mut self) -> Counted {
        let numbers = self.ask("stats");
        Counted {
            requests: numbers[0],
            avoidable: numbers[1],
            nodes: numbers[2],
        }
    }

    /// The time that publishing the measured view once more takes.
    pub(crate) fn publish(&mut self) -> Duration {
        Duration::from_micros(self.ask("publish")[0])
    }

    /// Its memory in bytes that no file backs.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("a figure");
        kib * 1024
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Where it is kept what the first reads of an image touched, for the next start.
pub(crate) fn hot_list(image: &Path) -> PathBuf {
    image.with_extension("hot")
}

/// The child's part.
pub(crate) fn serve(arguments: &[String]) {
    let [contents, at, files @ ..] = arguments else {
        panic!("serve CONTENTS MOUNTPOINT (IMAGE INDEX)...");
    };
    let named = Contents::ALL.into_iter().find(|(_, word)| word == contents);
    let (contents, _) = named.expect("contents");
    let started = Instant::now();
    let server = Server::mount(&MountOptions {
        path: PathBuf::from(at),
        // As the daemon does where its configuration says nothing.
        threads: std::thread::available_parallelism()
            .map_or(3, |count| (count.get() + 1).clamp(3, 17)),
        cache_bytes: 256 << 20,
        deadline: DEADLINE,
    });
    let server = server.expect("a mount");
    let open = |position: usize| -> Placed {
        let [image, index] = [&files[2 * position], &files[2 * position + 1]].map(Path::new);
        let opened = Image::open(image, index).expect("a verified image");
        Placed {
            layer: Layer::Image(Arc::new(opened.with_hot_list(hot_list(image)))),
            at: "/".to_owned(),
        }
    };
    let mut view = Vec::new();
    match contents {
        Contents::Nothing => {}
        Contents::View => {
            view = (0..3).map(open).collect();
            publish(&server, VIEW, &view);
        }
        Contents::Set => {
            let packages: Vec<_> = (0..4).map(open).collect();
            publish_packages(&server, &packages);
            view = packages[..3].to_vec();
            publish(&server, VIEW, &view);
        }
        Contents::Hundred => {
            let others = (0..99).map(|number| open(1 + number % 3));
            let packages: Vec<_> = std::iter::once(open(0)).chain(others).collect();
            publish_packages(&server, &packages);
        }
    }
    say(&[micros(started)]);
    for line in std::io::stdin().lines() {
        if line.expect("a line") == "stats" {
            let stats = server.stats();
            let avoidable = stats.lookups + stats.opens + stats.reads + stats.listings;
            say(&[stats.requests, avoidable, stats.nodes]);
        } else {
            let started = Instant::now();
            publish(&server, "views/again/1.0.0", &view);
            say(&[micros(started)]);
            let gone = server.unpublish("views/again/1.0.0");
            gone.expect("it is there");
        }
    }
}

/// Publishes each package, and each but the base in a view over the base, which is the first.
fn publish_packages(server: &Server, packages: &[Placed]) {
    for (number, package) in packages.iter().enumerate() {
        let package = package.clone();
        publish(server, &format!("packages/p{number}/1.0.0"), &[package]);
    }
    for (number, package) in packages.iter().enumerate().skip(1) {
        let layers = [packages[0].clone(), package.clone()];
        publish(server, &format!("views/p{number}/1.0.0"), &layers);
    }
}

fn publish(server: &Server, path: &str, layers: &[Placed]) {
    server.publish(path, layers).expect("a publication");
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("not for ever")
}

fn say(numbers: &[u64]) {
    let words: Vec<_> = numbers.iter().map(u64::to_string).collect();
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", words.join(" ")).expect("somebody listens");
    output.flush().expect("somebody listens");
}
