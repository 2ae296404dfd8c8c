//! System calls without a C library. Every call returns the kernel's value or the error number.

use core::arch::{asm, global_asm};

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

pub const EPERM: Errno = Errno(1);
pub const ENOENT: Errno = Errno(2);
pub const EINTR: Errno = Errno(4);
pub const ECHILD: Errno = Errno(10);
pub const EAGAIN: Errno = Errno(11);
pub const EACCES: Errno = Errno(13);
pub const EBUSY: Errno = Errno(16);
pub const EEXIST: Errno = Errno(17);
pub const ENODEV: Errno = Errno(19);
pub const ENOTDIR: Errno = Errno(20);
pub const EMFILE: Errno = Errno(24);
pub const EINVAL: Errno = Errno(22);
pub const EXDEV: Errno = Errno(18);
pub const ENAMETOOLONG: Errno = Errno(36);
pub const ENOSYS: Errno = Errno(38);
pub const ECONNABORTED: Errno = Errno(103);

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym crate::start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    start = sym crate::start,
);

/// A pipe: who reads, and who writes. Both close on exec.
pub fn pipe() -> Result<[i32; 2], Errno> {
    let mut ends = [-1i32; 2];
    syscall!(nr::PIPE2, ends.as_mut_ptr(), O_CLOEXEC)?;
    Ok(ends)
}

/// `struct pollfd` of poll(2).
#[repr(C)]
pub struct PollFd {
    fd: i32,
    events: i16,
    pub happened: i16,
}

impl PollFd {
    /// To wait until that can be read.
    pub fn of(fd: i32) -> Self {
        const POLLIN: i16 = 1;
        PollFd { fd, events: POLLIN, happened: 0 }
    }
}

/// Numbers that differ by architecture.
#[cfg(target_arch = "x86_64")]
pub mod nr {
    pub const OPEN_TREE: usize = 428;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const PREAD64: usize = 17;
    pub const RECVFROM: usize = 45;
    pub const SENDTO: usize = 44;
    pub const SENDMSG: usize = 46;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const EXIT_GROUP: usize = 231;
    pub const WAIT4: usize = 61;
    pub const GETCWD: usize = 79;
    pub const CHDIR: usize = 80;
    pub const FCHDIR: usize = 81;
    pub const UMASK: usize = 95;
    pub const FCNTL: usize = 72;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119;
    pub const CAPSET: usize = 126;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const FSTATFS: usize = 138;
    pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157;
    pub const GETPID: usize = 39;
    pub const PIDFD_OPEN: usize = 434;
    pub const MOUNT: usize = 165;
    pub const UMOUNT2: usize = 166;
    pub const FSTAT: usize = 5;
    pub const IOCTL: usize = 16;
    pub const FCHOWN: usize = 93;
    pub const GETSOCKOPT: usize = 55;
    pub const PPOLL: usize = 271;
    pub const ACCEPT4: usize = 288;
    pub const CLOSE: usize = 3;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const MKNODAT: usize = 259;
    pub const FCHOWNAT: usize = 260;
    pub const GETDENTS64: usize = 217;
    pub const SENDFILE: usize = 40;
    pub const READLINKAT: usize = 267;
    pub const FCHMOD: usize = 91;
    pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266;
    pub const UNSHARE: usize = 272;
    pub const DUP3: usize = 292;
    pub const PRLIMIT64: usize = 302;
    pub const SETNS: usize = 308;
    pub const SECCOMP: usize = 317;
    pub const MOVE_MOUNT: usize = 429;
    pub const FSOPEN: usize = 430;
    pub const FSCONFIG: usize = 431;
    pub const FSMOUNT: usize = 432;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
    pub const FACCESSAT2: usize = 439;
    pub const MOUNT_SETATTR: usize = 442;
    pub const SETFSUID: usize = 122;
    pub const SETFSGID: usize = 123;
    pub const CAPGET: usize = 125;
    pub const MQ_OPEN: usize = 240;
    pub const MQ_UNLINK: usize = 241;
    pub const LSEEK: usize = 8;
    pub const KILL: usize = 62;
    pub const PIPE2: usize = 293;
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const PERSONALITY: usize = 135;
    pub const SET_MEMPOLICY: usize = 238;
    pub const KEYCTL: usize = 250;
    pub const SCHED_SETAFFINITY: usize = 203;
    pub const IOPRIO_SET: usize = 251;
    pub const SCHED_SETATTR: usize = 314;
    pub const CHROOT: usize = 161;
    pub const SOCKETPAIR: usize = 53;
    pub const RECVMSG: usize = 47;
}

