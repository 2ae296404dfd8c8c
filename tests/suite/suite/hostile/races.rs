//! Races: somebody exchanges directories for links, and for other directories, while containers are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pericarp::spec::{Capabilities, Capability, Device, SeccompProfile, Security, Stdio, VolumeSource};
use pericarp::{Container, ContainerSpec, ContainerStatus, ExecSpec, Mount, Pod, PodSpec, Rootfs, Volume};

use super::swap::{Swapper, covers, host_mounts, listing, rounds, table};
use crate::robust::tiny;
use crate::support::fixture::payload as inside;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    links_swapped_in_lead_nothing_out_of_the_root,
    links_swapped_into_a_layer_lead_nothing_into_another,
    masks_stay_on_a_proc_that_is_swapped_away,
    a_swapped_sub_path_never_leads_out_of_its_volume,
    containers_of_one_root_make_the_same_mount_points,
    a_swapped_dev_changes_no_terminal,
    a_working_directory_swapped_for_a_file_of_init_is_not_entered,
    entering_a_container_that_swaps_its_root_stays_inside,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    let ["hostile-swap-root"] = words else { return false };
    swap_root()
}

/// Makes containers while names are exchanged, looks at each that could be made, and returns why others could not.
fn race(
    pod: &Pod,
    pairs: Vec<(PathBuf, PathBuf)>,
    count: usize,
    spec: impl Fn(usize) -> ContainerSpec,
    look: impl Fn(&Container),
) -> BTreeMap<String, u32> {
    let swapper = Swapper::new(pairs);
    let (mut made, mut refused) = (0, BTreeMap::<String, u32>::new());
    for round in 0..count {
        match pod.create_container(&spec(round)) {
            Ok(container) => {
                swapper.paused(|| look(&container));
                container.remove().expect("remove a container");
                made += 1;
            }
            // Without the step, which has the number of the round.
            Err(error) => {
                let errno = nix::errno::Errno::from_raw(error.errno().unwrap_or(0));
                *refused.entry(format!("{errno:?}")).or_default() += 1;
            }
        }
    }
    let swaps = swapper.swaps();
    eprintln!("hostile: {made} containers made, {refused:?} refused, {swaps} exchanges");
    assert!(made > 0 && swaps > 0);
    refused
}

/// `a`, and links with which it is exchanged in turn.
fn links(directory: &Path, targets: &[String]) -> Vec<(PathBuf, PathBuf)> {
    let links = targets.iter().enumerate().map(|(i, target)| {
        let link = directory.join(format!("link{i}"));
        symlink(target, &link).expect("make a link");
        (directory.join("a"), link)
    });
    links.collect()
}

/// A container that needs `a` for mounts, masks, read-only paths, nodes and its working directory, all of them made
/// anew; the directories of the host that it is given come last, so that init holds them while it does all of that.
fn everything_below_a(spec: ContainerSpec, round: usize, sentinel: &Path) -> ContainerSpec {
    let at = |name: &str| format!("/a/{round}/{name}");
    let mut spec = spec
        .mount(Mount::tmpfs(at("tmpfs/deep"), 4096))
        // What there is in /proc/self as well.
        .mount(Mount::tmpfs("/a/attr", 4096))
        .mount(Mount::bind(sentinel.join("file"), at("file/deep")).readonly(true))
        .mount(Mount::bind(sentinel.join("directory"), at("directory")).readonly(true))
        .device(Device::char(at("node/deep"), 1, 3))
        .cwd(at("cwd/deep"))
        .mount(Mount::bind(sentinel, "/sentinel").readonly(true))
        .mount(Mount::bind(sentinel, "/again"));
    spec.security.masked_paths.extend(["/a/mask".into(), "/a/mask-file".into()]);
    spec.security.readonly_paths.push("/a/readonly".into());
    spec
}

fn furnish_a(a: &Path) {
    for name in ["attr", "mask", "readonly"] {
        fs::create_dir_all(a.join(name)).expect("make a directory");
    }
    fs::write(a.join("mask-file"), "").expect("make a file");
}

fn make_sentinel(path: &Path) {
    for name in ["directory", "mask", "readonly"] {
        fs::create_dir_all(path.join(name)).expect("make a directory");
    }
    for name in ["file", "mask-file"] {
        fs::write(path.join(name), "of the host\n").expect("make a file");
    }
}

