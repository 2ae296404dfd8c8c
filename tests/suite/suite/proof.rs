//! What runs between the host program and a container's program, instruction by instruction and call by call: nothing
//! that allocates, locks or belongs to the host program.
//!
//! Two ways: the kernel kills init at any system call that it is not known for, by a seccomp filter that looks at
//! where the call comes from; and a tracer writes down what is called.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use pericarp::spec::PidMode;
use pericarp::{ErrorKind, Pod, PodSpec};

use crate::robust::again;
use crate::robust::trace::{Call, Then, Who, name, single_step, trace};
use crate::robust::{filter, tiny};
use crate::support::fixture::{payload as container_payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    init_makes_no_system_call_of_an_allocator_a_lock_or_a_thread,
    the_filter_of_inits_calls_bites,
    the_child_of_the_host_program_does_nothing_but_execute_init,
    the_child_of_the_host_program_runs_none_of_its_libraries,
    init_forks_once_to_enter_a_shared_pid_namespace_and_never_else,
    every_file_of_the_library_is_closed_on_exec_from_birth,
    init_is_a_sealed_file_that_nobody_can_write_to,
    init_cannot_be_looked_into_before_the_program_runs,
    the_init_of_a_pod_hides_from_its_containers,
];

/// The commands of the host programs.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["proof-life", state_dir, rootfs, mode] => life(state_dir, rootfs, mode),
        ["proof-filter", state_dir, rootfs, denied] => under_filter(state_dir, rootfs, denied),
        ["proof-peek", pid] => peek(pid),
        ["proof-test", test] => again::body(match *test {
            "trampoline-calls" => trampoline_calls(),
            "trampoline-instructions" => trampoline_instructions(),
            "init-calls" => init_calls(),
            _ => files_from_birth(),
        }),
        _ => return false,
    }
    true
}

fn mode(word: &str) -> PidMode {
    match word {
        "pod" => PidMode::Pod,
        "host" => PidMode::Host,
        _ => PidMode::Container,
    }
}

/// A pod with one container of a few bytes.
fn life(state_dir: &str, rootfs: &str, word: &str) {
    let node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("pod").pid(mode(word))).expect("create the pod");
    let status = pod.run(&tiny::container("main", Path::new(rootfs), "exit")).expect("run");
    assert!(status.success());
    pod.remove().expect("remove the pod");
}

/// Where init enters a PID namespace of others: the fork, and a pipe by which the child learns that the library knows of it.
const CALLS_OF_THE_FORK: [i64; 4] = [libc::SYS_clone, libc::SYS_pipe2, libc::SYS_read, libc::SYS_write];

/// System calls that init is for. Not among them are those of an allocator (brk, mmap, munmap, mremap, madvise), of
/// locks (futex), of threads and processes (clone3, fork, vfork, set_robust_list, rseq), and all others.
fn calls_of_init() -> BTreeSet<i64> {
    [
        libc::SYS_open_tree,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_pread64,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_execve,
        libc::SYS_exit_group,
        libc::SYS_wait4,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_getcwd,
        libc::SYS_chdir,
        libc::SYS_fchdir,
        libc::SYS_fcntl,
        libc::SYS_umask,
        libc::SYS_setsid,
        libc::SYS_setgroups,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_capset,
        libc::SYS_keyctl,
        libc::SYS_fstat,
        libc::SYS_fstatfs,
        libc::SYS_pivot_root,
        libc::SYS_prctl,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_close,
        libc::SYS_openat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_unshare,
        libc::SYS_dup3,
        libc::SYS_prlimit64,
        libc::SYS_setns,
        libc::SYS_seccomp,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_close_range,
        libc::SYS_openat2,
        libc::SYS_mount_setattr,
    ]
    .into()
}

