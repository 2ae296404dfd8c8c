//! Containers that outlive the program that made them before their start, and are started by another one.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use nix::sys::stat::Mode;
use pericarp::spec::{PidMode, SeccompProfile, Security, Stdio};
use pericarp::{Container, ContainerSpec, ContainerStatus, ErrorKind, ExitStatus, Node, Pod, PodSpec};

use crate::robust::again;
use crate::robust::in_guest;
use crate::robust::trace::{Call, Then, is_local, name, trace};
use crate::support::fixture::{payload as inside, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_detached_container_outlives_its_maker_and_another_program_starts_it,
    of_many_starters_one_starts_it,
    its_maker_starts_it_as_ever,
    another_program_is_told_which_step_failed,
    a_frozen_one_is_not_started_and_does_not_hold_up_who_looks,
    one_in_a_shared_pid_namespace_is_started_by_another_program,
    rubbish_neither_starts_nor_ends_it,
    its_maker_learns_that_there_is_no_such_program,
    another_user_cannot_start_it,
    it_is_refused_in_an_ephemeral_pod,
    death_of_the_maker_at_any_system_call_leaves_a_container_that_can_be_started_or_none,
    death_of_the_starter_at_any_system_call_leaves_a_container_that_was_started_or_can_be,
];

/// The commands of other programs.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["detached-make", state_dir, file] => {
            let pod = again::node(state_dir).open_pod("web").expect("open the pod");
            pod.create_container(&writer(Path::new(file))).expect("make the container");
        }
        ["detached-start", state_dir] => {
            let pod = again::node(state_dir).open_pod("web").expect("open the pod");
            match pod.container("a").and_then(|container| container.start()) {
                Ok(()) => println!("started"),
                Err(error) => println!("{:?}: {error}", error.kind()),
            }
        }
        ["detached-knock", socket] => println!("{}", knock(Path::new(socket), &start_message())),
        ["detached-test", "maker"] => again::body(kill_makers()),
        ["detached-test", "starter"] => again::body(kill_starters()),
        _ => return false,
    }
    true
}

/// A container that writes to a file what it was started for.
pub fn writer(file: &Path) -> ContainerSpec {
    script("a", "echo ran").stdout(Stdio::File(file.to_path_buf())).detached(true)
}

pub fn other(fixture: &Fixture, command: &str) -> String {
    again::run(&[command, &again::word(fixture)])
}

fn a_detached_container_outlives_its_maker_and_another_program_starts_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("ran");
    again::run(&["detached-make", &again::word(&fixture), &file.to_string_lossy()]);
    assert_eq!(fixture.node.recover()?.adopted, [pod.id()]);
    let container = pod.container("a")?;
    assert!(container.spec().detached);
    assert_eq!(container.status()?, ContainerStatus::Created);
    assert_eq!(container.wait_timeout(Some(Duration::from_millis(100)))?, None);
    assert_eq!(fs::read_to_string(&file)?, "");
    assert_eq!(other(&fixture, "detached-start"), "started\n");
    assert!(
        container.wait_timeout(Some(Duration::from_secs(60))).is_ok_and(|status| status.is_some())
            || matches!(container.status()?, ContainerStatus::Exited(_))
    );
    assert_eq!(fs::read_to_string(&file)?, "ran\n");
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    assert!(other(&fixture, "detached-start").starts_with("WrongState: "));
    container.remove()?;
    assert_eq!(pod.container("a").unwrap_err().kind(), ErrorKind::NotFound);
    PASS
}

fn of_many_starters_one_starts_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for round in 0..if in_guest() { 3 } else { 20 } {
        let maker = pod.create_container(&inside("a", &["sleep"]).detached(true))?;
        let mut handles: Vec<Container> = (0..7)
            .map(|_| fixture.reopen().open_pod("web").and_then(|pod| pod.container("a")))
            .collect::<Result<_, _>>()?;
        // In half of the rounds one of them has made it.
        if round % 2 == 0 {
            handles.push(maker);
        }
        let ready = Barrier::new(handles.len());
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = |container: &Container| {
                ready.wait();
                container.start().map_err(|error| error.kind())
            };
            let threads: Vec<_> = handles.iter().map(|one| scope.spawn(move || start(one))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a starter")).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(
            results.iter().all(|result| matches!(result, Ok(()) | Err(ErrorKind::WrongState))),
            "{results:?}"
        );
        assert_eq!(handles[0].status()?, ContainerStatus::Running);
        handles[0].remove()?;
    }
    PASS
}

fn its_maker_starts_it_as_ever() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("ran");
    let container = pod.create_container(&writer(&file))?;
    assert_eq!(container.status()?, ContainerStatus::Created);
    // Not even the last handle ends it.
    drop(container);
    let container = pod.container("a")?;
    assert_eq!(container.status()?, ContainerStatus::Created);
    container.remove()?;
    let container = pod.create_container(&writer(&file))?;
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    assert_eq!(fs::read_to_string(&file)?, "ran\n");
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    container.remove()?;
    assert!(pod.run(&script("a", "true").detached(true))?.success());
    PASS
}

