//! Standard input, output and error.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio as HostStdio};

use pericarp::spec::Stdio;
use pericarp::{Container, ContainerSpec, ErrorKind, ExitStatus, Pod};

use crate::support::fixture::{facts, payload as payload_spec, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    further_files_have_the_next_numbers,
    null_reads_as_the_end_and_swallows,
    a_file_is_made_and_appended_to,
    a_file_is_read_as_standard_input,
    a_mebibyte_goes_through_pipes_both_ways,
    output_and_error_are_apart,
    dropping_the_pipe_of_standard_input_is_the_end_of_file,
    a_pipe_can_be_taken_once,
    a_dropped_reader_ends_the_writer_by_sigpipe,
    an_open_file_can_be_given_and_used_again,
    a_pipe_is_refused_by_run,
    files_and_pipes_of_the_host_are_inherited,
    a_terminal_of_the_host_is_refused_in_every_way,
    a_directory_of_the_host_is_refused,
    another_user_can_open_its_pipes_again,
    a_program_without_standard_streams_can_make_containers,
    a_program_without_standard_streams_has_nothing_to_inherit,
    a_missing_directory_of_a_file_is_told_with_its_path,
];

/// A shell in a container that is told by pipe what to do, while the test goes on.
pub struct Shell {
    pub container: Container,
    stdin: File,
    stdout: BufReader<File>,
}

impl Shell {
    pub fn start(pod: &Pod, spec: ContainerSpec) -> Shell {
        let spec = spec.args(["/bin/sh"]).stdin(Stdio::Pipe).stdout(Stdio::Pipe);
        let container = pod.create_container(&spec).expect("make a container");
        let stdin = container.take_stdin().expect("a pipe");
        let stdout = BufReader::new(container.take_stdout().expect("a pipe"));
        container.start().expect("start the container");
        let mut shell = Shell { container, stdin, stdout };
        assert_eq!(shell.run("exec 2>&1"), "");
        shell
    }

    /// What a command writes; waits for its end.
    pub fn run(&mut self, command: &str) -> String {
        self.send(&format!("{command}\necho; echo .END.\n"));
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).expect("read") > 0, "the shell ended: {text}");
            if line == ".END.\n" {
                // The empty line before the end lets a command end without a line feed.
                text.pop();
                return text;
            }
            text += &line;
        }
    }

    /// Tells the shell something without waiting.
    pub fn send(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).expect("write to the shell");
    }

    /// The next line that it writes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read");
        line
    }
}

/// What parts of this program do on the host in a process of their own, in which the standard streams are changed.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["stdio-inherit"] => inherit(),
        ["stdio-closed", report] => without_streams(Path::new(report), false),
        ["stdio-closed-inherit", report] => without_streams(Path::new(report), true),
        _ => return false,
    }
    true
}

/// This program again, on the host.
fn host(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg("payload").args(words);
    command
}

fn null_reads_as_the_end_and_swallows() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let facts = facts(&pod, |spec| spec.stdin(Stdio::Null));
    assert_eq!(facts.fds[&0], "/dev/null");
    let file = fixture.path("out");
    let spec = script("a", "read x; echo $? >/proc/self/fd/2; echo lost").stderr(Stdio::File(file.clone()));
    assert!(pod.run(&spec)?.success());
    assert_eq!(fs::read_to_string(&file)?, "1\n");
    PASS
}

fn a_file_is_made_and_appended_to() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("log");
    for word in ["one", "two"] {
        let both = Stdio::File(file.clone());
        let spec = script("a", &format!("echo {word}; echo error >&2")).stdout(both.clone()).stderr(both);
        assert!(pod.run(&spec)?.success());
    }
    assert_eq!(fs::read_to_string(&file)?, "one\nerror\ntwo\nerror\n");
    PASS
}

fn a_file_is_read_as_standard_input() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("in");
    fs::write(&file, "the input\n")?;
    assert_eq!(say(&pod, script("a", "cat").stdin(Stdio::File(file.clone()))), "the input\n");
    // It is only read: writing to it fails.
    let text = say(&pod, script("a", "(echo x >&0) 2>/dev/null || echo refused").stdin(Stdio::File(file)));
    assert_eq!(text, "refused\n");
    let missing = script("a", "cat").stdin(Stdio::File(fixture.path("missing")));
    assert_eq!(pod.create_container(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    PASS
}

fn a_mebibyte_goes_through_pipes_both_ways() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe))?;
    let (mut stdin, mut stdout) =
        (container.take_stdin().expect("a pipe"), container.take_stdout().expect("a pipe"));
    let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    container.start()?;
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&data).expect("write");
            drop(stdin);
        });
        stdout.read_to_end(&mut back).expect("read");
    });
    assert!(back == data, "{} bytes came back of {}", back.len(), data.len());
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    PASS
}

