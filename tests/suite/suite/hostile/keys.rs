//! Keys that the host program holds stay the host's, see keyrings(7).

use std::ffi::CString;
use std::io::Error;

use pericarp::spec::{SeccompProfile, Security, UserMode};
use pericarp::{ContainerSpec, ExecSpec, PodSpec, Stdio};

use crate::robust::again;
use crate::support::fixture::{payload as inside, say};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![keys_of_the_host_are_out_of_reach];

/// Commands for this program in containers, and in a process of its own on the host.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["hostile-keys", name] => println!("{}", find(name)),
        // With a second key, so that the new keyring is seen to be one that can be used.
        ["hostile-own-key", name] => {
            let added =
                add("pericarp-own", "own").map_or_else(|error| error.to_string(), |()| find("pericarp-own"));
            println!("{added}, {}", find(name));
        }
        ["hostile-wait-for-keys"] => drop(std::io::read_to_string(std::io::stdin())),
        ["hostile-keys-of-host", state_dir] => again::body(keys_of_host(state_dir)),
        _ => return false,
    }
    true
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn checked(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// A new session keyring without a name for this process.
fn join() -> std::io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: keyctl(2) takes no pointer but the missing name.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, none) }).map(drop)
}

/// Puts a key into the session keyring.
fn add(name: &str, value: &str) -> std::io::Result<()> {
    let (kind, name) = (text("user"), text(name));
    // SAFETY: the strings end with a NUL, and the value is as long as is said.
    checked(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            name.as_ptr(),
            value.as_ptr(),
            value.len(),
            libc::KEY_SPEC_SESSION_KEYRING,
        )
    })
    .map(drop)
}

/// What the key of that name in the session keyring holds, or why that cannot be known.
fn find(name: &str) -> String {
    let (kind, name) = (text("user"), text(name));
    let mut value = [0u8; 64];
    // SAFETY: the strings end with a NUL, and the buffer is as long as is said.
    let read = unsafe {
        let session = libc::KEY_SPEC_SESSION_KEYRING;
        let found =
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SEARCH, session, kind.as_ptr(), name.as_ptr(), 0);
        checked(found).and_then(|key| {
            checked(libc::syscall(libc::SYS_keyctl, libc::KEYCTL_READ, key, value.as_mut_ptr(), value.len()))
        })
    };
    match read {
        Ok(length) => String::from_utf8_lossy(&value[..length as usize]).into_owned(),
        Err(error) if error.raw_os_error() == Some(libc::ENOKEY) => "no such key".into(),
        Err(error) => error.to_string(),
    }
}

/// With no step for it (`session_keyring` in `src/container/plan/build/attributes.rs` returning at once): "a
/// secret" in the first container.
fn keys_of_the_host_are_out_of_reach() -> Outcome {
    if std::fs::metadata("/proc/keys").is_err() {
        return skip("the kernel has no keys");
    }
    let fixture = Fixture::new();
    again::run(&["hostile-keys-of-host", &again::word(&fixture)]);
    PASS
}

/// A session keyring belongs to a process: no other test has this one.
fn keys_of_host(state_dir: &str) -> Outcome {
    const NAME: &str = "pericarp-secret";
    join()?;
    add(NAME, "a secret")?;
    assert_eq!(find(NAME), "a secret");
    let node = again::node(state_dir);
    // The default filter would refuse every look.
    let open = || Security::default().seccomp(SeccompProfile::Unconfined);
    let look = || inside("a", &["hostile-keys", NAME]).security(open());
    for spec in [PodSpec::new("plain"), PodSpec::new("mapped").user(UserMode::Auto { size: None })] {
        let pod = node.create_pod(&spec)?;
        assert_eq!(say(&pod, look()), "no such key\n");
        let own = inside("b", &["hostile-own-key", NAME]).security(open());
        assert_eq!(say(&pod, own), "own, no such key\n");
        // Who enters has neither the host's keyring nor one by whose name it could be found.
        let waiting = |security: Security| -> ContainerSpec {
            let mut spec = inside("c", &["hostile-wait-for-keys"]).security(security);
            spec.stdio.stdin = Stdio::Pipe;
            spec
        };
        let enter = || ExecSpec::new(["/payload", "payload", "hostile-keys", NAME]).stdout(Stdio::Pipe);
        let entered = |security: Security| -> pericarp::Result<String> {
            let container = pod.create_container(&waiting(security))?;
            container.start()?;
            let process = container.exec(&enter())?;
            let out = process.take_stdout().expect("a pipe");
            let said = std::io::read_to_string(out).expect("read from a pipe");
            process.wait()?;
            container.remove()?;
            Ok(said)
        };
        assert_eq!(entered(open())?, "no such key\n");
        // Where the specification says so, it is the host's: so the test sees something.
        assert_eq!(entered(open().inherit_session_keyring(true))?, "a secret\n");
        assert_eq!(say(&pod, look().security(open().inherit_session_keyring(true))), "a secret\n");
        pod.remove()?;
    }
    // Nothing was taken from this program.
    assert_eq!(find(NAME), "a secret");
    PASS
}
