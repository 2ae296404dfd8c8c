//! The command lines that containerd's shim (go-runc), CRI-O and conmon send, word for word, and what they read of the answers.

mod support;

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use support::Bundle;

/// An engine with its log, for one container.
struct Engine(Bundle);

impl Engine {
    fn new(script: &str) -> Engine {
        Engine(Bundle::new(false, script))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// With what go-runc gives to every command.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command(&["--log", &self.path("log.json"), "--log-format", "json"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.run(words)).unwrap()
    }

    /// What a command that fails says to people; and to the engine, which reads the last error of the log.
    #[track_caller]
    fn failure(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let log = fs::read_to_string(self.path("log.json")).unwrap();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["time"].as_str().unwrap().contains('T'));
        let message = last["msg"].as_str().unwrap();
        assert!(said.contains(message), "{said:?} and {message:?}");
        message.to_string()
    }

    /// Makes the container `one`, whose output goes to a file.
    fn create(&self, words: &[&str]) {
        let (bundle, pid_file) = (self.path(""), self.path("init.pid"));
        let mut all = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        all.extend(words);
        all.push("one");
        let output = File::create(self.path("output")).unwrap();
        let mut command = self.command(&all);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        assert!(command.status().unwrap().success(), "{all:?}: {}", self.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap()
    }

    fn pid(&self) -> i64 {
        fs::read_to_string(self.path("init.pid")).unwrap().parse().unwrap()
    }

    fn status(&self) -> String {
        self.json(&["state", "one"])["status"].as_str().unwrap().to_string()
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "{what}: {} {:?}", self.status(), self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn until_said(&self, text: &str) {
        self.until(text, || self.said().contains(text));
    }

    #[track_caller]
    fn until_stopped(&self) {
        self.until("stopped", || self.status() == "stopped");
    }
}

/// A descriptor that somebody sends to a socket, with its message.
fn received(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().unwrap();
    let (mut text, mut space) = ([0; 64], nix::cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut text)];
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let rights = message.cmsgs().unwrap().next();
    let Some(ControlMessageOwned::ScmRights(descriptors)) = rights else { panic!("{rights:?}") };
    let length = message.bytes;
    // SAFETY: it has just been received, and is nobody else's.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
    (String::from_utf8_lossy(&text[..length]).into_owned(), descriptor)
}

