//! Raw system calls, without libc.
//!
//! The child of `clone3(CLONE_VM | CLONE_VFORK)` shares memory and thread-local storage with its parent, so it may
//! touch neither `errno`, the allocator nor a lock. Everything here returns the kernel's answer as a value and is
//! therefore usable on both sides of the clone.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_char, c_int, c_long};

/// The kernel's answer: a value, or a positive errno.
pub type Answer = Result<usize, c_int>;

pub const NO_FLAGS: usize = 0;
const EMPTY: &CStr = c"";

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    // clone3_with(args, size, run, argument): the child calls run(argument) on its new stack and exits with the result.
    ".globl pericarp_bench_clone3",
    "pericarp_bench_clone3:",
    "mov r8, rdx",
    "mov r9, rcx",
    "mov eax, 435",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2: xor ebp, ebp",
    "and rsp, -16",
    "mov rdi, r9",
    "call r8",
    "mov edi, eax",
    "mov eax, 60",
    "syscall",
    "hlt",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".globl pericarp_bench_clone3",
    "pericarp_bench_clone3:",
    "mov x8, #435",
    "svc #0",
    "cbz x0, 2f",
    "ret",
    "2: mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x3",
    "blr x2",
    "mov x8, #93",
    "svc #0",
    "brk #1",
);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the floor knows the system call instruction of x86_64 and aarch64 only");

unsafe extern "C" {
    fn pericarp_bench_clone3(
        args: *const libc::clone_args,
        size: usize,
        run: extern "C" fn(*mut libc::c_void) -> c_int,
        argument: *mut libc::c_void,
    ) -> isize;
}

/// One system call; what it does to memory is the caller's concern.
#[inline(always)]
unsafe fn raw<const N: usize>(number: c_long, given: [usize; N]) -> Answer {
    let mut a = [0usize; 6];
    a[..N].copy_from_slice(&given);
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction clobbers rcx and r11 only; the caller vouches for the pointers among the arguments.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction clobbers x0 only; the caller vouches for the pointers among the arguments.
    unsafe {
        std::arch::asm!("svc #0", in("x8") number, inlateout("x0") a[0] as isize => answer, in("x1") a[1],
            in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if (-4095..0).contains(&answer) { Err(-answer as c_int) } else { Ok(answer as usize) }
}

/// A safe wrapper is a name, its arguments, the number and the words handed to the kernel. Every pointer among the
/// words comes from a reference that is alive during the call.
macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) = $number:ident [$($word:expr),*];)*) => {$(
        #[inline]
        pub fn $name($($arg: $type),*) -> Answer {
            // SAFETY: pointers come from references that live through the call, and the kernel writes through none.
            unsafe { raw(libc::$number, [$($word as usize),*]) }
        }
    )*};
}

calls! {
    unshare(flags: c_int) = SYS_unshare [flags];
    setns(fd: RawFd, kind: c_int) = SYS_setns [fd, kind];
    sethostname(name: &[u8]) = SYS_sethostname [name.as_ptr(), name.len()];
    setsid() = SYS_setsid [NO_FLAGS];
    umask(mask: u32) = SYS_umask [mask];
    chdir(path: &CStr) = SYS_chdir [path.as_ptr()];
    mkdirat(dir: RawFd, path: &CStr, mode: u32) = SYS_mkdirat [dir, path.as_ptr(), mode];
    mknodat(dir: RawFd, path: &CStr, mode: u32, device: u64) = SYS_mknodat [dir, path.as_ptr(), mode, device];
    symlinkat(target: &CStr, dir: RawFd, path: &CStr) = SYS_symlinkat [target.as_ptr(), dir, path.as_ptr()];
    unlinkat(dir: RawFd, path: &CStr, flags: c_int) = SYS_unlinkat [dir, path.as_ptr(), flags];
    umount2(path: &CStr, flags: c_int) = SYS_umount2 [path.as_ptr(), flags];
    pivot_root(new: &CStr, old: &CStr) = SYS_pivot_root [new.as_ptr(), old.as_ptr()];
    prctl(option: c_int, argument: usize) = SYS_prctl [option, argument, 0, 0, 0];
    prctl_two(option: c_int, first: usize, second: usize) = SYS_prctl [option, first, second, 0, 0];
    setgroups(groups: &[u32]) = SYS_setgroups [groups.len(), groups.as_ptr()];
    setresgid(real: u32, effective: u32, saved: u32) = SYS_setresgid [real, effective, saved];
    setresuid(real: u32, effective: u32, saved: u32) = SYS_setresuid [real, effective, saved];
    prlimit(resource: c_int, limit: &[u64; 2]) = SYS_prlimit64 [0, resource, limit.as_ptr(), 0];
    write(fd: RawFd, text: &[u8]) = SYS_write [fd, text.as_ptr(), text.len()];
    ioprio_set(which: c_int, who: c_int, priority: u32) = SYS_ioprio_set [which, who, priority];
    sched_setattr(attributes: &[u32; 12]) = SYS_sched_setattr [0, attributes.as_ptr(), 0];
    dup3(old: RawFd, new: RawFd, flags: c_int) = SYS_dup3 [old, new, flags];
    // Close-on-exec from `first` upwards.
    close_range_on_exec(first: RawFd) = SYS_close_range [first, u32::MAX, 4];
}

