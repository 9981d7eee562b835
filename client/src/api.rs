//! The wire types of the v3 API, one module for each resource.
//!
//! Serde only: no transport, no logic. The daemon serialises and parses these same types, so a
//! client and a daemon of one version can't disagree. Requests refuse unknown fields by name;
//! replies tolerate them, so that an older client reads a newer daemon.

mod batch;
mod cache;
mod event;
mod execute;
mod info;
mod interact;
mod job;
mod package;
mod problem;
mod progress;
mod query;
mod repo;
mod runners;
mod token;

pub use batch::{BatchCase, BatchRequest, BatchResponse, CaseResult, Compare, Verdict};
pub use cache::{CacheInfo, CachePurge, CacheUsage, PackageCache};
pub use event::{Event, StageExit, StageName};
pub use execute::{
    CacheLevel, CacheOutcome, ExecuteRequest, ExecuteResponse, InputFile, Limits, OutputEncoding,
    OutputFile, StageLimits, StageResult, Status, Stdin, TextEncoding, Timings,
};
pub use info::{Info, Mechanism, VersionInfo};
pub use interact::{Input, Window};
pub use job::{Job, JobState};
pub use package::{
    Change, InstallReply, InstallState, InstalledPackage, MakeKind, MakeReply, MakeRequest,
    PackagePatch, Runtime, UninstallReply, VerifyReply,
};
pub use problem::{Code, Problem};
pub use progress::{InstallEvent, InstallPhase, PackageProgress, PlannedPackage};
pub use query::{
    AvailableParameters, MakeFilesParameters, SetRunnersParameters, UninstallParameters,
};
pub use repo::{AvailablePackage, RepoState, Repository, RepositorySettings};
pub use runners::{Network, Runner, Runners, RunnersInfo, SetRunners};
pub use token::{CreatedToken, NewToken, Role, Token};

/// Where every v3 operation lives.
pub const BASE_PATH: &str = "/api/v3";
