//! Pods with a user namespace of their own: other programs in their containers, terminals, hooks, filters, and
//! containers that other programs start.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use pericarp::spec::{PidMode, Stdio};
use pericarp::{
    ContainerSpec, ContainerStatus, ErrorKind, ExecSpec, ExitStatus, Mount, Pod, PodSpec, Rootfs,
};

use crate::custom_seccomp::{asking, custom, mkdir, supervised};
use crate::detached::{other, writer};
use crate::exec::{facts, namespaces, said, sh, sleeper};
use crate::hooks::{hooks, root, sh as hook, with_machine};
use crate::hostile::entering::hunted_while_entering;
use crate::robust::again;
use crate::robust::in_guest;
use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};
use crate::terminal::{displayed, started};
use crate::userns::{FIRST, mapped, mighty, pod, pod_of};

crate::tests![
    other_programs_are_in_all_namespaces_of_the_container,
    other_programs_have_its_identity_and_no_more,
    other_programs_reach_nothing_of_the_host,
    nobody_inside_can_attach_to_who_enters,
    nobody_inside_can_look_into_init,
    a_terminal_belongs_to_the_user_inside,
    another_program_has_a_terminal_of_its_own,
    hooks_of_the_host_run_around_the_container,
    hooks_of_the_creation_leave_nothing_of_the_host_inside,
    a_supervisor_answers_for_the_container,
    another_program_starts_a_detached_container,
    containers_are_frozen_and_killed,
];

/// The lines of a process's status about who it is, and what it may.
fn identity(pid: i32) -> BTreeMap<String, String> {
    const KEYS: [&str; 9] =
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status");
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    fields
        .filter(|(key, _)| KEYS.contains(key))
        .map(|(key, value)| (key.to_string(), value.trim().to_string()))
        .collect()
}

/// A pod for each way in which a container gets its PID namespace.
fn pods(fixture: &Fixture) -> Vec<Pod> {
    let modes = [("own", PidMode::Container), ("shared", PidMode::Pod), ("host", PidMode::Host)];
    modes
        .map(|(name, mode)| {
            let spec = PodSpec::new(name).user(mapped()).pid(mode);
            fixture.node.create_pod(&spec).expect("create a pod")
        })
        .into()
}

fn four(id: u32) -> String {
    format!("{id}\t{id}\t{id}\t{id}")
}

fn other_programs_are_in_all_namespaces_of_the_container() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        let container = sleeper(&pod, |spec| spec);
        let process = container.exec(&ExecSpec::new(["/payload", "payload", "sleep"]))?;
        assert_eq!(namespaces(process.pid()), namespaces(container.pid()), "{}", pod.name());
        assert_ne!(namespaces(process.pid())["user"], namespaces(std::process::id() as i32)["user"]);
        assert_eq!(identity(process.pid())["Uid"], four(FIRST));
        let root = |pid: i32| fs::metadata(format!("/proc/{pid}/root/")).map(|root| (root.dev(), root.ino()));
        assert_eq!(root(process.pid())?, root(container.pid())?);
        process.kill()?;
        process.wait()?;
    }
    // In that of another container, too.
    let pod = &pod(&fixture);
    let first = sleeper(pod, |spec| spec);
    let mut spec = script("b", "sleep 1000");
    spec.pid = Some(PidMode::Target("a".to_string()));
    let second = pod.create_container(&spec)?;
    second.start()?;
    let process = second.exec(&sh("sleep 1000"))?;
    assert_eq!(namespaces(process.pid()), namespaces(second.pid()));
    assert_eq!(namespaces(process.pid())["pid"], namespaces(first.pid())["pid"]);
    PASS
}

