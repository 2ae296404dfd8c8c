//! The root file system of all containers: busybox where the machine has a static one, and a program made by hand.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::contender::Result;

pub fn build(root: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(directory))?;
    }
    executable(&root.join("bin/tiny"), &tiny_elf())?;
    if let Some(busybox) = busybox() {
        executable(&root.join("bin/busybox"), &fs::read(busybox)?)?;
        for applet in ["true", "sh", "sleep", "cat", "ls"] {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    Ok(())
}

/// A busybox that needs no dynamic loader.
pub fn busybox() -> Option<PathBuf> {
    let candidates = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/bin/busybox.static"];
    candidates.map(PathBuf::from).into_iter().find(|path| fs::read(path).is_ok_and(|elf| is_static(&elf)))
}

/// Whether an ELF image of this machine's word size names no interpreter.
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| elf.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let (Some(size), Some(count), Some(table)) = (half(54), half(56), elf.get(32..40)) else { return false };
    let table = u64::from_le_bytes(table.try_into().expect("eight bytes")) as usize;
    let kind = |n: usize| elf.get(table + n * size..table + n * size + 4);
    elf.starts_with(b"\x7fELF") && !(0..count).any(|n| kind(n) == Some(&PT_INTERP.to_le_bytes()[..]))
}

fn executable(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// The smallest honest payload: one segment, and `exit_group(0)`.
fn tiny_elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[cfg(target_arch = "x86_64")]
    // xor edi, edi; mov eax, 231; syscall
    let (machine, code): (u16, &[u8]) = (62, &[0x31, 0xff, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05]);
    #[cfg(target_arch = "aarch64")]
    // mov x0, #0; mov x8, #94; svc #0
    let (machine, code): (u16, &[u8]) = (183, &[0, 0, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    let length = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // an executable of this machine, version 1
    elf.extend([2, 0]);
    elf.extend(machine.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    // entry, program headers, section headers
    for value in [BASE + HEADERS, 64, 0] {
        elf.extend(value.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    // sizes and counts: this header, one program header of 56 bytes, no sections
    for value in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(value.to_le_bytes());
    }
    // PT_LOAD, readable and executable
    for value in [1u32, 5] {
        elf.extend(value.to_le_bytes());
    }
    for value in [0, BASE, BASE, length, length, 4096] {
        elf.extend(value.to_le_bytes());
    }
    elf.extend(code);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_program_is_static_and_exits_with_zero() {
        let elf = tiny_elf();
        assert!(is_static(&elf));
        let path = std::env::temp_dir().join(format!("pericarp-bench-tiny-{}", std::process::id()));
        executable(&path, &elf).unwrap();
        let status = std::process::Command::new(&path).status();
        fs::remove_file(&path).unwrap();
        assert!(status.unwrap().success());
    }
}
