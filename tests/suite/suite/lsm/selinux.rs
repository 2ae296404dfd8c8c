//! SELinux, in the guest that `tests/vm/run --lsm selinux` boots: only there does a test load a policy, and once.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use pericarp::spec::Security;
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, Mount, Pod, PodSpec};

use super::{attribute, exec_output, pods, program};
use crate::exec::{said, sleeper};
use crate::support::fixture::{payload as inside, say};
use crate::support::{Fixture, Outcome, PASS, skip};
use crate::userns::mapped;

crate::tests![
    the_program_runs_under_its_label,
    labels_of_user_namespaces_and_of_programs_with_new_privileges,
    programs_executed_in_a_container_have_its_label_or_their_own,
    a_label_that_the_policy_does_not_have_is_told_and_nothing_is_left,
    a_label_that_the_caller_may_not_give_is_told,
    a_domain_denies_what_the_policy_does_not_allow,
];

/// The policy's words, see `policy.cil`.
const KERNEL: &str = "system_u:system_r:kernel_t:s0-s0:c0.c3";
const CONTAINER: &str = "system_u:system_r:container_t:s0:c1,c2";
const OTHER: &str = "system_u:system_r:other_container_t:s0:c0,c3";

/// Makes sure that the policy is in the kernel. `Err` is why this machine cannot have it.
pub fn with_policy() -> Result<(), String> {
    static POLICY: OnceLock<Result<(), String>> = OnceLock::new();
    POLICY.get_or_init(load).clone()
}

fn load() -> Result<(), String> {
    if !crate::attributes::selinux() {
        return Err("SELinux is not enabled on this machine".into());
    }
    if std::env::var_os("PERICARP_VM").is_none() {
        return Err("this machine's SELinux policy is not replaced: that is for a guest".into());
    }
    let compiler = program("secilc").ok_or("this machine has no secilc")?;
    let dir = tempfile::tempdir().expect("make a temporary directory");
    let (text, binary) = (dir.path().join("policy.cil"), dir.path().join("policy"));
    fs::write(&text, include_str!("policy.cil")).expect("write the policy");
    let mut compiler = Command::new(compiler);
    compiler.arg("-o").arg(&binary).args(["-f", "/dev/null"]).arg(&text);
    assert!(compiler.status().expect("start secilc").success(), "secilc refused the policy");
    // The kernel takes it by one write.
    let policy = fs::read(&binary).expect("read the policy");
    fs::write("/sys/fs/selinux/load", policy).expect("load the policy");
    assert_eq!(fs::read_to_string("/sys/fs/selinux/enforce").expect("ask SELinux"), "1");
    Ok(())
}

macro_rules! policy_or_skip {
    () => {
        if let Err(why) = with_policy() {
            return skip(why);
        }
    };
}

fn label(label: &str) -> Security {
    Security::default().selinux_label(label)
}

/// The label of a container's program, in its own words.
fn current(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> String {
    say(pod, change(inside("a", &["attribute", "current"]))).trim_end().to_string()
}

fn ask(file: &str) -> ExecSpec {
    ExecSpec::new(["/payload", "payload", "attribute", file])
}

/// Mutation: without the step that writes the label, the first container said `kernel_t`.
fn the_program_runs_under_its_label() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(attribute("/proc/self/attr/current"), KERNEL);
    assert_eq!(current(&pod, |spec| spec.security(label(CONTAINER))), CONTAINER);
    assert_eq!(current(&pod, |spec| spec), KERNEL);
    // The label is the program's, and neither init's before it nor this program's.
    let waiting = pod.create_container(&inside("b", &["sleep"]).security(label(CONTAINER)))?;
    let of = |file: &str| attribute(&format!("/proc/{}/attr/{file}", waiting.pid()));
    assert_eq!(of("current"), KERNEL);
    waiting.start()?;
    assert_eq!(of("current"), CONTAINER);
    // Nothing that it executes or makes later gets another label than the policy says.
    for file in ["exec", "fscreate", "keycreate", "sockcreate"] {
        assert_eq!(of(file), "", "{file}");
    }
    assert_eq!(attribute("/proc/self/attr/current"), KERNEL);
    waiting.remove()?;
    PASS
}

