//! An assembler for the little of classic BPF that a seccomp filter needs. Knows nothing of
//! which calls are allowed.

use std::io;

/// One instruction, in the kernel's form.
pub(in crate::sandbox) type Instruction = libc::sock_filter;

/// Most instructions that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

/// How a filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call is made.
    Allow,
    /// The call fails with this errno.
    Errno(i32),
    /// The process is killed.
    Kill,
}

impl Verdict {
    /// The kernel's number for it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(1),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// Instructions in the making.
#[derive(Debug, Default)]
pub(super) struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// How many instructions there are.
    pub(super) fn len(&self) -> usize {
        self.instructions.len()
    }

    /// The program, when the kernel can take it.
    pub(super) fn finish(self) -> io::Result<Vec<Instruction>> {
        if self.len() > MAX_INSTRUCTIONS {
            return Err(io::Error::other("the filter is too long"));
        }
        Ok(self.instructions)
    }

    /// Adds the instructions of another.
    pub(super) fn append(&mut self, mut other: Self) {
        self.instructions.append(&mut other.instructions);
    }

    /// Loads the architecture.
    pub(super) fn load_arch(&mut self) {
        self.load(ARCH_OFFSET);
    }

    /// Loads the number of the call.
    pub(super) fn load_number(&mut self) {
        self.load(NUMBER_OFFSET);
    }

    /// Loads the lower half of an argument. Every argument that is looked at is an `int` or holds
    /// its flags in the lower half, which is all that the kernel reads of it.
    pub(super) fn load_argument(&mut self, index: u32) {
        let half = if cfg!(target_endian = "big") { 4 } else { 0 };
        self.load(ARGUMENTS_OFFSET + index * 8 + half);
    }

    /// Ends the filter with `verdict`.
    pub(super) fn end(&mut self, verdict: Verdict) {
        self.push(libc::BPF_RET | libc::BPF_K, verdict.code(), (0, 0));
    }

    /// Kills unless the accumulator is `value`.
    pub(super) fn kill_unless_equal(&mut self, value: u32) {
        self.jump(libc::BPF_JEQ, value, (1, 0));
        self.end(Verdict::Kill);
    }

    /// Ends with `verdict` when the accumulator is `value`.
    pub(super) fn end_if_equal(&mut self, value: u32, verdict: Verdict) {
        self.jump(libc::BPF_JEQ, value, (0, 1));
        self.end(verdict);
    }

    /// Ends with `verdict` when the accumulator has any bit of `bits`.
    pub(super) fn end_if_any_bit(&mut self, bits: u32, verdict: Verdict) {
        self.jump(libc::BPF_JSET, bits, (0, 1));
        self.end(verdict);
    }

    /// Skips the next `count` instructions when the accumulator is at least `value`.
    pub(super) fn skip_if_at_least(&mut self, value: u32, count: usize) {
        if let Ok(near) = u8::try_from(count) {
            self.jump(libc::BPF_JGE, value, (near, 0));
        } else {
            // Conditional jumps reach 255 instructions, unconditional ones any.
            let far = u32::try_from(count).unwrap_or(u32::MAX);
            self.jump(libc::BPF_JGE, value, (0, 1));
            self.push(libc::BPF_JMP | libc::BPF_JA, far, (0, 0));
        }
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, (0, 0));
    }

    fn jump(&mut self, condition: u32, value: u32, targets: (u8, u8)) {
        self.push(libc::BPF_JMP | condition | libc::BPF_K, value, targets);
    }

    fn push(&mut self, code: u32, k: u32, (jt, jf): (u8, u8)) {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        self.instructions.push(Instruction { code, jt, jf, k });
    }
}