/// Paths below a directory that is exchanged for links: out of the root, into /proc, and to the very files that init has
/// open.
///
/// With paths resolved from the root's directory, without `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS` in
/// `src/init/fs.rs`, directories were made in the sentinel. One of the two is enough against that.
fn links_swapped_in_lead_nothing_out_of_the_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, sentinel) = (fixture.path("root"), fixture.path("sentinel"));
    tiny::make_rootfs(&root);
    furnish_a(&root.join("a"));
    make_sentinel(&sentinel);
    let spec = |round| everything_below_a(tiny::container("a", &root, "pause"), round, &sentinel);
    // Undisturbed.
    let container = pod.create_container(&spec(0))?;
    let expected = covers(container.pid());
    container.remove()?;
    assert!(expected.len() > 4, "{expected:?}");
    let absolute = sentinel.display().to_string();
    let mut targets = vec![
        absolute.clone(),
        format!("../../../../../../../../..{absolute}"),
        "/proc".into(),
        "/proc/self".into(),
        "/proc/self/attr".into(),
        "/proc/1/root/proc/sys".into(),
        "/sys/fs/cgroup".into(),
        "/dev".into(),
        "..".into(),
    ];
    // What init has open: the sources of mounts among them.
    targets.extend((5..30).map(|fd| format!("proc/self/fd/{fd}")));
    let pairs = links(&root, &targets);
    let (before, mounts) = (listing(&sentinel), host_mounts(&sentinel));
    race(
        &pod,
        pairs,
        rounds(2000),
        |round| spec(round + 1),
        |container| {
            assert_eq!(covers(container.pid()), expected);
            let cwd = fs::read_link(format!("/proc/{}/cwd", container.pid())).expect("a working directory");
            assert!(!cwd.starts_with(&sentinel), "{cwd:?}");
        },
    );
    assert_eq!(listing(&sentinel), before);
    assert_eq!(host_mounts(&sentinel), mounts);
    PASS
}

/// The layers of an overlay are the one thing of the host that init can reach by a path, and writable there.
///
/// With `open_in_root` of `src/init/fs.rs` resolving without `RESOLVE_IN_ROOT`, and absolute paths from the root's
/// directory, mount points and a node of the container were made in the other layer, `102/cwd/deep` among them.
fn links_swapped_into_a_layer_lead_nothing_into_another() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (evil, layer, sentinel) = (fixture.path("evil"), fixture.path("layer"), fixture.path("sentinel"));
    tiny::make_rootfs(&evil);
    furnish_a(&evil.join("a"));
    make_sentinel(&layer);
    make_sentinel(&sentinel);
    let spec = |round| {
        let spec = ContainerSpec::new("a", Rootfs::overlay([&evil, &layer])).args(["/pause"]);
        everything_below_a(spec, round, &sentinel)
    };
    let container = pod.create_container(&spec(0))?;
    let expected = covers(container.pid());
    container.remove()?;
    // Where init has attached the layers meanwhile: directories of the host, and writable.
    let targets =
        ["/layers/1", "/layers/0", "../layers/1", "/upper/upper", "/proc/self/attr"].map(String::from);
    let pairs = links(&evil, &targets);
    let before = (listing(&layer), listing(&sentinel));
    race(
        &pod,
        pairs,
        rounds(250),
        |round| spec(round + 1),
        |container| {
            assert_eq!(covers(container.pid()), expected);
        },
    );
    assert_eq!((listing(&layer), listing(&sentinel)), before);
    PASS
}

/// Two containers that have one directory as their root: one exchanges what the proc of the other is mounted on.
///
/// With masks and read-only paths found by their paths in the root, and not in the proc that was mounted (`place` in
/// `src/container/plan/build/mounts.rs`), containers were made whose proc had neither, /proc/sys was writable.
fn masks_stay_on_a_proc_that_is_swapped_away() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = fixture.path("root");
    tiny::make_rootfs(&root);
    for name in ["proc", "proc.other", "sys", "sys.other"] {
        fs::create_dir(root.join(name))?;
    }
    let spec = || tiny::container("a", &root, "pause");
    let container = pod.create_container(&spec())?;
    let expected = covers(container.pid());
    container.remove()?;
    assert!(expected.iter().any(|cover| cover.starts_with("proc/sys proc /sys ro")), "{expected:?}");
    let pairs = ["proc", "sys"].map(|name| (root.join(name), root.join(format!("{name}.other"))));
    race(
        &pod,
        pairs.into(),
        rounds(400),
        |_| spec(),
        |container| {
            assert_eq!(covers(container.pid()), expected);
        },
    );
    PASS
}

