//! Who comes into a container from the host, and what comes with them: nothing.
//!
//! CVE-2016-9962, CVE-2019-5736, CVE-2024-21626.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use pericarp::spec::{Hook, Hooks, PidMode, Stdio};
use pericarp::{Container, ContainerSpec, ExecSpec, Mount, Pod, PodSpec, Rootfs};

use crate::rootfs::bare;
use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Done, Fixture, Outcome, PASS};

crate::tests![
    init_cannot_be_looked_into,
    nobody_inside_can_attach_to_who_enters,
    nobody_in_a_shared_pid_namespace_can_attach_to_a_newcomer,
    the_program_is_never_the_hosts,
    no_file_of_the_host_is_reachable_by_descriptor,
    a_program_finds_three_files_however_it_starts,
    no_working_directory_is_outside_the_root,
];

/// Commands for processes in containers, and for hooks.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["hostile-hunt"] => hunt(),
        ["hostile-linger"] => std::thread::sleep(Duration::from_millis(50)),
        ["hostile-files", path] => fs::write(path, files()).expect("write the list of files"),
        ["hostile-cwd"] => match std::env::current_dir() {
            Ok(path) => println!("in {}", path.display()),
            Err(error) => println!("nowhere: {error}"),
        },
        _ => return false,
    }
    true
}

/// The open files of this process, one a line.
fn files() -> String {
    let directory = fs::read_dir("/proc/self/fd").expect("list /proc/self/fd");
    let mut lines: Vec<String> = directory
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            // That of this very directory.
            (!target.ends_with("/fd")).then(|| format!("{} {target}\n", entry.file_name().to_string_lossy()))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// In a container: attaches to whatever comes, once, as a debugger does, and tells of every attempt. It is gone from a
/// program long before that ends: a parent cannot wait for what somebody else traces.
fn hunt() {
    use nix::errno::Errno;
    use nix::sys::{ptrace, wait};
    let own = std::process::id() as i32;
    let mut seen = BTreeSet::new();
    println!("hunting");
    loop {
        let pids = fs::read_dir("/proc").expect("read /proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
        for pid in pids.filter(|pid| *pid != own && !seen.contains(pid)).collect::<Vec<_>>() {
            let process = nix::unistd::Pid::from_raw(pid);
            match ptrace::seize(process, ptrace::Options::empty()) {
                Ok(()) => {}
                Err(Errno::EPERM) => {
                    println!("refused");
                    continue;
                }
                Err(_) => continue,
            }
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            seen.insert(pid);
            let init = program.to_string_lossy().contains("pericarp-init");
            println!("{}", if init { "caught" } else { "attached" });
            // A process that is traced stops for that before it can be let go.
            let _ = ptrace::interrupt(process);
            let _ = wait::waitpid(process, Some(wait::WaitPidFlag::__WALL));
            let _ = ptrace::detach(process, None);
        }
    }
}

/// CVE-2016-9962. Both have the same user and capabilities. With `process::hide` in `src/init/process.rs` doing nothing,
/// the hunter says "caught" here.
fn nobody_inside_can_attach_to_who_enters() -> Outcome {
    let fixture = Fixture::new();
    hunted_while_entering(&fixture.pod("web"), |spec| spec)
}

/// Enters a container again and again, whose program tries to attach to whoever enters.
pub fn hunted_while_entering(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Outcome {
    let container = pod.create_container(&change(inside("a", &["hostile-hunt"])).stdout(Stdio::Pipe))?;
    container.start()?;
    hunted(&container, || {
        let spec = ExecSpec::new(["/payload", "payload", "hostile-linger"]);
        if let Ok(process) = container.exec(&spec) {
            let _ = process.wait();
        }
    });
    PASS
}

/// Lets somebody come in over and over, until the hunter has been refused often enough.
fn hunted(hunter: &Container, come_in: impl Fn() + Sync) {
    use std::io::BufRead;
    let mut lines = std::io::BufReader::new(hunter.take_stdout().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "hunting");
    let over = AtomicBool::new(false);
    let (mut refused, mut attached) = (0, 0);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                come_in();
            }
        });
        let end = Done(&over);
        // It comes too early often enough, and in time as well, when it may.
        while (refused < 50 || attached < 5) && refused < 100_000 {
            match lines.next().expect("the hunter goes on").expect("read").as_str() {
                "refused" => refused += 1,
                "attached" => attached += 1,
                other => {
                    hunter.kill().expect("kill the hunter");
                    panic!("{other}");
                }
            }
        }
        drop(end);
        // It must not stand still with a full pipe, and a process of ours attached.
        scope.spawn(move || lines.for_each(drop));
        coming.join().expect("who comes in");
        hunter.kill().expect("kill the hunter");
    });
    eprintln!("hostile: the hunter was refused {refused} times, and attached to {attached} programs");
}

