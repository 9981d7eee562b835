//! The limits of one stage, every one with a value.

use std::time::Duration;

use piston_client::units::Bytes;

/// Limits in force for one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time on the clock, from the program's start.
    pub wall_time: Duration,
    /// Time on the processors, summed over the process tree.
    pub cpu_time: Duration,
    /// Memory of the process tree.
    pub memory: Bytes,
    /// Bytes kept of each of stdout and stderr.
    pub output: Bytes,
    /// Processes and threads alive at once.
    pub processes: u64,
    /// Open descriptors of one process.
    pub open_files: u64,
    /// Length of one file that the program writes.
    pub file_size: Bytes,
    /// Bytes in the job directory, `/tmp` and `/dev/shm` together.
    pub disk: Bytes,
}
