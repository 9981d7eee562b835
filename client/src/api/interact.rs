//! What a client says over the WebSocket of execute; what it is told are [`super::Event`]s.
//!
//! One JSON object in each text message. A binary message is input for the program, as it is.

use serde::{Deserialize, Serialize};

use super::execute::{ExecuteRequest, Stdin};

/// One message. The first is `start`, and there is no other one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Input {
    /// Run this.
    Start {
        /// The job. Its `stdin` comes before all that is said later, `cache` is `binary` at most,
        /// and the run stage's output is in the events alone.
        request: Box<ExecuteRequest>,
        /// The window of the terminal on which the program is to run; without one it has pipes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<Window>,
    },
    /// Input for the program.
    Stdin {
        /// The input.
        data: Stdin,
    },
    /// The end of the input.
    Eof {},
    /// A signal for the program's process group.
    Signal {
        /// Its name, e.g. `SIGINT`.
        signal: String,
    },
    /// The window has another size.
    Resize {
        /// The size.
        terminal: Window,
    },
}

/// The size of a terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}
