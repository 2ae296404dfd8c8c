//! The programs that the tests need, and their installation.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::process;

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
];

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
