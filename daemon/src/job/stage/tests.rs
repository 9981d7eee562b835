//! What an end means, case by case.

use super::*;
use piston_client::units::Bytes;

fn limits() -> Limits {
    Limits {
        wall_time: Duration::from_secs(3),
        cpu_time: Duration::from_secs(1),
        memory: Bytes::mib(1),
        output: Bytes(10),
        processes: 1,
        open_files: 1,
        file_size: Bytes(1),
        disk: Bytes(1),
    }
}

#[test]
fn an_end_is_judged_by_what_brought_it_about() {
    let check = |ended, cpu, killed_for: Option<Verdict>, expected| {
        let cpu_time = Duration::from_millis(cpu);
        let exit = Exit {
            ended,
            over: None,
            wall_time: cpu_time,
            cpu_time,
            memory: Bytes(0),
        };
        let outcome = judge(
            &limits(),
            End {
                exit,
                killed_for,
                captured: Captured::default(),
            },
        );
        assert_eq!((outcome.code, outcome.signal, outcome.verdict), expected);
    };
    let killed = |verdict| (None, Some(SIGKILL), Some(verdict));
    check(Ended::Exited(0), 999, None, (Some(0), None, None));
    check(
        Ended::Exited(3),
        0,
        None,
        (Some(3), None, Some(Verdict::ExitCode(3))),
    );
    check(
        Ended::Signalled(6),
        0,
        None,
        (None, Some(6), Some(Verdict::Signal(6))),
    );
    check(
        Ended::Signalled(SIGXCPU),
        990,
        None,
        killed(Verdict::CpuTime),
    );
    check(Ended::Exited(0), 1000, None, killed(Verdict::CpuTime));
    check(
        Ended::Signalled(9),
        0,
        Some(Verdict::WallTime),
        killed(Verdict::WallTime),
    );
    check(
        Ended::Exited(0),
        0,
        Some(Verdict::StdoutLimit),
        killed(Verdict::StdoutLimit),
    );
    check(
        Ended::Signalled(9),
        2000,
        Some(Verdict::Killed),
        killed(Verdict::Killed),
    );
}

#[tokio::test]
async fn input_that_nobody_reads_is_no_fault() {
    static INPUT: [u8; 1 << 20] = [0; 1 << 20];
    let (mut pipes, stdio) = pipes().expect("pipes");
    drop(stdio);
    give(&mut pipes.stdin, &INPUT).await;
}