fn other_programs_have_its_identity_and_no_more() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        let container = sleeper(&pod, |spec| spec.additional_gids([7, 8]));
        let process = container.exec(&sh("sleep 1000"))?;
        assert_eq!(identity(process.pid()), identity(container.pid()));
        let process = container.exec(&sh("sleep 1000").user(1000, 2000).additional_gids([3]))?;
        let seen = identity(process.pid());
        assert_eq!((&seen["Uid"], &seen["Gid"]), (&four(FIRST + 1000), &four(FIRST + 2000)));
        assert_eq!((&*seen["Groups"], &*seen["CapEff"]), (&*(FIRST + 3).to_string(), "0000000000000000"));
        let inside = facts(&container, |spec| spec.user(1000, 2000));
        assert_eq!((&inside.status["Uid"], &inside.status["Gid"]), (&four(1000), &four(2000)));
        assert_eq!(inside.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        // Its pipes are its own.
        let look = "stat -Lc %u:%g /proc/self/fd/1; echo again >/dev/stdout";
        assert_eq!(said(&container, sh(look).user(1000, 2000)), "1000:2000\nagain\n");
        let error = container.exec(&sh("true").user(65536, 0)).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("user.uid")), "{error}");
        container.remove()?;
    }
    PASS
}

/// What is tried does no harm where it succeeds: with the protection taken out it is done to the machine.
///
/// Mutation: with `CLONE_NEWUSER` left out of `foreign_namespaces` in `src/container/exec.rs`, the program read and
/// changed the file and could write the kernel parameter: only "sysrq" and "cgroup" were refused.
fn other_programs_reach_nothing_of_the_host() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod_of(&fixture, |spec| spec.unmapped_mounts(true));
    let secret = fixture.path("secret");
    fs::write(&secret, "s\n")?;
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let container = sleeper(&pod, |spec| {
        let mut spec = mighty(spec).mount(Mount::bind(&secret, "/secret"));
        spec.security.masked_paths.clear();
        spec.security.readonly_paths.clear();
        spec
    });
    let try_all = "cat /secret 2>/dev/null || echo read; \
        echo x 2>/dev/null >/secret || echo write; \
        (: >>/proc/sys/kernel/core_pattern) 2>/dev/null || echo sysctl; \
        (: >>/proc/sysrq-trigger) 2>/dev/null || echo sysrq; \
        mkdir /sys/fs/cgroup/x 2>/dev/null || echo cgroup";
    assert_eq!(said(&container, sh(try_all)), "read\nwrite\nsysctl\nsysrq\ncgroup\n");
    assert_eq!(fs::read_to_string(&secret)?, "s\n");
    // What it may, it may inside.
    assert_eq!(
        said(&container, sh("hostname inside && hostname; mount -t tmpfs x /mnt && echo y")),
        "inside\ny\n"
    );
    PASS
}

/// CVE-2016-9962, with every privilege over processes that there is inside. With `process::hide` in
/// `src/init/process.rs` doing nothing, the hunter says "caught" where `fs.suid_dumpable` is 1. Where it is 0, the change
/// of ids hides init by itself.
fn nobody_inside_can_attach_to_who_enters() -> Outcome {
    let fixture = Fixture::new();
    hunted_while_entering(&pod(&fixture), mighty)
}

/// A change of ids makes a process as dumpable as the machine says (`fs.suid_dumpable`): with 1, everybody with the same
/// ids could look into init, which waits for its start with the library's files open.
///
/// Mutation: without `process::hide` in init's `identity::take`, the process of the first pod belonged to user 1000.
fn nobody_inside_can_look_into_init() -> Outcome {
    const SETTING: &str = "/proc/sys/fs/suid_dumpable";
    if !in_guest() {
        return skip("sets fs.suid_dumpable, which is the machine's: only in the guest");
    }
    let before = fs::read_to_string(SETTING)?;
    let fixture = Fixture::new();
    let pods = [
        fixture.pod("plain"),
        pod(&fixture),
        pod_of(&fixture, |spec| {
            let mut spec = spec.pid(PidMode::Pod);
            spec.name = "shared".to_string();
            spec
        }),
    ];
    fs::write(SETTING, "1")?;
    let look = || -> Outcome {
        for pod in &pods {
            for user in [0, 1000] {
                let container = pod.create_container(&script("a", "true").user(user, user))?;
                // Proc gives files of who cannot be looked into to root of the machine.
                assert_eq!(
                    fs::metadata(format!("/proc/{}/fd", container.pid()))?.uid(),
                    0,
                    "{} {user}",
                    pod.name()
                );
                container.remove()?;
            }
        }
        PASS
    };
    let result = look();
    fs::write(SETTING, before.trim())?;
    result
}

