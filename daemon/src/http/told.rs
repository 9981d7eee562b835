//! A job's events in words: what a stream or a WebSocket sends of them.
//!
//! Owns where text is cut: a character in two pieces of output is told with the second one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use piston_client::api::{self, OutputEncoding, StageName};

use super::{batch, execute};
use crate::job::Outcome;
use crate::job::batch::BatchOutcome;
use crate::job::live::{Event, Piece};
use crate::job::outcome::StageOutcome;
use crate::job::output::Name;
use crate::job::stage::StageKind;

/// Puts events into v3's words.
#[derive(Debug)]
pub(super) struct Words {
    encoding: OutputEncoding,
    stdout: Text,
    stderr: Text,
}

impl Words {
    pub(super) fn new(encoding: OutputEncoding) -> Self {
        Self {
            encoding,
            stdout: Text::default(),
            stderr: Text::default(),
        }
    }

    /// What is said of an event: nothing of half a character, several things of an end.
    pub(super) fn event(&mut self, event: &Event) -> Vec<api::Event> {
        match event {
            Event::Stage(stage) => vec![api::Event::Stage {
                stage: name(*stage),
            }],
            Event::Output(piece) => self.output(piece).into_iter().collect(),
            Event::Case(case) => {
                vec![api::Event::Case(Box::new(batch::result(
                    case,
                    self.encoding,
                )))]
            }
            Event::Exit(stage, outcome) => {
                let stage = name(*stage);
                let rests = [
                    said(stage, Name::Stdout, self.stdout.rest()),
                    said(stage, Name::Stderr, self.stderr.rest()),
                ];
                let exit = api::Event::Exit(exit(stage, outcome));
                rests.into_iter().flatten().chain([exit]).collect()
            }
        }
    }

    fn output(&mut self, piece: &Piece) -> Option<api::Event> {
        let text = match (self.encoding, piece.name) {
            (OutputEncoding::Base64, _) => STANDARD.encode(&piece.bytes),
            (OutputEncoding::Utf8, Name::Stdout) => self.stdout.next(&piece.bytes),
            (OutputEncoding::Utf8, Name::Stderr) => self.stderr.next(&piece.bytes),
        };
        said(name(piece.stage), piece.name, text)
    }

    /// The last event of a batch.
    pub(super) fn batch(&self, outcome: BatchOutcome) -> api::Event {
        api::Event::Batch {
            result: Box::new(batch::response(outcome, self.encoding)),
        }
    }

    /// The last event of a job.
    pub(super) fn result(&self, outcome: Outcome) -> api::Event {
        api::Event::Result {
            result: Box::new(execute::response(outcome, self.encoding)),
        }
    }
}

fn said(stage: StageName, stream: Name, data: String) -> Option<api::Event> {
    (!data.is_empty()).then_some(match stream {
        Name::Stdout => api::Event::Stdout { stage, data },
        Name::Stderr => api::Event::Stderr { stage, data },
    })
}

fn name(stage: StageKind) -> StageName {
    match stage {
        StageKind::Compile => StageName::Compile,
        StageKind::Run => StageName::Run,
    }
}

fn exit(stage: StageName, outcome: &StageOutcome) -> api::StageExit {
    api::StageExit {
        stage,
        code: outcome.code,
        signal: outcome.signal_name(),
        status: outcome.status(),
        message: outcome.message(),
        wall_time_ms: outcome.wall_time.into(),
        cpu_time_ms: outcome.cpu_time.into(),
        system_time_ms: outcome.system_time.into(),
        memory_bytes: outcome.memory,
    }
}

/// Bytes that become text piece by piece, where a piece may end amid a character.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Text {
    /// The text so far; what is not UTF-8 becomes U+FFFD.
    pub(super) fn next(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let last = self.rest.utf8_chunks().last();
        let begun = last.map_or(0, |chunk| {
            match std::str::from_utf8(chunk.invalid()).map_err(|error| error.error_len()) {
                Err(None) => chunk.invalid().len(),
                _ => 0,
            }
        });
        let rest = self.rest.split_off(self.rest.len() - begun);
        let whole = std::mem::replace(&mut self.rest, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_in_two_pieces_is_one_character() {
        let all = "a\u{e9}\u{20ac}\u{1f600}z".as_bytes();
        for cut in 0..=all.len() {
            let mut text = Text::default();
            let told = [text.next(&all[..cut]), text.next(&all[cut..]), text.rest()];
            assert_eq!(told.concat().as_bytes(), all, "{cut}");
        }
        let mut text = Text::default();
        assert_eq!(text.next(b"a\xff\xe2\x82"), "a\u{fffd}");
        assert_eq!(
            (text.next(b"b"), text.rest()),
            ("\u{fffd}b".into(), String::new())
        );
        assert_eq!(text.next(b"\xe2"), "");
        assert_eq!(text.rest(), "\u{fffd}");
    }
}
