//! Batches: one program against many inputs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::execute::{
    CacheLevel, CacheOutcome, InputFile, Limits, OutputEncoding, StageLimits, StageResult, Status,
    Stdin, Timings,
};
use crate::ids::{JobId, Language, Version};

/// Body of `POST /packages/{package}/{version}/batch`. What it shares with an execute request means
/// the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BatchRequest {
    /// Which language, where the package provides several; default its only or first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The program's files, the first is the main one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// Short for one file without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Environment variables of every case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Limits of compiling, and of every case.
    #[serde(skip_serializing_if = "StageLimits::is_empty")]
    pub limits: StageLimits,
    /// Cache level of what compiling gives, `binary` at most; default the package's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheLevel>,
    /// How stdout and stderr are encoded in the reply.
    pub encoding: OutputEncoding,
    /// The cases, at most 1000.
    pub cases: Vec<BatchCase>,
    /// Whether no case is begun after one that failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stop_on_failure: bool,
    /// Cases that run at once; default 1, at most 64. Times are truest one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// One run of the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BatchCase {
    /// Arguments of the program.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What it reads from standard input; default nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// Environment variables of this case, over those of all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Limits of this case, which may only be lower than those of all.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What it has to print; without it, to end well is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_stdout: Option<Stdin>,
    /// When what it prints is what it has to.
    pub compare: Compare,
}

/// How outputs are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// Byte by byte.
    #[default]
    Exact,
    /// But for whitespace at the ends of lines and empty lines at the end.
    Trim,
    /// Word by word, whatever whitespace is between.
    Tokens,
}

/// What came of a case, or of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Verdict {
    /// It ended well and printed what it had to.
    #[serde(rename = "AC")]
    Accepted,
    /// It printed something else.
    #[serde(rename = "WA")]
    WrongAnswer,
    /// The program does not compile.
    #[serde(rename = "CE")]
    CompileError,
    /// It did not end well.
    #[serde(untagged)]
    Ended(Status),
}

/// As it is on the wire, `AC`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Reply 200 of a batch. A program that fails is not a failed request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchResponse {
    /// The job's id.
    pub id: JobId,
    /// The language that ran.
    pub language: Language,
    /// The exact version of the package that ran.
    pub version: Version,
    /// That of the first case that was not accepted; `AC` when all were.
    pub verdict: Verdict,
    /// The compile stage, absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<StageResult>,
    /// One result for each case, in the order of the request.
    pub cases: Vec<CaseResult>,
    /// Where what compiling gives came from.
    pub cache: CacheOutcome,
    /// The daemon's own steps up to the first case.
    pub timings: Timings,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CaseResult {
    /// Its place in the request, from 0.
    pub index: u32,
    /// The verdict; null when it was not run, after a failure or because nothing compiled.
    pub verdict: Option<Verdict>,
    /// How it ended; absent when it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<StageResult>,
    /// Whether what it printed is left out: a batch has room for 32 MiB of it, and the reply of a
    /// streamed one does not repeat it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omitted: bool,
    /// The daemon's own steps.
    #[serde(default)]
    pub timings: Timings,
}
