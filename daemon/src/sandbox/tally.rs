//! What a job's whole tree uses, and when its time is up: summed by init over the proc of its own PID namespace.
//!
//! Resource limits bind single processes; the sums over a tree are limited here. A job that ends
//! before [`FIRST`] costs nothing; a longer one is looked at every [`INTERVAL`], and less often
//! when looking takes long.
//!
//! Memory is what processes have in their address spaces besides files: anonymous, shared and
//! swapped-out pages. The kernel tells that of each process at once; pages that several have in
//! common are counted once for each, though, so when such a sum would be the highest yet it is
//! replaced by the true one, which the kernel has to walk page tables for.
//! Not counted: files in the workspace (they have a bound of their own) and memory that is in no
//! address space, such as an unmapped memfd.
//!
//! Processor time is what the kernel sums up of children that were waited for, and what is seen of
//! living ones. Children that nobody waits for (`SIGCHLD` ignored) are in no such sum when they
//! are dead: what each process was last seen to have used is remembered, which is less than all by
//! at most what it used after that look.
//!
//! Where control groups limit and count one of the two, that is not looked at; where they do both,
//! nothing is.
//!
//! This decides when a tree is over its limits; killing it is init's.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::spec::{Over, Watched};
use super::sys;

/// When a job is looked at first, after its start.
const FIRST: Duration = Duration::from_millis(15);

/// How long after a look the next one comes.
const INTERVAL: Duration = Duration::from_millis(20);

/// A look that takes long is followed by this many times its length without one.
const REST: u32 = 9;

/// The sums of one tree.
#[derive(Debug)]
pub(super) struct Tally {
    limits: Watched,
    /// Nanoseconds of one unit of processor time in proc.
    tick: u64,
    /// When its time is up, on the monotonic clock.
    end: Duration,
    /// When to look next, on the monotonic clock; none where there is nothing to look at.
    due: Option<Duration>,
    /// The limit that was exceeded.
    over: Option<Over>,
    /// Highest sum of memory seen, in bytes.
    memory: u64,
    /// Highest sum of processor time seen, in nanoseconds.
    cpu: u64,
    /// Processor time of each process at the last look, in ticks, by pid and time of start.
    alive: BTreeMap<(i32, u64), u64>,
    /// The same of all that were gone at a later look.
    gone: u64,
}

/// The figures of a tree that is dead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// The limit that it exceeded.
    pub(super) over: Option<Over>,
    /// Nanoseconds of user and system time.
    pub(super) cpu: u64,
    /// Those of them in the kernel, as far as the kernel tells.
    pub(super) system: u64,
    /// Bytes at the peak.
    pub(super) memory: u64,
}

