//! Nodes of ordinary users.
//!
//! The suite runs as root. Each test starts this program again as user [`USER`] without any privilege, which then does
//! what `rootless_user.rs` says under the name of the test, in a directory that is its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::{Outcome, PASS, skip};

crate::tests![
    a_pod_needs_no_privilege_and_leaves_nothing,
    files_belong_to_the_user,
    groups_cannot_be_changed,
    limits_without_a_cgroup_are_refused,
    what_takes_root_is_refused,
    a_directory_is_needed,
    root_inside_is_nobody_outside,
    a_pod_has_ipc_volumes_and_an_overlay,
    programs_and_terminals_work,
    the_program_stays_as_it_is,
    what_a_dead_program_left_is_ended,
    a_missing_newuidmap_is_named,
    ids_come_from_newuidmap,
    a_delegated_cgroup_is_used,
    stats_are_told_without_a_cgroup,
];

/// Nobody else's on machines that the suite runs on; root knows no name for it.
pub const USER: u32 = 31_000;
/// What files of `/etc` give to it in tests of newuidmap.
pub const SUBORDINATE: u32 = 700_000;

/// A directory of the user's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("make a temporary directory"));
        fs::create_dir(place.path("run")).expect("make a directory");
        for path in [place.0.path().to_path_buf(), place.path("run")] {
            chown(&path, Some(USER), Some(USER)).expect("give the directory away");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("make it private");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// This program with the words after `rootless`. It becomes the user when it is started.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(["payload", "rootless"]).args(words);
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("HERE", self.0.path()).current_dir("/");
        command
    }
}

/// Why ordinary users have no user namespaces here, if so.
fn lacks() -> Option<String> {
    for (file, value) in [("kernel/unprivileged_userns_clone", "0"), ("user/max_user_namespaces", "0")] {
        let path = Path::new("/proc/sys").join(file);
        if fs::read_to_string(&path).is_ok_and(|text| text.trim() == value) {
            return Some(format!(
                "{} is {value}: ordinary users cannot make user namespaces here",
                path.display()
            ));
        }
    }
    None
}

/// What a command still does as root comes before.
fn become_user(command: &mut Command) {
    let become_user = || {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(USER.into(), USER.into(), USER.into())?;
        nix::unistd::setresuid(USER.into(), USER.into(), USER.into())?;
        Ok(())
    };
    // SAFETY: three system calls, between fork and exec.
    unsafe { command.pre_exec(become_user) };
}

/// Runs a program as the user to its end, which must be good, and returns what it wrote.
fn finish(mut command: Command) -> Result<String, String> {
    become_user(&mut command);
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text.into_owned()) } else { Err(format!("{}: {text}", output.status)) }
}

/// A test that is all done by the user.
fn by_user(name: &str) -> Outcome {
    by_user_with(&[name])
}

/// The same with words of another module.
pub fn by_user_with(words: &[&str]) -> Outcome {
    by_user_with_place(words, |_| ())
}

/// The same in a directory that root has prepared.
pub fn by_user_with_place(words: &[&str], prepare: impl FnOnce(&Path)) -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    prepare(place.0.path());
    finish(place.command(words))?;
    let left: Vec<_> = fs::read_dir(place.path("run"))?.flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    PASS
}

/// A test that the user does in a user namespace with ids as newuidmap gives them: it makes the namespace and calls
/// [`wait_for_ids`], and root writes the maps.
pub fn by_user_with_ids(words: &[&str]) -> Outcome {
    by_user_with_ids_in(None, words)
}

/// The same in a delegated cgroup.
pub fn by_user_with_ids_in(cgroup: Option<&Delegated>, words: &[&str]) -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    let mut command = place.command(words);
    if let Some(cgroup) = cgroup {
        cgroup.enter(&mut command);
    }
    become_user(&mut command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut asked = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut asked)?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), format!("0 {USER} 1\n1 {SUBORDINATE} 65536\n"))?;
    }
    child.stdin.take().expect("a pipe").write_all(b"\n")?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {text}", output.status).into());
    }
    let left: Vec<_> = fs::read_dir(place.path("run"))?.flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    PASS
}

