//! One container: cloned straight into its cgroup, set up by the child itself, awaited by pidfd.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{AT_FDCWD, c_char, c_int};

use super::node::{Node, step};
use super::pod::Pod;
use super::{devices, full, sys};
use crate::contender::{Program, Result};
use crate::full::AMBIENT;

/// The fourteen of containerd and docker.
const CAPABILITIES: u64 = 0xa804_25fb;
const LAST_CAPABILITY: usize = 40;
const INTO_CGROUP: u64 = 0x2_0000_0000;
const NO_SUID_DEV_EXEC: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];
const MASKED_FILES: [&CStr; 6] = [
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
];
const MASKED_DIRECTORIES: [&CStr; 5] =
    [c"/proc/acpi", c"/proc/asound", c"/proc/scsi", c"/sys/firmware", c"/sys/devices/virtual/powercap"];
const READ_ONLY: [&CStr; 5] = [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// The child's stack, used by one child at a time.
pub struct Stack(*mut libc::c_void);

impl Stack {
    const SIZE: usize = 64 * 1024;

    pub fn new() -> Result<Stack> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at =
            unsafe { libc::mmap(ptr::null_mut(), Stack::SIZE, access, kind | libc::MAP_POPULATE, -1, 0) };
        if at == libc::MAP_FAILED { Err(std::io::Error::last_os_error().into()) } else { Ok(Stack(at)) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which no child uses any more: clone3 with CLONE_VFORK has returned.
        unsafe { libc::munmap(self.0, Stack::SIZE) };
    }
}

pub struct Container<'a> {
    pub node: &'a Node,
    pub pod: &'a Pod,
    pub name: &'a CStr,
    pub program: Program,
}

/// All that the child needs; it lives on the parent's stack while the parent is suspended.
struct Job<'a> {
    net: RawFd,
    ipc: RawFd,
    uts: RawFd,
    root: RawFd,
    shm: RawFd,
    mqueue: RawFd,
    output: Option<RawFd>,
    filter: &'a [libc::sock_filter],
    full: Option<&'a full::Sources>,
    path: &'a CStr,
    argv: *const *const c_char,
    envp: *const *const c_char,
    failed: Option<(&'static str, c_int)>,
}

impl Container<'_> {
    /// Creates the container, runs it to its end, which must be success, and removes it.
    pub fn run(&self, path: &CStr, arguments: &[&CStr], output: Option<RawFd>) -> Result<()> {
        let pod_cgroup = self.pod.cgroup.as_raw_fd();
        step("make the container's cgroup", sys::mkdirat(pod_cgroup, self.name, 0o755))?;
        let code = self.run_in_cgroup(path, arguments, output);
        while let Err(errno) = sys::unlinkat(pod_cgroup, self.name, libc::AT_REMOVEDIR) {
            // The process is awaited, but the kernel may not yet have counted it out.
            if errno != libc::EBUSY {
                return step("remove the container's cgroup", Err(errno));
            }
            std::thread::yield_now();
        }
        match code? {
            0 => Ok(()),
            code => Err(format!("the container ended with status {code}").into()),
        }
    }

    fn run_in_cgroup(&self, path: &CStr, arguments: &[&CStr], output: Option<RawFd>) -> Result<c_int> {
        let (node, pod) = (self.node, self.pod);
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        let opened = sys::openat(pod.cgroup.as_raw_fd(), self.name, directory, 0);
        let cgroup = step("open the container's cgroup", opened)?;
        let is_full = self.program == Program::Full;
        let guard = if is_full { &node.guard_of_full } else { &node.guard };
        step("guard the devices", devices::attach(guard, cgroup.as_raw_fd()))?;
        // Each source is cloned in the mount namespace it belongs to; older kernels accept nothing else.
        node.enter(&node.host)?;
        let root = step("clone the root", sys::open_tree_recursive(node.rootfs.as_raw_fd()))?;
        step("make the root private", sys::make_private(root.as_raw_fd()))?;
        let full = is_full.then(|| full::Sources::open(node)).transpose()?;
        node.enter(&node.pins)?;
        step("enter /pods", sys::chdir(c"/pods"))?;
        step("enter the pod's pins", sys::chdir(&pod.name))?;
        let shm = step("clone /dev/shm", sys::open_tree(AT_FDCWD, c"shm"))?;
        let mqueue = step("clone /dev/mqueue", sys::open_tree(AT_FDCWD, c"mqueue"))?;
        node.enter(&node.template)?;

        let mut argv = [ptr::null(); 8];
        for (slot, argument) in argv.iter_mut().zip(arguments) {
            *slot = argument.as_ptr();
        }
        let envp = [c"PATH=/bin".as_ptr(), ptr::null()];
        let mut job = Job {
            net: pod.net.as_raw_fd(),
            ipc: pod.ipc.as_raw_fd(),
            uts: pod.uts.as_raw_fd(),
            root: root.as_raw_fd(),
            shm: shm.as_raw_fd(),
            mqueue: mqueue.as_raw_fd(),
            output,
            filter: if self.program == Program::Unfiltered { &[] } else { &node.filter },
            full: full.as_ref(),
            path,
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            failed: None,
        };
        let pidfd = step("clone3", spawn(node, &cgroup, &mut job))?;
        let code = step("wait for the container", sys::wait(pidfd.as_raw_fd()))?;
        match job.failed {
            Some((name, errno)) => step(name, Err(errno)),
            None => Ok(code),
        }
    }
}