/// A stream given as a descriptor is forgotten, which changes the plan before the barrier and not what is said here.
fn another_program_is_told_which_step_failed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // It can be executed, until that is tried: its interpreter is missing.
    let program = fixture.path("program");
    fs::write(&program, "#!/no/such/interpreter\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for no_new_privileges in [true, false] {
        let words =
            |detached: bool, other: bool| -> Result<(ErrorKind, String), Box<dyn std::error::Error>> {
                let file = fs::File::create(fixture.path("out"))?;
                let spec = script("a", "")
                    .args(["/program"])
                    .mount(pericarp::Mount::bind(&program, "/program"))
                    .stdout(Stdio::fd(file))
                    .security(Security::default().no_new_privileges(no_new_privileges))
                    .detached(detached);
                let container = pod.create_container(&spec)?;
                let starter = if other { pod.container("a")? } else { container.clone() };
                let error = starter.start().unwrap_err();
                assert_eq!(starter.start().unwrap_err().kind(), ErrorKind::WrongState);
                assert_eq!(container.wait()?, ExitStatus::Exited(127));
                container.remove()?;
                Ok((error.kind(), error.to_string()))
            };
        let expected = words(false, false)?;
        assert_eq!(expected.0, ErrorKind::Exec);
        assert!(expected.1.contains("execute \"/program\""), "{}", expected.1);
        assert_eq!(words(true, false)?, expected);
        assert_eq!(words(true, true)?, expected);
    }
    PASS
}

fn its_maker_learns_that_there_is_no_such_program() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (program, errno) in
        [("/no/such/program", libc::ENOENT), ("nowhere", libc::ENOENT), ("/etc/passwd", libc::EACCES)]
    {
        let error = pod.create_container(&script("a", "").args([program]).detached(true)).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(errno)), "{error}");
        assert!(error.to_string().contains("find the program"), "{error}");
        assert!(pod.containers()?.is_empty());
    }
    PASS
}

fn a_frozen_one_is_not_started_and_does_not_hold_up_who_looks() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let made = pod.create_container(&inside("a", &["sleep"]).detached(true))?;
    let container = pod.container("a")?;
    container.freeze()?;
    for _ in 0..50 {
        assert_eq!(container.status()?, ContainerStatus::Created);
    }
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    container.thaw()?;
    container.start()?;
    assert_eq!(container.status()?, ContainerStatus::Running);
    assert_eq!(made.status()?, ContainerStatus::Running);
    PASS
}

fn one_in_a_shared_pid_namespace_is_started_by_another_program() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    // Without no_new_privs the filter is there already while init waits.
    let security = Security::default().no_new_privileges(false).seccomp(SeccompProfile::RuntimeDefault);
    let spec = script("a", "exit 9").security(security).user(1000, 1000).detached(true);
    let container = pod.create_container(&spec)?;
    assert_eq!(other(&fixture, "detached-start"), "started\n");
    assert_eq!(container.wait()?, ExitStatus::Exited(9));
    PASS
}

/// The socket of container `a`.
fn socket_of(fixture: &Fixture, pod: &Pod) -> PathBuf {
    fixture.options.state_dir.join("pods").join(pod.id()).join("containers/a/start")
}

/// The message to start, as `src/init/wire.rs` has it.
fn start_message() -> Vec<u8> {
    [4u32, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Sends something to a socket, and tells how many bytes come back before the end, or that nothing comes.
fn knock(path: &Path, message: &[u8]) -> String {
    let knock = || -> nix::Result<usize> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        if !message.is_empty() {
            send(socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?;
            return recv(socket.as_raw_fd(), &mut [0; 64], MsgFlags::empty());
        }
        Ok(0)
    };
    match knock() {
        Ok(length) => format!("{length} bytes"),
        Err(errno) => errno.to_string(),
    }
}

/// The connection was closed without an answer, sooner or later.
fn unheard(answer: &str) -> bool {
    answer == "0 bytes" || ["ECONNRESET", "EPIPE"].iter().any(|errno| answer.starts_with(errno))
}

fn rubbish_neither_starts_nor_ends_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    pod.create_container(&inside("a", &["sleep"]).detached(true))?;
    let container = pod.container("a")?;
    let path = socket_of(&fixture, &pod);
    let mut other_number = start_message();
    other_number[0] = 5;
    let longer = [start_message(), vec![0]].concat();
    for message in [&b""[..], b"x", &other_number, &longer, &start_message()[..11], &[0xff; 4096]] {
        let answer = knock(&path, message);
        assert!(unheard(&answer), "{message:?}: {answer}");
        assert_eq!(container.status()?, ContainerStatus::Created, "{message:?}");
    }
    // The message itself would have done it: its answer is that init is ready.
    assert_eq!(knock(&path, &start_message()), "12 bytes");
    assert!(container.start().is_err());
    assert_eq!(container.status()?, ContainerStatus::Running);
    PASS
}

/// The directories keep others out. That is not all that does: with these opened, and the socket's user not compared
/// in init (`accept` in `src/init/starters.rs` returning the connection in any case), the last user here hears
/// "12 bytes", and the container runs.
fn another_user_cannot_start_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&inside("a", &["sleep"]).detached(true))?;
    let path = socket_of(&fixture, &pod);
    // A copy that the other user can execute, wherever this program is.
    let program = fixture.path("program");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(fixture.dir.path(), fs::Permissions::from_mode(0o755))?;
    let knock = || -> Result<String, Box<dyn std::error::Error>> {
        let mut command = std::process::Command::new(&program);
        command.args(["payload", "detached-knock"]).arg(&path).uid(65534).gid(65534).current_dir("/");
        let output = command.output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    assert!(knock()?.contains("EACCES"));
    for directory in path.ancestors().skip(1).take_while(|path| *path != Path::new("/run")) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let answer = knock()?;
    assert!(unheard(answer.trim_end()), "{answer}");
    assert_eq!(container.status()?, ContainerStatus::Created);
    container.start()?;
    PASS
}