/// In the user namespace that was just made.
pub fn wait_for_ids() {
    io::stdout().write_all(b"\n").and_then(|()| io::stdout().flush()).expect("ask for ids");
    io::stdin().read_exact(&mut [0]).expect("wait for ids");
}

fn a_pod_needs_no_privilege_and_leaves_nothing() -> Outcome {
    by_user("pod")
}

/// Mutation: without `deny` written to `setgroups` (`node/mapping.rs`) the kernel refuses the map of groups, and no node
/// can be opened. Where `look_as` of init set groups all the same: "look at files as user 0, …: EPERM: in setgroups".
fn groups_cannot_be_changed() -> Outcome {
    by_user("groups")
}

fn limits_without_a_cgroup_are_refused() -> Outcome {
    by_user("limits")
}

/// Mutation: without `check_pid` in `container/create.rs` nothing but the missing cgroup keeps a container out of the PID
/// namespace of the machine, and that is what the error says; with one (`a_delegated_cgroup_is_used`) the kernel refuses its
/// proc, and a container without one would be made.
fn what_takes_root_is_refused() -> Outcome {
    by_user("refused")
}

fn a_directory_is_needed() -> Outcome {
    by_user("directory")
}

fn a_pod_has_ipc_volumes_and_an_overlay() -> Outcome {
    by_user("files")
}

fn programs_and_terminals_work() -> Outcome {
    by_user("exec")
}

fn the_program_stays_as_it_is() -> Outcome {
    by_user("guest")
}

fn files_belong_to_the_user() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    finish(place.command(&["owner"]))?;
    let stat = nix::sys::stat::stat(&place.path("made-inside"))?;
    assert_eq!((stat.st_uid, stat.st_gid), (USER, USER));
    PASS
}

/// Mutation: without `NODEV` of `rootfs_change` in `plan/build/ordinary.rs` the node in the root filesystem is opened,
/// and the container says so.
fn root_inside_is_nobody_outside() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    let secret = place.path("secret");
    fs::write(&secret, "of the machine's root")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    // What only root can have put into a directory of the user: permissions would let it through.
    let device = place.path("device");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&device, kind, nix::sys::stat::Mode::empty(), nix::sys::stat::makedev(1, 5))?;
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666))?;
    finish(place.command(&["root"]))?;
    assert_eq!(fs::read_to_string(&secret)?, "of the machine's root");
    PASS
}

fn start(mut command: Command) -> io::Result<(Child, i32)> {
    become_user(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line)?;
    let pid = line.trim().parse().unwrap_or_else(|_| panic!("the program said {line:?}"));
    Ok((child, pid))
}

fn what_a_dead_program_left_is_ended() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    let (mut child, pid) = start(place.command(&["stay"]))?;
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(!stat().is_empty(), "the container runs");
    child.kill()?;
    child.wait()?;
    let orphan = stat();
    assert!(!orphan.is_empty() && !orphan.contains(") Z "), "without a cgroup nothing ends it: {orphan}");
    finish(place.command(&["recover"]))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    // A zombie waits for whoever has adopted it.
    while !stat().is_empty() && !stat().contains(") Z ") {
        assert!(Instant::now() < deadline, "{}", stat());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(place.path("run"))?.count(), 0);
    PASS
}

/// Has a command see files of `/etc` in which the user has ids.
fn with_ids(place: &Place, command: &mut Command) -> io::Result<()> {
    let etc = place.path("etc");
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status()?;
    assert!(copied.success(), "copy /etc: {copied}");
    let append = |file: &str, line: String| {
        let path = etc.join(file);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, format!("{before}{line}\n"))
    };
    append("passwd", format!("ricarda:x:{USER}:{USER}::/:/bin/sh"))?;
    append("group", format!("ricarda:x:{USER}:"))?;
    append("subuid", format!("ricarda:{SUBORDINATE}:65536"))?;
    append("subgid", format!("ricarda:{SUBORDINATE}:65536"))?;
    let none = None::<&str>;
    let see = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&etc), "/etc", none, MsFlags::MS_BIND, none)?;
        Ok(())
    };
    // SAFETY: three system calls, between fork and exec.
    unsafe { command.pre_exec(see) };
    Ok(())
}

