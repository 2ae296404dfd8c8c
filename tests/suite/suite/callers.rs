//! What the configurations of OCI callers rely on: filters that let little through, names of filesystems, options that
//! are given to every mount.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pericarp::spec::{
    MountKind, PidMode, Propagation, Seccomp, SeccompAction, SeccompArch, SeccompProfile, SeccompSyscall,
    Security,
};
use pericarp::{ContainerSpec, ErrorKind, Mount, Pod, PodSpec};

use crate::support::fixture::{facts, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_filter_before_the_identity_need_not_let_files_be_looked_at,
    a_program_that_the_user_may_not_execute_is_told_at_the_creation,
    a_tmpfs_has_its_name_and_shares_what_is_mounted_on_it,
    options_of_new_filesystems_do_nothing_to_a_bind_mount,
];

/// A filter that kills for what a process needs to look at files, and lets new privileges be.
fn without_looking(spec: ContainerSpec) -> ContainerSpec {
    let looking =
        SeccompSyscall::new(["chdir", "getcwd", "faccessat2", "pidfd_open"], SeccompAction::KillProcess);
    let profile =
        Seccomp::new(SeccompAction::Allow).architecture(SeccompArch::X86).architecture(SeccompArch::Arm);
    let security = Security::default()
        .seccomp(SeccompProfile::Custom(Box::new(profile.rule(looking))))
        .no_new_privileges(false);
    spec.security(security)
}

/// When these calls came after such a filter, configurations of runtime-tools failed with "find the program: EPERM", and
/// "in getcwd", and in a PID namespace that is given in pidfd_open.
fn a_filter_before_the_identity_need_not_let_files_be_looked_at() -> Outcome {
    let fixture = Fixture::new();
    let shared = PodSpec::new("shared").pid(PidMode::Pod);
    for pod in [fixture.pod("web"), fixture.node.create_pod(&shared)?] {
        runs_without_looking(&pod);
    }
    PASS
}

fn runs_without_looking(pod: &Pod) {
    for (user, detached) in [(0, false), (1000, false), (0, true), (1000, true)] {
        let spec = ContainerSpec::new("main", crate::support::fixture::rootfs())
            .args(["cat", "/proc/self/stat"])
            .cwd("/usr")
            .user(user, user)
            .detached(detached);
        // cat(1) looks at nothing but the file that it is told.
        let text = say(pod, without_looking(spec));
        assert!(text.contains(" (cat) "), "{text}");
    }
}

fn a_program_that_the_user_may_not_execute_is_told_at_the_creation() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let directory = fixture.path("private");
    fs::create_dir(&directory)?;
    fs::copy("/bin/true", directory.join("program"))?;
    let spec = |uid: u32, groups: &[u32], args: &str, cwd: &str| {
        let spec = ContainerSpec::new("main", crate::support::fixture::rootfs()).args([args]);
        let spec = spec.user(uid, uid).additional_gids(groups.iter().copied()).cwd(cwd).detached(true);
        without_looking(spec.mount(Mount::bind(&directory, "/usr/private")))
    };
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode));
    mode(0o700)?;
    let error = pod.create_container(&spec(1000, &[], "/usr/private/program", "/")).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::EACCES)), "{error}");
    let error = pod.create_container(&spec(1000, &[], "./program", "/usr/private")).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EACCES), "{error}");
    let error = pod.create_container(&spec(1000, &[], "no-such-program", "/")).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::ENOENT)), "{error}");
    // Root may, and so may whoever is in the group.
    pod.create_container(&spec(0, &[], "/usr/private/program", "/"))?.remove()?;
    mode(0o750)?;
    nix::unistd::chown(&directory, None, Some(nix::unistd::Gid::from_raw(77)))?;
    pod.create_container(&spec(1000, &[77], "./program", "/usr/private"))?.remove()?;
    PASS
}

fn a_tmpfs_has_its_name_and_shares_what_is_mounted_on_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let oci = |path: &str, source: &str, options: &[&str]| {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        Mount::from_options(path, "tmpfs", source, &options)
    };
    let (named, shared) =
        (oci("/usr/named", "shm", &["size=4k"])?, oci("/usr/shared", "tmpfs", &["shared"])?);
    let facts = facts(&pod, |spec| {
        let plain = Mount::of(MountKind::Tmpfs { size: None, mode: None }, "/usr/plain");
        spec.mount(named.clone()).mount(shared.clone()).mount(plain.propagation(Propagation::Slave))
    });
    let line = |path: &str| {
        let line = facts.mounts.iter().find(|line| line.split(' ').nth(4) == Some(path)).expect("a mount");
        let (left, right) = line.split_once(" - ").expect("two parts");
        let fields: Vec<&str> = right.split(' ').collect();
        (fields[0].to_string(), fields[1].to_string(), left.contains(" shared:"))
    };
    assert_eq!(line("/usr/named"), ("tmpfs".into(), "shm".into(), false));
    assert_eq!(line("/usr/shared"), ("tmpfs".into(), "tmpfs".into(), true));
    assert_eq!(line("/usr/plain"), ("tmpfs".into(), "tmpfs".into(), false));
    let error = pod.create_container(&script("main", "true").mount(named.source_name(""))).unwrap_err();
    assert!(error.to_string().contains("sourceName"), "{error}");
    PASS
}

fn options_of_new_filesystems_do_nothing_to_a_bind_mount() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let source = fixture.path("source");
    fs::create_dir(&source)?;
    fs::set_permissions(&source, fs::Permissions::from_mode(0o711))?;
    let options = ["rbind", "mode=755", "size=1k", "ro"].map(str::to_string);
    let mount = Mount::from_options("/usr/bound", "", source.to_str().expect("UTF-8"), &options)?;
    let text = say(
        &pod,
        script("main", "stat -c %a /usr/bound; touch /usr/bound/x 2>/dev/null || echo refused").mount(mount),
    );
    assert_eq!(text, "711\nrefused\n");
    PASS
}