fn a_terminal_belongs_to_the_user_inside() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        for uid in [0, 1000] {
            let look = "stat -c '%u %g %a' /dev/pts/0; echo again >/dev/pts/0; echo console >/dev/console; tty; \
                        stat -c %t:%T /dev/console /dev/pts/0 | uniq | wc -l; ls /dev/pts | tr '\\n' ' '; echo tty >/dev/tty";
            let (container, terminal) = started(&pod, script("a", look).user(uid, uid));
            let expected = format!("{uid} 5 620\nagain\nconsole\n/dev/pts/0\n1\n0 ptmx tty\n");
            assert_eq!(displayed(&terminal), expected, "{}", pod.name());
            assert!(container.wait()?.success());
            container.remove()?;
        }
    }
    // Where the group of terminals has no id, they belong to that of the user.
    let ids = pericarp::spec::IdMappings::contiguous(FIRST, 1);
    let small = PodSpec::new("small").user(pericarp::spec::UserMode::Mapped(ids));
    let small = fixture.node.create_pod(&small)?;
    let (_, terminal) = started(&small, script("a", "stat -c '%u %g' /dev/pts/0"));
    assert_eq!(displayed(&terminal), "0 0\n");
    PASS
}

fn another_program_has_a_terminal_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        let (container, _terminal) = started(&pod, script("a", "sleep 1000"));
        for uid in [0, 1000] {
            let look = "tty; stat -c '%u %g %a' $(tty); stty size; echo tty >/dev/tty; echo again >$(tty)";
            let spec = sh(look).terminal(true).console_size(90, 30).user(uid, uid);
            let process = container.exec(&spec)?;
            let terminal = process.take_terminal().expect("a terminal");
            let text = displayed(&terminal);
            // The number of one that was let go is free when the kernel gets to that.
            let (name, rest) = text.split_once('\n').ok_or("no name")?;
            assert!(name.starts_with("/dev/pts/") && name != "/dev/pts/0", "{}: {text}", pod.name());
            assert_eq!(rest, format!("{uid} 5 620\n30 90\ntty\nagain\n"), "{}", pod.name());
            assert!(process.wait()?.success());
        }
        container.remove()?;
    }
    PASS
}

fn hooks_of_the_host_run_around_the_container() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        let log = fixture.path("log");
        let _ = fs::remove_file(&log);
        // The network namespace of the process that they are told is the pod's.
        let state = |point: &str| {
            hook(&format!(
                "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
                 echo {point} $(id -u) $(readlink /proc/self/ns/user) $(readlink /proc/$pid/ns/net) >>{}",
                log.display()
            ))
        };
        let all = hooks(|hooks| {
            hooks.create_runtime.push(state("createRuntime"));
            hooks.start_container.push(hook("id -u >/tmp/start; readlink /proc/self/ns/user >>/tmp/start"));
            hooks.poststart.push(state("poststart"));
            hooks.poststop.push(hook(&format!("echo poststop $(id -u) >>{}", log.display())));
        });
        let text =
            say(&pod, script("a", "cat /tmp/start; readlink /proc/self/ns/net").user(1000, 1000).hooks(all));
        let inside: Vec<&str> = text.lines().collect();
        let user = fs::read_link("/proc/self/ns/user")?.display().to_string();
        assert_eq!(inside[0], "1000", "{text}");
        assert!(inside[1].starts_with("user:[") && inside[1] != user, "{text}");
        let log = fs::read_to_string(&log)?;
        assert!(log.starts_with(&format!("createRuntime 0 {user} {}\n", inside[2])), "{log}{text}");
        assert!(log.contains("\npoststart 0 ") && log.ends_with("\npoststop 0\n"), "{log}");
    }
    PASS
}

