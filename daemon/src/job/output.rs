//! Bounded capture of a program's output.
//!
//! Invariants: of each stream the first `limit` bytes are kept, exactly; one byte more and the
//! capture says so; memory is bounded by twice the two limits. What is kept is also told to a
//! listener, if there is one, whose room is waited for while the program lives; where a listener is
//! all that there is, nothing is kept, within the same limits. Every method may be dropped at an
//! await without losing a byte. Does not kill anybody: the stage does.

use std::io;
use std::os::fd::AsFd as _;

use piston_client::units::Bytes;
use tokio::net::unix::pipe::Receiver;

use super::live::{Credit, Teller};

/// Read at once: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What becomes of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is a part of the result.
    All,
    /// It is only told.
    Nothing,
}

/// What was captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// Standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// Standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// Both in the order received.
    pub combined: Vec<u8>,
}

/// Reads two pipes at once into bounded buffers.
#[derive(Debug)]
pub struct Capture {
    stdout: Stream,
    stderr: Stream,
    combined: Vec<u8>,
    chunk: Box<[u8]>,
    keep: Keep,
    teller: Option<Teller>,
}

#[derive(Debug)]
struct Stream {
    /// None after its end or an overflow.
    pipe: Option<Receiver>,
    kept: Vec<u8>,
    room: usize,
}

/// What one read found.
enum Found {
    Bytes,
    Nothing,
    Overflow,
}

impl Capture {
    /// A capture that keeps `limit` bytes of each stream. What is printed to a terminal is one
    /// stream.
    pub fn new(stdout: Receiver, stderr: Option<Receiver>, limit: Bytes) -> Self {
        let stream = |pipe| Stream {
            pipe,
            kept: Vec::new(),
            room: limit.as_usize(),
        };
        Self {
            stdout: stream(Some(stdout)),
            stderr: stream(stderr),
            combined: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            keep: Keep::All,
            teller: None,
        }
    }

    /// Keeps this much.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// Tells what it keeps as it comes.
    pub(super) fn told_to(self, teller: Teller) -> Self {
        Self {
            teller: Some(teller),
            ..self
        }
    }

    /// Reads until a stream goes over its limit; does not return when none does.
    pub async fn overflow(&mut self) -> io::Result<Name> {
        loop {
            let name = tokio::select! {
                ready = self.stdout.readable() => ready.map(|()| Name::Stdout)?,
                ready = self.stderr.readable() => ready.map(|()| Name::Stderr)?,
            };
            let credit = match &self.teller {
                Some(teller) => teller.room().await,
                None => Credit::NONE,
            };
            if let Found::Overflow = self.read(name, credit, Receiver::try_read)? {
                return Ok(name);
            }
        }
    }

    /// Reads what is left in the pipes when all writers are dead, without waiting for more.
    pub fn drain(&mut self) -> io::Result<Option<Name>> {
        let mut over = None;
        for name in [Name::Stdout, Name::Stderr] {
            loop {
                // The runtime may not have heard yet that there is something to read.
                match self.read(name, Credit::NONE, |pipe, chunk| {
                    Ok(rustix::io::read(pipe.as_fd(), chunk)?)
                })? {
                    Found::Bytes => {}
                    Found::Nothing => break,
                    Found::Overflow => {
                        over = over.or(Some(name));
                        break;
                    }
                }
            }
        }
        Ok(over)
    }

    /// What was kept.
    pub fn finish(self) -> Captured {
        Captured {
            stdout: self.stdout.kept,
            stderr: self.stderr.kept,
            combined: self.combined,
        }
    }

