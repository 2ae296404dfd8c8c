//! Terminals: of containers, and of other programs in them.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use pericarp::spec::{PidMode, Stdio};
use pericarp::{Container, ContainerSpec, ErrorKind, ExecSpec, ExitStatus, Mount, Pod, PodSpec, Terminal};

use crate::support::fixture::{payload as inside, script};
use crate::support::{Facts, Fixture, Outcome, PASS};

crate::tests![
    a_container_has_a_terminal_as_its_streams,
    it_belongs_to_the_user,
    it_is_the_console,
    it_has_the_size_that_is_asked_for_and_changes_it,
    a_key_interrupts_the_program,
    another_program_has_one_of_its_own,
    it_is_that_of_the_session_in_every_pid_namespace,
    the_end_of_the_master_hangs_up,
    it_can_be_sent_to_another_program,
    what_cannot_be_had_is_refused,
];

/// Everything that is displayed until nobody has the terminal open any more, with plain line feeds.
pub fn displayed(mut terminal: &Terminal) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // EIO is the end.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        text.extend(&buffer[..length]);
    }
    String::from_utf8(text).expect("UTF-8").replace("\r\n", "\n")
}

/// Reads until that is displayed.
pub fn wait_for(mut terminal: &Terminal, what: &str) {
    let mut text = String::new();
    while !text.contains(what) {
        let mut buffer = [0; 256];
        let length = terminal.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {text:?}"));
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
}

pub fn started(pod: &Pod, spec: ContainerSpec) -> (Container, Terminal) {
    let container = pod.create_container(&spec.terminal(true)).expect("make a container");
    let terminal = container.take_terminal().expect("a terminal");
    container.start().expect("start the container");
    (container, terminal)
}

/// What a container with a terminal sees of itself.
fn facts(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Facts {
    let (container, terminal) = started(pod, change(inside("a", &["facts"])));
    let text = displayed(&terminal);
    assert!(container.wait().is_ok_and(ExitStatus::success), "{text}");
    container.remove().expect("remove the container");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn a_container_has_a_terminal_as_its_streams() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let seen = facts(&pod, |spec| spec);
    let fds: Vec<(u32, &str)> = seen.fds.iter().map(|(fd, path)| (*fd, path.as_str())).collect();
    assert_eq!(fds, [(0, "/dev/pts/0"), (1, "/dev/pts/0"), (2, "/dev/pts/0")]);
    let (container, mut terminal) =
        started(&pod, script("a", "read line; echo got $line; echo tty >/dev/tty"));
    assert!(container.take_terminal().is_none());
    assert!(container.take_stdout().is_none() && container.take_stdin().is_none());
    assert_eq!(terminal.name()?, "/dev/pts/0");
    assert!(nix::unistd::isatty(terminal.as_fd())?);
    terminal.write_all(b"it\n")?;
    // What is typed is displayed as well.
    assert_eq!(displayed(&terminal), "it\ngot it\ntty\n");
    assert!(container.wait()?.success());
    PASS
}

fn it_belongs_to_the_user() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for uid in [0, 1000] {
        let spec = script("a", "stat -c '%u %g %a' /dev/pts/0; echo again >/dev/pts/0");
        let (container, terminal) = started(&pod, spec.user(uid, uid));
        assert_eq!(displayed(&terminal), format!("{uid} 5 620\nagain\n"));
        container.remove()?;
    }
    PASS
}

fn it_is_the_console() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let look = "stat -c '%t:%T' /dev/console /dev/pts/0; echo hello >/dev/console; ls /dev/pts | cat";
    let (container, terminal) = started(&pod, script("a", look));
    let text = displayed(&terminal);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], lines[1], "{text}");
    assert_eq!(lines[2..], ["hello", "0", "ptmx"], "{text}");
    container.remove()?;
    // Without a terminal there is none.
    assert!(pod.run(&script("a", "test ! -e /dev/console"))?.success());
    PASS
}

fn it_has_the_size_that_is_asked_for_and_changes_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let loop_ = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done";
    let (container, terminal) = started(&pod, script("a", loop_).console_size(120, 40));
    wait_for(&terminal, "40 120\r\n");
    assert_eq!(terminal.size()?, (120, 40));
    terminal.resize(132, 43)?;
    assert_eq!(displayed(&terminal), "43 132\n");
    assert_eq!(terminal.size()?, (132, 43));
    container.remove()?;
    let (_container, terminal) = started(&pod, script("b", "stty size"));
    assert_eq!(terminal.size()?, (0, 0));
    PASS
}

fn a_key_interrupts_the_program() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (container, _terminal) = started(&pod, inside("a", &["sleep"]));
    let process = container.exec(&ExecSpec::new(["/bin/sh", "-c", "echo up; exec cat"]).terminal(true))?;
    let mut terminal = process.take_terminal().expect("a terminal");
    wait_for(&terminal, "up\r\n");
    terminal.write_all(b"\x03")?;
    assert_eq!(process.wait()?, ExitStatus::Signaled { signal: libc::SIGINT, core_dumped: false });
    PASS
}

