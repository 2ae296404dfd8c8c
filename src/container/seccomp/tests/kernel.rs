//! The program in the kernel. A filter binds only the thread that loads it, so a thread of the test is enough.
#![allow(
    unsafe_code,
    reason = "loading a filter and making refused calls are system calls without a wrapper"
)]

use std::io::Error;
use std::time::{Duration, Instant};

use crate::container::seccomp::cache::default_program;
use crate::container::seccomp::compile::Program;

/// Loads a program for the calling thread. Gives the time that seccomp(2) took.
fn load(program: &Program) -> Result<Duration, Error> {
    let filter = libc::sock_fprog {
        len: program.instructions.len().try_into().unwrap(),
        filter: program.instructions.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the arguments are numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(Error::last_os_error());
    }
    let start = Instant::now();
    // SAFETY: the filter points to as many instructions as it says, of the kernel's layout; the kernel copies
    // them before the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, program.flags, &raw const filter)
    };
    let time = start.elapsed();
    if result == 0 { Ok(time) } else { Err(Error::last_os_error()) }
}

/// Makes a call; gives its errno, or 0.
fn errno(number: i64, args: [u64; 3]) -> i32 {
    // SAFETY: the calls of these tests take numbers or null pointers, and change nothing when they succeed.
    match unsafe { libc::syscall(number, args[0], args[1], args[2]) } {
        -1 => Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn the_kernel_takes_the_program_and_heeds_it() {
    let program = default_program(0).unwrap();
    std::thread::spawn(move || {
        load(&program).unwrap();
        for (number, args, expected) in [
            (libc::SYS_getppid, [0; 3], 0),
            (libc::SYS_keyctl, [0; 3], libc::EPERM),
            (libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0], libc::EPERM),
            (libc::SYS_io_uring_setup, [0; 3], libc::EPERM),
            (libc::SYS_bpf, [0; 3], libc::EPERM),
            (libc::SYS_move_mount, [0; 3], libc::EPERM),
            (libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | 17, 0, 0], libc::EPERM),
            (libc::SYS_clone3, [0; 3], libc::ENOSYS),
            (libc::SYS_personality, [0xffff_ffff, 0, 0], 0),
            (libc::SYS_personality, [0x4_0000, 0, 0], libc::EPERM),
            (libc::SYS_socket, [libc::AF_ALG as u64, libc::SOCK_SEQPACKET as u64, 0], libc::EPERM),
            (libc::SYS_socket, [libc::AF_ALG as u64 | 1 << 32, libc::SOCK_SEQPACKET as u64, 0], libc::EPERM),
            (libc::SYS_socket, [libc::AF_VSOCK as u64, libc::SOCK_STREAM as u64, 0], libc::EPERM),
            (100_000, [0; 3], libc::ENOSYS),
        ] {
            assert_eq!(errno(number, args), expected, "call {number} {args:x?}");
        }
        if cfg!(target_arch = "x86_64") {
            assert_eq!(errno(0x4000_0000 | libc::SYS_getpid, [0; 3]), libc::ENOSYS);
        }
        drop(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    })
    .join()
    .unwrap();
}
