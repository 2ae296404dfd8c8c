//! Contenders in another process of this program, commanded line by line over pipes.
//!
//! Peers need a mount namespace, orphans and zombies of their own; the resident case needs a heap of its own. The clock
//! is read in that process, so that the pipe is not part of the time.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use crate::contender::{Contender, Life, Program, Result, Sample, Work};

/// Serves `contenders` on stdin and stdout until the other end closes.
pub fn serve(mut contenders: Vec<Box<dyn Contender>>) -> Result<()> {
    let mut out = io::stdout();
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name()).collect();
    writeln!(out, "{}", names.join("\t"))?;
    for line in io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or("a word is missing");
        let (verb, number, work) = (next()?.to_owned(), next()?.parse::<usize>()?, next()?.parse::<Work>()?);
        let contender = contenders.get_mut(number).ok_or("no such contender")?;
        match verb.as_str() {
            "does" => writeln!(out, "{}", contender.does(work))?,
            _ => match contender.measure(work) {
                Ok(sample) => writeln!(out, "{} {}", sample.wall_ns, sample.cpu_ns)?,
                Err(error) => writeln!(out, "failed {}", error.to_string().replace('\n', " "))?,
            },
        }
    }
    Ok(())
}

struct Server {
    child: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Server {
    fn ask(&mut self, request: &str) -> Result<String> {
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{request}")?;
        }
        self.reply()
    }

    fn reply(&mut self) -> Result<String> {
        let mut reply = String::new();
        match self.replies.read_line(&mut reply)? {
            0 => Err("the serving process ended; see above".into()),
            _ => Ok(reply.trim_end().to_owned()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.requests.take();
        let _ = self.child.wait();
    }
}

pub struct Remote {
    name: String,
    number: usize,
    server: Rc<RefCell<Server>>,
}

/// Starts this program again with `arguments` and returns the contenders that it serves.
pub fn start(arguments: &[&str]) -> Result<Vec<Remote>> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--serve").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let requests = child.stdin.take();
    let replies = BufReader::new(child.stdout.take().ok_or("the pipe is gone")?);
    let mut server = Server { child, requests, replies };
    let names = server.reply()?;
    let server = Rc::new(RefCell::new(server));
    let remote = |(number, name): (usize, &str)| Remote { name: name.into(), number, server: server.clone() };
    Ok(names.split('\t').filter(|name| !name.is_empty()).enumerate().map(remote).collect())
}

impl Contender for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn does(&self, work: Work) -> bool {
        let answer = self.server.borrow_mut().ask(&format!("does {} {work}", self.number));
        answer.is_ok_and(|answer| answer == "true")
    }

    fn pod(&mut self, life: Life, members: u32, program: Program) -> Result<()> {
        self.measure(Work::Pod { life, members, program }).map(drop)
    }

    fn container(&mut self, program: Program) -> Result<()> {
        self.measure(Work::Container { program }).map(drop)
    }

    fn measure(&mut self, work: Work) -> Result<Sample> {
        let answer = self.server.borrow_mut().ask(&format!("measure {} {work}", self.number))?;
        if let Some(reason) = answer.strip_prefix("failed ") {
            return Err(reason.into());
        }
        let (wall, cpu) = answer.split_once(' ').ok_or("a strange answer")?;
        Ok(Sample { wall_ns: wall.parse()?, cpu_ns: cpu.parse()? })
    }
}