/// Makes pods with containers while the kernel kills what calls anything else from where init is.
fn under_filter(state_dir: &str, rootfs: &str, denied: &str) {
    let node = again::node(state_dir);
    let range = {
        let pod = node.create_pod(&PodSpec::new("probe")).expect("create a pod");
        let probe =
            pod.create_container(&tiny::container("probe", Path::new(rootfs), "exit")).expect("create");
        let range = text_of_init(probe.pid());
        pod.remove().expect("remove the pod");
        range
    };
    assert!(range.end <= 1 << 32 && range.end - range.start < 1 << 20, "{range:?}");
    let mut allowed = calls_of_init();
    allowed.retain(|number| name(*number) != denied);
    if denied == "clone" {
        // Entering a PID namespace is for children only: one clone, counted in another test.
        allowed.extend(CALLS_OF_THE_FORK);
    }
    filter::install(&filter::program(range, &allowed));
    if denied == "fsopen" {
        let pod = node.create_pod(&PodSpec::new("pod")).expect("the library itself is not concerned");
        let error = pod.run(&tiny::container("main", Path::new(rootfs), "exit")).unwrap_err();
        assert!(error.to_string().contains("init ended early"), "{error}");
        assert_eq!(error.kind(), ErrorKind::System);
        return pod.remove().expect("remove the pod");
    }
    for word in ["container", "host", "pod"] {
        if word == "pod" && denied != "clone" {
            continue;
        }
        let pod = node
            .create_pod(&PodSpec::new("pod").pid(mode(word)).hostname_files(true))
            .expect("create the pod");
        let status =
            pod.run(&tiny::container("main", Path::new(rootfs), "exit").user(1000, 1000)).expect("run");
        assert!(status.success(), "{word}: {status}");
        // A container with all that a plan can have, on an overlay; a failing one; and one that is let go.
        assert_eq!(pod.run(&container_payload("full", &["exit", "3"])).expect("run").code(), 3);
        let missing = tiny::container("missing", Path::new(rootfs), "no-such-program");
        assert_eq!(pod.run(&missing).unwrap_err().kind(), ErrorKind::Exec);
        drop(pod.create_container(&tiny::container("dropped", Path::new(rootfs), "exit")).expect("create"));
        pod.remove().expect("remove the pod");
    }
}

/// Where the code of a waiting init is.
fn text_of_init(pid: i32) -> std::ops::Range<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read the memory map of init");
    let line = maps.lines().find(|line| line.contains("r-xp") && line.contains("memfd:pericarp-init"));
    let range = line.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("no text in {maps}"));
    let (start, end) = range.split_once('-').expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    number(start)..number(end)
}

fn run(command: &str, word: &str) -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    again::run(&[command, &again::word(&fixture), &rootfs.to_string_lossy(), word]);
    PASS
}

fn init_makes_no_system_call_of_an_allocator_a_lock_or_a_thread() -> Outcome {
    run("proof-filter", "nothing")?;
    run("proof-filter", "clone")
}

fn the_filter_of_inits_calls_bites() -> Outcome {
    run("proof-filter", "fsopen")
}

/// All calls of one life of a pod, in order, with the process that made them.
fn record(word: &str, follow_init: bool) -> Vec<(i32, Who, i64)> {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let mut calls = Vec::new();
    let words = ["proof-life", &again::word(&fixture), &rootfs.to_string_lossy(), word];
    let ended = trace(&words, follow_init, &mut |call: &Call| {
        if call.result.is_none() {
            calls.push((call.pid.as_raw(), call.who, call.number));
        }
        Then::Go
    });
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    calls
}

fn the_child_of_the_host_program_does_nothing_but_execute_init() -> Outcome {
    again::alone(&["proof-test", "trampoline-calls"])
}

fn trampoline_calls() -> Outcome {
    for (word, expected) in [("container", 1), ("host", 1), ("pod", 2)] {
        let calls = record(word, false);
        let children: BTreeSet<i32> =
            calls.iter().filter(|(_, who, _)| *who == Who::Trampoline).map(|(pid, ..)| *pid).collect();
        // One init for the container, and one more that is process 1 of the pod.
        assert_eq!(children.len(), expected, "{word}");
        for child in children {
            let own: Vec<i64> =
                calls.iter().filter(|(pid, ..)| *pid == child).map(|(.., number)| *number).collect();
            // Closes the files of the host program but one, leaves its mounts for a copy of the template, and is init.
            let expected = [
                libc::SYS_close_range,
                libc::SYS_fcntl,
                libc::SYS_setns,
                libc::SYS_unshare,
                libc::SYS_execveat,
            ];
            assert_eq!(own, expected, "{word}");
        }
        // And the host program starts processes in no other way.
        let threads = calls.iter().filter(|(_, who, call)| {
            *who == Who::Host && [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone].contains(call)
        });
        assert_eq!(threads.count(), 0, "{word}");
    }
    PASS
}

