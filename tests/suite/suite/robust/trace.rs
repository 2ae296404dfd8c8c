//! Running this program as a host program under ptrace(2): every system call of all its threads, and of the processes
//! that it starts until they execute init or their program, is seen by the test, which can let it fail or kill the
//! host program there. For tests that run alone in their process, see `again::alone`.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::again::{Watchdog, command};

/// Who makes a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A thread of the host program.
    Host,
    /// A child that still shares its memory, between clone3 and execveat.
    Trampoline,
    /// Init, before it executes the container's program.
    Init,
}

/// A system call, before it is done or after.
#[derive(Debug)]
pub struct Call {
    pub pid: Pid,
    pub who: Who,
    pub number: i64,
    pub args: [u64; 6],
    /// Its result, after it.
    pub result: Option<i64>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Go,
    /// Kill the host program, all its threads at once.
    Kill,
    /// Do not do the call, and return this error.
    Fail(Errno),
}

/// How the host program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or `None` when it was killed.
    pub code: Option<i32>,
    pub stderr: String,
}

struct Task {
    who: Who,
    number: i64,
    args: [u64; 6],
    fail: Option<Errno>,
}

struct Tracer<'a> {
    host: Pid,
    tasks: HashMap<Pid, Task>,
    /// New tasks that stopped before their parent told of them.
    early: Vec<Pid>,
    follow_init: bool,
    killed: bool,
    stepped: Option<Vec<u64>>,
    on_call: &'a mut dyn FnMut(&Call) -> Then,
}

/// Traces `suite payload WORDS…` until it ends. Init is followed until it executes the container's program when asked
/// for; otherwise it is let go as soon as it is init.
pub fn trace(words: &[&str], follow_init: bool, on_call: &mut dyn FnMut(&Call) -> Then) -> Ended {
    run(words, follow_init, None, on_call).0
}

/// Runs the child that becomes init one instruction at a time, and returns the address of each.
pub fn single_step(words: &[&str]) -> (Ended, Vec<u64>) {
    run(words, false, Some(Vec::new()), &mut |_| Then::Go)
}

fn run(
    words: &[&str],
    follow_init: bool,
    stepped: Option<Vec<u64>>,
    on_call: &mut dyn FnMut(&Call) -> Then,
) -> (Ended, Vec<u64>) {
    let output = tempfile::NamedTempFile::new().expect("a file for the output");
    let file = |file: &File| file.try_clone().expect("duplicate the output");
    let mut command = command(words);
    command.stdout(file(output.as_file())).stderr(file(output.as_file()));
    // SAFETY: the closure makes one system call and neither allocates nor locks.
    unsafe {
        command
            .pre_exec(|| ptrace::traceme().map_err(|errno| std::io::Error::from_raw_os_error(errno as i32)))
    };
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
    let child = command.spawn().expect("start this program again");
    let host = Pid::from_raw(child.id() as i32);
    let guard = Watchdog::new(host, Duration::from_secs(120));
    let mut tracer = Tracer {
        host,
        tasks: HashMap::new(),
        early: Vec::new(),
        follow_init,
        killed: false,
        stepped,
        on_call,
    };
    let code = tracer.run();
    drop(guard);
    let stderr = std::fs::read_to_string(output.path()).expect("read the output");
    (Ended { code, stderr }, tracer.stepped.unwrap_or_default())
}

