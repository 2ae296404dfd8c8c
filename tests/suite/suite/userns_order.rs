//! Pods with a user namespace of their own: mounts are made in the listed order, those that only the user namespace can
//! make among them, and nothing is left of a container whose init or whose twin fails on the way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use pericarp::spec::{MountKind, PidMode};
use pericarp::{ContainerSpec, ErrorKind, Mount, Pod, PodSpec, Rootfs};

use crate::hooks::{hooks, root, sh as hook, with_machine};
use crate::robust::again;
use crate::rootfs::bare;
use crate::support::fixture::{say, script};
use crate::support::{Fixture, Outcome, PASS};
use crate::terminal::{displayed, started};
use crate::userns::{mapped, mighty, pod};

crate::tests![
    mounts_are_listed_in_the_given_order,
    default_mounts_are_as_in_any_container,
    what_is_listed_after_proc_is_seen_in_it,
    what_is_listed_after_devpts_is_seen_over_it,
    a_terminal_is_made_wherever_devpts_is_listed,
    a_proc_of_another_container_is_not_covered_by_its_masks,
    proc_and_what_hides_its_files_are_locked,
    no_link_leads_proc_or_a_mount_into_it,
    every_failure_is_told_and_leaves_no_process,
    a_killed_twin_is_told_and_leaves_no_process,
];

/// Commands for this program in a process of its own on the host.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["order-failing", state_dir, root] => failing(state_dir, Path::new(root)),
        ["order-killed", state_dir, root] => killed(state_dir, Path::new(root)),
        _ => return false,
    }
    true
}

/// A pod without a user namespace, and one with it for each way in which a container gets its PID namespace.
fn pods(fixture: &Fixture) -> Vec<Pod> {
    let modes = [("own", PidMode::Container), ("shared", PidMode::Pod), ("host", PidMode::Host)];
    let specs = modes.map(|(name, mode)| PodSpec::new(name).user(mapped()).pid(mode));
    let all = [PodSpec::new("plain")].into_iter().chain(specs);
    all.map(|spec| fixture.node.create_pod(&spec).expect("create a pod")).collect()
}

/// Mount points in the order of the mount table.
fn points(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).collect()
}

fn exactly(mut spec: ContainerSpec, mounts: impl IntoIterator<Item = Mount>) -> ContainerSpec {
    spec.default_mounts = false;
    mounts.into_iter().fold(spec, ContainerSpec::mount)
}

/// Mutation: with `inside` of `plan/build/user.rs` at the end of the list of mounts, proc and devpts came last.
fn mounts_are_listed_in_the_given_order() -> Outcome {
    let fixture = Fixture::new();
    let tmpfs = |path: &str| Mount::tmpfs(path, 1 << 16);
    let all = [
        tmpfs("/mnt/a"),
        Mount::of(MountKind::Devpts, "/mnt/pts"),
        Mount::bind(fixture.dir.path(), "/mnt/b"),
        Mount::of(MountKind::Proc, "/proc"),
        tmpfs("/mnt/c"),
        Mount::of(MountKind::Sysfs, "/sys"),
        Mount::of(MountKind::Devpts, "/mnt/more"),
        Mount::of(MountKind::Shm, "/mnt/shm"),
        Mount::of(MountKind::Proc, "/mnt/proc"),
        tmpfs("/mnt/d"),
    ];
    // Without a user namespace some kernels list mounts as they were prepared, and not as they were attached.
    for pod in &pods(&fixture)[1..] {
        for turn in 0..all.len() {
            let mut mounts = all.to_vec();
            mounts.rotate_left(turn);
            let listed: Vec<String> = mounts.iter().map(|m| m.destination.display().to_string()).collect();
            let spec = exactly(script("a", "cat /proc/self/mountinfo"), mounts);
            let table = say(pod, spec);
            let seen: Vec<&str> =
                points(&table).into_iter().filter(|point| listed.iter().any(|path| path == point)).collect();
            assert_eq!(seen, listed, "{}: {table}", pod.name());
        }
    }
    PASS
}

fn default_mounts_are_as_in_any_container() -> Outcome {
    let fixture = Fixture::new();
    let expected =
        ["/", "/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/mnt"];
    for pod in pods(&fixture) {
        let table =
            say(&pod, script("a", "cat /proc/self/mountinfo").mount(Mount::bind(fixture.dir.path(), "/mnt")));
        let mut seen: Vec<&str> =
            points(&table).into_iter().filter(|point| expected.contains(point)).collect();
        let mut expected = expected;
        if pod.name() == "plain" {
            // Some kernels list mounts as they were prepared, and not as they were attached.
            seen.sort_unstable();
            expected.sort_unstable();
        }
        assert_eq!(seen, expected, "{}: {table}", pod.name());
    }
    PASS
}

