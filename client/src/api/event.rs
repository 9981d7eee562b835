//! What a job does, told while it does it.

use serde::{Deserialize, Serialize};

use super::batch::{BatchResponse, CaseResult};
use super::execute::{ExecuteResponse, Status};
use super::problem::Problem;
use crate::units::{Bytes, Millis};

/// One event of a streamed execute or batch, in the order in which things happen; the last is the
/// result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A stage starts.
    Stage {
        /// Which.
        stage: StageName,
    },
    /// It wrote to standard output.
    Stdout {
        /// Which stage.
        stage: StageName,
        /// What, in the encoding that the request asked for; each event is encoded by itself.
        data: String,
    },
    /// It wrote to standard error.
    Stderr {
        /// Which stage.
        stage: StageName,
        /// What, in the encoding that the request asked for; each event is encoded by itself.
        data: String,
    },
    /// A stage has ended, and all of its output was told.
    Exit(StageExit),
    /// The job has ended: the reply that a request without streaming gets.
    Result {
        /// The reply.
        result: Box<ExecuteResponse>,
    },
    /// A case of a batch has ended, with all that it printed. Cases come as they end.
    Case(Box<CaseResult>),
    /// The batch has ended: the reply that a request without streaming gets, less what the cases
    /// printed.
    Batch {
        /// The reply.
        result: Box<BatchResponse>,
    },
    /// The job can't be run, or not to its end: the last event, over a WebSocket only, as other
    /// replies have a status for it.
    Error {
        /// What a reply would say.
        problem: Box<Problem>,
    },
}

/// How a stage ended: its result without what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StageExit {
    /// Which stage.
    pub stage: StageName,
    /// Exit code, null when a signal ended it.
    pub code: Option<i32>,
    /// Name of the signal that ended it.
    pub signal: Option<String>,
    /// Why it did not end well, null when it did.
    pub status: Option<Status>,
    /// The status in words.
    pub message: Option<String>,
    /// Time on the clock, from the program's start to its end.
    pub wall_time_ms: Millis,
    /// Time on the processors, summed over the process tree.
    pub cpu_time_ms: Millis,
    /// What of that was in the kernel; the rest was in the programs themselves.
    pub system_time_ms: Millis,
    /// Peak memory.
    pub memory_bytes: Bytes,
}

/// One of the two stages of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// The package's compile entry.
    Compile,
    /// The package's run entry.
    Run,
}
