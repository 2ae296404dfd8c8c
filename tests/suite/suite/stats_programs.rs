//! The examples that show stats, run as they are: the server of metrics is asked over its socket, and the table is
//! watched and operated through a terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

#[path = "../../../examples/podtop/app.rs"]
mod podtop;
#[path = "../../../examples/metrics/server.rs"]
mod server;

crate::tests![
    metrics_are_served_on_loopback,
    metrics_are_served_to_careful_clients_only,
    the_table_is_plain_text_without_a_terminal,
    the_table_is_operated_by_keys,
    the_terminal_is_given_back_after_a_signal,
];

/// The examples, as programs of their own.
pub fn payload(words: &[&str]) -> bool {
    let (name, result) = match words {
        ["metrics", options @ ..] => ("metrics", server::run(options.iter().map(|word| word.to_string()))),
        ["podtop", options @ ..] => ("podtop", podtop::run(options.iter().map(|word| word.to_string()))),
        _ => return false,
    };
    if let Err(error) = result {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
    true
}

/// One of the programs at the node of a test.
pub fn program(fixture: &Fixture, name: &str) -> Command {
    let state = &fixture.options.state_dir;
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["payload", name, "--state-dir"]).arg(state);
    command.arg("--cgroup").arg(state.file_name().expect("a name"));
    command
}

/// Ends a program that ends by itself only when it is told to.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(fixture: &Fixture) -> Result<(Ended, SocketAddr), Failed> {
    let mut child =
        Ended(program(fixture, "metrics").args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let address =
        line.trim_end().strip_prefix("serving http://").and_then(|rest| rest.strip_suffix("/metrics"));
    Ok((child, address.ok_or(format!("it says {line:?}"))?.parse()?))
}

/// Sends a request and returns the status line, the rest of the head, and the body.
fn ask(address: SocketAddr, request: &[u8]) -> io::Result<(String, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let (status, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    Ok((status.to_string(), rest.to_string(), body.to_string()))
}

fn metrics_are_served_on_loopback() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("main", "exec sleep 1000"))?;
    container.start()?;
    let (_server, address) = serve(&fixture)?;
    let request = b"GET /metrics?all HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n";
    let (status, head, body) = ask(address, request)?;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let processes = "container_processes{container=\"main\",";
    let line = body.lines().find(|line| line.starts_with(processes)).ok_or("no processes")?;
    assert!(line.contains("namespace=\"default\",pod=\"web\"") && line.ends_with(" 1"), "{line}");
    // Each request is a reading of its own.
    container.remove()?;
    let (_, _, body) = ask(address, request)?;
    assert!(!body.contains(processes) && body.contains("pod=\"web\""), "{body}");
    PASS
}

fn metrics_are_served_to_careful_clients_only() -> Outcome {
    let fixture = Fixture::new();
    let (_server, address) = serve(&fixture)?;
    let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'x'; 8200]].concat();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404 Not Found"),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        (b"\x00\xff\xfe\r\n\r\n", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
    ] {
        assert_eq!(ask(address, request)?.0, format!("HTTP/1.1 {status}"));
    }
    // Clients that say nothing, or half of it, do not keep others out for long: their time is up.
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    let mut half = TcpStream::connect(address)?;
    half.write_all(b"GET /metrics HT")?;
    half.shutdown(Shutdown::Write)?;
    assert_eq!(ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")?.0, "HTTP/1.1 200 OK");
    drop(silent);
    let outside =
        program(&fixture, "metrics").args(["--listen", "0.0.0.0:0"]).stdout(Stdio::null()).output()?;
    assert!(!outside.status.success());
    assert!(String::from_utf8_lossy(&outside.stderr).contains("not an address of loopback"));
    PASS
}

fn the_table_is_plain_text_without_a_terminal() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let busy = pod.create_container(&script("busy", "while :; do :; done"))?;
    busy.start()?;
    let idle = pod.create_container(&script("idle", "exec sleep 1000"))?;
    idle.start()?;
    idle.freeze()?;
    let ended = pod.create_container(&script("ended", "exit 7"))?;
    ended.start()?;
    ended.wait()?;
    let output = program(&fixture, "podtop").args(["--interval", "0.5", "--times", "2"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.matches("1 pods, 3 containers").count(), 2, "{text}");
    let last: Vec<Vec<&str>> = text
        .rsplit_once("POD / CONTAINER")
        .ok_or("no head")?
        .1
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect())
        .collect();
    assert_eq!(last.len(), 4, "{text}");
    assert_eq!((last[0][0], last[1][0], last[1][1]), ("web", "busy", "running"), "{text}");
    assert!(last[1][2].parse::<f64>()? > 0.0, "it is busy: {text}");
    let of = |name: &str| last.iter().find(|words| words[0] == name).cloned().unwrap_or_default();
    assert_eq!(of("idle")[1], "frozen", "{text}");
    assert_eq!(of("ended")[1..3], ["exit", "7"], "{text}");
    idle.thaw()?;
    PASS
}

