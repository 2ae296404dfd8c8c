//! Host programs with signal handlers, masks and identities of their own: what they do to their process does not hurt
//! the library, and the library does not show it to containers.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use pericarp::spec::{PidMode, Stdio};
use pericarp::{ErrorKind, ExitStatus, Pod, PodSpec};

use crate::robust::{again, in_guest, kernel_keeps_statuses};
use crate::support::fixture::{facts, payload as container_payload};
use crate::support::{Done, Fixture, Outcome, PASS};

crate::tests![
    a_program_that_ignores_sigchld_learns_statuses_or_that_they_are_lost,
    a_program_that_takes_every_childs_status_learns_statuses_or_that_they_are_lost,
    blocked_and_ignored_signals_of_the_host_program_reach_no_container,
    a_storm_of_signals_in_the_host_program_disturbs_nothing,
    a_host_program_without_standard_streams_can_make_pods,
    threads_that_change_identities_meanwhile_disturb_nothing,
];

/// The commands of the host programs.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["signals-ignored", state_dir] => ignore_sigchld(state_dir),
        ["signals-taken", state_dir] => take_all_children(state_dir),
        ["signals-blocked", state_dir] => blocked(state_dir),
        ["signals-storm", state_dir] => storm(state_dir),
        ["signals-no-stdio", state_dir] => no_stdio(state_dir),
        ["signals-identities", state_dir] => identities(state_dir),
        _ => return false,
    }
    true
}

fn run(command: &str) -> Outcome {
    let fixture = Fixture::new();
    again::run(&[command, &again::word(&fixture)]);
    PASS
}

/// As many times as make it likely that the kernel is met between the end of a process and its being reaped.
fn times() -> usize {
    if in_guest() { 10 } else { 200 }
}

fn handle(signal: Signal, handler: SigHandler, mask: SigSet) {
    let action = SigAction::new(handler, SaFlags::empty(), mask);
    // SAFETY: the handlers of this module add to atomics and call waitpid(2) only, which is safe in a handler.
    unsafe { sigaction(signal, &action) }.expect("set a signal handler");
}

/// The exit status is learnt where the kernel keeps it, and elsewhere the library says that it is lost. Never a hang,
/// never a wrong status.
fn statuses_are_known_or_lost(state_dir: &str) {
    let node = again::node(state_dir);
    for mode in [PidMode::Container, PidMode::Pod, PidMode::Host] {
        let pod = node.create_pod(&PodSpec::new("pod").pid(mode.clone())).expect("create a pod");
        for round in 0..times() {
            let code = round as i32 % 200;
            let container = pod.create_container(&container_payload("main", &["exit", &code.to_string()]));
            let container = container.expect("create");
            container.start().expect("start");
            let context = format!("{mode:?}, round {round}");
            match container.wait() {
                Ok(status) => assert_eq!(status, ExitStatus::Exited(code), "{context}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StatusLost, "{context}: {error}");
                    assert!(!kernel_keeps_statuses(), "{context}: this kernel keeps statuses: {error}");
                }
            }
            container.remove().expect("remove");
        }
        pod.remove().expect("remove the pod");
    }
}

fn a_program_that_ignores_sigchld_learns_statuses_or_that_they_are_lost() -> Outcome {
    run("signals-ignored")
}

fn ignore_sigchld(state_dir: &str) {
    handle(Signal::SIGCHLD, SigHandler::SigIgn, SigSet::empty());
    statuses_are_known_or_lost(state_dir);
}

fn a_program_that_takes_every_childs_status_learns_statuses_or_that_they_are_lost() -> Outcome {
    run("signals-taken")
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn take_children(_: i32) {
    // SAFETY: waitpid(2) is async-signal-safe, and the status goes nowhere.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    }
}

fn take_all_children(state_dir: &str) {
    handle(Signal::SIGCHLD, SigHandler::Handler(take_children), SigSet::empty());
    statuses_are_known_or_lost(state_dir);
    assert!(TAKEN.load(Ordering::Relaxed) > 0, "the handler took no status: the test shows nothing");
}

fn blocked_and_ignored_signals_of_the_host_program_reach_no_container() -> Outcome {
    run("signals-blocked")
}

fn blocked(state_dir: &str) {
    for signal in
        Signal::iterator().filter(|s| ![Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGCHLD].contains(s))
    {
        handle(signal, SigHandler::SigIgn, SigSet::empty());
    }
    let before = nix::sys::signal::SigSet::thread_get_mask().expect("read the mask");
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).expect("block all signals");
    assert_ne!(before, SigSet::all());
    let node = again::node(state_dir);
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = node.create_pod(&PodSpec::new("pod").pid(mode)).expect("create a pod");
        let facts = facts(&pod, |spec| spec);
        // Rust's start-up code ignores SIGPIPE (13) in the payload itself.
        let ignored = u64::from_str_radix(&facts.status["SigIgn"], 16).expect("a mask") & !(1 << 12);
        assert_eq!((facts.status["SigBlk"].as_str(), ignored), ("0000000000000000", 0));
        assert_eq!(facts.status["ShdPnd"], "0000000000000000");
        // Signals that nobody ignores end a container's program.
        let container =
            pod.create_container(&container_payload("main", &["sleep"]).pid(PidMode::Host)).expect("create");
        container.start().expect("start");
        let status = container.stop(Duration::from_secs(60)).expect("stop");
        assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGTERM, core_dumped: false });
        pod.remove().expect("remove the pod");
    }
    let now = SigSet::thread_get_mask().expect("read the mask");
    let blocked = Signal::iterator().filter(|signal| ![Signal::SIGKILL, Signal::SIGSTOP].contains(signal));
    assert!(blocked.into_iter().all(|signal| now.contains(signal)), "the library opened the mask");
}

