//! Programs of a few bytes: the smallest container there can be, so that tests of the library are not tests of a
//! dynamic linker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pericarp::{ContainerSpec, Rootfs};

/// `mov edi, 0; mov eax, SYS_exit_group; syscall`
const EXIT: &[u8] = &[0xbf, 0, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
/// `again: mov eax, SYS_pause; syscall; jmp again`
const PAUSE: &[u8] = &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// A static ELF of one segment that holds the header and this x86_64 code.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut file = Vec::new();
    // e_ident: 64 bits, little endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // e_type EXEC, e_machine X86_64, e_version.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // e_entry, e_phoff, e_shoff.
    file.extend([BASE + HEADERS, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    // e_flags; e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    file.extend([0; 4]);
    file.extend([64u16, 56, 1, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    // The segment: PT_LOAD, readable and executable.
    file.extend([1u32, 5].into_iter().flat_map(u32::to_le_bytes));
    let size = HEADERS + code.len() as u64;
    file.extend([0, BASE, BASE, size, size, 0x1000].into_iter().flat_map(u64::to_le_bytes));
    assert_eq!(file.len() as u64, HEADERS);
    file.extend(code);
    file
}

/// Makes a root filesystem with the programs `/exit` and `/pause` and nothing else.
pub fn make_rootfs(dir: &Path) {
    fs::create_dir_all(dir).expect("make the directory of the root filesystem");
    for (name, code) in [("exit", EXIT), ("pause", PAUSE)] {
        let path = dir.join(name);
        fs::write(&path, elf(code)).expect("write a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    }
}

/// A container of one of these programs, with that directory as its root.
pub fn container(name: &str, rootfs: &Path, program: &str) -> ContainerSpec {
    ContainerSpec::new(name, Rootfs::directory(rootfs)).args([format!("/{program}")])
}
