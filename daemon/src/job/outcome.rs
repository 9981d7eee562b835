//! How a stage ended: the verdict, in the words both APIs use.

use std::time::Duration;

use nix::sys::signal::Signal;
use piston_client::api::Status;
use piston_client::units::Bytes;

/// How one stage ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StageOutcome {
    /// What it wrote to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Both in the order received.
    pub output: Vec<u8>,
    /// Exit code, none when a signal ended it.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Why it did not end well, none when it did.
    pub verdict: Option<Verdict>,
    /// From the program's start to its end.
    pub wall_time: Duration,
    /// Of the whole process tree.
    pub cpu_time: Duration,
    /// What of that was in the kernel.
    pub system_time: Duration,
    /// Peak memory.
    pub memory: Bytes,
}

/// Why a stage did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Exit code other than 0.
    ExitCode(i32),
    /// Died of a signal that we did not send.
    Signal(i32),
    /// Out of time on the clock.
    WallTime,
    /// Neither read nor printed for too long.
    Idle,
    /// Out of time on the processors.
    CpuTime,
    /// Out of memory.
    MemoryLimit,
    /// Standard output over its limit.
    StdoutLimit,
    /// Standard error over its limit.
    StderrLimit,
    /// Ended by a request or a shutdown.
    Killed,
    /// Left more files than are taken out of its directory; in words.
    LeftTooMuch(String),
    /// A fault of ours, with its reason.
    Internal(String),
}

impl Verdict {
    /// The short form on the wire.
    pub fn status(&self) -> Status {
        match self {
            Self::ExitCode(_) | Self::LeftTooMuch(_) => Status::RuntimeError,
            Self::Signal(_) => Status::Signalled,
            Self::WallTime | Self::Idle | Self::CpuTime => Status::TimedOut,
            Self::MemoryLimit => Status::MemoryLimit,
            Self::StdoutLimit => Status::StdoutLimit,
            Self::StderrLimit => Status::StderrLimit,
            Self::Killed => Status::Killed,
            Self::Internal(_) => Status::Internal,
        }
    }

    /// The verdict in words.
    pub fn message(&self) -> String {
        match self {
            Self::ExitCode(code) => format!("Exited with error status {code}"),
            Self::Signal(number) => format!("Caught fatal signal {number}"),
            Self::WallTime => "Time limit exceeded (wall clock)".to_owned(),
            Self::Idle => "Time limit exceeded (idle)".to_owned(),
            Self::CpuTime => "Time limit exceeded".to_owned(),
            Self::MemoryLimit => "memory limit exceeded".to_owned(),
            Self::StdoutLimit => "stdout length exceeded".to_owned(),
            Self::StderrLimit => "stderr length exceeded".to_owned(),
            Self::Killed => "Cancelled".to_owned(),
            Self::LeftTooMuch(reason) => format!("Files were not taken: {reason}"),
            Self::Internal(reason) => format!("Internal fault: {reason}"),
        }
    }
}

impl StageOutcome {
    /// A stage that did not start.
    pub fn failed(verdict: Verdict) -> Self {
        Self {
            verdict: Some(verdict),
            ..Self::default()
        }
    }

    /// Everything but what it printed.
    #[must_use]
    pub fn without_output(&self) -> Self {
        Self {
            stdout: Vec::new(),
            stderr: Vec::new(),
            output: Vec::new(),
            code: self.code,
            signal: self.signal,
            verdict: self.verdict.clone(),
            wall_time: self.wall_time,
            cpu_time: self.cpu_time,
            system_time: self.system_time,
            memory: self.memory,
        }
    }

    /// The status, none when the stage ended well.
    pub fn status(&self) -> Option<Status> {
        self.verdict.as_ref().map(Verdict::status)
    }

    /// The verdict in words.
    pub fn message(&self) -> Option<String> {
        self.verdict.as_ref().map(Verdict::message)
    }

    /// The signal's name, e.g. `SIGKILL`.
    pub fn signal_name(&self) -> Option<String> {
        self.signal.map(signal_name)
    }

    /// Whether output was cut at its limit.
    pub fn is_truncated(&self) -> bool {
        matches!(
            self.verdict,
            Some(Verdict::StdoutLimit | Verdict::StderrLimit)
        )
    }
}

/// The name of a signal; real-time signals are counted from `SIGRTMIN`.
pub fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if (34..=64).contains(&number) => match number - 34 {
            0 => "SIGRTMIN".to_owned(),
            above => format!("SIGRTMIN+{above}"),
        },
        Err(_) => format!("SIG{number}"),
    }
}

/// The number of a signal, by its name with or without `SIG`; none for real-time ones.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        name => name,
    };
    let signal: Signal = format!("SIG{name}").parse().ok()?;
    (1..=31).find(|&number| Signal::try_from(number) == Ok(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name() {
        for (name, number) in [
            ("SIGKILL", Some(9)),
            ("INT", Some(2)),
            ("SIGCLD", Some(17)),
            ("SIGWINCH", Some(28)),
            ("SIGSIGINT", None),
            ("sigint", None),
            ("9", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }

    #[test]
    fn signals_have_their_names() {
        for (number, name) in [
            (9, "SIGKILL"),
            (6, "SIGABRT"),
            (34, "SIGRTMIN"),
            (40, "SIGRTMIN+6"),
            (99, "SIG99"),
        ] {
            assert_eq!(signal_name(number), name);
        }
    }

    #[test]
    fn verdicts_speak_the_words_of_the_released_piston() {
        for (verdict, status, message) in [
            (Verdict::ExitCode(3), "RE", "Exited with error status 3"),
            (Verdict::Signal(11), "SG", "Caught fatal signal 11"),
            (Verdict::CpuTime, "TO", "Time limit exceeded"),
            (Verdict::WallTime, "TO", "Time limit exceeded (wall clock)"),
            (Verdict::MemoryLimit, "ML", "memory limit exceeded"),
            (Verdict::StdoutLimit, "OL", "stdout length exceeded"),
            (Verdict::StderrLimit, "EL", "stderr length exceeded"),
            (Verdict::Killed, "KL", "Cancelled"),
        ] {
            let word = serde_json::to_value(verdict.status()).expect("plain data");
            assert_eq!((word, verdict.message().as_str()), (status.into(), message));
        }
    }
}