fn another_program_has_one_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for with_terminal in [true, false] {
        let spec = inside("a", &["sleep"]).terminal(with_terminal);
        let container = pod.create_container(&spec)?;
        let _own = container.take_terminal();
        container.start()?;
        let number = u32::from(with_terminal);
        let spec = ExecSpec::new(["/payload", "payload", "facts"]).terminal(true).user(1000, 1000);
        let process = container.exec(&spec)?;
        let terminal = process.take_terminal().expect("a terminal");
        let text = displayed(&terminal);
        assert!(process.wait()?.success(), "{text}");
        let seen: Facts = serde_json::from_str(&text)?;
        let name = format!("/dev/pts/{number}");
        assert_eq!(terminal.name()?, name);
        let fds: Vec<(u32, &str)> = seen.fds.iter().map(|(fd, path)| (*fd, path.as_str())).collect();
        assert_eq!(fds, [0, 1, 2].map(|fd| (fd, name.as_str())));
        drop(terminal);
        let spec = ExecSpec::new(["/bin/sh", "-c", "stty size; echo tty >/dev/tty; stat -c %u $(tty)"]);
        let process = container.exec(&spec.terminal(true).console_size(80, 24).user(1000, 1000))?;
        assert!(process.take_stdin().is_none());
        assert_eq!(displayed(&process.take_terminal().expect("a terminal")), "24 80\ntty\n1000\n");
        assert!(process.take_terminal().is_none());
        container.remove()?;
    }
    PASS
}

fn it_is_that_of_the_session_in_every_pid_namespace() -> Outcome {
    let fixture = Fixture::new();
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let own = fixture.pod("own");
    // The session, the terminal of that (136:0) and the processes in its foreground, of proc_pid_stat(5).
    let look = "read -r pid name state parent group session tty foreground rest </proc/self/stat; \
        test $session = $group && test $foreground = $session && echo $tty";
    for (pod, mode) in [(&shared, PidMode::Pod), (&own, PidMode::Container), (&own, PidMode::Host)] {
        let (container, terminal) = started(pod, script("a", look).pid(mode.clone()));
        assert_eq!(displayed(&terminal), format!("{}\n", 136 << 8), "{mode:?}");
        container.remove()?;
        let (container, _terminal) = started(pod, inside("a", &["sleep"]).pid(mode.clone()));
        let process = container.exec(&ExecSpec::new(["/bin/sh", "-c", look]).terminal(true))?;
        let text = displayed(&process.take_terminal().expect("a terminal"));
        assert_eq!(text, format!("{}\n", 136 << 8 | 1), "{mode:?}");
        container.remove()?;
    }
    PASS
}

fn the_end_of_the_master_hangs_up() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (container, terminal) =
        started(&pod, script("a", "trap 'exit 7' HUP; echo up; while :; do sleep 0.01; done"));
    wait_for(&terminal, "up\r\n");
    drop(terminal);
    assert_eq!(container.wait()?, ExitStatus::Exited(7));
    PASS
}

fn it_can_be_sent_to_another_program() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // Longer than the address of a socket may be.
    let directory = fixture.path(&"x".repeat(150));
    fs::create_dir(&directory)?;
    let path = directory.join("console");
    let listener = std::thread::spawn({
        let directory = directory.clone();
        // In a working directory of the thread's own, for the same reason.
        move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).expect("unshare the working directory");
            nix::unistd::chdir(&directory).expect("change the working directory");
            UnixListener::bind("console").expect("listen")
        }
    });
    let listener = listener.join().expect("the listener");
    let container = pod.create_container(&script("a", "echo hello").terminal(true))?;
    let terminal = container.take_terminal().expect("a terminal");
    assert_eq!(terminal.send_to(directory.join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
    terminal.send_to(&path)?;
    drop(terminal);
    let (socket, _) = listener.accept()?;
    let mut text = [0; 64];
    let mut space = cmsg_space!([i32; 4]);
    let mut iov = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: recvmsg(2) has just made these.
            files.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    assert_eq!((&text[..length], files.len()), (&b"/dev/pts/0"[..], 1));
    container.start()?;
    let mut master = fs::File::from(files.remove(0));
    let mut displayed = Vec::new();
    assert_eq!(master.read_to_end(&mut displayed).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(displayed, b"hello\r\n");
    PASS
}

fn what_cannot_be_had_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = || script("a", "true").terminal(true);
    let without = spec().default_mounts(false);
    let bound = spec().mount(Mount::bind("/dev/pts", "/dev/pts"));
    for (spec, field) in [
        (spec().stdout(Stdio::Pipe), "stdio"),
        (spec().stdin(Stdio::File("/dev/null".into())), "stdio"),
        (spec().terminal(false).console_size(1, 1), "consoleSize"),
        (without, "terminal"),
        (bound, "terminal"),
    ] {
        let error = pod.create_container(&spec).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some(field)), "{error}");
    }
    assert_eq!(pod.run(&spec()).unwrap_err().kind(), ErrorKind::InvalidSpec);
    PASS
}
