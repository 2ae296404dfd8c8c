//! What runs in the containers of the quickstart: the quickstart itself, started with another argument.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde::{Deserialize, Serialize};

use super::ipc::{Counter, Semaphore};

/// Where the server listens, in its pod.
pub const PORT: u16 = 8080;
/// How often each container adds one to the number that they share.
pub const TIMES: u64 = 1000;

/// What the client tells.
#[derive(Serialize, Deserialize)]
pub struct Fetched {
    pub page: String,
}

/// What the neighbour, in the other pod, tells.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    pub hostname: String,
    pub port_is_open: bool,
    pub semaphore: i32,
    pub visits: u64,
    pub processes: usize,
}

/// Plays the role of that name, if it is one.
pub fn play(role: &str) -> Option<ExitCode> {
    let result = match role {
        "as-server" => serve(),
        "as-client" => fetch().and_then(tell),
        "as-neighbour" => look().and_then(tell),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{role}: {error}");
            ExitCode::FAILURE
        }
    })
}

fn tell(facts: impl Serialize) -> io::Result<()> {
    println!("{}", serde_json::to_string(&facts)?);
    Ok(())
}

fn hostname() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_string())
}

/// Counts, writes a page, and becomes a web server.
fn serve() -> io::Result<()> {
    Counter::open()?.count(&Semaphore::open()?, TIMES)?;
    let site = "/srv/quickstart";
    fs::create_dir_all(site)?;
    let ticket = env::var("TICKET").unwrap_or_default();
    fs::write(format!("{site}/index.html"), format!("hello from {}, ticket {ticket}\n", hostname()?))?;
    let address = format!("127.0.0.1:{PORT}");
    let works = |program: &str, args: &[&str]| {
        let quiet = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Path::new(program).exists() && quiet.is_ok_and(|status| status.success())
    };
    let become_server = |name: &str, program: &str, args: &[&str]| {
        println!("{name}");
        Err(Command::new(program).args(args).stderr(Stdio::null()).exec())
    };
    for busybox in ["/usr/bin/busybox", "/bin/busybox"] {
        // `--help` of an applet that is not built in fails.
        if works(busybox, &["httpd", "--help"]) {
            return become_server("busybox httpd", busybox, &["httpd", "-f", "-p", &address, "-h", site]);
        }
    }
    let python = "/usr/bin/python3";
    if works(python, &["-c", "import http.server"]) {
        let port = PORT.to_string();
        let args = ["-m", "http.server", &port, "--bind", "127.0.0.1", "--directory", site];
        return become_server("python3 -m http.server", python, &args);
    }
    println!("this example's own server");
    serve_alone(&address, &fs::read_to_string(format!("{site}/index.html"))?)
}

/// As little of a web server as can be, for machines that have none.
fn serve_alone(address: &str, page: &str) -> io::Result<()> {
    for connection in std::net::TcpListener::bind(address)?.incoming() {
        let mut connection = connection?;
        let _ = connection.read(&mut [0; 4096])?;
        write!(connection, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())?;
    }
    Ok(())
}

/// Counts, and fetches the page from the server as soon as it answers.
fn fetch() -> io::Result<Fetched> {
    Counter::open()?.count(&Semaphore::open()?, TIMES)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut connection = loop {
        match TcpStream::connect(("localhost", PORT)) {
            Ok(connection) => break connection,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    };
    write!(connection, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, page)) if head.lines().next().is_some_and(|line| line.contains(" 200 ")) => {
            Ok(Fetched { page: page.trim().to_string() })
        }
        _ => Err(io::Error::other(format!("the server answered {answer:?}"))),
    }
}

/// Looks for what belongs to the other pod.
fn look() -> io::Result<Seen> {
    let processes = fs::read_dir("/proc")?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .count();
    Ok(Seen {
        hostname: hostname()?,
        port_is_open: TcpStream::connect(("127.0.0.1", PORT)).is_ok(),
        semaphore: Semaphore::open()?.value()?,
        visits: Counter::open()?.get(),
        processes,
    })
}