impl Tally {
    /// The tally of a tree that was started at `start`.
    pub(super) fn new(limits: Watched, start: Duration) -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let ticks = ticks.ok().flatten().and_then(|n| u64::try_from(n).ok());
        let looks = limits.memory.is_some() || limits.cpu.is_some();
        Self {
            limits,
            tick: 1_000_000_000 / ticks.unwrap_or(100).max(1),
            end: start.saturating_add(Duration::from_nanos(limits.wall)),
            due: looks.then(|| start.saturating_add(FIRST)),
            over: None,
            memory: 0,
            cpu: 0,
            alive: BTreeMap::new(),
            gone: 0,
        }
    }

    /// How long to wait before [`Tally::look`] is called again; none for ever.
    pub(super) fn rest(&self, now: Duration) -> Option<Duration> {
        let next = self.due.map_or(self.end, |due| due.min(self.end));
        self.over.is_none().then(|| next.saturating_sub(now))
    }

    /// Looks at the tree when that is due. True when it has just been found over a limit.
    pub(super) fn look(&mut self, now: Duration) -> io::Result<bool> {
        if self.over.is_some() {
            return Ok(false);
        }
        if now >= self.end {
            self.over = Some(Over::WallTime);
            return Ok(true);
        }
        if self.due.is_none_or(|due| now < due) {
            return Ok(false);
        }
        let processes = processes()?;
        if self.limits.cpu.is_some() {
            self.count_cpu(&processes)?;
        }
        if self.limits.memory.is_some() {
            self.count_memory(processes)?;
        }
        self.over = if self.limits.memory.is_some_and(|limit| self.memory > limit) {
            Some(Over::Memory)
        } else if self.limits.cpu.is_some_and(|limit| self.cpu >= limit) {
            Some(Over::CpuTime)
        } else {
            None
        };
        let done = super::init::monotonic()?;
        let pause = INTERVAL.max(done.saturating_sub(now).saturating_mul(REST));
        self.due = Some(done.saturating_add(pause));
        Ok(self.over.is_some())
    }

    /// Figures of the tree, all of which has been reaped.
    pub(super) fn finish(&self) -> io::Result<Figures> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        // In KiB.
        let largest = u64::try_from(usage.max_rss()).unwrap_or(0) * 1024;
        Ok(Figures {
            over: self.over,
            cpu: self.cpu.max(cpu_of(&usage)),
            system: nanoseconds(usage.system_time()),
            memory: self.memory.max(largest),
        })
    }

    /// Dead children that were reaped, by init or by others, and all that is alive.
    fn count_cpu(&mut self, processes: &[Process]) -> io::Result<()> {
        let reaped = cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
        let ticks: u64 = processes.iter().map(|process| process.ticks).sum();
        let sum = ticks.saturating_mul(self.tick).saturating_add(reaped);
        let seen = self.seen(processes).saturating_mul(self.tick);
        self.cpu = self.cpu.max(sum).max(seen);
        Ok(())
    }

    /// Ticks that all processes were seen to have used by themselves, dead ones included.
    fn seen(&mut self, processes: &[Process]) -> u64 {
        let own = |process: &Process| ((process.pid, process.start), process.own_ticks);
        let alive: BTreeMap<_, _> = processes.iter().map(own).collect();
        let gone = self.alive.iter().filter(|(id, _)| !alive.contains_key(id));
        self.gone = self.gone.saturating_add(gone.map(|(_, ticks)| ticks).sum());
        self.alive = alive;
        self.gone.saturating_add(self.alive.values().sum())
    }

    fn count_memory(&mut self, processes: Vec<Process>) -> io::Result<()> {
        let rough: u64 = processes.iter().map(|process| process.memory).sum();
        if rough <= self.memory {
            return Ok(());
        }
        let sum = if processes.len() > 1 {
            shared_once_steadily(processes)?
        } else {
            rough
        };
        self.memory = self.memory.max(sum);
        Ok(())
    }
}

/// User and system time in nanoseconds.
fn cpu_of(usage: &Usage) -> u64 {
    nanoseconds(usage.user_time()).saturating_add(nanoseconds(usage.system_time()))
}

fn nanoseconds(time: TimeVal) -> u64 {
    let microseconds = u64::try_from(time.num_microseconds());
    microseconds.unwrap_or(0).saturating_mul(1000)
}

/// What proc tells of one process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// When it was started.
    start: u64,
    /// Processor time of its threads.
    own_ticks: u64,
    /// The same, and that of children that it has reaped.
    ticks: u64,
    /// Bytes of its address space that are in memory or in swap and are no file's.
    memory: u64,
    /// Bytes of its address space.
    size: u64,
}

/// Every process of the namespace but init. One that ends meanwhile is left out.
fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid == 1 {
            continue;
        }
        // Bytes: a program may call itself anything.
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        found.push(process(pid, &stat, &status));
    }
    Ok(found)
}

fn process(pid: i32, stat: &[u8], status: &[u8]) -> Process {
    let status = String::from_utf8_lossy(status);
    let Times { own, all, start } = times(&String::from_utf8_lossy(stat));
    Process {
        pid,
        start,
        own_ticks: own,
        ticks: all,
        memory: kibibytes(&status, &["RssAnon:", "RssShmem:", "VmSwap:"]),
        size: kibibytes(&status, &["VmSize:"]),
    }
}

/// Times in `/proc/PID/stat`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Times {
    /// `utime` and `stime`.
    own: u64,
    /// Those, `cutime` and `cstime`.
    all: u64,
    /// `starttime`.
    start: u64,
}

/// Reads `/proc/PID/stat`. The name before the times may hold anything, parentheses too.
fn times(stat: &str) -> Times {
    const FIRST_TIME: usize = 11;
    const START: usize = 19;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let sum = |count| (FIRST_TIME..).take(count).filter_map(number).sum();
    Times {
        own: sum(2),
        all: sum(4),
        start: number(START).unwrap_or(0),
    }
}

/// The sum, in bytes, of lines like `RssAnon:    1234 kB`.
fn kibibytes(text: &str, names: &[&str]) -> u64 {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let named = words.next().is_some_and(|name| names.contains(&name));
        let number = words.next().filter(|_| named)?;
        number.parse::<u64>().ok()
    };
    text.lines()
        .filter_map(value)
        .fold(0_u64, u64::saturating_add)
        .saturating_mul(1024)
}