/// Numbers that differ by architecture.
#[cfg(target_arch = "aarch64")]
pub mod nr {
    pub const OPEN_TREE: usize = 428;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const PREAD64: usize = 67;
    pub const RECVFROM: usize = 207;
    pub const SENDTO: usize = 206;
    pub const SENDMSG: usize = 211;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const EXIT_GROUP: usize = 94;
    pub const WAIT4: usize = 260;
    pub const GETCWD: usize = 17;
    pub const CHDIR: usize = 49;
    pub const FCHDIR: usize = 50;
    pub const UMASK: usize = 166;
    pub const FCNTL: usize = 25;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149;
    pub const CAPSET: usize = 91;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const FSTATFS: usize = 44;
    pub const PIVOT_ROOT: usize = 41;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const PIDFD_OPEN: usize = 434;
    pub const MOUNT: usize = 40;
    pub const UMOUNT2: usize = 39;
    pub const FSTAT: usize = 80;
    pub const IOCTL: usize = 29;
    pub const FCHOWN: usize = 55;
    pub const GETSOCKOPT: usize = 209;
    pub const PPOLL: usize = 73;
    pub const ACCEPT4: usize = 242;
    pub const CLOSE: usize = 57;
    pub const OPENAT: usize = 56;
    pub const MKDIRAT: usize = 34;
    pub const MKNODAT: usize = 33;
    pub const FCHOWNAT: usize = 54;
    pub const GETDENTS64: usize = 61;
    pub const SENDFILE: usize = 71;
    pub const READLINKAT: usize = 78;
    pub const FCHMOD: usize = 52;
    pub const UNLINKAT: usize = 35;
    pub const SYMLINKAT: usize = 36;
    pub const UNSHARE: usize = 97;
    pub const DUP3: usize = 24;
    pub const PRLIMIT64: usize = 261;
    pub const SETNS: usize = 268;
    pub const SECCOMP: usize = 277;
    pub const MOVE_MOUNT: usize = 429;
    pub const FSOPEN: usize = 430;
    pub const FSCONFIG: usize = 431;
    pub const FSMOUNT: usize = 432;
    pub const CLOSE_RANGE: usize = 436;
    pub const OPENAT2: usize = 437;
    pub const FACCESSAT2: usize = 439;
    pub const MOUNT_SETATTR: usize = 442;
    pub const SETFSUID: usize = 151;
    pub const SETFSGID: usize = 152;
    pub const CAPGET: usize = 90;
    pub const MQ_OPEN: usize = 180;
    pub const MQ_UNLINK: usize = 181;
    pub const LSEEK: usize = 62;
    pub const KILL: usize = 129;
    pub const PIPE2: usize = 59;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PERSONALITY: usize = 92;
    pub const SET_MEMPOLICY: usize = 237;
    pub const KEYCTL: usize = 219;
    pub const SCHED_SETAFFINITY: usize = 122;
    pub const IOPRIO_SET: usize = 30;
    pub const SCHED_SETATTR: usize = 274;
    pub const CHROOT: usize = 51;
    pub const SOCKETPAIR: usize = 199;
    pub const RECVMSG: usize = 212;
}

/// One system call.
#[cfg(target_arch = "x86_64")]
pub fn call(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel checks every pointer that it is given; those that it writes through are passed by the
    // functions of this program, which own what they point to. `syscall` changes rcx and r11, said here.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// One system call.
#[cfg(target_arch = "aarch64")]
pub fn call(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: as above; `svc` changes nothing but x0.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] as isize => result, in("x1") args[1],
            in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// A system call with fewer arguments: what is not given is 0.
macro_rules! syscall {
    ($number:expr $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(&given);
        $crate::sys::call($number, args)
    }};
}
pub(crate) use syscall;