fn what_is_listed_after_proc_is_seen_in_it() -> Outcome {
    let fixture = Fixture::new();
    let file = fixture.path("file");
    fs::write(&file, "ours\n")?;
    let over = |path: &str| Mount::bind(&file, path);
    for pod in pods(&fixture) {
        // On a default proc, on one that is listed, and on one elsewhere; what comes before is hidden.
        let spec = script("a", "cat /proc/uptime").mount(over("/proc/uptime"));
        assert_eq!(say(&pod, spec), "ours\n", "{}", pod.name());
        let spec = script("a", "cat /proc/uptime; head -c 4 /mnt/version; echo")
            .mount(over("/mnt/version"))
            .mount(Mount::of(MountKind::Proc, "/proc"))
            .mount(over("/proc/uptime"))
            .mount(Mount::of(MountKind::Proc, "/mnt"));
        assert_eq!(say(&pod, spec), "ours\nLinu\n", "{}", pod.name());
    }
    PASS
}

fn what_is_listed_after_devpts_is_seen_over_it() -> Outcome {
    let fixture = Fixture::new();
    let file = fixture.path("file");
    fs::write(&file, "ours\n")?;
    let (devpts, tmpfs) = (Mount::of(MountKind::Devpts, "/dev/pts"), Mount::tmpfs("/dev/pts", 1 << 16));
    let look = "stat -fc %T /dev/pts; cat /dev/pts/ptmx 2>/dev/null | head -c 5";
    let cases: [(Vec<Mount>, &str); 4] = [
        (vec![tmpfs.clone()], "tmpfs\n"),
        (vec![devpts, Mount::bind(&file, "/dev/pts/ptmx")], "devpts\nours\n"),
        (vec![tmpfs, Mount::bind(&file, "/dev/pts/ptmx")], "tmpfs\nours\n"),
        (vec![Mount::bind(&file, "/dev/pts/ptmx")], "devpts\nours\n"),
    ];
    for pod in pods(&fixture) {
        for (mounts, expected) in &cases {
            let spec = mounts.iter().cloned().fold(script("a", look), ContainerSpec::mount);
            assert_eq!(say(&pod, spec), *expected, "{}", pod.name());
        }
        // Nobody can make a directory in a devpts.
        let error =
            pod.create_container(&script("a", "").mount(Mount::tmpfs("/dev/pts/x", 1 << 16))).unwrap_err();
        assert!(error.to_string().contains("mount a tmpfs on /dev/pts/x"), "{}: {error}", pod.name());
    }
    PASS
}

fn a_terminal_is_made_wherever_devpts_is_listed() -> Outcome {
    let fixture = Fixture::new();
    let mount = |kind, path: &str| Mount::of(kind, path);
    let dev = || mount(MountKind::Tmpfs { size: None, mode: Some(0o755) }, "/dev");
    let (proc, devpts) = (|| mount(MountKind::Proc, "/proc"), || mount(MountKind::Devpts, "/dev/pts"));
    for pod in pods(&fixture) {
        for mounts in [[dev(), devpts(), proc()], [proc(), dev(), devpts()], [dev(), proc(), devpts()]] {
            let (container, terminal) = started(
                &pod,
                exactly(script("a", "tty; stat -fc %T /dev/pts; echo x >/dev/console"), mounts),
            );
            assert_eq!(displayed(&terminal), "/dev/pts/0\ndevpts\nx\n", "{}", pod.name());
            container.remove()?;
        }
        // One that something is mounted over is none.
        let spec = exactly(script("a", ""), [devpts(), dev(), proc()]).terminal(true);
        let made = pod.create_container(&spec);
        if pod.name() == "plain" {
            made?.remove()?;
        } else {
            let error = made.unwrap_err();
            assert!(error.to_string().contains("make a terminal"), "{}: {error}", pod.name());
        }
    }
    PASS
}

