//! What is kept of a job, and its bytes.
//!
//! Owns the rule of what may be kept at all, and the encoding. Invariant: only stages that ended by
//! themselves within all limits are encoded; nothing that decodes can hold anything else. Bytes
//! are little-endian; lists and texts have their length before them. Checksums are not made here:
//! whoever stores the bytes checks them.

use std::time::Duration;

use nix::libc::{SIGKILL, SIGXCPU, SIGXFSZ};
use piston_client::units::Bytes;

use crate::job::outcome::{StageOutcome, Verdict};
use crate::sandbox::WorkspaceFile;

/// Version byte of the encoding.
const VERSION: u8 = 2;
/// Died of these: of a limit on file sizes or time, or killed by somebody who need not be itself
/// (a kernel out of memory).
const NOT_BY_ITSELF: [i32; 3] = [SIGKILL, SIGXFSZ, SIGXCPU];

/// What is kept: of a compile stage its outcome and the artifacts, of a whole job both outcomes
/// and the files that it handed back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// The compile stage.
    pub compile: Option<StageOutcome>,
    /// The run stage.
    pub run: Option<StageOutcome>,
    /// Artifacts, or files handed back.
    pub files: Vec<WorkspaceFile>,
}

/// Why something is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotKept {
    /// A stage did not end by itself within its limits.
    Unfit,
    /// It is larger than an entry may be.
    TooLarge,
}

impl Kept {
    /// Its bytes, if it may be kept and has at most `max` of them.
    pub(super) fn encode(&self, max: Bytes) -> Result<Vec<u8>, NotKept> {
        let mut stages = self.compile.iter().chain(&self.run).peekable();
        if stages.peek().is_none() || !stages.all(is_fit) {
            return Err(NotKept::Unfit);
        }
        if self.weight() > max.as_usize() {
            return Err(NotKept::TooLarge);
        }
        let mut bytes = vec![VERSION];
        for stage in [&self.compile, &self.run] {
            put_stage(&mut bytes, stage.as_ref());
        }
        put_number(&mut bytes, self.files.len());
        for file in &self.files {
            put_bytes(&mut bytes, file.path.as_str().as_bytes());
            bytes.extend(file.mode.to_le_bytes());
            put_bytes(&mut bytes, &file.bytes);
        }
        Ok(bytes)
    }

    /// What its parts hold, without the encoding's own few bytes.
    pub(super) fn weight(&self) -> usize {
        let stages = self.compile.iter().chain(&self.run);
        let stages = stages.map(|s| s.stdout.len() + s.stderr.len() + s.output.len());
        let files = self.files.iter();
        let files = files.map(|file| file.path.as_str().len() + file.bytes.len());
        stages.chain(files).sum()
    }

    /// Reads bytes back; none when they are not what [`Kept::encode`] gives.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [VERSION] = take(&mut rest)? else {
            return None;
        };
        let (mut compile, mut run) = (None, None);
        take_stage(&mut rest, &mut compile)?;
        take_stage(&mut rest, &mut run)?;
        let count = take_length(&mut rest)?;
        let mut files = Vec::new();
        for _ in 0..count {
            let path = std::str::from_utf8(take_bytes(&mut rest)?).ok()?;
            files.push(WorkspaceFile {
                path: path.parse().ok()?,
                mode: u32::from_le_bytes(take(&mut rest)?),
                bytes: take_bytes(&mut rest)?.to_vec(),
            });
        }
        rest.is_empty().then_some(Self {
            compile,
            run,
            files,
        })
    }
}

/// Whether a stage ended by itself within all limits.
fn is_fit(stage: &StageOutcome) -> bool {
    match stage.verdict {
        None | Some(Verdict::ExitCode(_)) => true,
        Some(Verdict::Signal(signal)) => !NOT_BY_ITSELF.contains(&signal),
        Some(
            Verdict::WallTime
            | Verdict::Idle
            | Verdict::CpuTime
            | Verdict::MemoryLimit
            | Verdict::LeftTooMuch(_)
            | Verdict::StdoutLimit
            | Verdict::StderrLimit
            | Verdict::Killed
            | Verdict::Internal(_),
        ) => false,
    }
}

/// The verdict is not written: it follows from code and signal of a stage that ended by itself.
fn put_stage(bytes: &mut Vec<u8>, stage: Option<&StageOutcome>) {
    let Some(stage) = stage else {
        bytes.push(0);
        return;
    };
    let (kind, number) = match (stage.code, stage.signal) {
        (Some(code), _) => (1, code),
        (None, signal) => (2, signal.unwrap_or_default()),
    };
    bytes.push(kind);
    bytes.extend(number.to_le_bytes());
    for time in [stage.wall_time, stage.cpu_time, stage.system_time] {
        bytes.extend(time.as_secs().to_le_bytes());
        bytes.extend(time.subsec_nanos().to_le_bytes());
    }
    bytes.extend(stage.memory.0.to_le_bytes());
    for text in [&stage.stdout, &stage.stderr, &stage.output] {
        put_bytes(bytes, text);
    }
}

