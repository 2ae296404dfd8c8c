//! What a container's process may do: capabilities, masked and read-only paths.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pericarp::spec::{Capabilities, Capability, Security};
use pericarp::{ContainerSpec, Mount};

use crate::support::fixture::{facts, output, rootfs, say, script};
use crate::support::{Facts, Fixture, Outcome, PASS};

crate::tests![
    root_has_exactly_the_default_capabilities,
    an_ordinary_user_has_no_capabilities,
    capabilities_can_be_taken_and_given,
    ambient_capabilities_reach_an_ordinary_user,
    a_capability_that_is_not_there_is_refused_by_the_kernel,
    no_new_privileges_is_on_unless_the_spec_says_otherwise,
    masked_paths_are_empty,
    readonly_paths_can_only_be_read,
    a_readonly_path_stays_executable,
    masks_of_ones_own_hide_files_and_directories,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["security-euid"] => println!("{}", nix::unistd::geteuid()),
        _ => return false,
    }
    true
}

fn sets(facts: &Facts) -> [u64; 5] {
    ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"]
        .map(|key| u64::from_str_radix(&facts.status[key], 16).expect("a set"))
}

fn with(spec: ContainerSpec, capabilities: Capabilities) -> ContainerSpec {
    spec.security(Security::default().capabilities(capabilities))
}

/// What CapBnd reads in a container of containerd and of Docker.
const DEFAULT: u64 = 0xa804_25fb;

fn root_has_exactly_the_default_capabilities() -> Outcome {
    let fixture = Fixture::new();
    let seen = facts(&fixture.pod("web"), |spec| spec);
    assert_eq!(sets(&seen), [DEFAULT, DEFAULT, DEFAULT, 0, 0]);
    PASS
}

fn an_ordinary_user_has_no_capabilities() -> Outcome {
    let fixture = Fixture::new();
    let seen = facts(&fixture.pod("web"), |spec| spec.user(1000, 1000));
    assert_eq!(sets(&seen), [DEFAULT, 0, 0, 0, 0]);
    // The group of root gives none either.
    let seen = facts(&fixture.pod("group"), |spec| spec.user(1000, 0));
    assert_eq!(sets(&seen), [DEFAULT, 0, 0, 0, 0]);
    PASS
}

fn capabilities_can_be_taken_and_given() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let bit = |capability: Capability| capability.bitmask();
    let admin = bit(Capability::CAP_SYS_ADMIN);
    for (capabilities, bits) in [
        (Capabilities::none(), 0),
        // CRI-O's nine: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE.
        (Capabilities::minimal(), 0x5fb),
        (Capabilities::none().with(Capability::CAP_SYS_ADMIN), admin),
        (Capabilities::default().with(Capability::CAP_SYS_ADMIN), DEFAULT | admin),
        (Capabilities::default().without(Capability::CAP_NET_RAW), DEFAULT & !bit(Capability::CAP_NET_RAW)),
        (Capabilities::minimal().with(Capability::CAP_BPF), 0x5fb | bit(Capability::CAP_BPF)),
    ] {
        assert_eq!(sets(&facts(&pod, |spec| with(spec, capabilities))), [bits, bits, bits, 0, 0]);
    }
    PASS
}

/// CVE-2022-29162. With all of the permitted set inheritable as well (`take` in `src/init/identity.rs`): the inheritable set of
/// user 0 is 0x15fb, and not the one capability 0x1000.
fn ambient_capabilities_reach_an_ordinary_user() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let bit = Capability::CAP_NET_ADMIN.bitmask();
    let ambient = Capabilities::minimal().with_ambient(Capability::CAP_NET_ADMIN);
    // The inheritable set holds the ambient one, which the kernel demands, and nothing else.
    let seen = facts(&pod, |spec| with(spec, ambient.clone()).user(1000, 1000));
    assert_eq!(sets(&seen), [0x5fb | bit, bit, bit, bit, bit]);
    let seen = facts(&pod, |spec| with(spec, ambient).user(0, 0));
    assert_eq!(sets(&seen), [0x5fb | bit, 0x5fb | bit, 0x5fb | bit, bit, bit]);
    PASS
}

fn a_capability_that_is_not_there_is_refused_by_the_kernel() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let command = "touch /f; chown 1000 /f && echo chown; chroot / /bin/true && echo chroot";
    assert_eq!(output(&pod, script("a", command))?.1, "chown\nchroot\n");
    let spec = with(script("a", command), Capabilities::minimal().without(Capability::CAP_CHOWN));
    let (_, text) = output(&pod, spec)?;
    assert_eq!(text.matches("not permitted").count(), 2, "{text}");
    // What is not in the bounding set does not come back through a set-user-id program.
    let spec = with(script("a", "grep -E '^Cap(Prm|Eff)' /proc/self/status"), Capabilities::none());
    assert_eq!(say(&pod, spec), "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n");
    PASS
}