/// With no rules in `open_volume` of `src/container/source/files.rs` the container had the volume of another pod: "outside".
fn a_swapped_sub_path_never_leads_out_of_its_volume() -> Outcome {
    let fixture = Fixture::new();
    let (root, source) = (fixture.path("root"), fixture.path("source"));
    tiny::make_rootfs(&root);
    fs::create_dir_all(source.join("a/deep"))?;
    fs::write(source.join("a/deep/marker"), "inside")?;
    // Volumes are opened where those of all pods are, and in no mount namespace of the host's.
    let mut other = Volume::tmpfs("data", 0);
    other.source = VolumeSource::Directory { path: fixture.path("outside") };
    fs::create_dir_all(fixture.path("outside/deep"))?;
    fs::write(fixture.path("outside/deep/marker"), "outside")?;
    let other = fixture.node.create_pod(&PodSpec::new("other").volume(other))?;
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::directory("data", &source)))?;
    let volume = format!("pods/{}/volume-data", other.id());
    let targets = [
        fixture.path("outside").display().to_string(),
        format!("/{volume}"),
        format!("../../../{volume}"),
        format!("../../{}/volume-data", other.id()),
        "..".to_string(),
    ];
    let pairs = links(&source, &targets);
    let spec = |_| tiny::container("a", &root, "pause").mount(Mount::volume_sub_path("data", "a/deep", "/v"));
    race(&pod, pairs, rounds(250), spec, |container| {
        let marker = fs::read_to_string(format!("/proc/{}/root/v/marker", container.pid()));
        assert_eq!(marker.expect("the marker"), "inside");
    });
    PASS
}

/// With no second look after `EEXIST` in `src/init/fs.rs` (`MAX_RACES` 0): "make the working directory /x/2/cwd/deep: EEXIST".
fn containers_of_one_root_make_the_same_mount_points() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, source) = (fixture.path("root"), fixture.path("source"));
    tiny::make_rootfs(&root);
    make_sentinel(&source);
    let rounds = rounds(75);
    let ready = std::sync::Barrier::new(4);
    // A thread that panicked would leave the others waiting.
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let (pod, root, source, ready, failures) = (&pod, &root, &source, &ready, &failures);
            scope.spawn(move || {
                for round in 0..rounds {
                    let spec = tiny::container(name, root, "exit")
                        .mount(Mount::bind(source.join("file"), format!("/x/{round}/y/z/file")))
                        .mount(Mount::bind(source, format!("/x/{round}/y/directory")))
                        .cwd(format!("/x/{round}/cwd/deep"));
                    ready.wait();
                    match pod.run(&spec) {
                        Ok(status) if status.success() => {}
                        other => failures.lock().expect("nobody panics with it").push(format!("{other:?}")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    assert!(failures.is_empty(), "{} of {}: {:?}", failures.len(), 4 * rounds, failures.first());
    PASS
}

/// With the other side of the terminal opened at `/dev/pts/0`, and no look at it (`src/init/terminal.rs`), containers were
/// refused with ENOTTY, since the file that somebody else had put there became their terminal.
fn a_swapped_dev_changes_no_terminal() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = fixture.path("root");
    tiny::make_rootfs(&root);
    fs::create_dir(root.join("dev"))?;
    fs::create_dir_all(root.join("dev.other/pts"))?;
    for name in ["console", "pts/0", "pts/ptmx", "null"] {
        fs::write(root.join("dev.other").join(name), "fake")?;
    }
    let pairs = vec![(root.join("dev"), root.join("dev.other"))];
    let spec = |_| tiny::container("a", &root, "pause").terminal(true);
    let refused = race(&pod, pairs, rounds(250), spec, |container| {
        let terminal = container.take_terminal().expect("a terminal");
        assert_eq!(terminal.name().expect("its name"), "/dev/pts/0");
        for fd in 0..3 {
            let stream = fs::metadata(format!("/proc/{}/fd/{fd}", container.pid())).expect("a stream");
            assert_eq!(stream.rdev(), libc::makedev(136, 0));
        }
        for line in table(container.pid()).iter().filter(|line| line.point.ends_with("/console")) {
            assert_eq!((line.fstype.as_str(), line.root.as_str()), ("devpts", "/0"));
        }
    });
    // Nor was a file of the container's taken for a terminal and found out later.
    assert!(!refused.contains_key("ENOTTY"), "{refused:?}");
    for name in ["console", "pts/0", "pts/ptmx", "null"] {
        let file = ["dev", "dev.other"].map(|dev| fs::read_to_string(root.join(dev).join(name)));
        assert!(file.iter().flatten().any(|content| content == "fake"), "{name}: {file:?}");
    }
    PASS
}

/// The directory is made and found without links. Then somebody puts a link in its place that leads to what init has
/// open, the library's proc of the host among it (CVE-2024-21626).
///
/// With no getcwd(2) in `chdir` of `src/init/fs.rs` that proc was the working directory of a container.
fn a_working_directory_swapped_for_a_file_of_init_is_not_entered() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = fixture.path("root");
    tiny::make_rootfs(&root);
    fs::create_dir(root.join("a"))?;
    let spec = |_| {
        let mut spec = tiny::container("a", &root, "pause").cwd("/a").oom_score_adj(900);
        // They are of the template, which is no filesystem of the container otherwise.
        spec.security.masked_paths.clear();
        spec
    };
    // The numbers that init's files have: those of this program, about the same each time.
    let container = pod.create_container(&spec(0))?;
    let numbers = fs::read_dir(format!("/proc/{}/fd", container.pid()))?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let numbers: BTreeSet<u32> = numbers.filter(|number| *number > 2).flat_map(|at| at..at + 3).collect();
    container.remove()?;
    let targets: Vec<String> = numbers.iter().map(|number| format!("/proc/self/fd/{number}")).collect();
    race(&pod, links(&root, &targets), rounds(600), spec, |container| {
        let cwd = fs::metadata(format!("/proc/{}/cwd", container.pid())).expect("the working directory");
        let device = format!("{}:{}", libc::major(cwd.dev()), libc::minor(cwd.dev()));
        let own = table(container.pid());
        assert!(
            own.iter().any(|line| line.device == device),
            "{device} is no filesystem of the container: {cwd:?}"
        );
    });
    PASS
}

/// In a container that may mount: goes to another root and back, and hides and shows its `/proc`.
fn swap_root() -> ! {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::unistd::{chdir, pivot_root};
    let none = None::<&str>;
    fs::create_dir("/other").expect("make a directory");
    fs::create_dir("/old").expect("make a directory");
    mount(Some("/"), "/other", none, MsFlags::MS_BIND, none).expect("bind");
    // What is mounted in the first root has to be in the second one as well.
    for directory in ["proc", "dev", "payload"] {
        let (from, to) = (format!("/{directory}"), format!("/other/{directory}"));
        mount(Some(from.as_str()), to.as_str(), none, MsFlags::MS_BIND, none).expect("bind");
    }
    println!("swapping");
    let pivot = |root: &str, old: &str| {
        chdir(root).expect("change the directory");
        pivot_root(".", old).expect("change the root");
        chdir("/").expect("change the directory");
    };
    loop {
        mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), none).expect("hide /proc");
        pivot("/other", "old");
        umount2("/old/proc", MntFlags::MNT_DETACH).expect("show /proc");
        pivot("/old", "other");
    }
}

