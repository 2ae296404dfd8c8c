//! Cargo, and the test binaries that it builds.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{process, root};

/// Cargo with these arguments, in the root of the workspace.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// A program that Cargo has built.
#[derive(Debug, PartialEq)]
pub struct Binary {
    pub package: String,
    /// `lib`, `bin`, `test`, `example` ...
    pub kind: String,
    pub target: String,
    /// Whether it is a test binary, as opposed to a program that the tests use.
    pub is_test: bool,
    pub executable: PathBuf,
    /// The package's directory, in which Cargo runs its tests.
    pub directory: PathBuf,
}

impl Binary {
    /// The name under which its results are reported.
    pub fn suite(&self) -> String {
        match self.kind.as_str() {
            "lib" | "test" => format!("{} ({})", self.package, self.kind),
            kind => format!("{} ({kind} {})", self.package, self.target),
        }
    }
}

/// Builds every test of the workspace and returns the binaries.
pub fn build_tests() -> Result<Vec<Binary>> {
    let mut cargo = command(&["test", "--workspace", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let output = cargo
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("cannot run {}", process::describe(&cargo)))?;
    if !output.status.success() {
        bail!("the tests cannot be built");
    }
    binaries(&String::from_utf8_lossy(&output.stdout))
}

/// Reads Cargo's messages, one JSON object a line.
fn binaries(messages: &str) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo's messages are not understood")?;
        let Some(executable) = message["executable"].as_str() else {
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifest = text(&message["manifest_path"]);
        binaries.push(Binary {
            package: package_name(&text(&message["package_id"])),
            // A library may be of several crate types; its unit tests are one binary all the same.
            kind: match text(&message["target"]["kind"][0]).as_str() {
                "cdylib" | "staticlib" | "rlib" => "lib".to_owned(),
                kind => kind.to_owned(),
            },
            target: text(&message["target"]["name"]),
            is_test: message["profile"]["test"].as_bool().unwrap_or_default(),
            executable: executable.into(),
            directory: Path::new(&manifest).parent().unwrap_or(root()).to_owned(),
        });
    }
    Ok(binaries)
}

/// The name in a package id: `path+file:///a/b#name@1.0.0`, or `path+file:///a/name#1.0.0`.
fn package_name(id: &str) -> String {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _version)) => name.to_owned(),
        None => url.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r##"{"reason":"compiler-artifact","package_id":"registry+https://registry.example/index#escape8259@0.5.4","manifest_path":"/home/a/.cargo/escape8259-0.5.4/Cargo.toml","target":{"kind":["lib"],"crate_types":["lib"],"name":"escape8259","src_path":"/home/a/lib.rs","edition":"2021","doc":true,"doctest":true,"test":true},"profile":{"opt_level":"0","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":false},"features":[],"filenames":["/target/debug/deps/libescape8259.rlib"],"executable":null,"fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///home/a/project/tests/suite#pericarp-suite@0.1.0","manifest_path":"/home/a/project/tests/suite/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],"name":"helper","src_path":"/home/a/project/tests/suite/helper.rs","edition":"2024","doc":true,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":false},"features":[],"filenames":["/target/debug/helper"],"executable":"/target/debug/helper","fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///home/a/project/xtask#0.0.0","manifest_path":"/home/a/project/xtask/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],"name":"xtask","src_path":"/home/a/project/xtask/src/main.rs","edition":"2024","doc":true,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":true},"features":[],"filenames":["/target/debug/deps/xtask-1"],"executable":"/target/debug/deps/xtask-1","fresh":true}
{"reason":"build-finished","success":true}
"##;

    #[test]
    fn the_binaries_are_found_in_cargo_s_messages() {
        let binaries = binaries(MESSAGES).unwrap();
        let names: Vec<_> = binaries.iter().map(|binary| (binary.suite(), binary.is_test)).collect();
        assert_eq!(
            names,
            [("pericarp-suite (bin helper)".to_owned(), false), ("xtask (bin xtask)".to_owned(), true)]
        );
        assert_eq!(binaries[0].executable, Path::new("/target/debug/helper"));
        assert_eq!(binaries[0].directory, Path::new("/home/a/project/tests/suite"));
    }
}
