//! A seccomp filter that looks at where a system call comes from: whatever is not allowed to a piece of code kills the
//! process, and all other code is left alone.

use std::collections::BTreeSet;
use std::ops::Range;

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// Offsets in `struct seccomp_data`, little endian.
const NUMBER: u32 = 0;
const POINTER_LOW: u32 = 8;
const POINTER_HIGH: u32 = 12;

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn answer(value: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: value }
}

/// Goes over the next instruction when the comparison is as wanted.
fn skip_if(comparison: u32, value: u32, wanted: bool) -> sock_filter {
    let code = (BPF_JMP | comparison | BPF_K) as u16;
    sock_filter { code, jt: u8::from(wanted), jf: u8::from(!wanted), k: value }
}

/// Code in that range of addresses, all below 4 GiB, may make these calls and no others.
pub fn program(code: Range<u64>, allowed: &BTreeSet<i64>) -> Vec<sock_filter> {
    let allow = || answer(libc::SECCOMP_RET_ALLOW);
    let mut program = vec![
        load(POINTER_HIGH),
        skip_if(BPF_JEQ, 0, true),
        allow(),
        load(POINTER_LOW),
        skip_if(BPF_JGE, code.start as u32, true),
        allow(),
        // The address is that after the instruction, which may be the end of the code.
        skip_if(BPF_JGE, code.end as u32 + 1, false),
        allow(),
        load(NUMBER),
    ];
    for number in allowed {
        program.extend([skip_if(BPF_JEQ, *number as u32, false), allow()]);
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    program
}

/// Puts the filter on the calling thread, and on all that it starts from now on.
pub fn install(program: &[sock_filter]) {
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the call, and only reads it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &header) };
    assert_eq!(result, 0, "install the filter: {}", std::io::Error::last_os_error());
}
