//! The command-line runtimes that are installed, each operation as the processes that a user would start.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contender::{Contender, Life, Program, Result, Work};
use crate::floor::seccomp;
use crate::oci::{self, Namespaces};
use crate::workspace::{Workspace, cgroup2, is_cgroup2};

const RUNTIMES: [&str; 3] = ["crun", "runc", "youki"];
const BWRAP: &str = "bwrap";
/// youki's `run` can lose a SIGCHLD and then waits for ever.
const PATIENCE_MS: i32 = 5_000;

/// Names of peers that are not on PATH.
pub fn missing() -> Vec<&'static str> {
    RUNTIMES.into_iter().chain([BWRAP]).filter(|name| find(name).is_none()).collect()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Gives this process mounts of its own in which /sys/fs/cgroup is cgroup2, as the runtimes expect it to be, and makes
/// it the parent of their orphans. To be called before anything else, with a single thread.
pub fn prepare_process() -> Result<()> {
    let hierarchy = cgroup2()?;
    let check = |answer: libc::c_int| match answer {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: no pointers; other threads, which would keep their mounts, do not exist yet.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (null, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: the target is a static C string; the rest is not used when propagation is changed.
    check(unsafe { libc::mount(null, c"/".as_ptr(), null, private, null.cast()) })?;
    if !is_cgroup2(Path::new("/sys/fs/cgroup")) {
        let source = std::ffi::CString::new(hierarchy.as_os_str().as_encoded_bytes())?;
        let target = c"/sys/fs/cgroup".as_ptr();
        // SAFETY: both paths are C strings that outlive the call.
        check(unsafe { libc::mount(source.as_ptr(), target, null, libc::MS_BIND, null.cast()) })?;
    }
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) })?;
    Ok(())
}

/// All that are installed.
pub fn open(workspace: &Workspace) -> Result<Vec<Box<dyn Contender>>> {
    let mut peers: Vec<Box<dyn Contender>> = Vec::new();
    for name in RUNTIMES {
        if let Some(path) = find(name) {
            peers.push(Box::new(Runtime::new(name, path, workspace)?));
        }
    }
    if let Some(path) = find(BWRAP) {
        peers.push(Box::new(Bwrap::new(path, workspace)?));
    }
    Ok(peers)
}

/// The name with what `--version` says on its first line.
fn title(name: &str, path: &Path) -> String {
    let output = Command::new(path).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let version = text.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or("?");
    format!("{name} {version}")
}

