//! Containers in a mount namespace of others: they have their own root filesystem and mounts all the same, and these
//! are seen nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicBool, Ordering};

use pericarp::spec::{
    Capabilities, Capability, ExecSpec, IdMappings, MountKind, MountNamespace, PidMode, Propagation,
    Security, Stdio, UserMode,
};
use pericarp::{Container, ContainerSpec, ErrorKind, ExitStatus, Mount, Pod, PodSpec};

use crate::robust::in_guest;
use crate::support::fixture::{output, say, script};
use crate::support::{Done, Fixture, Outcome, PASS, skip};

crate::tests![
    the_hosts_namespace_gets_nothing_of_a_container,
    a_namespace_is_joined_by_its_path,
    another_program_has_the_same_root,
    another_program_waits_for_the_root,
    what_is_hidden_stays_hidden,
    what_such_a_namespace_cannot_have_is_refused,
];

/// The number of a mount namespace.
fn number(process: &str) -> u64 {
    fs::metadata(format!("/proc/{process}/ns/mnt")).expect("look at a mount namespace").ino()
}

/// The host's, without the pins of other nodes: those of the tests that run at the same time come and go.
fn mounts(fixture: &Fixture) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let own = fixture.options.state_dir.join("pins").display().to_string();
    let of_others = |line: &&str| {
        line.contains(" - nsfs ")
            && line.split(' ').nth(4).is_some_and(|point| point.ends_with("/pins") && point != own)
    };
    table.lines().filter(|line| !of_others(line)).map(str::to_string).collect()
}

/// What is in a root filesystem of a test, and nowhere else: a mount over a directory that every machine has.
fn marked(spec: ContainerSpec, fixture: &Fixture) -> ContainerSpec {
    let mark = fixture.path("mark");
    fs::write(&mark, "of the container\n").expect("write");
    spec.mount(Mount::bind(mark, "/usr/mark").readonly(true))
        .mount(Mount::tmpfs("/usr/own", 1 << 20).source_name("own"))
}

fn start(pod: &Pod, spec: &ContainerSpec) -> pericarp::Result<Container> {
    let container = pod.create_container(spec)?;
    container.start()?;
    Ok(container)
}

fn the_hosts_namespace_gets_nothing_of_a_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let before = mounts(&fixture);
    let spec = marked(script("main", "exec sleep 1000"), &fixture).mount_namespace(MountNamespace::Host);
    let container = start(&pod, &spec)?;
    let pid = container.pid().to_string();
    assert_eq!(number(&pid), number("self"));
    assert_eq!(mounts(&fixture), before, "nothing of it is in the host's table");
    assert!(!Path::new("/usr/mark").exists() && !Path::new("/usr/own").exists());
    let text = fs::read_to_string(format!("/proc/{pid}/root/usr/mark"))?;
    assert_eq!(text, "of the container\n");
    container.remove()?;
    assert_eq!(mounts(&fixture), before);
    // Its own processes, its own root, and mounts that no list has.
    let look = "cat /usr/mark; echo $$; wc -l </proc/self/mountinfo; touch /usr/own/file && echo writable;
        ls -a / | grep -c . >/dev/null && ls /dev/null; readlink /proc/1/exe >/dev/null && echo first";
    let spec = marked(script("main", look), &fixture).mount_namespace(MountNamespace::Host);
    assert_eq!(say(&pod, spec), "of the container\n1\n0\nwritable\n/dev/null\nfirst\n");
    PASS
}

/// A process in a mount namespace of its own.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> std::io::Result<Elsewhere> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "echo there; read line"]);
        let mut child = command.stdin(ProcessStdio::piped()).stdout(ProcessStdio::piped()).spawn()?;
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut line)?;
        Ok(Elsewhere(child))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn a_namespace_is_joined_by_its_path() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let Ok(elsewhere) = Elsewhere::new() else { return skip("there is no unshare(1)") };
    let pid = elsewhere.0.id().to_string();
    assert_ne!(number(&pid), number("self"));
    let path = format!("/proc/{pid}/ns/mnt");
    let spec = marked(script("main", "exec sleep 1000"), &fixture)
        .mount_namespace(MountNamespace::Path(path.clone().into()));
    let before = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let container = start(&pod, &spec)?;
    assert_eq!(number(&container.pid().to_string()), number(&pid));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/mountinfo"))?, before);
    let exec = ExecSpec::new(["cat", "/usr/mark"]).stdout(Stdio::Pipe);
    let process = container.exec(&exec)?;
    let text = std::io::read_to_string(process.take_stdout().expect("a pipe"))?;
    assert_eq!(text, "of the container\n");
    assert!(process.wait()?.success());
    container.remove()?;
    let wrong = MountNamespace::Path(format!("/proc/{pid}/ns/net").into());
    let error = pod.create_container(&spec.mount_namespace(wrong)).unwrap_err().to_string();
    assert!(error.contains("join the mount namespace"), "{error}");
    PASS
}

