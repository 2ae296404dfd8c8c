//! AppArmor profiles, loaded for the test and unloaded at its end.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use pericarp::spec::Security;
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, ExitStatus, Mount, Pod, PodSpec};

use super::{attribute, exec_output, pods, program};
use crate::exec::{said, sleeper};
use crate::support::fixture::{payload as inside, say};
use crate::support::{Fixture, Outcome, PASS, skip};
use crate::userns::mapped;

crate::tests![
    the_program_runs_in_its_profile,
    a_profile_denies_what_its_rules_say,
    profiles_of_user_namespaces_and_of_programs_with_new_privileges,
    programs_executed_in_a_container_have_its_profile_or_their_own,
    a_profile_that_is_not_loaded_is_told_and_nothing_is_left,
    a_container_whose_profile_takes_no_signals_ends,
];

/// Like the profiles of container engines: everything but what the test is about.
pub const MOST: &str = "file, capability, network, mount, umount, pivot_root, ptrace, signal, unix,";

/// A profile in the kernel, until it is dropped.
pub struct Profile {
    pub name: String,
}

impl Profile {
    /// Loads a profile with these rules. `Err` is why this machine cannot.
    pub fn load(name: &str, rules: &str) -> Result<Profile, String> {
        if !crate::attributes::apparmor() {
            return Err("AppArmor is not enabled on this machine".into());
        }
        let profile = Profile { name: format!("pericarp-suite-{}-{name}", std::process::id()) };
        // As engines have it: the paths of files that were opened outside the container lead to no root.
        let text =
            format!("profile {} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n", profile.name);
        profile.parse("--replace", &text)?;
        Ok(profile)
    }