fn memory_file(name: &CStr, flags: libc::c_uint) -> Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn run<S: AsRef<OsStr>>(path: &Path, arguments: impl IntoIterator<Item = S>) -> Result<()> {
    // Not a pipe: what a detached container still holds would never come to its end.
    let mut stderr = memory_file(c"stderr", libc::MFD_CLOEXEC)?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let pid = child.id() as libc::pid_t;
    // SAFETY: no pointers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
    let mut ready = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, ours.
    if unsafe { libc::poll(&mut ready, 1, PATIENCE_MS) } == 0 {
        child.kill()?;
        child.wait()?;
        return Err(format!("{command:?} hung").into());
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let mut why = String::new();
    stderr.rewind()?;
    stderr.read_to_string(&mut why)?;
    Err(format!("{command:?}: status {:x}: {why}", status.into_raw()).into())
}

/// Waits for what the commands have left to us, such as bwrap's monitor and the pausing process of a deleted pod: an
/// operation ends when nothing is left, and its processor time is counted when it is awaited.
fn reap_orphans() {
    // SAFETY: the status is not asked for. No other code of this process has children at this moment.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
}

/// An OCI runtime.
struct Runtime {
    title: String,
    path: PathBuf,
    state: PathBuf,
    tiny: PathBuf,
    busybox: PathBuf,
    pause: PathBuf,
    member: PathBuf,
    member_configuration: [String; 2],
    pid_file: PathBuf,
    made: u32,
}

impl Runtime {
    fn new(name: &str, path: PathBuf, workspace: &Workspace) -> Result<Runtime> {
        let place = workspace.place(name)?;
        let at = |bundle: &str| place.scratch.join(bundle);
        let cgroup = |bundle: &str| -> Result<PathBuf> {
            Ok(Path::new("/").join(place.cgroup.strip_prefix(cgroup2()?)?).join(bundle))
        };
        let bundle = |bundle: &str, args: &[&str]| -> Result<PathBuf> {
            let configuration = oci::configuration(&place.rootfs, args, &Namespaces::New, &cgroup(bundle)?);
            oci::write(at(bundle), &configuration)
        };
        let member = |args: &[&str]| -> Result<String> {
            Ok(oci::configuration(&place.rootfs, args, &Namespaces::Joined, &cgroup("member")?))
        };
        Ok(Runtime {
            title: title(name, &path),
            path,
            state: at("state"),
            tiny: bundle("tiny", &["/bin/tiny"])?,
            busybox: bundle("busybox", &["/bin/true"])?,
            pause: bundle("pause", &["/bin/sleep", "100000"])?,
            member: at("member"),
            member_configuration: [member(&["/bin/tiny"])?, member(&["/bin/true"])?],
            pid_file: at("pid"),
            made: 0,
        })
    }

    fn command(&self, arguments: &[&OsStr]) -> Result<()> {
        run(&self.path, [OsStr::new("--root"), self.state.as_os_str()].iter().chain(arguments))
    }

    fn id(&mut self) -> String {
        self.made += 1;
        format!("b{}-{}", std::process::id(), self.made)
    }

    fn run_bundle(&mut self, bundle: &Path) -> Result<()> {
        let id = self.id();
        self.command(&["run".as_ref(), "--bundle".as_ref(), bundle.as_ref(), id.as_ref()])
    }

    fn members(&mut self, pid: &str, members: u32, program: Program) -> Result<()> {
        let configuration = &self.member_configuration[usize::from(program == Program::Busybox)];
        let configuration = configuration.replace(oci::PID, pid);
        let bundle = oci::write(self.member.clone(), &configuration)?;
        (0..members).try_for_each(|_| self.run_bundle(&bundle))
    }
}

impl Contender for Runtime {
    fn name(&self) -> &str {
        &self.title
    }

    /// One container, or a pod with a pausing process and members; containers of a standing pod would be the same
    /// command as the former.
    fn does(&self, work: Work) -> bool {
        matches!(work, Work::Pod { life: Life::Durable, members: 1.., .. })
    }

    fn pod(&mut self, _life: Life, members: u32, program: Program) -> Result<()> {
        if members == 1 {
            let bundle = if program == Program::Tiny { self.tiny.clone() } else { self.busybox.clone() };
            self.run_bundle(&bundle)?;
            reap_orphans();
            return Ok(());
        }
        let id = self.id();
        let (bundle, pid_file) = (self.pause.clone(), self.pid_file.clone());
        let detached: [&OsStr; 7] = [
            "run".as_ref(),
            "--detach".as_ref(),
            "--bundle".as_ref(),
            bundle.as_ref(),
            "--pid-file".as_ref(),
            pid_file.as_ref(),
            id.as_ref(),
        ];
        self.command(&detached)?;
        let pid = fs::read_to_string(&self.pid_file)?.trim().to_owned();
        let result = self.members(&pid, members, program);
        self.command(&["delete".as_ref(), "--force".as_ref(), id.as_ref()])?;
        result?;
        reap_orphans();
        Ok(())
    }

    fn container(&mut self, _program: Program) -> Result<()> {
        Err("not comparable".into())
    }
}

/// bubblewrap: no cgroup of its own and no limits, but the same namespaces, capabilities and filter.
struct Bwrap {
    title: String,
    path: PathBuf,
    rootfs: PathBuf,
    filter: File,
}

impl Bwrap {
    fn new(path: PathBuf, workspace: &Workspace) -> Result<Bwrap> {
        // The program inherits it.
        let mut filter = memory_file(c"filter", 0)?;
        filter.write_all(&seccomp::bytes())?;
        Ok(Bwrap { title: title(BWRAP, &path), path, rootfs: workspace.rootfs(), filter })
    }
}

impl Contender for Bwrap {
    fn name(&self) -> &str {
        &self.title
    }

    fn does(&self, work: Work) -> bool {
        matches!(work, Work::Pod { life: Life::Durable, members: 1, .. })
    }

    fn pod(&mut self, _life: Life, _members: u32, program: Program) -> Result<()> {
        self.filter.rewind()?;
        let rootfs = self.rootfs.to_string_lossy();
        let filter = self.filter.as_raw_fd().to_string();
        let mut arguments = vec!["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"];
        arguments.extend([
            "--unshare-cgroup",
            "--hostname",
            "pod",
            "--bind",
            &rootfs,
            "/",
            "--proc",
            "/proc",
        ]);
        arguments.extend(["--dev", "/dev", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys"]);
        arguments.extend(["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN", "--cap-add", "CAP_SETUID"]);
        arguments.extend(["--seccomp", &filter]);
        arguments.push(if program == Program::Tiny { "/bin/tiny" } else { "/bin/true" });
        run(&self.path, arguments)?;
        reap_orphans();
        Ok(())
    }

    fn container(&mut self, _program: Program) -> Result<()> {
        Err("not comparable".into())
    }
}