    fn read(
        &mut self,
        name: Name,
        credit: Credit,
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Found> {
        let stream = match name {
            Name::Stdout => &mut self.stdout,
            Name::Stderr => &mut self.stderr,
        };
        let Some(pipe) = &stream.pipe else {
            return Ok(Found::Nothing);
        };
        let read = match read(pipe, &mut self.chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Found::Nothing),
            // What a terminal says when nobody has it open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            Err(error) => return Err(error),
        };
        if read == 0 {
            stream.pipe = None;
            return Ok(Found::Nothing);
        }
        let keep = &self.chunk[..read.min(stream.room)];
        stream.room -= keep.len();
        if self.keep == Keep::All {
            stream.kept.extend_from_slice(keep);
            self.combined.extend_from_slice(keep);
        }
        if let (Some(teller), false) = (&self.teller, keep.is_empty()) {
            teller.output(name, keep, credit);
        }
        if keep.len() < read {
            stream.pipe = None;
            return Ok(Found::Overflow);
        }
        Ok(Found::Bytes)
    }
}

impl Stream {
    /// Waits for bytes or the end; for ever when it has ended.
    async fn readable(&self) -> io::Result<()> {
        match &self.pipe {
            Some(pipe) => pipe.readable().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _};
    use std::os::fd::OwnedFd;

    use futures_util::FutureExt as _;

    use super::*;

    fn capture(limit: u64) -> (Capture, PipeWriter, PipeWriter) {
        let (out_read, out) = io::pipe().expect("a pipe");
        let (err_read, err) = io::pipe().expect("a pipe");
        let receiver = |read| Receiver::from_owned_fd(OwnedFd::from(read)).expect("a pipe");
        (
            Capture::new(receiver(out_read), Some(receiver(err_read)), Bytes(limit)),
            out,
            err,
        )
    }

    #[tokio::test]
    async fn both_streams_are_kept_and_joined_in_the_order_received() {
        let (mut capture, mut out, mut err) = capture(100);
        for (name, text) in [
            (Name::Stdout, "a"),
            (Name::Stderr, "b"),
            (Name::Stdout, "c"),
        ] {
            let pipe = if name == Name::Stdout {
                &mut out
            } else {
                &mut err
            };
            pipe.write_all(text.as_bytes()).expect("written");
            // Once through the reactor, so that this piece is read before the next is written.
            tokio::time::timeout(std::time::Duration::from_millis(50), capture.overflow())
                .await
                .expect_err("no overflow");
        }
        drop((out, err));
        assert_eq!(capture.drain().expect("readable"), None);
        let captured = capture.finish();
        assert_eq!(captured.stdout, b"ac");
        assert_eq!(captured.stderr, b"b");
        assert_eq!(captured.combined, b"abc");
    }

    #[tokio::test]
    async fn output_is_cut_exactly_at_the_limit() {
        for (length, over) in [(9, None), (10, None), (11, Some(Name::Stderr))] {
            let (mut capture, out, mut err) = capture(10);
            err.write_all(&vec![b'x'; length]).expect("written");
            drop((out, err));
            assert_eq!(capture.drain().expect("readable"), over, "{length}");
            assert_eq!(capture.finish().stderr.len(), length.min(10), "{length}");
        }
    }

    #[tokio::test]
    async fn what_is_not_kept_has_the_same_limit() {
        let (capture, mut out, err) = capture(10);
        let mut capture = capture.keeping(Keep::Nothing);
        out.write_all(&[b'x'; 10]).expect("written");
        assert_eq!(capture.drain().expect("readable"), None);
        out.write_all(b"x").expect("written");
        drop((out, err));
        assert_eq!(capture.drain().expect("readable"), Some(Name::Stdout));
        assert_eq!(capture.finish(), Captured::default());
    }

    #[tokio::test]
    async fn an_overflow_is_seen_while_the_program_runs() {
        let (mut capture, mut out, _err) = capture(1000);
        let writer = std::thread::spawn(move || while out.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(capture.overflow().await.expect("readable"), Name::Stdout);
        assert_eq!(capture.finish().stdout, [b'x'; 1000]);
        writer.join().expect("ends with the pipe");
    }

    #[tokio::test]
    async fn a_program_that_closed_its_streams_is_not_an_overflow() {
        let (mut capture, out, err) = capture(1);
        drop((out, err));
        assert!(capture.overflow().now_or_never().is_none());
    }
}
