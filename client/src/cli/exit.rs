//! Exit codes of `piston`, for scripts to rely on.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: what was asked for is done.
    Done,
    /// 125: it is not, or the command line is not understood; the message says why. For `piston
    /// run` this tells our failures from the program's, whose own codes rarely are that high.
    Failed,
    /// The program's own exit code.
    Program(u8),
    /// 128 + the number of the signal that ended the program.
    Signal(u8),
}

/// The number of the signal of Ctrl-C.
pub(super) const INTERRUPT: u8 = 2;

impl Exit {
    /// The number.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 125,
            Self::Program(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The number of a signal by its name, as Linux counts on x86-64 and aarch64.
pub(super) fn signal_number(name: &str) -> Option<u8> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let at = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_documented() {
        assert_eq!([Exit::Done, Exit::Failed].map(Exit::code), [0, 125]);
        assert_eq!(Exit::Program(7).code(), 7);
        assert_eq!(Exit::Signal(9).code(), 137);
    }

    #[test]
    fn signals_have_their_numbers() {
        let numbers = [
            "SIGHUP", "SIGABRT", "SIGKILL", "SEGV", "SIGTERM", "SIGXFSZ", "SIGSYS",
        ]
        .map(signal_number);
        assert_eq!(numbers, [1, 6, 9, 11, 15, 25, 31].map(Some));
        assert_eq!(signal_number("SIGNAL"), None);
    }
}