/// Mutation: with no line in `kill.rs` for who wants all ended of a container that has ended, `kill --all one 15` failed with
/// "container not running".
#[test]
fn a_container_lives_as_containerd_has_it() {
    let engine = Engine::new("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    engine.0.change(|json| json["annotations"] = json!({ "of": "it" }));
    engine.create(&["--no-new-keyring"]);
    let state = engine.json(&["state", "one"]);
    for (key, value) in [
        ("id", json!("one")),
        ("pid", json!(engine.pid())),
        ("status", json!("created")),
        ("bundle", json!(engine.0.path())),
        ("rootfs", json!(engine.0.path().join("rootfs"))),
        ("annotations", json!({ "of": "it" })),
    ] {
        assert_eq!(state[key], value, "{key} of {state}");
    }
    assert!(state["created"].as_str().unwrap().ends_with('Z'), "{state}");
    assert_eq!(engine.run(&["start", "one"]), "");
    engine.until_said("ready");
    assert_eq!(engine.json(&["list", "--format=json"]), json!([engine.json(&["state", "one"])]));
    assert_eq!(engine.status(), "running");
    assert!(
        engine.json(&["ps", "--format", "json", "one"]).as_array().unwrap().contains(&json!(engine.pid()))
    );
    let table = engine.run(&["ps", "--format", "table", "one", "-eopid,comm"]);
    let mut lines = table.lines();
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert!(lines.clone().any(|line| words(line)[0] == engine.pid().to_string()), "{table}");
    assert!(lines.all(|line| ["sh", "busybox", "sleep"].contains(&&*words(line)[1])), "{table}");
    assert!(engine.failure(&["ps", "one", "-o", "comm"]).contains("column PID"));
    engine.run(&["pause", "one"]);
    assert_eq!(engine.status(), "paused");
    engine.run(&["resume", "one"]);
    assert!(engine.failure(&["delete", "one"]).contains("is running"));
    engine.run(&["kill", "one", "15"]);
    engine.until_stopped();
    // What containerd and CRI-O take for the end of the container.
    for words in [["kill", "one", "9"], ["kill", "one", "SIGTERM"]] {
        assert!(engine.failure(&words).contains("container not running"));
    }
    engine.run(&["kill", "--all", "one", "9"]);
    engine.run(&["kill", "--all", "one", "15"]);
    assert!(engine.failure(&["events", "--stats", "one"]).contains("not running"));
    engine.run(&["delete", "one"]);
    for words in [["state", "one"], ["start", "one"], ["kill", "one"], ["delete", "one"]]
        .iter()
        .map(|words| &words[..])
    {
        assert!(engine.failure(words).contains("does not exist"), "{words:?}");
    }
    engine.run(&["delete", "--force", "one"]);
    assert_eq!(engine.json(&["list", "--format=json"]), json!([]));
}

/// Mutation: with `signal` in the place of `signal_all` in `kill.rs`, the child heard nothing, and the container never stopped:
/// "stopped: running "ready\nready\n"".
#[test]
fn a_signal_is_for_one_process_or_for_all() {
    let hear = "trap 'heard=1' 37; echo ready; while [ -z \"$heard\" ]; do sleep 0.01; done";
    let engine = Engine::new(&format!("({hear}; echo child) & {hear}; wait; echo both"));
    engine.create(&[]);
    engine.run(&["start", "one"]);
    engine.until("two are ready", || engine.said().matches("ready").count() == 2);
    assert!(engine.failure(&["kill", "one", "SIGFOO"]).contains("no signal"));
    engine.run(&["kill", "--all", "one", "SIGRTMIN+3"]);
    engine.until_stopped();
    // The shell may tell besides that a sleep of its own was ended by the signal.
    let said = engine.said();
    let heard: Vec<&str> = said.lines().filter(|line| ["child", "both"].contains(line)).collect();
    assert_eq!(heard, ["child", "both"], "{said}");
    engine.run(&["delete", "--force", "one"]);
}

/// What ends a program that does nothing about it ends one that was created, and nothing else does.
///
/// Mutation: without the line for created containers in `kill.rs`, init ignored the signal: "stopped: created """.
#[test]
fn a_container_that_was_created_hears_signals() {
    for (signal, all) in [("KILL", false), ("15", false), ("USR1", true)] {
        let engine = Engine::new("echo started");
        engine.create(&[]);
        engine.run(&["kill", "one", "WINCH"]);
        engine.run(&["kill", "--all", "one", "SIGCONT"]);
        assert_eq!(engine.status(), "created");
        let words = if all { vec!["kill", "--all", "one", signal] } else { vec!["kill", "one", signal] };
        engine.run(&words);
        engine.until_stopped();
        assert_eq!(engine.said(), "");
        engine.run(&["delete", "one"]);
    }
}

/// Mutation: with nothing but the controller asked for the number of processes (`events.rs`), 0 of them were told where there is
/// no such controller.
#[test]
fn figures_have_the_shape_of_runc() {
    let engine = Engine::new("sleep 1000");
    engine.create(&[]);
    engine.run(&["start", "one"]);
    let event = engine.json(&["events", "--stats", "one"]);
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("one")));
    let data = &event["data"];
    assert_eq!(data["pids"]["current"], 1, "{data}");
    for number in
        ["/cpu/usage/kernel", "/cpu/usage/user", "/memory/usage/limit", "/memory/swap/failcnt", "/pids/limit"]
    {
        assert!(data.pointer(number).is_some_and(Value::is_u64), "{number} of {data}");
    }
    for map in ["/hugetlb", "/memory/raw"] {
        assert!(
            data.pointer(map).unwrap().as_object().unwrap().values().all(|value| !value.is_null()),
            "{data}"
        );
    }
    assert!(data["blkio"]["ioServiceBytesRecursive"].is_array(), "{data}");
    assert_eq!(data["network_interfaces"][0]["Name"], "lo", "{data}");
    // At each interval, until the container ends.
    let mut follows = engine.command(&["events", "--interval=1s", "one"]);
    match engine.0.path().join("rootfs").exists() && memory_is_counted(&engine) {
        true => {
            let mut child = follows.stdout(Stdio::piped()).spawn().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let mut first = [0; 16];
            stdout.read_exact(&mut first).unwrap();
            assert_eq!(&first[..2], b"{\"");
            engine.run(&["kill", "one", "KILL"]);
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            assert!(child.wait().unwrap().success());
        }
        false => {
            assert!(String::from_utf8_lossy(&follows.output().unwrap().stderr).contains("memory controller"))
        }
    }
    engine.run(&["delete", "--force", "one"]);
}