#[inline]
fn owned(answer: Answer) -> Result<OwnedFd, c_int> {
    // SAFETY: the kernel has just made this descriptor for us.
    answer.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn openat(dir: RawFd, path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd, c_int> {
    let words = [dir as usize, path.as_ptr() as usize, (flags | libc::O_CLOEXEC) as usize, mode as usize];
    // SAFETY: the path is a C string that outlives the call.
    owned(unsafe { raw(libc::SYS_openat, words) })
}

/// `mount(2)`; empty strings stand for what a kind of mount does not need.
#[inline]
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Answer {
    let at = |text: &CStr| text.as_ptr() as usize;
    // SAFETY: all strings outlive the call.
    unsafe { raw(libc::SYS_mount, [at(source), at(target), at(kind), flags as usize, at(data)]) }
}

/// A detached copy of the mount at `path` (or of `dir` itself when `path` is empty).
pub fn open_tree(dir: RawFd, path: &CStr) -> Result<OwnedFd, c_int> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the path is a C string that outlives the call.
    owned(unsafe { raw(libc::SYS_open_tree, [dir as usize, path.as_ptr() as usize, flags as usize]) })
}

/// As [`open_tree`], with everything that is mounted below.
pub fn open_tree_recursive(dir: RawFd) -> Result<OwnedFd, c_int> {
    let at = libc::AT_EMPTY_PATH as u32 | libc::AT_RECURSIVE as u32;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | at;
    // SAFETY: the path is a static C string.
    owned(unsafe { raw(libc::SYS_open_tree, [dir as usize, EMPTY.as_ptr() as usize, flags as usize]) })
}

/// Makes a whole detached tree private, so that `pivot_root` accepts it on hosts with a shared root.
pub fn make_private(tree: RawFd) -> Answer {
    mount_attributes(tree, [0, 0, libc::MS_PRIVATE, 0], libc::AT_RECURSIVE)
}

/// Sets `MOUNT_ATTR_*` of a detached tree, and of what is mounted below it.
pub fn mount_setattr(tree: RawFd, attributes: u64, recursive: bool) -> Answer {
    mount_attributes(tree, [attributes, 0, 0, 0], if recursive { libc::AT_RECURSIVE } else { 0 })
}

fn mount_attributes(tree: RawFd, attributes: [u64; 4], flags: c_int) -> Answer {
    let flags = libc::AT_EMPTY_PATH | flags;
    let words = [tree as usize, EMPTY.as_ptr() as usize, flags as usize, attributes.as_ptr() as usize, 32];
    // SAFETY: the attributes have the size that is given and outlive the call.
    unsafe { raw(libc::SYS_mount_setattr, words) }
}

/// Loads a program for `BPF_CGROUP_DEVICE`.
pub fn load_device_program(program: &[u64]) -> Result<OwnedFd, c_int> {
    const PROG_LOAD: usize = 5;
    const CGROUP_DEVICE: u64 = 15;
    // The beginning of union bpf_attr: type and length, the instructions, the licence.
    let words = [
        CGROUP_DEVICE | (program.len() as u64) << 32,
        program.as_ptr() as u64,
        c"MIT".as_ptr() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the attributes have the size that is given, and what they point to outlives the call.
    owned(unsafe { raw(libc::SYS_bpf, [PROG_LOAD, words.as_ptr() as usize, size_of_val(&words)]) })
}

pub fn attach_device_program(program: RawFd, cgroup: RawFd) -> Answer {
    const PROG_ATTACH: usize = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let words = [cgroup as u32, program as u32, CGROUP_DEVICE, ALLOW_MULTI];
    // SAFETY: the attributes have the size that is given and outlive the call.
    unsafe { raw(libc::SYS_bpf, [PROG_ATTACH, words.as_ptr() as usize, size_of_val(&words)]) }
}

#[inline]
pub fn move_mount(tree: RawFd, dir: RawFd, target: &CStr) -> Answer {
    let words = [tree as usize, EMPTY.as_ptr() as usize, dir as usize, target.as_ptr() as usize, 4];
    // SAFETY: both paths outlive the call; 4 is MOVE_MOUNT_F_EMPTY_PATH.
    unsafe { raw(libc::SYS_move_mount, words) }
}

/// A new detached file system of `kind` with `options`; `attributes` are `MOUNT_ATTR_*`.
pub fn new_mount(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd, c_int> {
    const CLOEXEC: usize = 1;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    // SAFETY: the kind is a C string that outlives the call.
    let context = owned(unsafe { raw(libc::SYS_fsopen, [kind.as_ptr() as usize, CLOEXEC]) })?;
    let fd = context.as_raw_fd() as usize;
    for (key, value) in options {
        let words = [fd, SET_STRING, key.as_ptr() as usize, value.as_ptr() as usize, 0];
        // SAFETY: key and value outlive the call.
        unsafe { raw(libc::SYS_fsconfig, words) }?;
    }
    // SAFETY: the command takes no pointers; neither does fsmount.
    unsafe { raw(libc::SYS_fsconfig, [fd, CREATE, 0, 0, 0]) }?;
    // SAFETY: as above.
    owned(unsafe { raw(libc::SYS_fsmount, [fd, CLOEXEC, attributes as usize]) })
}

/// Sets the flags of a loopback device over rtnetlink, waiting for the kernel's acknowledgement.
pub fn loopback_up() -> Result<(), c_int> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    let family = [libc::AF_NETLINK as usize, flags as usize, libc::NETLINK_ROUTE as usize];
    // SAFETY: no pointers.
    let socket = owned(unsafe { raw(libc::SYS_socket, family) })?;
    let fd = socket.as_raw_fd() as usize;
    // struct nlmsghdr {len, type, flags, seq, pid}, struct ifinfomsg {family, type, index, flags, change}
    let mut request = [0u32; 8];
    request[0] = 32;
    request[1] = u32::from(libc::RTM_NEWLINK) | ((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u32) << 16;
    request[2] = 1;
    request[5] = 1;
    request[6] = libc::IFF_UP as u32;
    request[7] = libc::IFF_UP as u32;
    // SAFETY: the request has 32 bytes.
    unsafe { raw(libc::SYS_sendto, [fd, request.as_ptr() as usize, 32, 0, 0, 0]) }?;
    let mut reply = [0i32; 64];
    // SAFETY: the buffer has 256 bytes and is ours alone.
    let got = unsafe { raw(libc::SYS_recvfrom, [fd, reply.as_mut_ptr() as usize, 256, 0, 0, 0]) }?;
    match reply[4] {
        _ if got < 20 => Err(libc::EBADMSG),
        0 => Ok(()),
        error => Err(-error),
    }
}

/// Sets effective and permitted capabilities of the calling thread to `keep`, and inheritable ones to `inherit`.
pub fn capset(keep: u64, inherit: u64) -> Answer {
    let header: [u32; 2] = [0x2008_0522, 0];
    let half = |set: u64| (set as u32, (set >> 32) as u32);
    let ((low, high), (low_inherit, high_inherit)) = (half(keep), half(inherit));
    let data: [u32; 6] = [low, low, low_inherit, high, high, high_inherit];
    // SAFETY: version 3 of the header goes with two triples of 32-bit words.
    unsafe { raw(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize]) }
}

/// Installs a seccomp filter on the calling thread.
pub fn seccomp(program: &[libc::sock_filter]) -> Answer {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let words = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, &raw const filter as usize];
    // SAFETY: the kernel only reads the program, whose length is given.
    unsafe { raw(libc::SYS_seccomp, words) }
}

/// Replaces the program. Returns only on failure.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings that end with null.
pub unsafe fn execve(path: &CStr, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: the caller vouches for the arrays.
    match unsafe { raw(libc::SYS_execve, [path.as_ptr() as usize, argv as usize, envp as usize]) } {
        Err(error) => error,
        Ok(_) => 0,
    }
}

/// `clone3` with a stack of its own for the child, which runs `run(argument)`; returns the child's pid.
///
/// # Safety
/// `args` names a live stack, and has CLONE_VM and CLONE_VFORK, so that the caller is suspended while the child uses
/// its memory. `run` touches neither thread-local storage, the allocator nor locks, and does not unwind.
pub unsafe fn clone3(
    args: &libc::clone_args,
    run: extern "C" fn(*mut libc::c_void) -> c_int,
    argument: *mut libc::c_void,
) -> Answer {
    // SAFETY: the caller vouches for the stack and for `run`.
    let answer = unsafe { pericarp_bench_clone3(args, size_of::<libc::clone_args>(), run, argument) };
    if answer < 0 { Err(-answer as c_int) } else { Ok(answer as usize) }
}

/// Waits for the process behind a pidfd, reaps it and returns its exit code (signals as 128 + number).
pub fn wait(pidfd: RawFd) -> Result<c_int, c_int> {
    let mut info = [0i32; 32];
    let words =
        [libc::P_PIDFD as usize, pidfd as usize, info.as_mut_ptr() as usize, libc::WEXITED as usize, 0];
    loop {
        // SAFETY: siginfo_t is 128 bytes, as is the buffer.
        match unsafe { raw(libc::SYS_waitid, words) } {
            Err(libc::EINTR) => continue,
            Err(error) => return Err(error),
            // si_code is the third word, si_status the seventh.
            Ok(_) if info[2] == libc::CLD_EXITED => return Ok(info[6]),
            Ok(_) => return Ok(128 + info[6]),
        }
    }
}