/// Who enters is always in the container, with nothing of the host, whatever root and `/proc` it has at that moment: no
/// path of it is used before all of its namespaces were joined. (What each protection on the way is for is seen in
/// `entering` and `terminal`.) Without joining the mount namespace (`launch` in `src/container/exec.rs`) and without the look at
/// the root (`join` in `src/init/enter.rs`): 0 times entered, since the template has neither program nor directory.
fn entering_a_container_that_swaps_its_root_stays_inside() -> Outcome {
    use std::io::BufRead;
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let capabilities = Capabilities::default().with(Capability::CAP_SYS_ADMIN);
    let spec = inside("a", &["hostile-swap-root"])
        .stdout(Stdio::Pipe)
        .security(Security::default().capabilities(capabilities).seccomp(SeccompProfile::Unconfined));
    let container = pod.create_container(&spec)?;
    container.start()?;
    let mut lines = std::io::BufReader::new(container.take_stdout().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line")?, "swapping");
    let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let device = |pid: i32, name: &str| fs::metadata(format!("/proc/{pid}/{name}")).map(|file| file.dev());
    // The overlay of the container, by either root.
    let own = device(container.pid(), "root")?;
    let (mut entered, mut refused) = (0, BTreeMap::<String, u32>::new());
    for round in 0..rounds(100) {
        let cwd = ["/", "/other", "/proc/self/root", "/tmp"][round % 4];
        let spec = ExecSpec::new(["/payload", "payload", "sleep"]).cwd(cwd);
        match container.exec(&spec) {
            Ok(process) => {
                let pid = process.pid();
                for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
                    assert_eq!(namespace(pid, kind)?, namespace(container.pid(), kind)?, "{kind}");
                }
                assert_eq!((device(pid, "root")?, device(pid, "cwd")?), (own, own));
                for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
                    // The program, and what its dynamic linker opens, at the moment.
                    let Ok(text) = fs::read_to_string(file.path()) else { continue };
                    let mount =
                        text.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default();
                    let number: u32 = file.file_name().to_string_lossy().parse()?;
                    // Its mounts come and go out of reach with its root.
                    let mut tables = (0..1000).map(|_| table(container.pid()));
                    let mut of_container =
                        || tables.any(|all| all.iter().any(|line| line.id == mount.trim()));
                    assert!(number < 3 || of_container(), "{number}: {text}");
                }
                process.kill()?;
                process.wait()?;
                entered += 1;
            }
            Err(error) => {
                *refused.entry(error.to_string()).or_default() += 1;
            }
        }
    }
    eprintln!("hostile: {entered} times entered, {refused:?} refused");
    assert!(entered > 0);
    assert_eq!(container.status()?, ContainerStatus::Running);
    PASS
}