fn memory_is_counted(engine: &Engine) -> bool {
    let pid = engine.pid();
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap().split(' ').nth(4).unwrap();
    PathBuf::from(format!("{mount}{path}/memory.events")).exists()
}

/// Mutation: without `cap` among what conflicts with `--process` (`options.rs`), `--cap` was ignored: exit status 9, and nothing on
/// standard error.
#[test]
fn a_process_is_executed_as_it_is_described() {
    let engine = Engine::new("sleep 1000");
    engine.create(&[]);
    engine.run(&["start", "one"]);
    let process = json!({
        "user": { "uid": 0, "gid": 7 }, "cwd": "/bin", "env": ["OF=it", "PATH=/bin"],
        "args": ["sh", "-c", "pwd; id -g; echo $OF; echo end >&2"],
        "capabilities": { "bounding": ["CAP_KILL", "CAP_FLY"] },
        "scheduler": { "policy": "SCHED_BATCH", "nice": 0, "flags": [] },
    });
    let (file, pid_file) = (engine.path("process.json"), engine.path("exec.pid"));
    fs::write(&file, process.to_string()).unwrap();
    let output = File::create(engine.path("output")).unwrap();
    let mut command =
        engine.command(&["exec", "--process", &file, "--detach", "--pid-file", &pid_file, "one"]);
    let status = command.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
    assert!(status.success(), "{}", engine.said());
    engine.until_said("end");
    assert!(engine.said().ends_with("/bin\n7\nit\nend\n"), "{}", engine.said());
    assert!(fs::read_to_string(pid_file).unwrap().parse::<i32>().unwrap() > 1);
    let log = fs::read_to_string(engine.path("log.json")).unwrap();
    assert!(log.contains("\"warning\"") && log.contains("CAP_FLY"), "{log}");
    // In the foreground, as CRI-O does it for probes, with its exit status; and with a terminal, as conmon says it twice.
    fs::write(
        &file,
        json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/bin/sh", "-c", "exit 9"] })
            .to_string(),
    )
    .unwrap();
    assert_eq!(engine.output(&["exec", "--process", &file, "one"]).status.code(), Some(9));
    for words in [["--cwd", "/"], ["--user", "1"], ["--env", "A=b"], ["--cap", "CAP_KILL"]] {
        let said = engine.output(&["exec", "--process", &file, words[0], words[1], "one"]);
        assert!(String::from_utf8_lossy(&said.stderr).contains(words[0]), "{said:?}");
        assert_ne!(said.status.code(), Some(9));
    }
    fs::write(
        &file,
        json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/bin/none"] }).to_string(),
    )
    .unwrap();
    assert!(engine.failure(&["exec", "--process", &file, "one"]).contains("No such file"));
    engine.run(&["pause", "one"]);
    assert!(engine.failure(&["exec", "--ignore-paused", "one", "id"]).contains("thaw it first"));
    assert!(engine.failure(&["exec", "--cgroup", "below", "one", "id"]).contains("--cgroup"));
    engine.run(&["delete", "--force", "one"]);
}