/// What hides files in the proc of a container is locked there and could not be left out of a copy: with
/// `Source::TargetProc` opened by a copy of that proc in a user namespace, too, no container could be made (EINVAL).
fn a_proc_of_another_container_is_not_covered_by_its_masks() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let first = pod.create_container(&script("first", "exec sleep 1000"))?;
    first.start()?;
    let look = "stat -c %t:%T /proc/timer_list; cat /proc/1/comm; grep -c ' /proc/timer_list ' /proc/self/mountinfo; true";
    let target = |name: &str| script(name, look).pid(PidMode::Target("first".into()));
    assert_eq!(say(&pod, target("masked")), "1:3\nsleep\n1\n");
    let mut bare = target("bare");
    bare.security.masked_paths.clear();
    bare.security.readonly_paths.clear();
    assert_eq!(say(&pod, bare), "0:0\nsleep\n0\n");
    first.remove()?;
    PASS
}

/// Mutation: with the steps `mount proc on /proc` and those that mask and make read-only below it after `Step::CopyRoot`,
/// as they once were, the container took the masks and the flags away.
fn proc_and_what_hides_its_files_are_locked() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let loosen = "umount /proc/timer_list 2>/dev/null || echo mask; \
                  mount -o remount,bind,rw /proc/sys 2>/dev/null || echo flag; \
                  umount /proc/sys 2>/dev/null || echo readonly; \
                  umount -l /proc 2>/dev/null || echo proc; umount -l /dev/pts 2>/dev/null || echo devpts";
    assert_eq!(say(&pod, mighty(script("a", loosen))), "mask\nflag\nreadonly\nproc\ndevpts\n");
    PASS
}

/// The same as `no_link_leads_a_mount_into_proc` of `hostile/procfs.rs`: since proc is there when later mounts are made.
///
/// Mutation: with no look at the filesystem in `mount_at` of `src/init/fs.rs`, `/link/uptime` was mounted on.
fn no_link_leads_proc_or_a_mount_into_it() -> Outcome {
    let fixture = Fixture::new();
    let file = fixture.path("file");
    fs::write(&file, "ours\n")?;
    for pod in pods(&fixture) {
        let root = fixture.path(pod.name());
        fs::create_dir_all(root.join("etc"))?;
        for (name, target) in
            [("link", "/proc"), ("link-sys", "/proc/sys"), ("up", "../../proc"), ("self", "/proc/self/root")]
        {
            symlink(target, root.join(name))?;
        }
        for path in ["/link/uptime", "/link-sys/kernel/hostname", "/up/version", "/self/etc/x", "/self"] {
            let spec = bare("a", Rootfs::directory(&root), "true").mount(Mount::bind(&file, path));
            let Err(error) = pod.create_container(&spec) else { panic!("{path} was mounted on") };
            assert!(error.to_string().contains(&format!(" on {path}")), "{}: {path}: {error}", pod.name());
        }
        // Nor does proc itself follow a link, nor devpts.
        for (kind, name) in [(MountKind::Proc, "proc"), (MountKind::Devpts, "dev/pts")] {
            let other = fixture.path(&format!("{}-{}", pod.name(), name.replace('/', "-")));
            fs::create_dir_all(other.join(name).parent().ok_or("no parent")?)?;
            fs::create_dir_all(other.join("etc"))?;
            symlink("/etc", other.join(name))?;
            let mounts = [Mount::of(kind, format!("/{name}"))];
            let spec = exactly(bare("a", Rootfs::directory(&other), "true"), mounts);
            let Err(error) = pod.create_container(&spec) else { panic!("/{name} followed a link") };
            assert!(error.to_string().contains(&format!(" on /{name}")), "{}: {error}", pod.name());
            assert_eq!(fs::read_dir(other.join("etc"))?.count(), 0);
        }
    }
    PASS
}

/// Processes and zombies that this program has as children.
fn children() -> usize {
    let own = std::process::id().to_string();
    let parent = |stat: String| {
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1).map(str::to_string))
    };
    let all = fs::read_dir("/proc").expect("read /proc").flatten();
    all.filter(|entry| {
        fs::read_to_string(entry.path().join("stat")).ok().and_then(parent).is_some_and(|pid| pid == own)
    })
    .count()
}

fn in_own_program(command: &str) -> Outcome {
    let fixture = Fixture::new();
    let root = root(&fixture);
    let state_dir = format!("{}-own", again::word(&fixture));
    assert_eq!(again::run(&[command, &state_dir, &root.display().to_string()]), "done\n");
    PASS
}

/// How often init and its twin race: enough that each order was seen.
const ROUNDS: usize = 200;