fn labels_of_user_namespaces_and_of_programs_with_new_privileges() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    for spec in pods() {
        let name = &spec.name;
        let pod = fixture.node.create_pod(&spec)?;
        for privileges in [true, false] {
            for user in [0, 1000] {
                let security = label(CONTAINER).no_new_privileges(!privileges);
                let seen = current(&pod, |spec| spec.security(security).user(user, user));
                assert_eq!(seen, CONTAINER, "{name}, new privileges {privileges}, user {user}");
            }
        }
    }
    PASS
}

/// Mutation: without the container's label in `ExecSpec::over`, the first program was `kernel_t`.
fn programs_executed_in_a_container_have_its_label_or_their_own() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    for spec in [PodSpec::new("web"), PodSpec::new("mapped").user(mapped())] {
        let pod = fixture.node.create_pod(&spec)?;
        let container = sleeper(&pod, |spec| spec.security(label(CONTAINER)));
        let current = || said(&container, ask("current")).trim_end().to_string();
        assert_eq!(current(), CONTAINER);
        let mut own = ask("current");
        own.selinux_label = Some(OTHER.into());
        assert_eq!(said(&container, own).trim_end(), OTHER);
        let mut missing = ask("current");
        missing.selinux_label = Some("system_u:system_r:no_such_t:s0".into());
        let error =
            exec_output(&container, missing).expect_err("a program ran under a label that is not there");
        assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
        assert!(error.to_string().contains("the policy has no such label"), "{error}");
        // The container goes on.
        assert_eq!(current(), CONTAINER);
        container.remove()?;
    }
    PASS
}

fn a_label_that_the_policy_does_not_have_is_told_and_nothing_is_left() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for wrong in ["no label", "system_u:system_r:no_such_t:s0", "system_u:system_r:container_t:s0:c99"] {
        let error = pod
            .create_container(&inside("a", &["exit", "0"]).security(label(wrong)))
            .map(|container| container.remove())
            .expect_err("a container was made");
        assert_eq!(error.errno(), Some(libc::EINVAL), "{wrong}: {error}");
        assert!(error.to_string().contains(wrong), "{error}");
        assert!(error.to_string().contains("the policy has no such label"), "{error}");
        assert!(pod.containers()?.is_empty());
    }
    assert!(pod.run(&inside("a", &["exit", "0"]).security(label(CONTAINER)))?.success());
    PASS
}

/// The policy knows the label, but lets no program have that type: the kernel says so when the program is executed.
fn a_label_that_the_caller_may_not_give_is_told() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let files = "system_u:object_r:container_file_t:s0";
    let container = pod.create_container(&inside("a", &["exit", "0"]).security(label(files)))?;
    let error = container.start().expect_err("the program was started");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::EACCES)), "{error}");
    container.remove()?;
    PASS
}

/// Mutation: without the step that writes the label, `/work/file` was written.
fn a_domain_denies_what_the_policy_does_not_allow() -> Outcome {
    policy_or_skip!();
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (mine, theirs) = (fixture.path("mine"), fixture.path("theirs"));
    fs::create_dir(&mine)?;
    fs::create_dir(&theirs)?;
    set_label(&mine, "system_u:object_r:container_file_t:s0:c1,c2")?;
    let write = |security| {
        inside("a", &["write", "/mine/file", "/theirs/file"])
            .security(security)
            .mount(Mount::bind(&mine, "/mine"))
            .mount(Mount::bind(&theirs, "/theirs"))
    };
    assert_eq!(
        say(&pod, write(label(CONTAINER))),
        format!("/mine/file written\n/theirs/file {}\n", libc::EACCES)
    );
    assert_eq!(say(&pod, write(Security::default())), "/mine/file written\n/theirs/file written\n");
    // What the first one made belongs to its categories; the other container has others.
    assert_eq!(say(&pod, write(label(OTHER))), format!("/mine/file {0}\n/theirs/file {0}\n", libc::EACCES));
    PASS
}

fn set_label(path: &Path, label: &str) -> std::io::Result<()> {
    let (path, value) = (CString::new(path.as_os_str().as_bytes())?, label.as_bytes());
    let name = c"security.selinux".as_ptr();
    // SAFETY: both strings are NUL-terminated, and the value is as long as is said.
    let set = unsafe { libc::setxattr(path.as_ptr(), name, value.as_ptr().cast(), value.len(), 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
