//! Hooks: when they run, where, what they are told, and what their failure means.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pericarp::spec::{Hook, Hooks};
use pericarp::{ContainerSpec, ContainerStatus, ErrorKind, Rootfs};

use crate::support::fixture::{say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    hooks_run_in_order_and_are_told_the_state,
    create_container_hooks_see_the_host_and_the_containers_mounts,
    start_container_hooks_run_inside_with_its_restrictions,
    a_failing_hook_fails_its_step_and_is_quoted,
    a_hook_that_hangs_is_killed,
    poststop_hooks_run_however_a_container_goes,
    a_program_goes_on_when_a_hook_after_its_start_fails,
    wrong_hooks_are_refused,
];

/// A hook that runs a shell script of the host.
pub fn sh(text: &str) -> Hook {
    Hook::new("/bin/sh").args(["sh", "-c", text]).env(["PATH=/usr/bin:/bin"])
}

pub fn hooks(change: impl FnOnce(&mut Hooks)) -> Hooks {
    let mut hooks = Hooks::default();
    change(&mut hooks);
    hooks
}

/// A root filesystem of its own: the shell and what it needs, from the machine.
pub fn root(fixture: &Fixture) -> PathBuf {
    let root = fixture.path("root");
    for directory in ["proc", "sys", "dev", "etc"] {
        fs::create_dir_all(root.join(directory)).expect("make a directory");
    }
    root
}

pub fn with_machine(spec: ContainerSpec) -> ContainerSpec {
    ["/bin", "/lib", "/lib64", "/usr"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .fold(spec, |spec, path| spec.mount(pericarp::Mount::rbind(path, path).readonly(true)))
}

fn hooks_run_in_order_and_are_told_the_state() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let log = fixture.path("log");
    let write = |point: &str| sh(&format!("printf '{point} ' >>{0}; cat >>{0}; echo >>{0}", log.display()));
    let all = hooks(|hooks| {
        hooks.prestart.push(write("prestart"));
        hooks.create_runtime.extend([write("createRuntime"), write("again")]);
        hooks.poststart.push(write("poststart"));
        hooks.poststop.push(write("poststop"));
        hooks.id = Some("some-id".into());
        hooks.bundle = Some("/some/bundle".into());
    });
    let spec = script("main", "exec sleep 1000").hooks(all).annotation("a", "b");
    let container = pod.create_container(&spec)?;
    let pid = container.pid();
    let lines = |text: String| -> Vec<(String, serde_json::Value)> {
        let split = |line: &str| {
            let (point, state) = line.split_once(' ').expect("a point and a state");
            (point.to_string(), serde_json::from_str(state).expect("JSON"))
        };
        text.lines().map(split).collect()
    };
    let made = lines(fs::read_to_string(&log)?);
    assert_eq!(
        made.iter().map(|(point, _)| &**point).collect::<Vec<_>>(),
        ["prestart", "createRuntime", "again"]
    );
    for (_, state) in &made {
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!(state["id"], "some-id");
        assert_eq!((&state["pid"], &state["bundle"]), (&pid.into(), &"/some/bundle".into()));
        assert_eq!(state["annotations"]["a"], "b");
    }
    let statuses: Vec<_> = made.iter().map(|(_, state)| state["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["created", "creating", "creating"]);
    container.start()?;
    let started = lines(fs::read_to_string(&log)?);
    assert_eq!((&*started[3].0, &started[3].1["status"]), ("poststart", &"running".into()));
    container.remove()?;
    let ended = lines(fs::read_to_string(&log)?);
    assert_eq!((&*ended[4].0, &ended[4].1["status"], ended.len()), ("poststop", &"stopped".into(), 5));
    assert!(ended[4].1.get("pid").is_none());
    PASS
}

fn create_container_hooks_see_the_host_and_the_containers_mounts() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, log) = (root(&fixture), fixture.path("log"));
    // What the hook writes below the root filesystem's path is what the container has there; what it mounts, too.
    let text = format!(
        "exec >{log} 2>&1; readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; grep -c ' {root}/proc ' /proc/self/mountinfo; \
         echo written >{root}/etc/by-hook; mkdir {root}/mnt; mount -t tmpfs tmpfs {root}/mnt; echo inside >{root}/mnt/x",
        log = log.display(),
        root = root.display(),
    );
    let spec = with_machine(ContainerSpec::new("main", Rootfs::directory(&root)))
        .args([
            "/bin/sh",
            "-c",
            "cat /etc/by-hook /mnt/x; readlink /proc/self/ns/mnt; readlink /proc/self/ns/net",
        ])
        .hooks(hooks(|hooks| hooks.create_container.push(sh(&text))));
    let inside = say(&pod, spec);
    let by_hook = fs::read_to_string(&log)?;
    let inside: Vec<&str> = inside.lines().collect();
    let by_hook: Vec<&str> = by_hook.lines().collect();
    assert_eq!(inside[..2], ["written", "inside"]);
    assert_eq!(inside[2..], by_hook[..2], "the hook was in the container's namespaces");
    assert_eq!(by_hook[2], "1", "{by_hook:?}");
    let host = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!host.contains(&*root.to_string_lossy()), "nothing of it reached the host");
    PASS
}