fn the_child_of_the_host_program_runs_none_of_its_libraries() -> Outcome {
    again::alone(&["proof-test", "trampoline-instructions"])
}

fn trampoline_instructions() -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let words = ["proof-life", &again::word(&fixture), &rootfs.to_string_lossy(), "container"];
    let (ended, addresses) = single_step(&words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // Every instruction between clone3 and execveat: few, and all in one place of this program. An allocation, a lock
    // or a memcpy would be in the C library, or in the standard library far away.
    assert!((10..2000).contains(&addresses.len()), "{} instructions", addresses.len());
    let (low, high) = (addresses.iter().min().expect("some"), addresses.iter().max().expect("some"));
    assert!(high - low < 16 << 10, "the code is spread over {} bytes: {addresses:x?}", high - low);
    PASS
}

fn init_forks_once_to_enter_a_shared_pid_namespace_and_never_else() -> Outcome {
    again::alone(&["proof-test", "init-calls"])
}

fn init_calls() -> Outcome {
    for (word, expected) in [("container", 0), ("host", 0), ("pod", 1)] {
        let calls = record(word, true);
        let inits: Vec<i64> =
            calls.iter().filter(|(_, who, _)| *who == Who::Init).map(|(.., call)| *call).collect();
        assert!(inits.len() > 50, "{word}: the calls of init were not seen: {inits:?}");
        assert_eq!(inits.iter().filter(|call| **call == libc::SYS_clone).count(), expected, "{word}");
        let known = calls_of_init();
        let is_known =
            |call: &i64| known.contains(call) || (expected > 0 && CALLS_OF_THE_FORK.contains(call));
        let others: Vec<&i64> = inits.iter().filter(|call| !is_known(call)).collect();
        // execveat is that of the child before: its end is seen when it is init.
        assert_eq!(others, [&0i64; 0], "{word}: init makes calls that it is not known for");
    }
    PASS
}

/// CVE-2024-21626. Without `O_CLOEXEC` in `open_directory` of `src/node/home.rs`: "11 after clone3", and after others.
fn every_file_of_the_library_is_closed_on_exec_from_birth() -> Outcome {
    again::alone(&["proof-test", "files-from-birth"])
}

fn files_from_birth() -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    for word in ["container", "pod"] {
        let mut open = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut first = None;
        let words = ["proof-life", &again::word(&fixture), &rootfs.to_string_lossy(), word];
        let ended = trace(&words, false, &mut |call: &Call| {
            // After each call of the host program: had another of its threads executed a program right then, what
            // would that have been given?
            if call.who == Who::Host && call.result.is_some() {
                let now = descriptors(call.pid.as_raw());
                let first = first.get_or_insert_with(|| now.clone());
                seen.extend(now.iter().map(|(number, _)| *number));
                open.extend(
                    now.iter()
                        .filter(|(number, closed)| !closed && !first.contains(&(*number, false)))
                        .map(|(number, _)| format!("{number} after {}", name(call.number))),
                );
            }
            Then::Go
        });
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(seen.len() > 10, "the files of the library were not seen: {seen:?}");
        assert_eq!(open, BTreeSet::new(), "{word}: files that a program executed meanwhile would inherit");
    }
    PASS
}

/// The open files of a process, and whether each is closed on exec.
fn descriptors(pid: i32) -> BTreeSet<(i32, bool)> {
    let Ok(dir) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return BTreeSet::new() };
    dir.flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
            let flags = i32::from_str_radix(flags, 8).ok()?;
            Some((entry.file_name().to_string_lossy().parse().ok()?, flags & libc::O_CLOEXEC != 0))
        })
        .collect()
}

fn waiting(fixture: &Fixture) -> (Pod, pericarp::Container) {
    let pod = fixture.pod("pod");
    let container = pod.create_container(&container_payload("main", &["sleep"])).expect("create");
    (pod, container)
}

