//! As much of a web server as one page needs, and no more: one request a connection, a bounded one, in bounded time.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pericarp::stats::{FilesystemOptions, StatsOptions};
use pericarp::{CgroupParent, Node, NodeOptions};

const HELP: &str = "\
usage: metrics [OPTIONS]

Serves what pods and containers use at http://ADDRESS/metrics, as the text that Prometheus reads, with the
names that cAdvisor and the kubelet use, and the limits in force. Each request is a new reading.

  --listen ADDRESS   where, on loopback only (127.0.0.1:9101): there is no authentication
  --filesystems N    also measure volumes and writable layers, counting at most N files of each
  --state-dir PATH   the node's state directory (/run/pericarp)
  --cgroup NAME      the node's cgroup (pericarp)
  --help             print this

Needs root. The first line of output tells the address: with port 0 it is one that was free.
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A request has to be there, and a page to be taken, in this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// No request is longer.
const LONGEST: usize = 8 << 10;
/// As many clients are served at a time; others wait in the listener's queue.
const CLIENTS: usize = 4;

struct Options {
    listen: SocketAddr,
    node: NodeOptions,
    stats: StatsOptions,
}

impl Options {
    /// `None` when help is asked for.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>> {
        let mut options = Options {
            listen: (Ipv4Addr::LOCALHOST, 9101).into(),
            node: NodeOptions::new(),
            stats: StatsOptions::new().limits(true),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--listen" => options.listen = value()?.parse()?,
                "--filesystems" => {
                    let how = FilesystemOptions::max_files(value()?.parse()?);
                    options.stats = options.stats.filesystems(how);
                }
                "--state-dir" => options.node = options.node.state_dir(value()?),
                "--cgroup" => options.node = options.node.cgroup_parent(CgroupParent::Named(value()?)),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{word}? (see --help)").into()),
            }
        }
        if !options.listen.ip().is_loopback() {
            return Err(format!("{} is not an address of loopback", options.listen.ip()).into());
        }
        Ok(Some(options))
    }
}

/// Serves until the program ends.
pub fn run(words: impl Iterator<Item = String>) -> Result<()> {
    let Some(options) = Options::parse(words)? else {
        print!("{HELP}");
        return Ok(());
    };
    let node = Node::open(&options.node)?;
    let listener = TcpListener::bind(options.listen)?;
    println!("serving http://{}/metrics", listener.local_addr()?);
    let serve = || -> () {
        loop {
            match listener.accept() {
                // What goes wrong with one client is that client's.
                Ok((client, _)) => drop(answer(client, || page(&node, &options.stats))),
                // Out of descriptors, for instance: without a pause this would spin.
                Err(error) => {
                    eprintln!("metrics: accept: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..CLIENTS).for_each(|_| drop(scope.spawn(serve)));
        serve();
    });
    Ok(())
}

fn page(node: &Node, options: &StatsOptions) -> Result<String> {
    Ok(node.stats_with(options)?.to_prometheus())
}

/// Reads the request, and writes the page or what is wrong.
fn answer(mut client: TcpStream, page: impl Fn() -> Result<String>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    client.set_write_timeout(Some(PATIENCE))?;
    let (status, text) = match read_request(&mut client, deadline)? {
        Request::Metrics => match page() {
            Ok(text) => ("200 OK", text),
            Err(error) => {
                eprintln!("metrics: {error}");
                ("500 Internal Server Error", format!("{error}\n"))
            }
        },
        Request::Wrong(status) => (status, format!("{status}\n")),
    };
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n{text}",
        text.len()
    )
}

enum Request {
    Metrics,
    /// Anything else, with the status that says what is wrong.
    Wrong(&'static str),
}

/// Reads a request's head. Bodies are not for this server.
fn read_request(client: &mut TcpStream, deadline: Instant) -> io::Result<Request> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Request::Wrong("408 Request Timeout"));
        }
        if head.len() > LONGEST {
            return Ok(Request::Wrong("431 Request Header Fields Too Large"));
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut buffer) {
            Ok(0) => return Ok(Request::Wrong("400 Bad Request")),
            Ok(length) => head.extend(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Ok(Request::Wrong("400 Bad Request")) };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    Ok(match (method, path) {
        _ if !version.starts_with(b"HTTP/1.") => Request::Wrong("505 HTTP Version Not Supported"),
        (b"GET", b"/metrics") => Request::Metrics,
        (_, b"/metrics") => Request::Wrong("405 Method Not Allowed"),
        _ => Request::Wrong("404 Not Found"),
    })
}