fn start_container_hooks_run_inside_with_its_restrictions() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let hook = sh(
        "cat >/tmp/state; id -u >/tmp/id; grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status >/tmp/s; ls /proc/self/fd >/tmp/fds",
    );
    let spec = script("main", "cat /tmp/state; echo; cat /tmp/id /tmp/s; tr '\\n' ' ' </tmp/fds; echo $$")
        .user(1000, 1000)
        .hooks(hooks(|hooks| hooks.start_container.extend([sh("rm -f /tmp/state"), hook])));
    let container = pod.create_container(&spec.clone().stdout(pericarp::Stdio::Pipe))?;
    let stdout = container.take_stdout().expect("a pipe");
    container.start()?;
    let text = std::io::read_to_string(stdout)?;
    container.wait()?;
    let lines: Vec<&str> = text.lines().collect();
    let state: serde_json::Value = serde_json::from_str(lines[0])?;
    assert_eq!((&state["status"], &state["pid"]), (&"created".into(), &container.pid().into()));
    assert_eq!(lines[1], "1000");
    assert_eq!(lines[2..5], ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]);
    // The streams, and the directory that ls itself has open.
    assert_eq!(lines[5], "0 1 2 3 1", "what the hook had open, and the program is still process 1");
    PASS
}

fn a_failing_hook_fails_its_step_and_is_quoted() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let log = fixture.path("stopped");
    let failing = |change: &dyn Fn(&mut Hooks)| {
        script("main", "sleep 1000").hooks(hooks(|hooks| {
            change(hooks);
            hooks.poststop.push(sh(&format!("echo x >>{}", log.display())));
        }))
    };
    let spec = failing(&|hooks| hooks.create_runtime.push(sh("echo out of luck >&2; exit 3")));
    let error = pod.create_container(&spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exec);
    let text = error.to_string();
    assert!(
        text.contains("createRuntime hook /bin/sh") && text.contains("exited with 3 and wrote: out of luck"),
        "{text}"
    );
    assert!(pod.containers()?.is_empty(), "nothing is left of it");
    assert_eq!(fs::read_to_string(&log)?.lines().count(), 1, "what ends with the container has run");

    let error = pod.create_container(&failing(&|h| h.prestart.push(Hook::new("/no/such/hook")))).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::ENOENT)), "{error}");
    let not_executable = fixture.path("data");
    fs::write(&not_executable, "x")?;
    fs::set_permissions(&not_executable, fs::Permissions::from_mode(0o644))?;
    let error = pod.create_container(&failing(&|h| h.prestart.push(Hook::new(&not_executable)))).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EACCES), "{error}");

    for (hook, words) in [
        (sh("exit 4"), "it exited with 4"),
        (sh("kill -KILL $$"), "it was killed by signal 9"),
        (Hook::new("/no/such/hook"), "ENOENT"),
    ] {
        let container = pod.create_container(&failing(&|h| h.start_container.push(hook.clone())))?;
        let error = container.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exec);
        let text = error.to_string();
        assert!(text.contains("run the startContainer hook") && text.contains(words), "{text}");
        container.wait()?;
        container.remove()?;
    }
    let container = pod.create_container(&failing(&|hooks| hooks.poststart.push(sh("exit 5"))))?;
    let error = container.start().unwrap_err().to_string();
    assert!(error.contains("poststart hook") && error.contains("exited with 5"), "{error}");
    container.remove()?;
    PASS
}