/// Mutation: with `Message::Twin` taken as one that says nothing in `container/create.rs`, two zombies were left by the
/// first container. Without `end_forks` there, one was left in the first round of the races.
fn every_failure_is_told_and_leaves_no_process() -> Outcome {
    in_own_program("order-failing")
}

fn failing(state_dir: &str, root: &Path) {
    let node = again::node(state_dir);
    fs::write(root.join("etc/x"), "").expect("write a file");
    let base = || with_machine(ContainerSpec::new("a", Rootfs::directory(root)).args(["/bin/true"]));
    let wrong = |kind, path: &str| {
        let mut mount = Mount::of(kind, path);
        mount.data = vec!["nosuch=1".into()];
        mount
    };
    let cases: Vec<(&str, ContainerSpec)> = vec![
        // In the twin, in init, and in the twin when it has taken over.
        ("make a proc, nosuch=1", base().mount(wrong(MountKind::Proc, "/proc"))),
        ("make a devpts", base().mount(wrong(MountKind::Devpts, "/dev/pts"))),
        ("mount a tmpfs on /etc/x/y", base().mount(Mount::tmpfs("/etc/x/y", 1 << 16))),
        (
            "make a tmpfs, mode=1777, nosuch=1",
            base().mount(wrong(MountKind::Tmpfs { size: None, mode: None }, "/t")),
        ),
        ("change the working directory", base().cwd("/etc/x")),
    ];
    for mode in [PidMode::Container, PidMode::Host] {
        let pod =
            node.create_pod(&PodSpec::new("web").user(mapped()).pid(mode.clone())).expect("create a pod");
        let before = children();
        for (step, spec) in &cases {
            if mode == PidMode::Host && *step == "make a proc, nosuch=1" {
                continue;
            }
            let error = pod.create_container(spec).expect_err(step);
            assert!(error.to_string().contains(step), "{step}: {error}");
            assert_eq!(children(), before, "after {step}");
        }
        // Init fails at its first mount, while the twin is on its way, at whichever point: it forks, too.
        let proc = Mount::of(MountKind::Proc, "/proc");
        let spec = exactly(base(), [wrong(MountKind::Tmpfs { size: None, mode: None }, "/t"), proc]);
        for round in 0..ROUNDS {
            pod.create_container(&spec).expect_err("a mount with an option that there is not");
            assert_eq!(children(), before, "round {round}");
        }
        // And it goes well again.
        assert!(pod.run(&base()).expect("run").success());
        assert_eq!(children(), before);
        pod.remove().expect("remove the pod");
    }
    node.remove().expect("remove the node");
    println!("done");
}

fn a_killed_twin_is_told_and_leaves_no_process() -> Outcome {
    in_own_program("order-killed")
}

/// Hooks find both processes of a container that is being made in its cgroup: they are told of init. They end when what
/// they killed has, and a twin ends with its init.
///
/// Mutation: with each error of `control.start()` told where hooks of the creation have run in `container/create.rs`, the
/// error was `EPIPE` of the socket.
fn killed(state_dir: &str, root: &Path) {
    let node = again::node(state_dir);
    for (name, whom, gone) in [("twin", "-vx $pid", "-vx $pid"), ("init", "-x $pid", ".")] {
        let pod = node.create_pod(&PodSpec::new("web").user(mapped())).expect("create a pod");
        let before = children();
        let kill = hook(&format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); group=$(sed -n 's/^0:://p' /proc/$pid/cgroup); \
             top=$(grep ' - cgroup2 ' /proc/self/mountinfo | head -n 1 | cut -d ' ' -f 5); \
             procs=$top$group/cgroup.procs; killed=$(grep {whom} $procs); gone=$(grep {gone} $procs); \
             kill -KILL $killed; \
             for one in $gone; do while grep -q 'State:.[^ZX]' /proc/$one/status 2>/dev/null; do :; done; done"
        ));
        let spec = with_machine(ContainerSpec::new("a", Rootfs::directory(root)).args(["/bin/true"]));
        let with = spec.clone().hooks(hooks(|hooks| hooks.create_runtime.push(kill)));
        let error = pod.create_container(&with).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::System, "{name}: {error}");
        assert!(error.to_string().contains("init ended early"), "{name}: {error}");
        assert_eq!(children(), before, "{name}");
        assert!(pod.run(&spec).expect("run").success());
        pod.remove().expect("remove the pod");
    }
    node.remove().expect("remove the node");
    println!("done");
}
