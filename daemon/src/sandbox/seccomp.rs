//! The seccomp filter of all jobs: which system calls exist for a program.
//!
//! An allow-list after Docker's default profile for a process without capabilities
//! ([`table`]), assembled to BPF ([`bpf`]) as a binary search over ranges of call numbers, which
//! keeps both loading and running short. Groups of further calls can be allowed to a job
//! ([`Relaxation`]); everything else about the filter stays. Refused calls answer `EPERM`; those newer than the
//! list answer `ENOSYS`, so that the C library falls back to what it used before they existed.
//! Another architecture's calls (`int 0x80`, x32) kill the process.

mod bpf;
mod table;

use std::collections::BTreeSet;
use std::io;

use super::spec::Relaxation;
use bpf::{Instruction, Program, Verdict};
use table::Rule;

/// A filter that is ready to be installed.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    instructions: Vec<Instruction>,
}

impl Filter {
    /// The filter of every job that the operator allows nothing more.
    pub(super) fn for_jobs() -> io::Result<Self> {
        Self::relaxed(&BTreeSet::new())
    }

    /// The filter of a job that may make some more calls.
    pub(super) fn relaxed(more: &BTreeSet<Relaxation>) -> io::Result<Self> {
        let program = assemble(table::AUDIT_ARCH, &table::rules(more));
        Ok(Self {
            instructions: program.finish()?,
        })
    }

    /// In the kernel's form.
    pub(super) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// What an x32 call adds to its number; x32 shares the architecture number of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// A run of call numbers that are treated alike, from `first` to the next range's `first`.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    rule: Rule,
}

/// The whole filter for the calls of one architecture; `rules` is ordered by number.
fn assemble(arch: u32, rules: &[(u32, Rule)]) -> Program {
    let mut program = Program::default();
    program.load_arch();
    program.kill_unless_equal(arch);
    program.load_number();
    search(&mut program, &ranges(rules));
    program
}

/// Covers all numbers: gaps between known calls are refused.
fn ranges(rules: &[(u32, Rule)]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |first: u32, rule: Rule| match ranges.last() {
        Some(last) if last.rule == rule => {}
        _ => ranges.push(Range { first, rule }),
    };
    let mut next = 0;
    for (number, rule) in rules {
        if *number > next {
            push(next, Rule::Refuse);
        }
        push(*number, *rule);
        next = number.saturating_add(1);
    }
    push(next, Rule::Unknown);
    push(X32_BIT, Rule::Kill);
    ranges
}

/// A decision tree over the ranges; the accumulator holds the number. Wide ranges are near its root:
/// the kernel runs the filter once for every number when it is loaded.
fn search(program: &mut Program, ranges: &[Range]) {
    let (lower, upper) = ranges.split_at(middle(ranges));
    match (lower, upper) {
        ([], [only]) => rule(program, only.rule),
        (_, [first, ..]) => {
            let mut below = Program::default();
            search(&mut below, lower);
            program.skip_if_at_least(first.first, below.len());
            program.append(below);
            search(program, upper);
        }
        (_, []) => {}
    }
}

/// How many ranges have about half of the numbers of all; none of one, else neither none nor all.
fn middle(ranges: &[Range]) -> usize {
    // Those that no kernel has are no reason.
    const KNOWN: u32 = 512;
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return 0;
    };
    let half = first.first.midpoint(last.first.min(KNOWN).max(first.first));
    let below = ranges.partition_point(|range| range.first <= half);
    below
        .clamp(1, ranges.len().max(2) - 1)
        .min(ranges.len() - 1)
}

/// What is done about a call, once it is known which.
fn rule(program: &mut Program, rule: Rule) {
    match rule {
        Rule::Allow => program.end(Verdict::Allow),
        Rule::Refuse => program.end(Verdict::Errno(libc::EPERM)),
        Rule::Unknown => program.end(Verdict::Errno(libc::ENOSYS)),
        Rule::Kill => program.end(Verdict::Kill),
        Rule::Clone => {
            program.load_argument(0);
            program.end_if_any_bit(table::NAMESPACE_FLAGS, Verdict::Errno(libc::EPERM));
            program.end(Verdict::Allow);
        }
        Rule::Socket(families) => {
            program.load_argument(0);
            for family in families {
                program.end_if_equal(*family, Verdict::Allow);
            }
            program.end(Verdict::Errno(libc::EAFNOSUPPORT));
        }
        Rule::Fcntl => {
            program.load_argument(1);
            for command in table::FOREIGN_COMMANDS {
                program.end_if_equal(command, Verdict::Errno(libc::EPERM));
            }
            program.end(Verdict::Allow);
        }
        Rule::NotInit => {
            program.load_argument(0);
            program.end_if_equal(table::INIT, Verdict::Errno(libc::EPERM));
            program.end(Verdict::Allow);
        }
        Rule::Personality => {
            program.load_argument(0);
            for persona in table::PERSONALITIES {
                program.end_if_equal(persona, Verdict::Allow);
            }
            program.end(Verdict::Errno(libc::EPERM));
        }
    }
}

#[cfg(test)]
mod tests;
