//! Which devices the processes of a pod may open.
//!
//! cgroup v2 has no device controller with files: a BPF program that is attached to the pod's cgroup decides for all
//! that is below. The rules are those of every OCI runtime: device nodes may be made, but only those of the default
//! `/dev` and terminals may be opened. Without them, a container with `CAP_MKNOD` could make a node of the machine's
//! disk and read it.

use std::os::fd::OwnedFd;

use crate::error::{Context, Error, Result};
use crate::sys::bpf::{Instruction, load_device_program};

/// Character devices that may be read and written: the default devices of the OCI runtime-spec, and `/dev/ptmx`.
const ALLOWED: [(i32, &[i32]); 2] = [(1, &[3, 5, 7, 8, 9]), (5, &[0, 2])];
/// The major number of the terminals of devpts, all of which are allowed.
const PTS: i32 = 136;

/// `struct bpf_cgroup_dev_ctx` of linux/bpf.h: access and type in one word, major, minor.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
/// `BPF_DEVCG_ACC_MKNOD`
const MKNOD: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`
const CHARACTER: i32 = 2;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Loads the program, once for all pods of a node.
pub(super) fn load() -> Result<OwnedFd> {
    load_device_program(&program()).map_err(|errno| {
        Error::system(errno, "load").on("the program that guards devices").because(
            "pods need CAP_BPF or CAP_SYS_ADMIN and a kernel with CONFIG_CGROUP_BPF: without it a container could \
             open the machine's disks",
        )
    })
}

/// Puts a cgroup under the rules.
pub(super) fn guard(program: &OwnedFd, cgroup: impl std::os::fd::AsFd, path: &std::path::Path) -> Result<()> {
    crate::sys::bpf::attach_device_program(program, cgroup)
        .step("guard the devices of cgroup", path.display())
}

fn program() -> Vec<Instruction> {
    let op = |code, to: u8, from: u8, offset, immediate| Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    };
    let mut program = vec![
        op(LOAD_WORD, 2, 1, ACCESS_TYPE, 0),
        op(LOAD_WORD, 4, 1, MAJOR, 0),
        op(LOAD_WORD, 5, 1, MINOR, 0),
        op(MOVE, 3, 2, 0, 0),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(AND, 2, 0, 0, 0xffff),
        op(MOVE_VALUE, 0, 0, 0, 1),
        // To make a node is not to open it.
        op(JUMP_IF_NOT, 3, 0, 1, MKNOD),
        op(EXIT, 0, 0, 0, 0),
    ];
    let allowed_if = |program: &mut Vec<Instruction>, register: u8, value: i32| {
        program.push(op(JUMP_IF_NOT, register, 0, 1, value));
        program.push(op(EXIT, 0, 0, 0, 0));
    };
    // Block devices are refused: jump over everything else, to the last two instructions.
    let block = program.len();
    program.push(op(JUMP_IF_NOT, 2, 0, 0, CHARACTER));
    allowed_if(&mut program, 4, PTS);
    for (major, minors) in ALLOWED {
        let other = program.len();
        program.push(op(JUMP_IF_NOT, 4, 0, 0, major));
        for minor in minors {
            allowed_if(&mut program, 5, *minor);
        }
        program[other].offset = (program.len() - other - 1) as i16;
    }
    program[block].offset = (program.len() - block - 1) as i16;
    program.push(op(MOVE_VALUE, 0, 0, 0, 0));
    program.push(op(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter would say; only what the program uses.
    fn run(access: u32, kind: u32, major: u32, minor: u32) -> i64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 6];
        let program = program();
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 0xf), usize::from(pair >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE => registers[to] = registers[from],
                MOVE_VALUE => registers[to] = immediate.into(),
                SHIFT_RIGHT => registers[to] >>= immediate,
                AND => registers[to] &= i64::from(immediate),
                JUMP_IF_NOT if registers[to] != i64::from(immediate) => at += offset as usize,
                JUMP_IF_NOT => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_the_default_devices_can_be_opened() {
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        let (block, character) = (1, 2);
        for major in 0..300 {
            for minor in 0..300 {
                let allowed = major == 136
                    || major == 1 && [3, 5, 7, 8, 9].contains(&minor)
                    || major == 5 && [0, 2].contains(&minor);
                for access in [READ, WRITE, READ | WRITE, READ | WRITE | 1] {
                    assert_eq!(run(access, character, major, minor), i64::from(allowed), "c {major}:{minor}");
                    assert_eq!(run(access, block, major, minor), 0, "b {major}:{minor}");
                }
                assert_eq!(run(1, block, major, minor), 1, "mknod b {major}:{minor}");
                assert_eq!(run(1, character, major, minor), 1, "mknod c {major}:{minor}");
            }
        }
    }
}
