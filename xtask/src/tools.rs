//! The programs that the tests need, and their installation.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{cargo, process, root};

/// A program or file and the Debian package that has it.
pub struct Tool {
    package: &'static str,
    is_there: fn() -> bool,
}

/// What the tests on this machine need.
pub const NATIVE: &[Tool] = &[
    Tool { package: "gcc", is_there: || on_path("cc") },
    // gcc only recommends it.
    Tool { package: "libc6-dev", is_there: || Path::new("/usr/include/stdio.h").exists() },
    Tool { package: "busybox-static", is_there: static_busybox },
    // For nodes of ordinary users.
    Tool { package: "uidmap", is_there: || on_path("newuidmap") },
    // For the C interface.
    Tool { package: "g++", is_there: || on_path("g++") },
    Tool { package: "make", is_there: || on_path("make") },
    Tool { package: "pkg-config", is_there: || on_path("pkg-config") },
    Tool { package: "valgrind", is_there: || on_path("valgrind") },
    // The quickstarts in C and Go count with it.
    Tool { package: "perl-base", is_there: || on_path("perl") },
    Tool { package: "golang-go", is_there: || on_path("go") },
    // For building cargo-c, where that must be done.
    Tool {
        package: "libssl-dev",
        is_there: || cargo_c_is_there() || Path::new("/usr/include/openssl/ssl.h").exists(),
    },
];

/// What installs the C interface in one of its tests; Debian has none that is new enough for this workspace. Each version
/// wants a recent rustc: this is the newest one that the workspace's `rust-version` builds, so that every rustc does which
/// builds the workspace.
const CARGO_C: &str = "0.10.18";

/// What the guest needs.
pub const GUEST: &[Tool] = &[
    Tool { package: "qemu-system-x86", is_there: || on_path("qemu-system-x86_64") },
    Tool { package: "busybox-static", is_there: static_busybox },
    Tool { package: "cpio", is_there: || on_path("cpio") },
    Tool { package: "xz-utils", is_there: || on_path("xz") },
    Tool { package: "e2fsprogs", is_there: || on_path("mke2fs") },
    Tool { package: "apparmor", is_there: || on_path("apparmor_parser") },
    Tool { package: "secilc", is_there: || on_path("secilc") },
    // The library's limits are compared with theirs.
    Tool { package: "crun", is_there: || on_path("crun") },
    Tool { package: "runc", is_there: || on_path("runc") },
];

/// Programs of those packages that tests run in the guest, with their libraries.
pub const IN_GUEST: &[&str] = &["apparmor_parser", "secilc", "crun", "runc"];

fn on_path(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        // Where an ordinary user's PATH often does not lead.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

/// Cargo-c's program that Cargo runs as `cargo cinstall`.
const CINSTALL: &str = "cargo-cinstall";

/// Where it is put if the machine has none.
fn own_cargo_c() -> PathBuf {
    root().join("target/tools").join(format!("cargo-c-{CARGO_C}"))
}

fn cargo_c_is_there() -> bool {
    on_path(CINSTALL) || own_cargo_c().join("bin").join(CINSTALL).is_file()
}

/// Makes sure that cargo-c is there, which takes three or four minutes the first time on two processors. Returns the
/// `PATH` on which it is.
pub fn ensure_cargo_c() -> Result<OsString> {
    let own = own_cargo_c();
    if !cargo_c_is_there() {
        eprintln!("xtask: building cargo-c {CARGO_C}");
        let mut install = cargo::command(&["install", "--locked", "--root"]);
        install.arg(&own).arg(format!("cargo-c@{CARGO_C}"));
        // It runs once: that it is built fast counts for more than that it is fast.
        for (setting, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "256"), ("DEBUG", "0")]
        {
            install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        process::run(&mut install)?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(env::split_paths(&path).chain([own.join("bin")]))?)
}

/// Busybox is copied into containers, where no library is.
fn static_busybox() -> bool {
    let script = "! ldd \"$(command -v busybox)\" 2>/dev/null | grep -q '=>'";
    on_path("busybox")
        && Command::new("sh").args(["-c", script]).status().is_ok_and(|status| status.success())
}

/// Makes sure that the tools are there: installs what is missing, or says what to install.
pub fn ensure(groups: &[&[Tool]]) -> Result<()> {
    let missing = missing(groups);
    if missing.is_empty() {
        return Ok(());
    }
    let install = ["install", "-y", "--no-install-recommends"];
    let by_hand = format!("apt-get {} {}", install.join(" "), missing.join(" "));
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root || !on_path("apt-get") {
        bail!(
            "these Debian packages are missing: {}\nInstall them as root:\n    {by_hand}",
            missing.join(", ")
        );
    }
    eprintln!("xtask: installing {}", missing.join(", "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
        apt
    };
    process::run(apt().arg("update"))?;
    process::run(apt().args(install).args(&missing))?;
    let missing = self::missing(groups);
    if !missing.is_empty() {
        bail!("still missing after the installation: {}", missing.join(", "));
    }
    Ok(())
}

fn missing(groups: &[&[Tool]]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for tool in groups.iter().copied().flatten() {
        if !packages.contains(&tool.package) && !(tool.is_there)() {
            packages.push(tool.package);
        }
    }
    packages
}
