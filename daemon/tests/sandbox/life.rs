//! Starting, ending, and being killed.

use std::time::{Duration, Instant};

use pistond::sandbox::{Ended, SandboxError};

use crate::bench::{command, everywhere, processes_with, shell};

#[test]
fn a_program_runs_with_its_streams() {
    everywhere("life::a_program_runs_with_its_streams", async |bench| {
        let outcome = bench.sh("cat; echo hello; echo oops >&2").await;
        assert_eq!(outcome.exit.ended, Ended::Exited(0), "{outcome:?}");
        assert_eq!(outcome.out, "from stdin\nhello\n");
        assert_eq!(outcome.err, "oops\n");
    });
}