/// The root filesystem is moved into a tree of the host's files for these hooks, and back before init leaves the host's
/// user namespace: what is mounted then is locked. Without `Step::TakeRootBack` the container could not be made: the
/// copy of the root was one of the empty directory that it had been on, read-only (EROFS at the mount of /proc).
fn hooks_of_the_creation_leave_nothing_of_the_host_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let root = root(&fixture);
    fs::create_dir(root.join("mnt"))?;
    // On the root itself, which is idmapped, root of the machine has no id.
    let text = format!(
        "if echo x 2>/dev/null >{root}/etc/no; then exit 9; fi; \
         mount -t tmpfs -o mode=755 tmpfs {root}/mnt; echo inside >{root}/mnt/x",
        root = root.display()
    );
    let look = "cat /mnt/x; umount /mnt 2>/dev/null || echo locked; \
                wc -l </proc/self/mountinfo; ls -d /host /root 2>/dev/null; true";
    let spec = |name: &str| {
        mighty(with_machine(ContainerSpec::new(name, Rootfs::directory(&root))).args(["/bin/sh", "-c", look]))
    };
    let with = say(&pod, spec("a").hooks(hooks(|hooks| hooks.create_container.push(hook(&text)))));
    let lines: Vec<&str> = with.lines().collect();
    assert_eq!(lines[..2], ["inside", "locked"], "{with}");
    let mounts: usize = lines[2].parse()?;
    let without = say(&pod, spec("b"));
    let line: usize = without.lines().rev().find_map(|line| line.parse().ok()).ok_or("no number")?;
    assert_eq!((mounts, lines.len()), (line + 1, 3), "one more: what the hook has mounted. {with}{without}");
    PASS
}

fn a_supervisor_answers_for_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    for (no_new_privileges, user) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let security = custom(&asking()).no_new_privileges(no_new_privileges);
        let spec = mkdir("a", &asking()).security(security).user(user, user).stdout(Stdio::Pipe);
        let container = pod.create_container(&spec)?;
        let pid = container.pid();
        let mut asked = Vec::new();
        let (text, _) = supervised(&container, |notification| {
            asked.push(notification.pid as i32);
            Some((0, libc::EXDEV))
        })?;
        assert_eq!((text, asked), (format!("{} false\n", libc::EXDEV), vec![pid]));
    }
    PASS
}

fn another_program_starts_a_detached_container() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = pod_of(&fixture, |spec| spec.pid(mode));
        let file = fixture.path("ran");
        let _ = fs::remove_file(&file);
        again::run(&["detached-make", &again::word(&fixture), &file.to_string_lossy()]);
        let container = pod.container("a")?;
        assert_eq!(container.status()?, ContainerStatus::Created);
        assert_eq!(identity(container.pid())["Uid"], four(FIRST));
        assert_eq!(other(&fixture, "detached-start"), "started\n");
        let ended = || matches!(container.status(), Ok(ContainerStatus::Exited(_)));
        while !ended()
            && container.wait_timeout(Some(Duration::from_millis(50))).is_ok_and(|end| end.is_none())
        {
        }
        assert_eq!(fs::read_to_string(&file)?, "ran\n");
        assert!(other(&fixture, "detached-start").starts_with("WrongState: "));
        container.remove()?;
        // Its maker can start it as ever.
        let container = pod.create_container(&writer(&file))?;
        container.start()?;
        container.wait()?;
        assert_eq!(fs::read_to_string(&file)?, "ran\nran\n");
        pod.remove()?;
    }
    PASS
}

fn containers_are_frozen_and_killed() -> Outcome {
    let fixture = Fixture::new();
    for pod in pods(&fixture) {
        let container = pod.create_container(&inside("a", &["sleep"]))?;
        container.start()?;
        let process = container.exec(&sh("exec sleep 1000"))?;
        container.freeze()?;
        assert_eq!(container.exec(&sh("true")).unwrap_err().kind(), ErrorKind::WrongState);
        container.thaw()?;
        assert_eq!(container.exec(&sh("exit 3"))?.wait()?, ExitStatus::Exited(3));
        assert_eq!(container.processes()?.len(), 2);
        container.kill()?;
        let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(container.wait()?, killed);
        assert_eq!(process.wait()?, killed, "{}", pod.name());
        container.remove()?;
    }
    PASS
}