fn a_missing_newuidmap_is_named() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let place = Place::new();
    let mut command = place.command(&["missing"]);
    with_ids(&place, &mut command)?;
    finish(command)?;
    PASS
}

fn ids_come_from_newuidmap() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let there = |program: &str| ["/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !there("newuidmap") || !there("newgidmap") {
        return skip("no newuidmap and newgidmap in /usr/bin (Debian's package uidmap)");
    }
    let place = Place::new();
    let mut command = place.command(&["ids"]);
    with_ids(&place, &mut command)?;
    finish(command)?;
    let stat = nix::sys::stat::stat(&place.path("made-inside"))?;
    assert_eq!((stat.st_uid, stat.st_gid), (SUBORDINATE + 999, SUBORDINATE + 1999));
    PASS
}

/// A cgroup of the user's own: the program in one part of it, the pods in the other.
pub struct Delegated {
    own: PathBuf,
    pub has_pids: bool,
}

impl Delegated {
    /// As systemd delegates: the directory and these files. `None` where there is no cgroup v2 at its usual places.
    pub fn new(name: &str) -> io::Result<Option<Delegated>> {
        let there =
            |path: &&Path| ["cgroup.procs", "cgroup.controllers"].iter().all(|file| path.join(file).exists());
        let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let Some(top) = places.into_iter().map(Path::new).find(there) else { return Ok(None) };
        let own = top.join(format!("pericarp-suite-{}-{name}", std::process::id()));
        for path in [own.clone(), own.join("program"), own.join("pods")] {
            fs::create_dir(&path)?;
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(path.join(file), Some(USER), Some(USER))?;
            }
        }
        let controllers = fs::read_to_string(top.join("cgroup.subtree_control"))?;
        let has_pids = controllers.split_whitespace().any(|name| name == "pids");
        if has_pids {
            for path in [&own, &own.join("pods")] {
                fs::write(path.join("cgroup.subtree_control"), "+pids")?;
            }
        }
        Ok(Some(Delegated { own, has_pids }))
    }

    /// The path of the part for pods.
    pub fn pods(&self) -> String {
        self.own.join("pods").to_str().expect("a text").to_string()
    }

    /// Has a command be in the other one.
    pub fn enter(&self, command: &mut Command) {
        let procs = self.own.join("program/cgroup.procs");
        // SAFETY: opens and writes one file, between fork and exec.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
    }

    /// Removes all of it, which nobody may have left anything in.
    pub fn remove(self) -> io::Result<()> {
        [self.own.join("pods"), self.own.join("program"), self.own].iter().try_for_each(fs::remove_dir)
    }
}

pub const NO_CGROUP2: &str = "no cgroup v2 at its usual places";

fn a_delegated_cgroup_is_used() -> Outcome {
    if let Some(why) = lacks() {
        return skip(why);
    }
    let Some(cgroup) = Delegated::new("delegated")? else { return skip(NO_CGROUP2) };
    let place = Place::new();
    let mut command = place.command(&["cgroup", &cgroup.pods(), &cgroup.has_pids.to_string()]);
    cgroup.enter(&mut command);
    let result = finish(command);
    cgroup.remove().map_err(|error| format!("{error}, after {result:?}"))?;
    result?;
    PASS
}

/// The thread that asks for the counters of a pod's network is where the node's user namespace is: a plain library thread
/// was refused the pod's namespaces (EPERM).
fn stats_are_told_without_a_cgroup() -> Outcome {
    by_user("stats")
}