fn a_hook_that_hangs_is_killed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let hanging = || Hook::new("/bin/sleep").args(["sleep", "1000"]).timeout(1);
    let spec = script("main", "true").hooks(hooks(|hooks| hooks.create_runtime.push(hanging())));
    let text = pod.create_container(&spec).unwrap_err().to_string();
    assert!(text.contains("it has not ended after 1 s"), "{text}");
    let spec = script("main", "true").hooks(hooks(|hooks| hooks.start_container.push(hanging())));
    let container = pod.create_container(&spec)?;
    let text = container.start().unwrap_err().to_string();
    assert!(text.contains("it has not ended after 1 s"), "{text}");
    PASS
}

fn a_program_goes_on_when_a_hook_after_its_start_fails() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let log = fixture.path("log");
    let after = sh(&format!("echo after >>{}", log.display()));
    for detached in [false, true] {
        let all = hooks(|hooks| hooks.poststart.extend([sh("exit 5"), after.clone(), Hook::new("/no/such")]));
        let container =
            pod.create_container(&script("main", "exec sleep 1000").hooks(all).detached(detached))?;
        let error = container.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Hook, "{error}");
        assert!(error.to_string().contains("exited with 5"), "the first failure is told: {error}");
        assert_eq!(container.status()?, ContainerStatus::Running);
        assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState, "it was started");
        container.remove()?;
    }
    assert_eq!(fs::read_to_string(&log)?, "after\nafter\n", "hooks after one that failed are run");
    PASS
}

fn poststop_hooks_run_however_a_container_goes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let log = fixture.path("log");
    let spec = |name: &str, code: u32| {
        let text = format!("echo {name} >>{}; exit {code}", log.display());
        script(name, "sleep 1000").hooks(hooks(|hooks| hooks.poststop.push(sh(&text))))
    };
    assert!(pod.run(&spec("ran", 0).args(["true"]))?.success());
    let failed = pod.create_container(&spec("failed", 7))?;
    let error = failed.remove().unwrap_err();
    assert!(error.to_string().contains("poststop hook"), "{error}");
    assert_eq!(pod.container("failed").unwrap_err().kind(), ErrorKind::NotFound, "it is gone all the same");
    pod.create_container(&spec("with-pod", 6))?.start()?;
    let error = pod.remove().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hook, "{error}");
    assert_eq!(fixture.node.open_pod("web").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_to_string(&log)?, "ran\nfailed\nwith-pod\n");
    PASS
}

fn wrong_hooks_are_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = |hook: Hook| script("main", "true").hooks(hooks(|hooks| hooks.poststart.push(hook)));
    for hook in [Hook::new("bin/sh"), Hook::new("/bin/sh").timeout(0), Hook::new("/bin/sh").args(["a\0b"])] {
        let error = pod.create_container(&spec(hook)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
        assert!(error.to_string().contains("hooks.poststart[0]"), "{error}");
    }
    let overlay = script("main", "true").hooks(hooks(|hooks| hooks.create_container.push(sh("true"))));
    assert_eq!(pod.create_container(&overlay).unwrap_err().kind(), ErrorKind::InvalidSpec);
    PASS
}
