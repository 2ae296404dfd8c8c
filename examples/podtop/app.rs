//! What podtop does: read, show, and do what keys say.

mod screen;
#[path = "../support/signals.rs"]
mod signals;
mod table;

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pericarp::{CgroupParent, Node, NodeOptions, NodeStats};

use screen::{Key, Screen};
use signals::{Signals, Woken};
use table::{Order, Row, Table};

const HELP: &str = "\
usage: podtop [OPTIONS]

Shows pods and their containers: processor time, memory (the working set), the share of the last 10
seconds in which something waited for processors, memory and disks, processes, state and age. The state
of a pod is how many of its containers run, of how many.

  --interval SECONDS  how often (1)
  --times N           end after so many tables; without a terminal 1 unless given
  --sort ORDER        cpu, mem, wait, pids, age or name (cpu)
  --state-dir PATH    the node's state directory (/run/pericarp)
  --cgroup NAME       the node's cgroup (pericarp)
  --help              print this

Keys: c m w p a n sort; j k or arrows choose a line; f freezes it or lets it run again; s stops it (twice,
to be sure); q ends. Without a terminal at standard output the tables are plain text.

Needs root.
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long what is stopped may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

struct Options {
    interval: Duration,
    times: Option<u64>,
    order: Order,
    node: NodeOptions,
}

impl Options {
    /// `None` when help is asked for.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>> {
        let mut options = Options {
            interval: Duration::from_secs(1),
            times: None,
            order: Order::Cpu,
            node: NodeOptions::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--interval" => {
                    options.interval = Duration::try_from_secs_f64(value()?.parse()?)?
                        .clamp(Duration::from_millis(100), Duration::from_secs(3600));
                }
                "--times" => options.times = Some(value()?.parse::<u64>()?.max(1)),
                "--sort" => {
                    let word = value()?;
                    options.order =
                        Order::named(&word).ok_or(format!("cannot sort by {word} (see --help)"))?;
                }
                "--state-dir" => options.node = options.node.state_dir(value()?),
                "--cgroup" => options.node = options.node.cgroup_parent(CgroupParent::Named(value()?)),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{word}? (see --help)").into()),
            }
        }
        Ok(Some(options))
    }
}

/// Runs until it is asked to end.
pub fn run(words: impl Iterator<Item = String>) -> Result<()> {
    let Some(options) = Options::parse(words)? else {
        print!("{HELP}");
        return Ok(());
    };
    let signals = Signals::take()?;
    let node = Node::open(&options.node)?;
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        live(&node, &options, &signals)
    } else {
        plain(&node, &options, &signals)
    }
}

fn plain(node: &Node, options: &Options, signals: &Signals) -> Result<()> {
    // Processor time is a difference of two readings.
    let mut before = node.stats()?;
    for number in 0..options.times.unwrap_or(1) {
        match signals.wait(&[], Some(options.interval))? {
            Woken::Signal(signal) => return Err(format!("ended by {signal}").into()),
            Woken::Ended | Woken::TimedOut => {}
        }
        let now = node.stats()?;
        let table = Table::new(node, &before, &now, options.order);
        let mut out = std::io::stdout().lock();
        if number > 0 {
            writeln!(out)?;
        }
        table.lines(80).iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
        out.flush()?;
        before = now;
    }
    Ok(())
}

/// What the screen shows.
struct View {
    before: NodeStats,
    now: NodeStats,
    table: Table,
    order: Order,
    /// The id of the pod and the name of the container of the chosen line.
    chosen: Option<(String, Option<String>)>,
    message: String,
    /// That the chosen line is to be stopped was said once.
    sure: bool,
}

fn live(node: &Node, options: &Options, signals: &Signals) -> Result<()> {
    let screen = Screen::open()?;
    let (tell, told) = channel();
    let before = node.stats()?;
    let table = Table::new(node, &before, &before, options.order);
    let mut view = View {
        now: before.clone(),
        before,
        table,
        order: options.order,
        chosen: None,
        message: String::new(),
        sure: false,
    };
    let mut shown = 0;
    let mut next = Instant::now() + options.interval;
    loop {
        hear(&mut view, &told);
        draw(&screen, &view)?;
        let stdin = std::io::stdin();
        let left = next.saturating_duration_since(Instant::now());
        match signals.wait(&[stdin.as_fd()], Some(left))? {
            Woken::Signal(signal) => return Err(format!("ended by {signal}").into()),
            Woken::Ended => {
                for key in screen.keys()? {
                    if key == Key::Quit {
                        return Ok(());
                    }
                    press(node, &mut view, key, &tell);
                }
            }
            Woken::TimedOut => {
                shown += 1;
                if options.times.is_some_and(|times| shown >= times) {
                    return Ok(());
                }
                let now = node.stats()?;
                view.before = std::mem::replace(&mut view.now, now);
                view.table = Table::new(node, &view.before, &view.now, view.order);
                next = Instant::now() + options.interval;
            }
        }
    }
}