fn no_new_privileges_is_on_unless_the_spec_says_otherwise() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let program = fixture.path("suid");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    for (on, euid) in [(true, "1000\n"), (false, "0\n")] {
        let security = Security::default().no_new_privileges(on);
        let seen = facts(&pod, |spec| spec.security(security.clone()));
        assert_eq!(seen.status["NoNewPrivs"], if on { "1" } else { "0" });
        // Both ways the filter is there.
        assert_eq!(seen.status["Seccomp"], "2");
        let spec = ContainerSpec::new("a", rootfs())
            .args(["/suid", "payload", "security-euid"])
            .mount(Mount::bind(&program, "/suid"))
            .user(1000, 1000)
            .security(security);
        assert_eq!(say(&pod, spec), euid);
    }
    assert_eq!(facts(&pod, |spec| spec).status["NoNewPrivs"], "1");
    PASS
}

fn masked_paths_are_empty() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let paths = Security::default().masked_paths;
    let list: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let command = format!(
        "for p in {}; do [ -e $p ] || continue; \
           if [ -d $p ]; then echo dir $p $(ls -A $p | wc -l); touch $p/x 2>/dev/null && echo written $p; \
           else echo file $p $(cat $p | wc -c) $(stat -c %t:%T $p); fi; done",
        list.join(" ")
    );
    let text = say(&pod, script("a", &command));
    let mut masked = 0;
    for path in &list {
        let Ok(metadata) = fs::metadata(path) else { continue };
        masked += 1;
        let line = if metadata.is_dir() { format!("dir {path} 0\n") } else { format!("file {path} 0 1:3\n") };
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(masked > 0, "this kernel has none of them");
    assert!(!text.contains("written"), "{text}");
    // And the mask cannot be taken away.
    let (_, text) =
        output(&pod, script("a", "umount /sys/firmware || umount /proc/keys || umount /proc/kcore"))?;
    assert!(!text.is_empty());
    PASS
}

fn readonly_paths_can_only_be_read() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"] {
        if !std::path::Path::new(path).exists() {
            continue;
        }
        let (_, text) = output(&pod, script("a", &format!("echo 0 >{path}")))?;
        assert!(text.contains("Read-only file system"), "{path}: {text}");
    }
    assert!(fs::metadata("/proc/sys/kernel/hostname").is_ok(), "one of them is on every machine");
    // What the root filesystem does not have is skipped.
    let mut spec = script("a", "touch /tmp/x /var/tmp/x 2>&1 | grep -c 'Read-only'; cat /etc/passwd | wc -l");
    spec.security.readonly_paths = ["/tmp", "/etc/passwd", "/no/such/path"].map(Into::into).into();
    let text = say(&pod, spec);
    assert!(text.starts_with("1\n") && text != "1\n0\n", "{text}");
    PASS
}

fn a_readonly_path_stays_executable() -> Outcome {
    let fixture = Fixture::new();
    let mut spec = script(
        "a",
        "touch /usr/bin/x 2>&1 | grep -o Read-only; /usr/bin/env echo ran; echo x >/dev/null; echo y",
    );
    // Programs stay programs, devices stay devices: what was asked for is that nothing is written.
    spec.security.readonly_paths = ["/usr", "/dev"].map(Into::into).into();
    assert_eq!(say(&fixture.pod("web"), spec), "Read-only\nran\ny\n");
    PASS
}

fn masks_of_ones_own_hide_files_and_directories() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    fs::create_dir(fixture.path("dir"))?;
    fs::write(fixture.path("dir/secret"), "secret")?;
    fs::write(fixture.path("file"), "secret")?;
    std::os::unix::fs::symlink("dir", fixture.path("link"))?;
    let mut spec = script(
        "a",
        "cat /m/file; ls -A /m/dir /m/link; touch /m/dir/x 2>&1 | grep -o Read-only; wc -c </m/file",
    );
    spec = spec.mount(Mount::bind(fixture.dir.path(), "/m"));
    spec.security.masked_paths = ["/m/file", "/m/link", "/m/missing", "/m/file/x"].map(Into::into).into();
    assert_eq!(say(&pod, spec), "/m/dir:\n\n/m/link:\nRead-only\n0\n");
    assert_eq!(fs::read_to_string(fixture.path("file"))?, "secret");
    PASS
}