    fn parse(&self, how: &str, text: &str) -> Result<(), String> {
        let parser = program("apparmor_parser").ok_or("this machine has no apparmor_parser")?;
        let mut parser = Command::new(parser)
            .args([how, "--skip-cache", "--quiet", "--config-file", "/dev/null"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start apparmor_parser");
        parser.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write the profile");
        assert!(parser.wait().expect("wait for apparmor_parser").success(), "apparmor_parser {how}: {text}");
        Ok(())
    }

    fn security(&self) -> Security {
        Security::default().apparmor_profile(&self.name)
    }

    /// What `attr/apparmor/current` says in it.
    fn enforced(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = self.parse("--remove", &format!("profile {} {{}}\n", self.name)) {
            eprintln!("the profile {} stays: {error}", self.name);
        }
    }
}

/// The profile of a container's program, in its own words.
fn current(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> String {
    say(pod, change(inside("a", &["attribute", "apparmor/current"]))).trim_end().to_string()
}

fn ask() -> ExecSpec {
    ExecSpec::new(["/payload", "payload", "attribute", "apparmor/current"])
}

/// Mutation: without the step that writes the profile, the first container said what this program's own profile is.
fn the_program_runs_in_its_profile() -> Outcome {
    let profile = match Profile::load("runs", MOST) {
        Ok(profile) => profile,
        Err(why) => return skip(why),
    };
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let own = attribute("/proc/self/attr/apparmor/current");
    assert_eq!(current(&pod, |spec| spec.security(profile.security())), profile.enforced());
    assert_eq!(current(&pod, |spec| spec), own);
    assert_eq!(
        current(&pod, |spec| spec.security(Security::default().apparmor_profile("unconfined"))),
        "unconfined"
    );
    // The profile is the program's, and neither init's before it nor this program's.
    let waiting = pod.create_container(&inside("b", &["sleep"]).security(profile.security()))?;
    let of = |pid| attribute(&format!("/proc/{pid}/attr/apparmor/current"));
    assert_eq!(of(waiting.pid()), own);
    waiting.start()?;
    assert_eq!(of(waiting.pid()), profile.enforced());
    assert_eq!(attribute("/proc/self/attr/apparmor/current"), own);
    waiting.remove()?;
    PASS
}

/// Mutation: without the step that writes the profile, `/work/denied` was written.
fn a_profile_denies_what_its_rules_say() -> Outcome {
    let rules = format!("{MOST} deny /work/denied w, deny capability chown,");
    let profile = match Profile::load("denies", &rules) {
        Ok(profile) => profile,
        Err(why) => return skip(why),
    };
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let write =
        || inside("a", &["write", "/work/denied", "/work/allowed"]).mount(Mount::tmpfs("/work", 1 << 20));
    assert_eq!(say(&pod, write()), "/work/denied written\n/work/allowed written\n");
    let confined = say(&pod, write().security(profile.security()));
    assert_eq!(confined, format!("/work/denied {}\n/work/allowed written\n", libc::EACCES));
    PASS
}

/// A profile is taken before the program executes, with the filter loaded, new privileges given up and in the user
/// namespace of the pod: none of that may keep it from being taken.
fn profiles_of_user_namespaces_and_of_programs_with_new_privileges() -> Outcome {
    let profile = match Profile::load("elsewhere", MOST) {
        Ok(profile) => profile,
        Err(why) => return skip(why),
    };
    let fixture = Fixture::new();
    for spec in pods() {
        let name = &spec.name;
        let pod = fixture.node.create_pod(&spec)?;
        for privileges in [true, false] {
            for user in [0, 1000] {
                let security = profile.security().no_new_privileges(!privileges);
                let seen = current(&pod, |spec| spec.security(security).user(user, user));
                assert_eq!(seen, profile.enforced(), "{name}, new privileges {privileges}, user {user}");
            }
        }
    }
    PASS
}

/// Mutation: without the container's profile in `ExecSpec::over`, the first program was unconfined.
fn programs_executed_in_a_container_have_its_profile_or_their_own() -> Outcome {
    let (container, other) = match (Profile::load("container", MOST), Profile::load("other", MOST)) {
        (Ok(container), Ok(other)) => (container, other),
        (Err(why), _) | (_, Err(why)) => return skip(why),
    };
    let fixture = Fixture::new();
    for spec in [PodSpec::new("web"), PodSpec::new("mapped").user(mapped())] {
        let pod = fixture.node.create_pod(&spec)?;
        let first = sleeper(&pod, |spec| spec.security(container.security()));
        assert_eq!(said(&first, ask()).trim_end(), container.enforced());
        let mut own = ask();
        own.apparmor_profile = Some(other.name.clone());
        assert_eq!(said(&first, own).trim_end(), other.enforced());
        let mut missing = ask();
        missing.apparmor_profile = Some("pericarp-no-such-profile".into());
        let error = exec_output(&first, missing).expect_err("a program ran in a profile that is not there");
        assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
        assert!(error.to_string().contains("no such profile is loaded"), "{error}");
        // The container goes on.
        assert_eq!(said(&first, ask()).trim_end(), container.enforced());
        first.remove()?;
    }
    PASS
}

fn a_profile_that_is_not_loaded_is_told_and_nothing_is_left() -> Outcome {
    // Loaded and gone: the name alone is no profile.
    let name = match Profile::load("gone", MOST) {
        Ok(profile) => profile.name.clone(),
        Err(why) => return skip(why),
    };
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let security = Security::default().apparmor_profile(&name);
    let error = pod
        .create_container(&inside("a", &["exit", "0"]).security(security))
        .map(|container| container.remove())
        .expect_err("a container was made");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(libc::ENOENT)), "{error}");
    assert!(error.to_string().contains(&name), "{error}");
    assert!(pod.containers()?.is_empty());
    // Its name is free, and so is the pod.
    assert!(pod.run(&inside("a", &["exit", "0"]))?.success());
    PASS
}

/// Without rules for signals the kernel lets none through, not even from root; what ends a cgroup does not ask.
fn a_container_whose_profile_takes_no_signals_ends() -> Outcome {
    let profile = match Profile::load("deaf", "file, capability, network, mount, unix,") {
        Ok(profile) => profile,
        Err(why) => return skip(why),
    };
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = sleeper(&pod, |spec| spec.security(profile.security()));
    let pid = container.pid();
    let error = container.signal(libc::SIGTERM).expect_err("a signal went through");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(libc::EACCES)), "{error}");
    let status = container.stop(Duration::from_secs(1000))?;
    assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert!(fs::metadata(format!("/proc/{pid}")).is_err(), "process {pid} is still there");
    container.remove()?;
    PASS
}