fn it_is_refused_in_an_ephemeral_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ephemeral(true))?;
    let error = pod.create_container(&script("a", "true").detached(true)).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("detached")));
    PASS
}

fn death_of_the_maker_at_any_system_call_leaves_a_container_that_can_be_started_or_none() -> Outcome {
    again::alone(&["detached-test", "maker"])
}

fn death_of_the_starter_at_any_system_call_leaves_a_container_that_was_started_or_can_be() -> Outcome {
    again::alone(&["detached-test", "starter"])
}

/// Runs a program until its k-th call that counts, and says at which one it was killed; `None` when it ended before.
fn kill_at(words: &[&str], k: usize) -> Option<String> {
    let (mut count, mut killed) = (0, None);
    let ended = trace(words, false, &mut |call: &Call| {
        if call.result.is_some() || is_local(call.number) {
            return Then::Go;
        }
        count += 1;
        if count != k {
            return Then::Go;
        }
        killed = Some(format!("call {k}, {} of {:?}", name(call.number), call.who));
        Then::Kill
    });
    assert!(killed.is_some() || ended.code == Some(0), "the program failed by itself: {}", ended.stderr);
    killed
}

fn recovered(node: &Node, at: &str) {
    while !node.recover().unwrap_or_else(|error| panic!("killed at {at}: {error}")).busy.is_empty() {
        std::thread::yield_now();
    }
}

/// The end of a container that is not this program's child.
fn ended(container: &Container) {
    let pidfd = container.pidfd().expect("it was alive when it was opened");
    let mut files = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut files, 60_000u16), Ok(1), "the container does not end");
}

fn kill_makers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (file, state_dir) = (fixture.path("ran"), again::word(&fixture));
    let words = ["detached-make", &state_dir, &file.to_string_lossy()];
    let (mut none, mut started) = (0, 0);
    for k in (1..).step_by(if in_guest() { 5 } else { 1 }) {
        let _ = fs::remove_file(&file);
        let Some(at) = kill_at(&words, k) else { break };
        recovered(&fixture.node, &at);
        match pod.container("a") {
            Err(error) if error.kind() == ErrorKind::NotFound => none += 1,
            result => {
                let container = result.unwrap_or_else(|error| panic!("killed at {at}: {error}"));
                container.start().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
                ended(&container);
                assert_eq!(fs::read_to_string(&file)?, "ran\n", "killed at {at}");
                started += 1;
                container.remove().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
            }
        }
    }
    eprintln!("detached (makers killed): {none} left none, {started} one that could be started");
    assert!(none > 2 && started > 2, "{none}, {started}");
    PASS
}

fn kill_starters() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (file, state_dir) = (fixture.path("ran"), again::word(&fixture));
    let (mut before, mut after) = (0, 0);
    // It stays while somebody has the other end of its standard input.
    let fifo = fixture.path("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU)?;
    for k in (1..).step_by(if in_guest() { 5 } else { 1 }) {
        let _ = fs::remove_file(&file);
        let input = nix::fcntl::open(&fifo, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let spec = script("a", "echo ran; read line").stdout(Stdio::File(file.clone())).detached(true);
        let spec = spec.stdin(Stdio::fd(input.try_clone()?));
        let container = pod.create_container(&spec)?;
        let Some(at) = kill_at(&["detached-start", &state_dir], k) else {
            container.remove()?;
            break;
        };
        // Who was told to start and not yet executed the program is on its way.
        match container.start() {
            Ok(()) => before += 1,
            Err(error) if error.kind() == ErrorKind::WrongState => after += 1,
            Err(error) => panic!("killed at {at}: {error}"),
        }
        assert_eq!(container.status()?, ContainerStatus::Running, "killed at {at}");
        nix::unistd::write(&input, b"go\n")?;
        assert_eq!(container.wait()?, ExitStatus::Exited(0), "killed at {at}");
        assert_eq!(fs::read_to_string(&file)?, "ran\n", "killed at {at}");
        assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
        container.remove()?;
    }
    eprintln!("detached (starters killed): {before} before it was started, {after} after");
    assert!(before > 2 && after > 0, "{before}, {after}");
    PASS
}