fn init_cannot_be_looked_into() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&inside("a", &["sleep"]))?;
    // A process that is not dumpable: its files in /proc belong to root whatever its user, and another user, even with
    // the same id, can neither trace it nor read its memory (CVE-2016-9962).
    let user = pod.create_container(&inside("b", &["sleep"]).user(1000, 1000))?;
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/mem")).map(|metadata| metadata.uid());
    assert_eq!((owner(container.pid())?, owner(user.pid())?), (0, 0));
    user.start()?;
    assert_eq!(owner(user.pid())?, 1000, "the program itself is dumpable again");
    PASS
}

/// CVE-2019-5736. With init in an ordinary file instead of one in memory (`src/spawn/image.rs`): the path of that.
fn the_program_is_never_the_hosts() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let own = fs::metadata("/proc/self/exe")?;
    let spec = script("a", "stat -L -c '%d %i' /proc/self/exe /proc/$$/exe; readlink /proc/$$/exe; read x")
        .stdin(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    // While it waits: the sealed image of init, which nobody can write to (CVE-2019-5736).
    let exe = format!("/proc/{}/exe", container.pid());
    assert!(fs::read_link(&exe)?.to_string_lossy().starts_with("/memfd:"), "{:?}", fs::read_link(&exe)?);
    let before = fs::metadata(&exe)?;
    assert_ne!((before.dev(), before.ino()), (own.dev(), own.ino()));
    assert!(fs::OpenOptions::new().write(true).open(&exe).is_err());
    container.start()?;
    let after = fs::metadata(&exe)?;
    assert_ne!((after.dev(), after.ino()), (before.dev(), before.ino()));
    assert_ne!((after.dev(), after.ino()), (own.dev(), own.ino()));
    drop(container.take_stdin());
    container.wait()?;
    PASS
}

/// CVE-2024-21626. Without close_range(2) in `prepare_process` of `src/init/main.rs`: the root of the host, the namespaces of the
/// pod and the control socket of init.
fn no_file_of_the_host_is_reachable_by_descriptor() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // Every descriptor of every process that it sees, and what each leads to.
    let command = "for d in /proc/[0-9]*/fd/*; do echo $(readlink $d); done; ls /proc | grep -c '^[0-9]'";
    let text = say(&pod, script("a", command));
    for line in text.lines().filter(|line| line.starts_with('/')) {
        assert!(line == "/dev/null" || line.starts_with("/proc"), "{text}");
    }
    assert!(!text.contains("memfd") && !text.contains("socket:"), "{text}");
    PASS
}

/// As above, but by every newcomer of a PID namespace in which the hunter waits. Without `process::hide`, "caught" here
/// as well.
fn nobody_in_a_shared_pid_namespace_can_attach_to_a_newcomer() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let hunter = pod.create_container(&inside("hunter", &["hostile-hunt"]).stdout(Stdio::Pipe))?;
    hunter.start()?;
    hunted(&hunter, || {
        let ran = pod.run(&inside("newcomer", &["hostile-linger"]));
        assert!(ran.as_ref().is_ok_and(|status| status.success()), "{ran:?}");
    });
    PASS
}

