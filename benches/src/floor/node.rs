//! What outlives a pod: the two private mount namespaces, the cgroup and root file system, and one standing pod.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use libc::{AT_FDCWD, c_int};

use super::container::{Container, Stack};
use super::pod::Pod;
use super::{devices, seccomp, sys};
use crate::contender::{Program, Result, Work};
use crate::full::DEVICE_NUMBER;
use crate::workspace::Place;

/// An errno with the name of the step that met it.
pub fn step<T>(name: &'static str, answer: std::result::Result<T, c_int>) -> Result<T> {
    answer.map_err(|errno| format!("{name}: {}", std::io::Error::from_raw_os_error(errno)).into())
}

pub struct Node {
    pub proc: OwnedFd,
    pub rootfs: OwnedFd,
    pub cgroup: OwnedFd,
    pub host: OwnedFd,
    /// Pods' namespaces and mounts are attached here, below /pods.
    pub pins: OwnedFd,
    /// A tmpfs root with the directory /root, nothing else; where this thread sits between calls.
    pub template: OwnedFd,
    pub filter: Vec<libc::sock_filter>,
    /// Which devices containers may use that ask for no others.
    pub guard: OwnedFd,
    pub guard_of_full: OwnedFd,
    pub stack: Stack,
    standing: Option<Pod>,
    made: Cell<u32>,
}

impl Node {
    /// To be called on the thread that will use the node: the thread moves to the template namespace.
    pub fn open(place: &Place) -> Result<Node> {
        let path = |path: &std::path::Path| CString::new(path.as_os_str().as_bytes());
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        let scratch = path(&place.scratch)?;
        let open = |name, path: &CStr| step(name, sys::openat(AT_FDCWD, path, directory, 0));
        let proc = open("open /proc", c"/proc")?;
        let rootfs = open("open the root file system", &path(&place.rootfs)?)?;
        let cgroup = open("open the cgroup", &path(&place.cgroup)?)?;
        step("unshare the working directory", sys::unshare(libc::CLONE_FS))?;
        let host = namespace(proc.as_raw_fd(), c"thread-self/ns/mnt")?;
        let pins = private_namespace(proc.as_raw_fd(), &scratch, c"pods")?;
        step("return to the host's mounts", sys::setns(host.as_raw_fd(), libc::CLONE_NEWNS))?;
        let template = private_namespace(proc.as_raw_fd(), &scratch, c"root")?;
        let (filter, stack) = (seccomp::program(), Stack::new()?);
        let load = |more| step("load a program that guards devices", devices::load(more));
        let (guard, guard_of_full) = (load(None)?, load(Some(DEVICE_NUMBER))?);
        let mut node = Node {
            proc,
            rootfs,
            cgroup,
            host,
            pins,
            template,
            filter,
            guard,
            guard_of_full,
            stack,
            standing: None,
            made: Cell::new(0),
        };
        node.standing = Some(Pod::create(&node, c"standing")?);
        Ok(node)
    }

    pub fn run(&self, work: Work) -> Result<()> {
        match work {
            Work::Container { program } => {
                let name = self.fresh();
                let pod = self.standing.as_ref().ok_or("the standing pod is gone")?;
                Container { node: self, pod, name: &name, program }.run(
                    path_of(program),
                    &[argument_of(program)],
                    None,
                )
            }
            // Both kinds of pod are the same work here: the floor keeps no state on disk.
            Work::Pod { life: _, members, program } => {
                let pod = Pod::create(self, &self.fresh())?;
                let mut result = Ok(());
                for _ in 0..members {
                    let name = self.fresh();
                    let container = Container { node: self, pod: &pod, name: &name, program };
                    result = result.and(container.run(path_of(program), &[argument_of(program)], None));
                }
                result.and(pod.remove(self))
            }
        }
    }

    /// Runs a shell script in a container of the standing pod and returns what it wrote.
    pub fn shell(&self, program: Program, script: CString) -> Result<String> {
        // SAFETY: the name is a C string; the descriptor is new and ours.
        let fd = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: as above.
        let mut output = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let name = self.fresh();
        let pod = self.standing.as_ref().ok_or("the standing pod is gone")?;
        let container = Container { node: self, pod, name: &name, program };
        container.run(c"/bin/busybox", &[c"sh", c"-c", &script], Some(output.as_raw_fd()))?;
        let mut text = String::new();
        output.rewind()?;
        output.read_to_string(&mut text)?;
        Ok(text)
    }

    fn fresh(&self) -> CString {
        self.made.set(self.made.get() + 1);
        CString::new(format!("n{}", self.made.get())).expect("a number has no null byte")
    }

    pub fn enter(&self, namespace: &OwnedFd) -> Result<usize> {
        step("enter a mount namespace", sys::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pod) = self.standing.take()
            && let Err(error) = pod.remove(self)
        {
            eprintln!("floor: the standing pod was not removed: {error}");
        }
    }
}

fn path_of(program: Program) -> &'static CStr {
    match program {
        Program::Tiny | Program::Unfiltered => c"/bin/tiny",
        Program::Busybox | Program::Full => c"/bin/busybox",
    }
}

fn argument_of(program: Program) -> &'static CStr {
    match program {
        Program::Tiny | Program::Unfiltered => c"tiny",
        Program::Busybox | Program::Full => c"true",
    }
}

pub fn namespace(proc: RawFd, path: &CStr) -> Result<OwnedFd> {
    step("open a namespace", sys::openat(proc, path, libc::O_RDONLY, 0))
}

/// A mount namespace whose only mount is a tmpfs with one directory; the thread is left inside.
fn private_namespace(proc: RawFd, scratch: &CStr, directory: &CStr) -> Result<OwnedFd> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    step("unshare the mounts", sys::unshare(libc::CLONE_NEWNS))?;
    step("make / private", sys::mount(c"", c"/", c"", private, c""))?;
    step("mount a tmpfs", sys::mount(c"root", scratch, c"tmpfs", 0, c"mode=700"))?;
    step("enter it", sys::chdir(scratch))?;
    step("make a directory", sys::mkdirat(AT_FDCWD, directory, 0o700))?;
    step("pivot_root", sys::pivot_root(c".", c"."))?;
    step("detach the host's mounts", sys::umount2(c".", libc::MNT_DETACH))?;
    step("enter the new root", sys::chdir(c"/"))?;
    namespace(proc, c"thread-self/ns/mnt")
}