/// Reads a stage, if there is one, into `stage`; none when the bytes are no stage.
fn take_stage(rest: &mut &[u8], stage: &mut Option<StageOutcome>) -> Option<()> {
    let [kind] = take(rest)?;
    if kind == 0 {
        return Some(());
    }
    let number = i32::from_le_bytes(take(rest)?);
    let (code, signal, verdict) = match (kind, number) {
        (1, 0) => (Some(0), None, None),
        (1, code) => (Some(code), None, Some(Verdict::ExitCode(code))),
        (2, signal) => (None, Some(signal), Some(Verdict::Signal(signal))),
        _ => return None,
    };
    *stage = Some(StageOutcome {
        code,
        signal,
        verdict,
        wall_time: take_time(rest)?,
        cpu_time: take_time(rest)?,
        system_time: take_time(rest)?,
        memory: Bytes(u64::from_le_bytes(take(rest)?)),
        stdout: take_bytes(rest)?.to_vec(),
        stderr: take_bytes(rest)?.to_vec(),
        output: take_bytes(rest)?.to_vec(),
    });
    Some(())
}

fn take_time(rest: &mut &[u8]) -> Option<Duration> {
    let seconds = u64::from_le_bytes(take(rest)?);
    let nanos = u32::from_le_bytes(take(rest)?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u64::try_from(number).unwrap_or(u64::MAX).to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put_number(bytes, field.len());
    bytes.extend_from_slice(field);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(take(rest)?)).ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(rest)?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Bytes = Bytes::mib(1);

    fn stage(code: i32) -> StageOutcome {
        StageOutcome {
            stdout: b"out\xff".to_vec(),
            stderr: b"err".to_vec(),
            output: b"outerr".to_vec(),
            code: Some(code),
            verdict: (code != 0).then_some(Verdict::ExitCode(code)),
            wall_time: Duration::new(1, 234_567_891),
            cpu_time: Duration::from_micros(17),
            system_time: Duration::from_micros(7),
            memory: Bytes::kib(5),
            ..StageOutcome::default()
        }
    }

    fn kept() -> Kept {
        let file = WorkspaceFile {
            path: "dir/binary".parse().unwrap(),
            mode: 0o755,
            bytes: vec![0, 1, 2, 0xff],
        };
        Kept {
            compile: Some(stage(0)),
            run: Some(stage(7)),
            files: vec![file],
        }
    }

    #[test]
    fn what_was_written_is_read_back_to_the_last_nanosecond() {
        let signalled = StageOutcome {
            code: None,
            signal: Some(6),
            verdict: Some(Verdict::Signal(6)),
            ..stage(0)
        };
        let compile_error = Kept {
            compile: Some(stage(1)),
            ..Kept::default()
        };
        let run_only = Kept {
            run: Some(signalled),
            ..Kept::default()
        };
        for kept in [kept(), compile_error, run_only] {
            let bytes = kept.encode(MAX).unwrap();
            assert_eq!(Kept::decode(&bytes), Some(kept));
        }
    }

    #[test]
    fn bytes_cut_short_or_longer_are_refused() {
        let mut bytes = kept().encode(MAX).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(Kept::decode(&bytes[..length]), None, "{length} bytes");
        }
        bytes.push(0);
        assert_eq!(Kept::decode(&bytes), None);
    }

    #[test]
    fn only_what_ended_by_itself_within_its_limits_is_kept() {
        let check = |verdict: Option<Verdict>, expected: bool| {
            let run = StageOutcome {
                verdict: verdict.clone(),
                ..stage(0)
            };
            let kept = Kept {
                compile: Some(stage(0)),
                run: Some(run),
                files: Vec::new(),
            };
            assert_eq!(kept.encode(MAX).is_ok(), expected, "{verdict:?}");
        };
        check(None, true);
        check(Some(Verdict::ExitCode(1)), true);
        check(Some(Verdict::Signal(11)), true);
        check(Some(Verdict::Signal(SIGKILL)), false);
        check(Some(Verdict::Signal(SIGXFSZ)), false);
        check(Some(Verdict::WallTime), false);
        check(Some(Verdict::CpuTime), false);
        check(Some(Verdict::StdoutLimit), false);
        check(Some(Verdict::StderrLimit), false);
        check(Some(Verdict::Killed), false);
        check(Some(Verdict::Internal("x".to_owned())), false);
        assert_eq!(Kept::default().encode(MAX), Err(NotKept::Unfit));
    }

    #[test]
    fn an_entry_over_its_bound_is_not_kept() {
        let weight = u64::try_from(kept().weight()).unwrap();
        kept().encode(Bytes(weight)).unwrap();
        assert_eq!(kept().encode(Bytes(weight - 1)), Err(NotKept::TooLarge));
    }
}
