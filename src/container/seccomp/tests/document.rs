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

/// What is said after them.
const CUSTOM: &str = r#"
# Profiles of one's own

`security.seccomp` of a container may be `{"custom": PROFILE}`, in Rust `SeccompProfile::Custom`. The profile has the
keys and words of `linux.seccomp` in an OCI `config.json`: `defaultAction`, `defaultErrnoRet`, `architectures`, `flags`,
`syscalls` (`names`, `action`, `errnoRet`, `args`), `listenerPath`, `listenerMetadata`. It is compiled to a program of the
same kind as the default profile, once for each profile.

**Which rule decides.** For a call: a rule that names it without `args`, the first of them; else the first rule that names
it and whose `args` all hold; else the default action. If two entries of `args` have the same `index`, any of all of them
is enough. A rule with the action and errno of the default changes nothing, as if it were not there. All of this is what
runc makes of a profile with libseccomp. What libseccomp leaves open, which of several rules with different `args` decides
when more than one holds, is here their order.

**Numbers.** `errnoRet` goes with `SCMP_ACT_ERRNO` (at most 4095) and, as the tracer's message, `SCMP_ACT_TRACE` (at most
65535); EPERM (1) unless given. With any other action it is an error.

**Names that are not known.** The tables are those of Linux 6.18 and what was known of 7.x. A name that only other
architectures have is of no effect. A name that is in no table is skipped, as OCI runtimes do, where that cannot let a
call through that the profile refuses: if the rule's action is `SCMP_ACT_ALLOW` or `SCMP_ACT_LOG`, or if the default
action can never let a call through. Otherwise it is an error that names it: a misspelt name in a list of refusals would
be a hole.

**Other ABIs.** The native one is always covered, others if `architectures` has them; those that the machine cannot run are
of no effect. A call of an ABI that is not covered fails with ENOSYS, or kills or traps if that is the default action; it is
never let through. (libseccomp kills the thread.)

**Numbers above all that are known** get the default action, but ENOSYS where that is an errno.

**Calls of the start itself.** With `noNewPrivileges`, which is the default, the filter is loaded last, and the start still
needs `rt_sigprocmask` and `execve`. Without it, loading takes a privilege that the container is not to have: the filter is
loaded before the user changes, and the profile must also let through `prctl`, `setgroups`, `setresgid`, `setresuid`,
`capset`, `umask`, `chdir`, `getcwd`, `sendto`, `recvfrom`, and in a PID namespace of others `clone`, `setsid` and
`sendmsg`.

**Notifications.** With `SCMP_ACT_NOTIFY` somewhere the filter has a listener (seccomp_unotify(2)). The profile must let
`read` and `write` through on any arguments: init uses them to hand the listener over. The library copies it out of init
(pidfd_getfd(2)); the container does not have it.

- With `listenerPath` the library connects to that socket when the container is created, where a failure is an error of
  the creation. As soon as the filter is loaded it sends the listener (`SCM_RIGHTS`) with the OCI's container process
  state: `fds` is `["seccompFd"]`, `metadata` is `listenerMetadata`, `state.id` is the container's name, `state.status` is
  `created` (without `noNewPrivileges` `creating`), `state.bundle` is empty. If that fails, nothing is executed.
- Without it, `Container::take_seccomp_listener` gives it to the program that made the container, when it was started.
  `Pod::run`, which has no handle to take it from, is an error then.

If nobody holds the listener any more, calls that would notify fail with ENOSYS. A filter that notifies of `execve` holds
the start up until that was answered. Before Linux 6.11 the listener hangs up only when the ended processes have been
waited for.
"#;

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
    text + CUSTOM
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