/// A program that was started in any way has its three streams and no other file, whatever the host program has open.
///
/// With neither `CLOSE_RANGE_CLOEXEC` in `src/spawn/trampoline.rs` nor that in `src/init/main.rs` the host's directory
/// and file are in every list; each of the two is enough.
fn a_program_finds_three_files_however_it_starts() -> Outcome {
    let fixture = Fixture::new();
    let kept = [fs::File::open("/")?, fs::File::open("/proc/version")?].map(OwnedFd::from);
    for file in &kept {
        fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let out = fixture.path("out");
    fs::create_dir(&out)?;
    let lists = |name: &str| {
        inside("a", &["hostile-files", &format!("/out/{name}")]).mount(Mount::bind(&out, "/out"))
    };
    let ends = |container: &Container| -> Outcome {
        container.start()?;
        let _terminal = container.take_terminal();
        let status = container.wait()?;
        assert!(status.success(), "{status}");
        container.remove()?;
        PASS
    };
    let own = fixture.pod("own");
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    assert!(own.run(&lists("run"))?.success());
    ends(&own.create_container(&lists("create"))?)?;
    ends(&own.create_container(&lists("terminal").terminal(true))?)?;
    ends(&own.create_container(&lists("pipes").stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe))?)?;
    ends(&own.create_container(&lists("host-pid").pid(PidMode::Host))?)?;
    ends(&own.create_container(&lists("attributes").oom_score_adj(900))?)?;
    ends(&shared.create_container(&lists("shared-pid"))?)?;
    ends(&shared.create_container(&lists("shared-terminal").terminal(true))?)?;
    own.create_container(&lists("detached").detached(true))?;
    ends(&own.container("a")?)?;
    // Hooks: of the host, and in the container.
    let list_of = |program: &Path, directory: &Path, name: &str| {
        let path = directory.join(name).display().to_string();
        Hook::new(program).args(["suite", "payload", "hostile-files", &path])
    };
    let program = std::env::current_exe()?;
    let mut hooks = Hooks::default();
    hooks.create_runtime.push(list_of(&program, &out, "hook-create-runtime"));
    hooks.poststart.push(list_of(&program, &out, "hook-poststart"));
    hooks.poststop.push(list_of(&program, &out, "hook-poststop"));
    hooks.start_container.push(list_of(Path::new("/payload"), Path::new("/out"), "hook-start-container"));
    ends(&own.create_container(&lists("after-hooks").hooks(hooks))?)?;
    let root = fixture.path("root");
    fs::create_dir_all(&root)?;
    let mut hooks = Hooks::default();
    hooks.create_container.push(list_of(&program, &out, "hook-create-container"));
    assert!(own.run(&bare("a", Rootfs::directory(&root), "true").hooks(hooks))?.success());
    // Others in a container.
    let container = own.create_container(&inside("b", &["sleep"]).mount(Mount::bind(&out, "/out")))?;
    container.start()?;
    let enter = |name: &str| ExecSpec::new(["/payload", "payload", "hostile-files", &format!("/out/{name}")]);
    assert!(container.exec(&enter("exec"))?.wait()?.success());
    let process = container.exec(&enter("exec-terminal").terminal(true))?;
    let _terminal = process.take_terminal();
    assert!(process.wait()?.success());
    let pipes = enter("exec-pipes").stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    assert!(container.exec(&pipes)?.wait()?.success());
    let names: Vec<_> = fs::read_dir(&out)?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 18, "{names:?}");
    for name in names {
        let list = fs::read_to_string(out.join(&name))?;
        let numbers: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{name:?}: {list}");
    }
    PASS
}

/// A working directory that leads to what the host program has open, as images may ask for (CVE-2024-21626), is refused
/// unless it is inside the root. See `races` for one that is exchanged in the last moment. Init sees its own files in
/// the container's proc where the container is in the host's PID namespace.
///
/// With neither `CLOSE_RANGE_CLOEXEC` in `src/spawn/trampoline.rs` nor getcwd(2) in `chdir` of `src/init/fs.rs` the
/// program was in the directory of the host, and said "nowhere".
fn no_working_directory_is_outside_the_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let kept = fs::File::open(fixture.dir.path())?;
    fcntl(&kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
    for mode in [PidMode::Container, PidMode::Host] {
        let container = pod.create_container(&inside("a", &["sleep"]).pid(mode))?;
        container.start()?;
        let mut refused = 0;
        for number in 0..64 {
            let cwd = format!("/proc/self/fd/{number}");
            let spec = ExecSpec::new(["/payload", "payload", "hostile-cwd"]).cwd(&cwd).stdout(Stdio::Pipe);
            let Ok(process) = container.exec(&spec) else {
                refused += 1;
                continue;
            };
            let text = std::io::read_to_string(process.take_stdout().expect("a pipe"))?;
            assert!(process.wait()?.success());
            assert!(text.starts_with("in /"), "{cwd}: {text}");
        }
        assert!(refused > 0);
        container.remove()?;
    }
    // Of a container that is made, the directory is looked for, and made, without any such link.
    for number in 3..16 {
        let error =
            pod.create_container(&script("b", "pwd").cwd(format!("/proc/self/fd/{number}"))).unwrap_err();
        assert!(matches!(error.errno(), Some(libc::ELOOP | libc::ENOENT)), "{error}");
    }
    PASS
}