fn output_and_error_are_apart() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container =
        pod.create_container(&script("a", "echo out; echo err >&2").stdout(Stdio::Pipe).stderr(Stdio::Pipe))?;
    container.start()?;
    assert_eq!(std::io::read_to_string(container.take_stdout().expect("a pipe"))?, "out\n");
    assert_eq!(std::io::read_to_string(container.take_stderr().expect("a pipe"))?, "err\n");
    PASS
}

fn dropping_the_pipe_of_standard_input_is_the_end_of_file() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "cat; exit 5").stdin(Stdio::Pipe))?;
    container.start()?;
    assert_eq!(container.try_wait()?, None);
    drop(container.take_stdin());
    assert_eq!(container.wait()?, ExitStatus::Exited(5));
    PASS
}

fn a_pipe_can_be_taken_once() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "echo x").stdout(Stdio::Pipe))?;
    assert!(container.take_stdin().is_none() && container.take_stderr().is_none());
    let stdout = container.take_stdout().expect("a pipe");
    assert!(container.take_stdout().is_none());
    // Another handle of the same container has no pipes.
    assert!(pod.container("a")?.take_stdout().is_none());
    container.start()?;
    assert_eq!(std::io::read_to_string(stdout)?, "x\n");
    PASS
}

fn a_dropped_reader_ends_the_writer_by_sigpipe() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // A shell as process 1 has the signal's default action, which the kernel does not apply to it: the child has it.
    let spec = script("a", "dd if=/dev/zero bs=65536 2>/dev/null; echo $? >&2; exit 0");
    let container = pod.create_container(&spec.stdout(Stdio::Pipe).stderr(Stdio::Pipe))?;
    drop(container.take_stdout());
    container.start()?;
    let code = std::io::read_to_string(container.take_stderr().expect("a pipe"))?;
    assert_eq!(code.trim(), (128 + libc::SIGPIPE).to_string());
    PASS
}

fn an_open_file_can_be_given_and_used_again() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("out");
    let given = File::create(&file)?;
    let spec = script("a", "echo x").stdout(Stdio::fd(given));
    // The offset is the file's, which stays open in the specification.
    for _ in 0..3 {
        assert!(pod.run(&spec)?.success());
    }
    assert_eq!(fs::read_to_string(&file)?, "x\nx\nx\n");
    PASS
}

fn a_pipe_is_refused_by_run() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for spec in [
        script("a", "true").stdin(Stdio::Pipe),
        script("a", "true").stdout(Stdio::Pipe),
        script("a", "true").stderr(Stdio::Pipe),
    ] {
        assert_eq!(pod.run(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    assert!(pod.containers()?.is_empty());
    PASS
}

/// On the host: one container with the three streams of this process.
fn inherit() {
    let fixture = Fixture::new();
    let spec = script("a", "cat; echo error >&2")
        .stdin(Stdio::Inherit)
        .stdout(Stdio::Inherit)
        .stderr(Stdio::Inherit);
    assert!(fixture.pod("web").run(&spec).expect("run a container").success());
}

fn files_and_pipes_of_the_host_are_inherited() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    fs::write(&input, "from a file\n")?;
    let mut child = host(&["stdio-inherit"])
        .stdin(File::open(&input)?)
        .stdout(File::create(&output)?)
        .stderr(HostStdio::piped())
        .spawn()?;
    let mut errors = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut errors)?;
    assert!(child.wait()?.success(), "{errors}");
    assert_eq!((fs::read_to_string(&output)?.as_str(), errors.as_str()), ("from a file\n", "error\n"));
    PASS
}

fn a_terminal_of_the_host_is_refused_in_every_way() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let pty = nix::pty::openpty(None, None)?;
    let path = fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd()))?;
    // A descriptor that only names the terminal would let the container open it again.
    let named = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOCTTY).open(&path)?;
    let ways = [
        ("the slave", Stdio::fd(pty.slave.try_clone()?)),
        ("the master", Stdio::fd(pty.master.try_clone()?)),
        ("its path", Stdio::File(path)),
        ("a name of it", Stdio::fd(OwnedFd::from(named))),
    ];
    for (what, stdio) in ways {
        for spec in [
            script("a", "true").stdin(stdio.clone()),
            script("a", "true").stdout(stdio.clone()),
            script("a", "true").stderr(stdio.clone()),
        ] {
            let Err(error) = pod.create_container(&spec) else { panic!("{what} was passed on") };
            assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{what}: {error}");
            assert!(error.to_string().contains("terminal"), "{what}: {error}");
        }
    }
    assert!(pod.containers()?.is_empty());
    // And as the calling program's own streams.
    let status = host(&["stdio-inherit"])
        .stdin(pty.slave.try_clone()?)
        .stdout(HostStdio::null())
        .stderr(HostStdio::piped())
        .output()?;
    assert!(!status.status.success());
    let text = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(text.contains("stdio.stdin: is a terminal"), "{text}");
    PASS
}

