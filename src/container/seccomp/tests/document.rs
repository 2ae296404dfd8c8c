//! Keeps docs/seccomp.md equal to the code.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Call;
use super::evaluate::Evaluator;
use crate::container::seccomp::arch::Arch;
use crate::container::seccomp::defaults::{
    ABSENT, ALWAYS, CLONE_NAMESPACES, FAMILIES_END, Group, PERSONALITIES, REFUSED_FAMILIES, WITH_CAPABILITY,
};
use crate::container::seccomp::profile::{Action, Profile};
use crate::container::seccomp::syscalls;

/// What is said before the tables.
const INTRODUCTION: &str = "\
# The default seccomp profile

This file is kept equal to src/container/seccomp/defaults.rs by a unit test. After a change there:
`UPDATE_DOCS=1 cargo test -p pericarp --lib seccomp`.

A container that has no profile of its own in its spec may make the system calls below. Everything else fails
with EPERM. The policy is that of the well-known runtimes (moby, containerd, CRI-O). It differs in this:

- AF_ALG and AF_VSOCK cannot be had by garbage in the upper half of the first argument of socket(2), nor by
  socketpair(2), nor by i386's socketcall(2). Moby allows socketcall, and 32-bit x86 programs linked with glibc
  make their sockets by it: they need a profile of their own that allows it.
- x32 calls (x86_64 with 32-bit pointers) fail with ENOSYS.
- A call with a number above all that this version knows fails with ENOSYS, so that programs made for a newer
  kernel take the way they have for older ones.
- open_tree_attr goes with the mount API; rseq_slice_yield is allowed; file_getattr and file_setattr fail with
  ENOSYS.

The rules apply to the native ABI and to its 32-bit one (i386 on x86_64, 32-bit ARM on aarch64). A name that an
ABI does not have is of no effect there. Capabilities count if they are in the bounding set.
";

fn names(group: &Group) -> String {
    let names: BTreeSet<&str> = group.names.iter().copied().collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The calls of x86_64 that a container without capabilities cannot make with any argument.
fn refused() -> String {
    let profile = Profile::default_profile(0);
    let evaluator = Evaluator::new(&profile, Arch::X86_64);
    let refused = |number: u32| {
        let call = Call { number, arch_word: Arch::X86_64.audit_word(), args: [0; 6] };
        evaluator.action(&call) == Action::Errno(libc::EPERM as u16)
    };
    let table = syscalls::table(Arch::X86_64).iter();
    let names: BTreeSet<&str> =
        table.filter(|&(_, &number)| refused(number)).map(|(&name, _)| name).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn render() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("\n## Always allowed\n\n| purpose | calls |\n|---|---|\n");
    for group in ALWAYS {
        writeln!(text, "| {} | {} |", group.purpose, names(group)).unwrap();
    }
    text.push_str("\n## Allowed on some arguments\n\n| call | condition |\n|---|---|\n");
    writeln!(text, "| clone | none of the flags {CLONE_NAMESPACES:#x}, which make namespaces |").unwrap();
    let personas: Vec<String> = PERSONALITIES.iter().map(|persona| format!("{persona:#x}")).collect();
    writeln!(text, "| personality | one of {} |", personas.join(", ")).unwrap();
    let families: Vec<String> = REFUSED_FAMILIES.iter().map(|(n, name)| format!("{name} ({n})")).collect();
    writeln!(text, "| socket, socketpair | a family below {FAMILIES_END} but {} |", families.join(", "))
        .unwrap();
    text.push_str("\n## Allowed with a capability\n\n| capability | purpose | calls |\n|---|---|---|\n");
    for conditional in WITH_CAPABILITY {
        let (name, group) = (conditional.capability_name, &conditional.group);
        writeln!(text, "| {name} | {} | {} |", group.purpose, names(group)).unwrap();
    }
    text.push_str("\n## Answered with ENOSYS\n\n");
    writeln!(text, "{}. {}", names(&ABSENT), ABSENT.purpose).unwrap();
    text.push_str("\n## Refused on x86_64 to a container without capabilities\n\n");
    writeln!(text, "{}.", refused()).unwrap();
    text
}

#[test]
fn the_document_says_what_the_code_does() {
    let rendered = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seccomp.md"), rendered).unwrap();
        return;
    }
    let document = include_str!("../../../../docs/seccomp.md");
    assert!(document == rendered, "docs/seccomp.md is out of date: run UPDATE_DOCS=1 cargo test seccomp");
}
