//! What an end means, case by case.

use nix::libc::{SIGXCPU, SIGXFSZ};

use super::*;
use piston_client::units::Bytes;

fn limits() -> Limits {
    Limits {
        wall_time: Duration::from_secs(3),
        cpu_time: Duration::from_secs(1),
        ..crate::config::limits::RUN
    }
}

/// An end in good time with nothing against it.
fn end(ended: Ended) -> End {
    End {
        exit: Exit {
            ended,
            over: None,
            wall_time: Duration::from_millis(10),
            cpu_time: Duration::from_millis(10),
            system_time: Duration::from_millis(5),
            memory: Bytes(0),
        },
        killed_for: None,
        overflow: None,
        captured: Captured::default(),
    }
}

#[test]
fn an_end_is_judged_by_what_brought_it_about() {
    let check = |ended, change: &dyn Fn(&mut End), expected| {
        let mut end = end(ended);
        change(&mut end);
        let outcome = judge(&limits(), end);
        assert_eq!((outcome.code, outcome.signal, outcome.verdict), expected);
    };
    let killed = |verdict| (None, Some(SIGKILL), Some(verdict));
    let signal = |number| (None, Some(number), Some(Verdict::Signal(number)));
    let exit = |code| (Some(code), None, Some(Verdict::ExitCode(code)));
    let alone = |_: &mut End| {};
    check(Ended::Exited(0), &alone, (Some(0), None, None));
    check(Ended::Exited(3), &alone, exit(3));
    check(Ended::Exited(137), &alone, exit(137));
    check(Ended::Signalled(6), &alone, signal(6));
    // A program may send itself what limits send.
    for own in [SIGKILL, SIGXCPU, SIGXFSZ] {
        check(Ended::Signalled(own), &alone, signal(own));
    }
    let cpu = |ms| move |end: &mut End| end.exit.cpu_time = Duration::from_millis(ms);
    check(Ended::Exited(0), &cpu(999), (Some(0), None, None));
    check(Ended::Exited(0), &cpu(1000), killed(Verdict::CpuTime));
    let wall = |ms| move |end: &mut End| end.exit.wall_time = Duration::from_millis(ms);
    check(Ended::Exited(0), &wall(2999), (Some(0), None, None));
    check(Ended::Exited(1), &wall(3000), killed(Verdict::WallTime));
    check(
        Ended::Exited(0),
        &|end| end.overflow = Some(Verdict::StdoutLimit),
        killed(Verdict::StdoutLimit),
    );
    // What it was killed for, not what was found afterwards.
    let both = |end: &mut End| {
        end.exit.over = Some(Over::Memory);
        end.overflow = Some(Verdict::StderrLimit);
        end.exit.cpu_time = Duration::from_secs(9);
    };
    check(Ended::Signalled(9), &both, killed(Verdict::MemoryLimit));
    let cancelled = |end: &mut End| {
        both(end);
        end.killed_for = Some(Verdict::Killed);
    };
    check(Ended::Exited(0), &cancelled, killed(Verdict::Killed));
}

#[tokio::test]
async fn input_that_nobody_reads_is_no_fault() {
    static INPUT: [u8; 1 << 20] = [0; 1 << 20];
    let (mut pipes, stdio) = pipes().expect("pipes");
    drop(stdio);
    streams::write(&mut pipes.stdin, &INPUT).await;
}