/// A directory as a stream would be a way into the host's files: `cd /proc/self/fd/0/..`.
fn a_directory_of_the_host_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for stdio in [Stdio::fd(File::open(fixture.dir.path())?), Stdio::File(fixture.dir.path().to_path_buf())] {
        let error = pod.create_container(&script("a", "true").stdin(stdio)).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("stdio.stdin")), "{error}");
        assert!(error.to_string().contains("directory"), "{error}");
    }
    PASS
}

fn another_user_can_open_its_pipes_again() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let command = "id -u; echo out >/dev/stdout && echo err >/dev/stderr && echo fd >/proc/self/fd/1";
    assert_eq!(say(&pod, script("a", command).user(1234, 567)), "1234\nout\nfd\nerr\n");
    let container = pod.create_container(
        &script("b", "cat /dev/stdin").user(1234, 567).stdin(Stdio::Pipe).stdout(Stdio::Pipe),
    )?;
    container.start()?;
    container.take_stdin().expect("a pipe").write_all(b"in\n")?;
    assert_eq!(std::io::read_to_string(container.take_stdout().expect("a pipe"))?, "in\n");
    PASS
}

/// On the host: closes the three streams before the library is used, so that its files get their numbers.
fn without_streams(report: &Path, inherit: bool) {
    for fd in 0..3 {
        // SAFETY: nothing else in this process uses them; what Rust's own handles write is lost.
        unsafe { libc::close(fd) };
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let text = if inherit {
        let mut text = String::new();
        for spec in [
            script("a", "true").stdin(Stdio::Inherit),
            script("a", "true").stdout(Stdio::Inherit),
            script("a", "true").stderr(Stdio::Inherit),
        ] {
            text += &match pod.create_container(&spec) {
                Ok(_) => "something was passed on\n".to_string(),
                Err(error) => format!("{:?} {error}\n", error.kind()),
            };
        }
        text
    } else {
        let container = pod
            .create_container(&payload_spec("a", &["facts"]).stdout(Stdio::Pipe))
            .expect("make a container");
        let stdout = container.take_stdout().expect("a pipe");
        container.start().expect("start");
        let text = std::io::read_to_string(stdout).expect("read");
        assert!(container.wait().expect("wait").success());
        text
    };
    // Written last: a report is the proof that all of the above went well.
    drop(fixture);
    fs::write(report, text).expect("write the report");
}

fn a_program_without_standard_streams_can_make_containers() -> Outcome {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report");
    let status = host(&["stdio-closed", &report.display().to_string()]).status()?;
    assert!(status.success(), "{status}");
    let facts: crate::support::Facts = serde_json::from_str(&fs::read_to_string(&report)?)?;
    assert_eq!(facts.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((&*facts.fds[&0], &*facts.fds[&2]), ("/dev/null", "/dev/null"));
    assert!(facts.fds[&1].starts_with("pipe:"), "{:?}", facts.fds);
    PASS
}

/// The numbers 0, 1 and 2 are then those of files of the library: a container must not get the state directory.
fn a_program_without_standard_streams_has_nothing_to_inherit() -> Outcome {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report");
    let status = host(&["stdio-closed-inherit", &report.display().to_string()]).status()?;
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&report)?;
    assert_eq!(text.lines().count(), 3);
    for (line, name) in text.lines().zip(["stdin", "stdout", "stderr"]) {
        assert!(line.contains(name) && line.contains("EBADF"), "{text}");
    }
    PASS
}

fn a_missing_directory_of_a_file_is_told_with_its_path() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let path = fixture.path("missing/log");
    let error = pod.create_container(&script("a", "true").stdout(Stdio::File(path.clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(pod.containers()?.is_empty());
    PASS
}

fn further_files_have_the_next_numbers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = |text: &str| -> std::io::Result<fs::File> {
        let path = fixture.path(text);
        fs::write(&path, text)?;
        fs::File::open(path)
    };
    let read = "cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '";
    let spec = script("main", read)
        .preserve_fd(std::os::fd::OwnedFd::from(file("three")?))
        .preserve_fd(std::os::fd::OwnedFd::from(file("four")?));
    // The directory that ls itself has open takes the next number.
    assert_eq!(say(&pod, spec.clone()), "threefour0 1 2 3 4 5 ");
    let container = pod.create_container(&script("other", "sleep 1000"))?;
    container.start()?;
    let mut exec = pericarp::spec::ExecSpec::new(["/bin/sh", "-c", read]).stdout(Stdio::Pipe);
    exec.preserved_fds = spec.preserved_fds.clone();
    // Both have the same open file, which was read to its end.
    let process = container.exec(&exec)?;
    let said = std::io::read_to_string(process.take_stdout().expect("a pipe"))?;
    assert_eq!(said, "0 1 2 3 4 5 ");
    assert!(process.wait()?.success());
    let directory = std::os::fd::OwnedFd::from(fs::File::open("/")?);
    let error = pod.create_container(&script("bad", "true").preserve_fd(directory)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}