impl Tracer<'_> {
    fn run(&mut self) -> Option<i32> {
        // The stop at its first instruction, after execve(2).
        let first = waitpid(self.host, Some(WaitPidFlag::__WALL)).expect("wait for the first stop");
        assert!(matches!(first, WaitStatus::Stopped(_, Signal::SIGTRAP)), "{first:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.host, options).expect("set the options of the tracer");
        self.add(self.host, Who::Host);
        self.go(self.host, None);
        let mut code = None;
        let mut ended = false;
        while !ended || !self.tasks.is_empty() {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => continue,
                result => result.expect("wait for the traced program"),
            };
            if matches!(status, WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == self.host)
            {
                // Its threads have ended before it.
                ended = true;
                self.tasks.retain(|_, task| task.who != Who::Host);
            }
            match status {
                WaitStatus::Exited(pid, status) => {
                    self.tasks.remove(&pid);
                    if pid == self.host {
                        code = Some(status);
                    }
                }
                WaitStatus::Signaled(pid, ..) => drop(self.tasks.remove(&pid)),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::PtraceSyscall(pid) => self.system_call(pid),
                WaitStatus::Stopped(pid, signal) => self.stopped(pid, signal),
                other => panic!("unexpected {other:?}"),
            }
        }
        if self.killed {
            self.let_go_of_strangers();
        }
        code
    }

    /// A process that the host program made a moment before it was killed, so that nobody told of it, has stopped or is
    /// about to: it would stand still for ever, with all files of the host program open.
    fn let_go_of_strangers(&mut self) {
        for pid in self.early.drain(..) {
            let _ = ptrace::detach(pid, None);
        }
        let tracer = format!("TracerPid:\t{}\n", std::process::id());
        let is_traced = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.contains(&tracer))
        };
        let all = std::fs::read_dir("/proc").expect("list processes").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in pids.filter(is_traced).map(Pid::from_raw) {
            // Its first stop, unless it was killed with its cgroup.
            if let Ok(WaitStatus::Stopped(..)) = waitpid(pid, Some(WaitPidFlag::__WALL)) {
                let _ = ptrace::detach(pid, None);
            }
        }
    }

    fn add(&mut self, pid: Pid, who: Who) {
        self.tasks.insert(pid, Task { who, number: -1, args: [0; 6], fail: None });
    }

    fn who(&self, pid: Pid) -> Who {
        self.tasks.get(&pid).map_or(Who::Host, |task| task.who)
    }

    /// Lets a task go on; one that is not the host program's is let go for good when that is killed.
    fn go(&mut self, pid: Pid, signal: Option<Signal>) {
        let who = self.who(pid);
        let result = if self.killed && who != Who::Host {
            self.tasks.remove(&pid);
            ptrace::detach(pid, signal)
        } else if self.stepped.is_some() && who == Who::Trampoline {
            ptrace::step(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        };
        // ESRCH: it was killed while it was stopped.
        assert!(matches!(result, Ok(()) | Err(Errno::ESRCH)), "{result:?}");
    }

    fn event(&mut self, pid: Pid, event: i32) {
        if event == Event::PTRACE_EVENT_EXEC as i32 {
            match self.who(pid) {
                Who::Trampoline if self.follow_init => self.add(pid, Who::Init),
                Who::Trampoline | Who::Init => {
                    self.tasks.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    return;
                }
                Who::Host => {}
            }
        } else if let Ok(new) = ptrace::getevent(pid) {
            let new = Pid::from_raw(new as i32);
            let vfork = event == Event::PTRACE_EVENT_VFORK as i32;
            self.add(new, if vfork { Who::Trampoline } else { self.who(pid) });
            if let Some(at) = self.early.iter().position(|early| *early == new) {
                self.early.remove(at);
                self.go(new, None);
            }
        }
        self.go(pid, None);
    }

    fn stopped(&mut self, pid: Pid, signal: Signal) {
        let Some(task) = self.tasks.get(&pid) else {
            self.early.push(pid);
            return;
        };
        match signal {
            // The first stop of a new task.
            Signal::SIGSTOP => self.go(pid, None),
            Signal::SIGTRAP if task.who == Who::Trampoline && self.stepped.is_some() => {
                if let (Ok(registers), Some(stepped)) = (ptrace::getregs(pid), &mut self.stepped) {
                    stepped.push(registers.rip);
                }
                self.go(pid, None);
            }
            other => self.go(pid, Some(other)),
        }
    }

    fn system_call(&mut self, pid: Pid) {
        let (Ok(info), Some(task)) = (ptrace::syscall_info(pid), self.tasks.get_mut(&pid)) else {
            // Killed meanwhile.
            let _ = ptrace::syscall(pid, None);
            return;
        };
        let result = if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: the kernel says that it filled this member of the union.
            let entry = unsafe { info.u.entry };
            (task.number, task.args) = (entry.nr as i64, entry.args);
            None
        } else {
            // SAFETY: as above; there are these two stops only.
            let exit = unsafe { info.u.exit };
            if let Some(errno) = task.fail.take()
                && let Ok(mut registers) = ptrace::getregs(pid)
            {
                registers.rax = -(errno as i64) as u64;
                ptrace::setregs(pid, registers).expect("set the result of the system call");
            }
            Some(exit.sval)
        };
        let call = Call { pid, who: task.who, number: task.number, args: task.args, result };
        match if self.killed { Then::Go } else { (self.on_call)(&call) } {
            Then::Go => {}
            Then::Kill => {
                self.killed = true;
                kill(self.host, Signal::SIGKILL).expect("kill the host program");
            }
            Then::Fail(errno) => {
                assert!(call.result.is_none(), "a call can fail before it is done only");
                if let (Ok(mut registers), Some(task)) = (ptrace::getregs(pid), self.tasks.get_mut(&pid)) {
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers).expect("skip the system call");
                    task.fail = Some(errno);
                }
            }
        }
        self.go(pid, None);
    }
}

/// Whether a system call of the host program concerns nothing but its own memory, threads and signals, or only reads:
/// that it is killed there is the same as that it is killed at its next call.
pub fn is_local(number: i64) -> bool {
    const LOCAL: &[i64] = &[
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_set_tid_address,
        libc::SYS_arch_prctl,
        libc::SYS_prlimit64,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    LOCAL.contains(&number)
}

/// A system call by its name in the kernel's headers, for messages.
pub fn name(number: i64) -> String {
    const NAMES: &[(i64, &str)] = &[
        (libc::SYS_read, "read"),
        (libc::SYS_write, "write"),
        (libc::SYS_close, "close"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_close_range, "close_range"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_execveat, "execveat"),
        (libc::SYS_mkdirat, "mkdirat"),
        (libc::SYS_renameat, "renameat"),
        (libc::SYS_unlinkat, "unlinkat"),
        (libc::SYS_setns, "setns"),
        (libc::SYS_unshare, "unshare"),
        (libc::SYS_fsopen, "fsopen"),
        (libc::SYS_fsmount, "fsmount"),
        (libc::SYS_move_mount, "move_mount"),
        (libc::SYS_open_tree, "open_tree"),
        (libc::SYS_umount2, "umount2"),
        (libc::SYS_flock, "flock"),
        (libc::SYS_poll, "poll"),
        (libc::SYS_waitid, "waitid"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_prctl, "prctl"),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("system call {number}"), |(_, name)| (*name).to_string())
}
