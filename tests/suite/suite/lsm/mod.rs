//! Mandatory access control, on machines that have it. Policies are compiled where they are used, by the programs that
//! distributions have for it: `apparmor_parser` and `secilc`.

mod apparmor;
mod mount_label;
mod ordinary;
mod selinux;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use libtest_mimic::Trial;
use pericarp::spec::{PidMode, Stdio};
use pericarp::{Container, ExecSpec, ExitStatus, PodSpec};

use crate::userns::mapped;

pub fn tests() -> Vec<Trial> {
    [apparmor::tests(), selinux::tests(), mount_label::tests(), ordinary::tests()]
        .into_iter()
        .flatten()
        .collect()
}

/// Where SELinux is on without a policy, loads that of the tests. Every mount's options show it then: to be done before
/// anybody compares them.
pub fn prepare() {
    let _lack = selinux::with_policy();
}

/// Commands for this program in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        // What the kernel says of this process in a file of /proc/self/attr.
        ["attribute", file] => println!("{}", attribute(&format!("/proc/self/attr/{file}"))),
        // The SELinux labels of files.
        ["labels", paths @ ..] => {
            for path in paths {
                println!("{path} {}", file_label(Path::new(path)).unwrap_or_else(|error| error.to_string()));
            }
        }
        // What comes of writing a file.
        ["write", paths @ ..] => {
            for path in paths {
                match fs::write(path, "written\n") {
                    Ok(()) => println!("{path} written"),
                    Err(error) => println!("{path} {}", error.raw_os_error().unwrap_or(-1)),
                }
            }
        }
        ["rootless", words @ ..] => return ordinary::payload(words),
        _ => return false,
    }
    true
}

/// Every kind of pod: with a PID namespace of its own, a user namespace, neither and both.
fn pods() -> [PodSpec; 4] {
    [
        PodSpec::new("own"),
        PodSpec::new("shared").pid(PidMode::Pod),
        PodSpec::new("mapped").user(mapped()),
        PodSpec::new("both").user(mapped()).pid(PidMode::Pod),
    ]
}

/// The text of such a file. SELinux ends it with a NUL, AppArmor with a line feed.
fn attribute(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    text.trim_end_matches(['\0', '\n']).to_string()
}

/// The SELinux label of a file.
fn file_label(path: &Path) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut value = [0_u8; 256];
    // SAFETY: both names are NUL-terminated, and the buffer is as long as is said.
    let size = unsafe {
        let name = c"security.selinux".as_ptr();
        libc::lgetxattr(path.as_ptr(), name, value.as_mut_ptr().cast(), value.len())
    };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    Ok(String::from_utf8_lossy(&value[..size]).trim_end_matches('\0').to_string())
}

/// What a program that is executed in a container writes, and how it ends.
fn exec_output(container: &Container, spec: ExecSpec) -> pericarp::Result<(ExitStatus, String)> {
    let process = container.exec(&spec.stdout(Stdio::Pipe))?;
    let text = io::read_to_string(process.take_stdout().expect("a pipe")).expect("read stdout");
    Ok((process.wait()?, text))
}

/// A program of the machine, also where an ordinary user's PATH does not lead.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}