/// Ends the process. A filter of the container's own may refuse even that call: then by an instruction that no
/// processor has, whose signal nothing can block or ignore.
pub fn exit(status: i32) -> ! {
    let _ = syscall!(nr::EXIT_GROUP, status);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction raises an exception and touches nothing.
    unsafe {
        asm!("ud2", options(noreturn, nomem, nostack))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!("udf #0", options(noreturn, nomem, nostack))
    }
}

/// The working directory as a base of `…at` calls.
pub const AT_FDCWD: i32 = -100;
pub const AT_EMPTY_PATH: usize = 0x1000;
pub const AT_RECURSIVE: usize = 0x8000;
pub const O_DIRECTORY: usize = if cfg!(target_arch = "aarch64") { 0o40000 } else { 0o200000 };
pub const O_NOFOLLOW: usize = if cfg!(target_arch = "aarch64") { 0o100000 } else { 0o400000 };
pub const O_CREAT: usize = 0o100;
pub const O_EXCL: usize = 0o200;
pub const O_WRONLY: usize = 0o1;
pub const O_RDWR: usize = 0o2;
pub const O_NOCTTY: usize = 0o400;
pub const O_NONBLOCK: usize = 0o4000;
pub const AT_SYMLINK_NOFOLLOW: usize = 0x100;
pub const O_CLOEXEC: usize = 0o2000000;
pub const O_PATH: usize = 0o10000000;

/// An empty path, for calls on the descriptor itself.
pub const EMPTY: *const u8 = c"".as_ptr() as *const u8;

/// Closes a descriptor that is no longer needed.
pub fn close(fd: i32) {
    let _ = syscall!(nr::CLOSE, fd);
}

/// What fstat(2) says of a file: its mode and, for a device node, its number.
pub fn stat(fd: i32) -> Result<(u32, u64), Errno> {
    full_stat(fd).map(|stat| (stat.mode, stat.rdev))
}

/// What init wants to know of a file.
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
}

/// fstat(2).
pub fn full_stat(fd: i32) -> Result<Stat, Errno> {
    let mut buffer = [0u64; 18];
    syscall!(nr::FSTAT, fd, buffer.as_mut_ptr())?;
    let high = |word: u64| (word >> 32) as u32;
    Ok(if cfg!(target_arch = "aarch64") {
        Stat { mode: buffer[2] as u32, uid: buffer[3] as u32, gid: high(buffer[3]), rdev: buffer[4] }
    } else {
        Stat { mode: buffer[3] as u32, uid: high(buffer[3]), gid: buffer[4] as u32, rdev: buffer[5] }
    })
}

/// The device of the filesystem that a file is on, by fstat(2).
pub fn device(fd: i32) -> Result<u64, Errno> {
    let mut buffer = [0u64; 18];
    syscall!(nr::FSTAT, fd, buffer.as_mut_ptr())?;
    Ok(buffer[0])
}

/// The type of the filesystem that a file is on.
pub fn filesystem(fd: i32) -> Result<u64, Errno> {
    let mut buffer = [0u64; 15];
    syscall!(nr::FSTATFS, fd, buffer.as_mut_ptr())?;
    Ok(buffer[0])
}

// The compiler calls these for copies and comparisons; there is no C library to have them. The crate is compiled
// with `no_builtins`, so that the loops are not turned into calls of themselves.

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    let mut i = 0;
    while i < length {
        // SAFETY: the caller promises `length` bytes on both sides.
        unsafe { *to.add(i) = *from.add(i) };
        i += 1;
    }
    to
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.addr() <= from.addr() {
        // SAFETY: forwards is right when the target is below the source.
        return unsafe { memcpy(to, from, length) };
    }
    let mut i = length;
    while i > 0 {
        i -= 1;
        // SAFETY: the caller promises `length` bytes on both sides.
        unsafe { *to.add(i) = *from.add(i) };
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut i = 0;
    while i < length {
        // SAFETY: the caller promises `length` bytes.
        unsafe { *to.add(i) = byte as u8 };
        i += 1;
    }
    to
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    let mut i = 0;
    while i < length {
        // SAFETY: the caller promises `length` bytes on both sides.
        let (x, y) = unsafe { (*a.add(i), *b.add(i)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        i += 1;
    }
    0
}