/// Mutation: with the container's pidfd sent in `exec.rs`, it was of process 21033 and not of 21048.
#[test]
fn terminals_and_pidfds_are_sent_to_who_asks() {
    let engine = Engine::new("sleep 1000");
    engine.0.change(|json| json["process"]["terminal"] = json!(true));
    let (console, socket) = (engine.path("c.sock"), engine.path("p.sock"));
    let (consoles, pidfds) = (UnixListener::bind(&console).unwrap(), UnixListener::bind(&socket).unwrap());
    let of = |fd: &OwnedFd| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        info.lines().find_map(|line| line.strip_prefix("Pid:\t")?.parse::<i64>().ok())
    };
    engine.create(&["--console-socket", &console, "--pidfd-socket", &socket]);
    assert_eq!(received(&consoles).0, "/dev/pts/0");
    let (text, pidfd) = received(&pidfds);
    assert_eq!((text.as_str(), of(&pidfd)), ("pidfd", Some(engine.pid())));
    engine.run(&["start", "one"]);
    let process = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "terminal": true, "args": ["/bin/sh", "-c", "stty size; read line; echo got $line"],
        "consoleSize": { "width": 55, "height": 22 }, "env": ["PATH=/bin"] });
    let (file, pid_file) = (engine.path("process.json"), engine.path("exec.pid"));
    fs::write(&file, process.to_string()).unwrap();
    // conmon says --tty, too, where the process has a terminal.
    engine.run(&[
        "exec",
        "--process",
        &file,
        "--console-socket",
        &console,
        "--pidfd-socket",
        &socket,
        "--tty",
        "--detach",
        "--pid-file",
        &pid_file,
        "one",
    ]);
    let (_, master) = received(&consoles);
    let (_, pidfd) = received(&pidfds);
    assert_eq!(of(&pidfd), fs::read_to_string(pid_file).unwrap().parse().ok());
    let mut terminal = File::from(master);
    terminal.write_all(b"hello\n").unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 256]);
    // Reading fails when nobody has the other side open any more.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        seen += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(seen.contains("22 55") && seen.contains("got hello"), "{seen:?}");
    engine.run(&["delete", "--force", "one"]);
}

