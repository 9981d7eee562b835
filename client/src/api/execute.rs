//! Execution: request, limits, results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, Language, Version};
use crate::units::{Bytes, Millis};

/// Body of `POST /packages/{package}/{version}/execute`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ExecuteRequest {
    /// Which language, where the package provides several; default its only or first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The program's files, the first is the main one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// Short for one file without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Arguments of the program.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the program reads from standard input; default nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// Environment variables added to the package's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Limits, which may only be lower than the configured ones.
    #[serde(skip_serializing_if = "StageLimits::is_empty")]
    pub limits: StageLimits,
    /// Cache level of this job; default the package's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheLevel>,
    /// Globs of files in the job directory to hand back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// How stdout and stderr are encoded in the reply.
    pub encoding: OutputEncoding,
}

/// One file of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Path below the job directory; default `file<index>.code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The content, encoded as `encoding` says.
    pub content: String,
    /// How `content` is encoded.
    #[serde(default)]
    pub encoding: TextEncoding,
}

/// How bytes are put into a JSON string in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TextEncoding {
    /// The text itself.
    #[default]
    Utf8,
    /// RFC 4648 base64 with padding.
    Base64,
    /// Hex digits of either case.
    Hex,
}

/// Standard input: plain text, or encoded bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Stdin {
    /// The text itself.
    Text(String),
    /// Bytes in an encoding.
    Encoded {
        /// The content, encoded as `encoding` says.
        content: String,
        /// How `content` is encoded.
        #[serde(default)]
        encoding: TextEncoding,
    },
}

/// Limits for each stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StageLimits {
    /// Of the compile stage.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub compile: Limits,
    /// Of the run stage.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub run: Limits,
}

impl StageLimits {
    /// Whether no limit is given.
    pub fn is_empty(&self) -> bool {
        self.compile.is_empty() && self.run.is_empty()
    }
}

/// Limits of one stage; absent means the configured one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Time on the clock, from the program's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_time_ms: Option<Millis>,
    /// Time on the processors, summed over the process tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<Millis>,
    /// Memory of the process tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<Bytes>,
    /// Bytes kept of each of stdout and stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<Bytes>,
    /// Processes and threads alive at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Open descriptors of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Length of one file that the program writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size_bytes: Option<Bytes>,
    /// Bytes in the job directory, `/tmp` and `/dev/shm` together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<Bytes>,
}

impl Limits {
    /// Whether no limit is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What may be kept of a job for the next equal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CacheLevel {
    /// Nothing.
    None,
    /// Artifacts of the compile stage.
    Binary,
    /// Whole results.
    Output,
}

/// Where the result came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CacheOutcome {
    /// Every stage ran.
    Miss,
    /// The compile stage was restored.
    Binary,
    /// The whole result was restored.
    Output,
}

/// How stdout and stderr are encoded in a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutputEncoding {
    /// Text; bytes that are not UTF-8 become U+FFFD and `lossy` is set.
    #[default]
    Utf8,
    /// RFC 4648 base64 with padding.
    Base64,
}

/// Reply 200 of execute. A program that fails is not a failed request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecuteResponse {
    /// The job's id.
    pub id: JobId,
    /// The language that ran.
    pub language: Language,
    /// The exact version of the package that ran.
    pub version: Version,
    /// The compile stage, absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<StageResult>,
    /// The run stage, absent when it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<StageResult>,
    /// Files that `outputs` named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OutputFile>,
    /// Where the result came from.
    pub cache: CacheOutcome,
    /// The daemon's own steps.
    pub timings: Timings,
}

/// How one stage ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StageResult {
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Both, in the order received.
    pub output: String,
    /// Whether a byte sequence that is not UTF-8 was replaced in one of the texts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lossy: bool,
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
    /// Whether output was cut at its limit.
    pub truncated: bool,
}

/// Why a stage did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Status {
    /// Non-zero exit code.
    #[serde(rename = "RE")]
    RuntimeError,
    /// Died of a signal.
    #[serde(rename = "SG")]
    Signalled,
    /// Out of wall or CPU time.
    #[serde(rename = "TO")]
    TimedOut,
    /// Standard output over its limit.
    #[serde(rename = "OL")]
    StdoutLimit,
    /// Standard error over its limit.
    #[serde(rename = "EL")]
    StderrLimit,
    /// Out of memory.
    #[serde(rename = "ML")]
    MemoryLimit,
    /// Cancelled by a request, a disconnect or a shutdown.
    #[serde(rename = "KL")]
    Killed,
    /// The daemon's own fault.
    #[serde(rename = "XX")]
    Internal,
}

/// A file that a job left and `outputs` named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutputFile {
    /// Path below the job directory.
    pub name: String,
    /// Base64 of its bytes.
    pub content: String,
    /// Length in bytes before encoding.
    pub size: Bytes,
}

/// What the daemon's own steps took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timings {
    /// Waiting for a slot.
    pub queue_us: u64,
    /// From the request to the programs' starts, all stages: workspace, namespaces, mounts, exec.
    pub sandbox_us: u64,
    /// From the programs' ends to the result: reaping, reading outputs.
    pub collect_us: u64,
}