/// A program at a terminal, and the other end of that.
pub struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    pub seen: String,
}

impl Terminal {
    pub fn start(mut command: Command) -> Result<Terminal, Failed> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        let end = || slave.try_clone().map(Stdio::from);
        let child = command.stdin(end()?).stdout(end()?).stderr(end()?).process_group(0).spawn()?;
        Ok(Terminal { child, master: master.into(), slave, seen: String::new() })
    }

    /// Reads until something stands on the screen that was not there before the last key.
    fn until(&mut self, what: &str) -> Result<(), Failed> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.seen.contains(what) {
            if Instant::now() > deadline {
                return Err(format!("no {what:?} in {:?}", self.seen).into());
            }
            self.read()?;
        }
        Ok(())
    }

    pub fn read(&mut self) -> Result<(), Failed> {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100_u8))? > 0 {
            let mut buffer = [0; 65536];
            let length = self.master.read(&mut buffer)?;
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(())
    }

    pub fn press(&mut self, keys: &str) -> Result<(), Failed> {
        self.seen.clear();
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Whether lines are edited and keys echoed, as before the program.
    fn is_as_before(&self) -> Result<bool, Failed> {
        Ok(tcgetattr(&self.slave)?
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG))
    }

    pub fn end(mut self) -> Result<ExitStatus, Failed> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.read()?;
            if let Some(status) = self.child.try_wait()? {
                self.read()?;
                let after = self.seen.rsplit_once("\x1b[?25h\x1b[?1049l").map(|(_, after)| after);
                assert!(after.is_some_and(|after| !after.contains('\x1b')), "{:?}", self.seen);
                assert!(self.is_as_before()?, "the terminal stays raw");
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Err(format!("it does not end: {:?}", self.seen).into());
            }
        }
    }
}

fn the_table_is_operated_by_keys() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container =
        pod.create_container(&script("main", "trap 'exit 5' TERM; while :; do sleep 0.1; done"))?;
    container.start()?;
    let mut command = program(&fixture, "podtop");
    command.args(["--interval", "0.3", "--sort", "name"]);
    let mut top = Terminal::start(command)?;
    top.until("  main")?;
    assert!(top.seen.starts_with("\x1b[?1049h"), "{:?}", top.seen);
    assert!(!top.is_as_before()?);
    top.press("f")?;
    top.until("choose a line first")?;
    // The second line, by a letter and by an arrow.
    top.press("j\x1b[B")?;
    top.until("\x1b[7m  main")?;
    top.press("f")?;
    top.until("froze web/main")?;
    assert!(container.is_frozen()?);
    top.until("frozen")?;
    top.press("f")?;
    top.until("thawed web/main")?;
    assert!(!container.is_frozen()?);
    // The word of the state comes with the next reading.
    top.press("c")?;
    top.until("running")?;
    top.press("s")?;
    top.until("s again stops web/main")?;
    assert!(container.try_wait()?.is_none());
    top.press("ss")?;
    top.until("stopped web/main")?;
    assert_eq!(container.wait()?, pericarp::ExitStatus::Exited(5));
    top.until("exit 5")?;
    top.press("q")?;
    assert!(top.end()?.success());
    PASS
}

fn the_terminal_is_given_back_after_a_signal() -> Outcome {
    let fixture = Fixture::new();
    fixture.pod("web");
    let mut top = Terminal::start(program(&fixture, "podtop"))?;
    top.until("web")?;
    let pid = nix::unistd::Pid::from_raw(top.child.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    // That is told on a terminal that is as before.
    assert_eq!(top.end()?.code(), Some(1));
    let mut top = Terminal::start(program(&fixture, "podtop"))?;
    top.until("web")?;
    top.press("\x03")?;
    assert!(top.end()?.success());
    PASS
}