fn a_storm_of_signals_in_the_host_program_disturbs_nothing() -> Outcome {
    run("signals-storm")
}

static STORM: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    STORM.fetch_add(1, Ordering::Relaxed);
}

/// Handlers of all signals, each blocking all others and interrupting system calls (no SA_RESTART), and a signal a
/// millisecond.
fn storm(state_dir: &str) {
    for signal in
        Signal::iterator().filter(|s| ![Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGSEGV].contains(s))
    {
        handle(signal, SigHandler::Handler(count), SigSet::all());
    }
    let interval = libc::timeval { tv_sec: 0, tv_usec: if in_guest() { 20_000 } else { 500 } };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: the structure is whole, and the old timer is not asked for.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(result, 0);
    let node = again::node(state_dir);
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = node.create_pod(&PodSpec::new("pod").pid(mode)).expect("create a pod");
        for round in 0..times() / 2 {
            let spec = container_payload("main", &["exit", "7"]);
            assert_eq!(pod.run(&spec).expect("run"), ExitStatus::Exited(7), "round {round}");
        }
        let container = pod.create_container(&container_payload("main", &["sleep"])).expect("create");
        container.start().expect("start");
        container.freeze().expect("freeze");
        container.thaw().expect("thaw");
        // Interrupted waits wait on.
        assert_eq!(container.wait_timeout(Some(Duration::from_millis(100))).expect("wait"), None);
        assert!(!container.stop(Duration::ZERO).expect("stop").success());
        pod.remove().expect("remove the pod");
    }
    let signals = STORM.load(Ordering::Relaxed);
    assert!(signals > 20, "{signals} signals are no storm");
}

fn a_host_program_without_standard_streams_can_make_pods() -> Outcome {
    run("signals-no-stdio")
}

/// The kernel gives the numbers 0, 1 and 2 to whatever the library opens first.
fn no_stdio(state_dir: &str) {
    let stderr: OwnedFd =
        std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned().expect("duplicate");
    // The words of a failure go where standard error went.
    assert!(stderr.as_raw_fd() > 2);
    for number in 0..3 {
        nix::unistd::close(number).expect("close a standard stream");
    }
    let result = std::panic::catch_unwind(|| {
        let node = again::node(state_dir);
        for mode in [PidMode::Container, PidMode::Pod] {
            let spec = PodSpec::new("pod").pid(mode).hostname_files(true);
            let pod = node.create_pod(&spec).expect("create a pod");
            check_streams(&pod);
            pod.remove().expect("remove the pod");
        }
    });
    let message = result.as_ref().err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
    });
    let _ = nix::unistd::write(&stderr, message.unwrap_or_default().as_bytes());
    if result.is_err() {
        std::process::exit(1);
    }
}

fn check_streams(pod: &Pod) {
    let facts = facts(pod, |spec| spec.stdin(Stdio::Null));
    assert_eq!(facts.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{:?}", facts.fds);
    assert_eq!(facts.fds[&0], "/dev/null");
    // What is closed cannot be inherited, and is said so; whatever took the number is not passed on.
    for number in 0..3 {
        let spec = container_payload("main", &["exit", "0"]);
        let spec = match number {
            0 => spec.stdin(Stdio::Inherit),
            1 => spec.stdout(Stdio::Inherit),
            _ => spec.stderr(Stdio::Inherit),
        };
        let error = pod.run(&spec).expect_err("a file of the library was passed on");
        assert_eq!(error.errno(), Some(libc::EBADF), "{error}");
    }
    assert_eq!(pod.run(&container_payload("main", &["exit", "3"])).expect("run"), ExitStatus::Exited(3));
}

fn threads_that_change_identities_meanwhile_disturb_nothing() -> Outcome {
    run("signals-identities")
}

/// glibc changes the identity of all threads by a signal that each must handle (nptl(7)); library threads block all
/// signals, and end.
fn identities(state_dir: &str) {
    let done = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = nix::unistd::Uid::from_raw(0);
            while !done.load(Ordering::Relaxed) {
                nix::unistd::setresuid(root, root, root).expect("setresuid");
                rounds.fetch_add(1, Ordering::Relaxed);
                // A pause, or else no other thread ever gets glibc's lock on the list of threads.
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // Whatever becomes of this thread and the others, that one must hear that it is done.
        let end = Done(&done);
        let node = again::node(state_dir);
        let work = |name: &str| {
            let pod = node.create_pod(&PodSpec::new(name)).expect("create a pod");
            for _ in 0..times() / 4 + 1 {
                assert!(pod.run(&container_payload("main", &["exit", "0"])).expect("run").success());
            }
            pod.remove().expect("remove the pod");
        };
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let work = &work;
                scope.spawn(move || work(name));
            }
        });
        drop(end);
    });
    assert!(rounds.load(Ordering::Relaxed) > 4, "no identity was changed meanwhile");
    assert_eq!(nix::sys::prctl::get_dumpable(), Ok(true));
}