fn spawn(node: &Node, cgroup: &OwnedFd, job: &mut Job) -> std::result::Result<OwnedFd, c_int> {
    let mut pidfd: c_int = -1;
    let shared = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    // SAFETY: the structure is plain integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (shared | libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64 | INTO_CGROUP;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.stack = node.stack.0 as u64;
    args.stack_size = Stack::SIZE as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: the stack is alive and used by no other child; CLONE_VFORK suspends us while the child uses `job`; the
    // child does system calls only.
    unsafe { sys::clone3(&args, child, ptr::from_mut(job).cast()) }?;
    // SAFETY: the kernel has stored a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

extern "C" fn child(job: *mut libc::c_void) -> c_int {
    // SAFETY: `spawn` passes a Job that nobody else touches until this process has executed or exited.
    let job = unsafe { &mut *job.cast::<Job>() };
    let failed = match set_up(job) {
        // SAFETY: both arrays end with null and live on the suspended parent's stack.
        Ok(()) => ("execve", unsafe { sys::execve(job.path, job.argv, job.envp) }),
        Err(failed) => failed,
    };
    job.failed = Some(failed);
    126
}

pub type Step<T = ()> = std::result::Result<T, (&'static str, c_int)>;

pub fn check<T>(name: &'static str, answer: std::result::Result<T, c_int>) -> Step<T> {
    answer.map_err(|errno| (name, errno))
}

/// For paths that this kernel may not have: `Ok(false)` when it is not there.
fn check_present(name: &'static str, answer: sys::Answer) -> Step<bool> {
    match answer {
        Err(libc::ENOENT) => Ok(false),
        answer => check(name, answer).map(|_| true),
    }
}

fn set_up(job: &Job) -> Step {
    check("join the network namespace", sys::setns(job.net, libc::CLONE_NEWNET))?;
    check("join the IPC namespace", sys::setns(job.ipc, libc::CLONE_NEWIPC))?;
    check("join the UTS namespace", sys::setns(job.uts, libc::CLONE_NEWUTS))?;
    check("unshare the cgroup namespace", sys::unshare(libc::CLONE_NEWCGROUP))?;
    check("setsid", sys::setsid())?;
    mounts(job)?;
    masks()?;
    if job.full.is_some() {
        full::attributes(c"/")?;
    }
    if let Some(output) = job.output {
        check("connect stdout", sys::dup3(output, 1, 0))?;
    }
    privileges(job)
}

fn mounts(job: &Job) -> Step {
    check("attach the root", sys::move_mount(job.root, AT_FDCWD, c"/root"))?;
    check("enter the root", sys::chdir(c"/root"))?;
    let read_only = NO_SUID_DEV_EXEC | libc::MS_RDONLY;
    check("mount proc", sys::mount(c"proc", c"proc", c"proc", NO_SUID_DEV_EXEC, c""))?;
    check("mount sysfs", sys::mount(c"sysfs", c"sys", c"sysfs", read_only, c""))?;
    check("mount cgroup2", sys::mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", read_only, c""))?;
    let dev = libc::MS_NOSUID | libc::MS_STRICTATIME;
    check("mount dev", sys::mount(c"tmpfs", c"dev", c"tmpfs", dev, c"mode=755,size=65536k"))?;
    check("umask", sys::umask(0))?;
    for directory in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        check("make a directory in dev", sys::mkdirat(AT_FDCWD, directory, 0o755))?;
    }
    let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    let no_exec = libc::MS_NOSUID | libc::MS_NOEXEC;
    check("mount devpts", sys::mount(c"devpts", c"dev/pts", c"devpts", no_exec, options))?;
    check("attach /dev/shm", sys::move_mount(job.shm, AT_FDCWD, c"dev/shm"))?;
    check("attach /dev/mqueue", sys::move_mount(job.mqueue, AT_FDCWD, c"dev/mqueue"))?;
    for (path, major, minor) in DEVICES {
        let device = libc::makedev(major, minor);
        check("make a device", sys::mknodat(AT_FDCWD, path, libc::S_IFCHR | 0o666, device))?;
    }
    for (target, link) in LINKS {
        check("make a link in dev", sys::symlinkat(target, AT_FDCWD, link))?;
    }
    if let Some(sources) = job.full {
        full::mounts(sources)?;
    }
    check("restore the umask", sys::umask(0o022))?;
    check("pivot_root", sys::pivot_root(c".", c"."))?;
    check("detach the template", sys::umount2(c".", libc::MNT_DETACH))?;
    check("enter the new root", sys::chdir(c"/")).map(drop)
}

fn masks() -> Step {
    for path in MASKED_FILES {
        check_present("mask a file", sys::mount(c"/dev/null", path, c"", libc::MS_BIND, c""))?;
    }
    for path in MASKED_DIRECTORIES {
        check_present("mask a directory", sys::mount(c"tmpfs", path, c"tmpfs", libc::MS_RDONLY, c""))?;
    }
    for path in READ_ONLY {
        let bind = libc::MS_BIND | libc::MS_REC;
        if check_present("bind a read-only path", sys::mount(path, path, c"", bind, c""))? {
            let again = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | NO_SUID_DEV_EXEC;
            check("make a path read-only", sys::mount(c"", path, c"", again, c""))?;
        }
    }
    Ok(())
}

fn privileges(job: &Job) -> Step {
    for capability in 0..=LAST_CAPABILITY {
        if CAPABILITIES >> capability & 1 == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, capability) {
                // A capability that this kernel does not know.
                Err(libc::EINVAL) => {}
                answer => check("drop a capability from the bounding set", answer).map(drop)?,
            }
        }
    }
    if job.full.is_some() {
        full::identity()?;
        check("set capabilities", sys::capset(CAPABILITIES, 1 << AMBIENT))?;
        full::ambient()?;
    } else {
        check("set capabilities", sys::capset(CAPABILITIES, 0))?;
    }
    check("no new privileges", sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
    if !job.filter.is_empty() {
        check("load the seccomp filter", sys::seccomp(job.filter))?;
    }
    check("close on exec", sys::close_range_on_exec(3)).map(drop)
}