/// CVE-2019-5736. Without `F_ADD_SEALS` in `sealed_memfd` of `src/sys/fd.rs`: `SealFlag(0x0)`. With init in an ordinary file
/// (`src/spawn/image.rs`): the path of that.
fn init_is_a_sealed_file_that_nobody_can_write_to() -> Outcome {
    let fixture = Fixture::new();
    let (_pod, container) = waiting(&fixture);
    let exe = format!("/proc/{}/exe", container.pid());
    assert_eq!(fs::read_link(&exe)?, Path::new("/memfd:pericarp-init (deleted)"));
    let file = fs::File::open(&exe)?;
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS)?);
    let expected =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    assert!(seals.contains(expected), "{seals:?}");
    // While it is executed nobody opens it for writing, and afterwards the seals are still there.
    let busy = fs::OpenOptions::new().write(true).open(&exe).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(libc::ETXTBSY));
    container.start()?;
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut writable = fs::OpenOptions::new().write(true).open(again)?;
    assert_eq!(writable.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(writable.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_ne!(fs::read_link(&exe)?, Path::new("/memfd:pericarp-init (deleted)"));
    PASS
}

/// CVE-2016-9962. With `hide` in `src/init/process.rs` doing nothing: "maps fine, exe fine, mem fine" before the start.
fn init_cannot_be_looked_into_before_the_program_runs() -> Outcome {
    let fixture = Fixture::new();
    let (_pod, container) = waiting(&fixture);
    let pid = container.pid().to_string();
    // Same user and all of its privileges, but without CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_PERFMON: a process that is not dumpable is closed to it.
    assert_eq!(again::run(&["proof-peek", &pid]), "maps EACCES, exe EACCES, mem EACCES\n");
    container.start()?;
    // The very same process, once it is the container's program, can be looked into by its own user: what was refused
    // before was refused because of init.
    assert_eq!(again::run(&["proof-peek", &pid]), "maps fine, exe fine, mem fine\n");
    PASS
}

/// Without the capabilities to look into any process, tells what it can see of a process of the same user.
fn peek(pid: &str) {
    // Each lets read the memory map of others; the second word of a set holds capabilities from 32 on.
    const CAP_SYS_PTRACE: u32 = 19;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    let header = [0x2008_0522u32, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: both structures are the kernel's of version 3, and outlive the calls.
    let result = unsafe {
        let got = libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
        data[0].iter_mut().for_each(|set| *set &= !(1 << CAP_SYS_PTRACE | 1 << CAP_SYS_ADMIN));
        data[1].iter_mut().for_each(|set| *set &= !(1 << (CAP_PERFMON - 32)));
        got + libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr())
    };
    assert_eq!(result, 0, "give up CAP_SYS_PTRACE: {}", Errno::last());
    let word = |result: std::io::Result<()>| match result {
        Ok(()) => "fine".to_string(),
        Err(error) => format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    };
    let open = |file: &str| word(fs::File::open(format!("/proc/{pid}/{file}")).map(drop));
    // Some kernels refuse only to read the map.
    let maps = word(fs::read(format!("/proc/{pid}/maps")).map(|map| assert!(!map.is_empty())));
    let exe = word(fs::read_link(format!("/proc/{pid}/exe")).map(drop));
    println!("maps {maps}, exe {exe}, mem {}", open("mem"));
}

/// With `hide` in `src/init/process.rs` doing nothing: "/memfd:pericarp-init (deleted)", its root, working directory and mount
/// namespace, and its memory map.
fn the_init_of_a_pod_hides_from_its_containers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("pod").pid(PidMode::Pod))?;
    // Process 1 is the pod's init: not even its executable can be named, let alone written to (CVE-2019-5736).
    let text = say(
        &pod,
        script(
            "main",
            "cat /proc/1/comm; for f in exe root cwd ns/mnt; do readlink /proc/1/$f || echo no $f; done 2>/dev/null
             for f in maps mem environ; do cat /proc/1/$f >/dev/null 2>&1 || echo no $f; done
             (echo x >/proc/1/exe) 2>/dev/null || echo no writing",
        ),
    );
    let expected = "no exe\nno root\nno cwd\nno ns/mnt\nno maps\nno mem\nno environ\nno writing\n";
    let (comm, rest) = text.split_once('\n').unwrap_or_default();
    assert_eq!(rest, expected);
    assert!(!comm.is_empty(), "process 1 cannot be seen at all: the test shows nothing");
    PASS
}
