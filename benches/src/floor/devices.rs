//! The program that guards the devices of a container, as every runtime on cgroup v2 attaches one.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::c_int;

use super::sys;

/// Character devices that may be read and written.
const DEVICES: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// Loads the program for these devices and `more`. `struct bpf_insn` is one word here.
pub fn load(more: Option<(u32, u32)>) -> Result<OwnedFd, c_int> {
    const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
        let registers = (from << 4 | to) as u64;
        code as u64 | registers << 8 | (offset as u16 as u64) << 16 | (value as u32 as u64) << 32
    }
    let deny = [instruction(0xb7, 0, 0, 0, 0), instruction(0x95, 0, 0, 0, 0)];
    let allow = [instruction(0xb7, 0, 0, 0, 1), instruction(0x95, 0, 0, 0, 0)];
    // r2: access << 16 | type, r3: access, r4: major, r5: minor
    let mut program = vec![
        instruction(0x61, 2, 1, 0, 0),
        instruction(0x61, 4, 1, 4, 0),
        instruction(0x61, 5, 1, 8, 0),
        instruction(0xbf, 3, 2, 0, 0),
        instruction(0x77, 3, 0, 0, 16),
        instruction(0x57, 2, 0, 0, 0xffff),
        // To make a node alone is allowed.
        instruction(0x55, 3, 0, 2, 1),
    ];
    program.extend(allow);
    program.push(instruction(0x15, 2, 0, 2, 2));
    program.extend(deny);
    for (major, minor) in DEVICES.into_iter().chain(more.map(|(major, minor)| (major, Some(minor)))) {
        let rest = if minor.is_some() { 3 } else { 2 };
        program.push(instruction(0x55, 4, 0, rest, major as i32));
        program.extend(minor.map(|minor| instruction(0x55, 5, 0, 2, minor as i32)));
        program.extend(allow);
    }
    program.extend(deny);
    sys::load_device_program(&program)
}

pub fn attach(program: &OwnedFd, cgroup: RawFd) -> sys::Answer {
    sys::attach_device_program(program.as_raw_fd(), cgroup)
}
