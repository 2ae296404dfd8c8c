//! crun and runc as programs.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Files;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Crun,
    Runc,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Name::Crun => "crun",
            Name::Runc => "runc",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// The first line of `--version`: `crun version 1.8.1`, `runc version 1.1.5+ds1`.
    fn parse(line: &str) -> Option<Version> {
        let word = line.split_whitespace().nth(2)?;
        let mut numbers = word.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        let first = numbers.next()??;
        Some(Version(first, numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0)))
    }
}

/// A runtime that is installed.
pub struct Runtime {
    pub name: Name,
    pub version: Version,
    program: PathBuf,
}

/// Both runtimes, or which of them is missing.
pub fn find() -> Result<Vec<Runtime>, String> {
    [Name::Crun, Name::Runc].into_iter().map(Runtime::find).collect()
}

impl Runtime {
    fn find(name: Name) -> Result<Runtime, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|place| place.join(name.to_string()));
        let program = program.into_iter().find(|program| program.is_file());
        let program = program.ok_or_else(|| {
            format!("{name} is not here: install it, and copy it into the guest as `cargo xtask test` does")
        })?;
        let output = Command::new(&program).arg("--version").output().expect("run a runtime");
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().and_then(Version::parse);
        Ok(Runtime { name, version: version.unwrap_or_else(|| panic!("{name} says {text:?}")), program })
    }

    /// Creates a container, without starting it, looks at it, and deletes it.
    pub fn create(&self, bundle: &Path, state: &Path, look: impl FnOnce() -> Files) -> Result<Files, String> {
        let says = bundle.join("says");
        // To a file: the container's process has it too, and would keep a pipe open.
        let file = File::create(&says).expect("make a file");
        let run = |words: &[&str], file: &File| {
            let output = || Stdio::from(file.try_clone().expect("dup"));
            let mut command = Command::new(&self.program);
            command.arg("--root").arg(state).args(words).stdin(Stdio::null());
            command.stdout(output()).stderr(output()).status().expect("run a runtime")
        };
        let bundle = bundle.to_str().expect("UTF-8");
        if !run(&["create", "--bundle", bundle, "differential"], &file).success() {
            return Err(fs::read_to_string(&says).expect("read what it says"));
        }
        let files = look();
        let deleted = run(&["delete", "--force", "differential"], &file);
        assert!(
            deleted.success(),
            "{}: {}",
            self.name,
            fs::read_to_string(&says).expect("read what it says")
        );
        Ok(files)
    }
}