/// The memory of all, every page counted once. A page's share changes when one of those who have
/// it ends or forks, and shares of different moments add up to too much: then it is done again.
fn shared_once_steadily(mut processes: Vec<Process>) -> io::Result<u64> {
    const ATTEMPTS: usize = 3;
    let living = |all: &[Process]| -> Vec<i32> {
        let alive = all.iter().filter(|process| process.size > 0);
        alive.map(|process| process.pid).collect()
    };
    let mut lowest = u64::MAX;
    for _ in 0..ATTEMPTS {
        lowest = lowest.min(shared_once(&processes));
        let after = self::processes()?;
        if living(&after) == living(&processes) {
            break;
        }
        processes = after;
    }
    Ok(lowest)
}

/// The memory of all at about this moment, every page counted once.
fn shared_once(processes: &[Process]) -> u64 {
    let mut sum: u64 = 0;
    for (index, process) in processes.iter().enumerate() {
        // A child of vfork has the very address space of its parent until it executes.
        let borrowed = processes[..index]
            .iter()
            .any(|other| other.size == process.size && sys::share_memory(other.pid, process.pid));
        if borrowed {
            continue;
        }
        let path = format!("/proc/{}/smaps_rollup", process.pid);
        let exact = std::fs::read_to_string(path).map_or(process.memory, |text| {
            kibibytes(&text, &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"])
        });
        sum = sum.saturating_add(exact);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_parentheses_does_not_shift_the_times() {
        let stat = "7 (a) R 1 (b)) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        let expected = Times {
            own: 30,
            all: 100,
            start: 5,
        };
        assert_eq!(times(stat), expected);
        assert_eq!(times("7 (cut off) S 1 7"), Times::default());
        assert_eq!(times(""), Times::default());
    }

    #[test]
    fn what_a_process_used_is_remembered_when_it_is_gone() {
        let limits = Watched {
            memory: None,
            cpu: Some(u64::MAX),
            wall: u64::MAX,
        };
        let mut tally = Tally::new(limits, Duration::ZERO);
        let process = |pid, start, own_ticks| Process {
            pid,
            start,
            own_ticks,
            ..Process::default()
        };
        assert_eq!(tally.seen(&[process(2, 1, 5), process(3, 1, 7)]), 12);
        assert_eq!(tally.seen(&[process(2, 1, 6)]), 13);
        // The same pid is another process when it was started at another time.
        assert_eq!(tally.seen(&[process(2, 1, 6), process(3, 9, 1)]), 14);
        assert_eq!(tally.seen(&[]), 14);
    }

    #[test]
    fn time_that_is_up_is_told_once_and_waited_for_exactly() {
        // Also where control groups do all the rest.
        let limits = Watched {
            memory: None,
            cpu: None,
            wall: 10_000_000,
        };
        let start = Duration::from_secs(5);
        let mut tally = Tally::new(limits, start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(tally.rest(at(4)), Some(Duration::from_millis(6)));
        assert!(!tally.look(at(9)).unwrap());
        assert!(tally.look(at(10)).unwrap());
        assert_eq!(tally.over, Some(Over::WallTime));
        assert_eq!(tally.rest(at(11)), None);
        assert!(!tally.look(at(11)).unwrap());
    }

    #[test]
    fn memory_is_what_is_no_files() {
        let status = "Name:\tRssAnon: 5\nVmSize:\t    9000 kB\nVmRSS:\t     700 kB\n\
                      RssAnon:\t     100 kB\nRssFile:\t     500 kB\nRssShmem:\t     20 kB\n\
                      VmSwap:\t       3 kB\n";
        let seen = process(7, b"", status.as_bytes());
        assert_eq!(seen.memory, 123 << 10);
        assert_eq!(seen.size, 9000 << 10);
        assert_eq!(
            process(8, b"", b""),
            Process {
                pid: 8,
                ..Process::default()
            }
        );
    }

    #[test]
    fn this_very_process_is_seen_and_its_memory_counted_once() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = processes().unwrap();
        let mine = all.iter().find(|process| process.pid == me).unwrap();
        assert!(mine.memory > 0 && mine.size > mine.memory);
        let exact = shared_once(&[*mine, *mine]);
        assert!(exact < 2 * mine.memory, "{exact} {mine:?}");
    }
}