fn hear(view: &mut View, told: &Receiver<String>) {
    if let Some(message) = told.try_iter().last() {
        view.message = message;
    }
}

fn draw(screen: &Screen, view: &View) -> Result<()> {
    let (width, height) = screen.size();
    let lines = view.table.lines(width);
    let chosen = view.table.rows.iter().position(|row| Some(&row.key) == view.chosen.as_ref());
    let foot = if view.message.is_empty() {
        "sort: c m w p a n   choose: j k   f freeze   s stop   q quit"
    } else {
        &view.message
    };
    screen.draw(&lines, chosen.map(|row| row + 1), foot, (width, height))?;
    Ok(())
}

fn press(node: &Node, view: &mut View, key: Key, tell: &Sender<String>) {
    let sure = std::mem::take(&mut view.sure);
    view.message.clear();
    if let Key::Sort(order) = key {
        view.order = order;
        view.table = Table::new(node, &view.before, &view.now, order);
    }
    let at = view.table.rows.iter().position(|row| Some(&row.key) == view.chosen.as_ref());
    let go = |to: usize| view.table.rows.get(to).map(|row| row.key.clone());
    match (key, at) {
        (Key::Down, at) => view.chosen = go(at.map_or(0, |at| at + 1)).or(view.chosen.take()),
        (Key::Up, at) => view.chosen = go(at.map_or(0, |at| at.saturating_sub(1))),
        (Key::Freeze | Key::Stop, None) => view.message = "choose a line first (j, k)".to_string(),
        (Key::Freeze, Some(at)) => begin(node, &view.table.rows[at], tell, freeze_or_thaw),
        (Key::Stop, Some(at)) if sure => {
            view.message = format!("stopping {} …", view.table.rows[at].title());
            begin(node, &view.table.rows[at], tell, stop);
        }
        (Key::Stop, Some(at)) => {
            view.sure = true;
            view.message = format!("s again stops {}", view.table.rows[at].title());
        }
        (Key::Sort(_) | Key::Quit, _) => {}
    }
}

/// Does something that may take its time on a thread, and tells how it went.
fn begin(node: &Node, row: &Row, tell: &Sender<String>, what: fn(&Node, &Row) -> pericarp::Result<String>) {
    let (node, row, tell) = (node.clone(), row.clone(), tell.clone());
    std::thread::spawn(move || {
        let message = what(&node, &row).unwrap_or_else(|error| error.to_string());
        // When nobody listens any more, the program is about to end.
        let _ = tell.send(message);
    });
}

/// By what is now, which may not be what the line still says.
fn freeze_or_thaw(node: &Node, row: &Row) -> pericarp::Result<String> {
    let (pod, title) = (node.open_pod(&row.key.0)?, row.title());
    let whole = pod.is_frozen()?;
    let Some(name) = &row.key.1 else {
        if !whole {
            pod.freeze()?;
            return Ok(format!("froze {title}"));
        }
        pod.thaw()?;
        // Those that were frozen themselves stay so. What is asked of a cgroup is in this file; its processes need a
        // moment to run again.
        let asked = |name: &str| std::fs::read_to_string(pod.cgroup_path().join(name).join("cgroup.freeze"));
        let mut still: Vec<String> = pod.containers()?.iter().map(|one| one.name().to_string()).collect();
        still.retain(|name| asked(name).is_ok_and(|text| text.trim() == "1"));
        still.sort();
        let rest =
            if still.is_empty() { String::new() } else { format!("; still frozen: {}", still.join(", ")) };
        return Ok(format!("thawed {title}{rest}"));
    };
    if whole {
        return Ok(format!("the whole pod is frozen: choose its line to thaw {title}"));
    }
    let container = pod.container(name)?;
    if container.is_frozen()? {
        container.thaw()?;
        return Ok(format!("thawed {title}"));
    }
    container.freeze()?;
    Ok(format!("froze {title}"))
}

fn stop(node: &Node, row: &Row) -> pericarp::Result<String> {
    let pod = node.open_pod(&row.key.0)?;
    match &row.key.1 {
        Some(name) => drop(pod.container(name)?.stop(GRACE)?),
        None => pod.stop(GRACE)?,
    }
    Ok(format!("stopped {}", row.title()))
}