fn another_program_has_the_same_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = marked(script("main", "exec sleep 1000"), &fixture).mount_namespace(MountNamespace::Host);
    let container = start(&pod, &spec)?;
    let say = |text: &str| -> pericarp::Result<String> {
        let exec = ExecSpec::new(["/bin/sh", "-c", text]).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
        let process = container.exec(&exec)?;
        let text = std::io::read_to_string(process.take_stdout().expect("a pipe")).expect("read");
        process.wait()?;
        Ok(text)
    };
    say("echo left >/usr/own/note")?;
    assert_eq!(
        say("cat /usr/mark /usr/own/note; tr '\\0' ' ' </proc/1/cmdline")?,
        "of the container\nleft\nsleep 1000 "
    );
    let root = fs::metadata(format!("/proc/{}/root/", container.pid()))?;
    assert_ne!((root.dev(), root.ino()), (fs::metadata("/")?.dev(), fs::metadata("/")?.ino()));
    assert_eq!(say("ls -id / | tr -d ' /'")?.trim(), root.ino().to_string());
    PASS
}

/// The first process has the template's root until it has its own, and nobody may be sent there. With the comparison of
/// `found` in init's `enter.rs` taken out, this
/// panicked in two of three runs: execute "/bin/sh": ENOENT, since there is none in the template.
fn another_program_waits_for_the_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let over = AtomicBool::new(false);
    let enter = || {
        while !over.load(Ordering::Relaxed) {
            let Ok(container) = pod.container("a") else { continue };
            match container.exec(&ExecSpec::new(["/bin/sh", "-c", "exit 0"])) {
                // The container may end meanwhile.
                Ok(process) => drop(process.wait()),
                Err(error) if error.kind() == ErrorKind::Exec => panic!("{error}"),
                Err(_) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(enter)).collect();
        let end = Done(&over);
        for _ in 0..if in_guest() { 10 } else { 100 } {
            let ran = pod.run(&script("a", "true").mount_namespace(MountNamespace::Host));
            assert!(ran.is_ok_and(ExitStatus::success));
        }
        drop(end);
        for thread in threads {
            thread.join().expect("a thread that enters");
        }
    });
    PASS
}

/// A chroot is all that there is: but what is masked is covered by mounts, which cannot be taken away without the right
/// to mount, and with it only in a namespace that has them.
fn what_is_hidden_stays_hidden() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let capabilities = Capabilities::default().with(Capability::CAP_SYS_ADMIN);
    let security =
        Security::default().capabilities(capabilities).seccomp(pericarp::spec::SeccompProfile::Unconfined);
    let look = "wc -c </proc/timer_list; umount /proc/timer_list 2>/dev/null; umount -l /proc 2>/dev/null;
        mount -t tmpfs tmpfs /usr/own 2>/dev/null && echo mounted; wc -c </proc/timer_list; cat /proc/1/comm >/dev/null && echo proc";
    let spec =
        marked(script("main", look), &fixture).security(security).mount_namespace(MountNamespace::Host);
    let (status, text) = output(&pod, spec)?;
    assert_eq!(text, "0\n0\nproc\n", "{status}");
    PASS
}

fn what_such_a_namespace_cannot_have_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let host = || script("main", "true").mount_namespace(MountNamespace::Host);
    let tmpfs = || Mount::of(MountKind::Tmpfs { size: None, mode: None }, "/usr/own");
    for (spec, word) in [
        (host().terminal(true), "terminal"),
        (host().rootfs_propagation(Propagation::Unbindable), "unbindable"),
        (host().mount(tmpfs().propagation(Propagation::Unbindable)), "unbindable"),
        (host().mount_namespace(MountNamespace::Path("relative".into())), "mountNamespace.path"),
    ] {
        let error = pod.create_container(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    // Its proc would be looked for among the mounts of the host.
    let first = start(&pod, &script("first", "exec sleep 1000").mount_namespace(MountNamespace::Host))?;
    let guest = script("guest", "true").pid(PidMode::Target("first".into()));
    let error = pod.create_container(&guest).unwrap_err();
    assert!(error.to_string().contains("no mount namespace of its own"), "{error}");
    first.remove()?;
    let mapped = PodSpec::new("mapped").user(UserMode::Mapped(IdMappings::contiguous(1_048_576, 65536)));
    let pod = fixture.node.create_pod(&mapped)?;
    let error = pod.create_container(&host()).unwrap_err();
    assert!(error.to_string().contains("user namespace"), "{error}");
    PASS
}