/// As the kubelet resizes a container: containerd and CRI-O send all resources of the configuration.
///
/// Mutations: with no rules taken by `update.rs`, and likewise without `BPF_F_REPLACE` in `src/sys/bpf.rs`, where the old program
/// goes on to refuse what the new one allows, the second answer was "refused" and not "opened".
#[test]
fn an_update_comes_with_rules_for_devices() {
    let engine =
        Engine::new("while read line; do (: >/log) 2>/dev/null && echo opened || echo refused; done <>/fifo");
    engine.0.change(|json| {
        json["linux"]["devices"] = json!([
            { "path": "/log", "type": "c", "major": 1, "minor": 11 }, { "path": "/fifo", "type": "p" },
        ]);
    });
    engine.create(&[]);
    engine.run(&["start", "one"]);
    let ask = |number: usize| {
        let fifo = format!("/proc/{}/root/fifo", engine.pid());
        fs::OpenOptions::new().write(true).open(fifo).unwrap().write_all(b"\n").unwrap();
        engine.until("an answer", || engine.said().lines().count() == number);
        engine.said().lines().last().unwrap().to_string()
    };
    let update = |resources: Value| {
        let mut child =
            engine.command(&["update", "--resources=-", "one"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(resources.to_string().as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert_eq!(ask(1), "refused");
    let none = json!({ "allow": false, "access": "rwm" });
    let log = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
    assert!(update(json!({ "devices": [none, log] })));
    assert_eq!(ask(2), "opened");
    // That nothing is said of devices leaves them.
    assert!(update(json!({})));
    assert_eq!(ask(3), "opened");
    assert!(update(json!({ "devices": [none] })));
    assert_eq!(ask(4), "refused");
    assert!(!update(json!({ "devices": [{ "allow": true, "type": "p" }] })));
    engine.run(&["delete", "--force", "one"]);
}

/// Mutation: without the third line of `VERSION` in `options.rs`, there were 2 lines and not 3.
#[test]
fn what_the_runtime_can_do_is_told() {
    let engine = Engine::new("");
    let features = engine.json(&["features"]);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    let version = engine.run(&["--version"]);
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines.len(), 3, "{version}");
    for (line, start) in lines.into_iter().zip(["pericarp-oci version ", "commit: ", "spec: 1."]) {
        assert!(line.strip_prefix(start).is_some_and(|rest| !rest.is_empty()), "{version}");
    }
    assert!(engine.failure(&["checkpoint", "--image-path", "/i", "one"]).contains("checkpoints"));
    assert!(engine.failure(&["restore", "--detach", "--bundle", "/b", "one"]).contains("checkpoints"));
}

/// Mutation: with this program's own number as `LISTEN_PID` (`commands.rs`), the container said "1 20999 a" and not "1 1 a".
#[test]
fn sockets_that_the_program_was_started_for_are_the_containers() {
    let engine = Engine::new("echo \"$LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES\"; cat <&3; cat <&4");
    for (name, text) in [("first", "one\n"), ("second", "two\n")] {
        fs::write(engine.path(name), text).unwrap();
    }
    let create = engine.command(&["create", "--bundle", &engine.path(""), "--preserve-fds", "1", "one"]);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "LISTEN_FDS=1 LISTEN_FDNAMES=a LISTEN_PID=$$ exec \"$@\" 3<\"$FIRST\" 4<\"$SECOND\"",
        "sh",
    ]);
    shell.arg(create.get_program()).args(create.get_args());
    shell.env("FIRST", engine.path("first")).env("SECOND", engine.path("second"));
    let output = File::create(engine.path("output")).unwrap();
    assert!(shell.stdin(Stdio::null()).stdout(output).status().unwrap().success());
    engine.run(&["start", "one"]);
    engine.until_stopped();
    assert_eq!(engine.said(), "1 1 a\none\ntwo\n");
    engine.run(&["delete", "one"]);
}

/// Mutation: with `start` not waiting for `notify.rs`, nobody listened any more when the container told: ECONNREFUSED.
#[test]
fn a_container_tells_that_it_is_ready() {
    let engine = Engine::new("echo \"$NOTIFY_SOCKET\"; sleep 1000");
    let path = engine.path("host.sock");
    let host = UnixDatagram::bind(&path).unwrap();
    let create = |words: &[&str]| {
        let mut command = engine.command(words);
        command.env("NOTIFY_SOCKET", &path);
        command
    };
    let (bundle, pid_file) = (engine.path(""), engine.path("init.pid"));
    let output = File::create(engine.path("output")).unwrap();
    let mut made = create(&["create", "--bundle", &bundle, "--pid-file", &pid_file, "one"]);
    assert!(made.stdout(output).status().unwrap().success());
    let mut start = create(&["start", "one"]).spawn().unwrap();
    engine.until_said("/run/notify/notify.sock");
    // What the container has there, told by somebody in its root.
    let socket = format!("/proc/{}/root/run/notify/notify.sock", engine.pid());
    let container = UnixDatagram::unbound().unwrap();
    container.send_to(b"STATUS=warming up", &socket).unwrap();
    container.send_to(b"STATUS=warm\nREADY=1", &socket).unwrap();
    let mut messages = Vec::new();
    for _ in 0..3 {
        let mut buffer = [0; 256];
        // The descriptor that comes with the last one is not taken, and so closed.
        let length = host.recv(&mut buffer).unwrap();
        messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert_eq!(
        messages,
        ["READY=1\n".to_string(), format!("MAINPID={}\n", engine.pid()), "BARRIER=1".into()]
    );
    assert!(start.wait().unwrap().success());
    engine.run(&["delete", "--force", "one"]);
    assert!(!engine.0.path().join("state/notify").exists());
}
