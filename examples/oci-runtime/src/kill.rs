//! Signals for containers, in the words that engines look for in errors.

use nix::sys::signal::Signal;
use pericarp::ErrorKind;

use crate::options::Options;
use crate::{Outcome, store};

/// Sends a signal to a container's first process, or to `all` of its processes.
pub fn kill(options: &Options, id: &str, signal: &str, all: bool) -> Outcome {
    let found = store::find(options, id)?;
    let container = found.container()?;
    let signal = parse_signal(signal)?;
    // containerd and CRI-O take these words for the end of what they wanted to end.
    let not_running = || format!("container {id:?}: container not running").into();
    let sent = match found.status()? {
        "stopped" if !all => return Err(not_running()),
        // Init waits at the barrier and handles none: it ends of what ends a program that handles none.
        "created" if ends(signal) => container.kill(),
        _ if all => container.signal_all(signal),
        _ => container.signal(signal),
    };
    match sent {
        // Engines end with it what the first process may have left behind, which may be nothing.
        Err(error) if error.kind() == ErrorKind::WrongState && all => Ok(0),
        Err(error) if error.kind() == ErrorKind::WrongState => Err(not_running()),
        sent => Ok(sent.map(|()| 0)?),
    }
}

/// Whether a signal ends a program that does nothing about it (signal(7)).
fn ends(signal: i32) -> bool {
    let ignored = [Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGURG, Signal::SIGWINCH];
    let stopping = [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
    ignored.into_iter().chain(stopping).all(|other| other as i32 != signal)
}

/// `9`, `KILL` or `SIGKILL`; `SIGRTMIN`, `SIGRTMIN+3` or `SIGRTMAX-2`.
fn parse_signal(text: &str) -> Outcome<i32> {
    let (first, last) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
    if let Ok(number @ 1..) = text.parse::<i32>()
        && number <= last
    {
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let real_time = |start: &str, from: i32, sign: char| {
        let rest = name.strip_prefix(start)?;
        let by = if rest.is_empty() { 0 } else { rest.strip_prefix(sign)?.parse::<u8>().ok()?.into() };
        let number = if sign == '+' { from + by } else { from - by };
        (first..=last).contains(&number).then_some(number)
    };
    real_time("SIGRTMIN", first, '+')
        .or_else(|| real_time("SIGRTMAX", last, '-'))
        .or_else(|| name.parse::<Signal>().ok().map(|signal| signal as i32))
        .ok_or_else(|| format!("{text:?} is no signal").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", 9),
            ("64", 64),
            ("33", 33),
            ("TERM", 15),
            ("sigusr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-2", 62),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGFOO", "RTMIN+31", "RTMIN-1", "RTMAX-31", "RTMAX+1", "RTMIN+x"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_ignored_or_stops_ends_nothing() {
        assert!([1, 2, 3, 9, 10, 15, 34, 64].into_iter().all(ends));
        assert!(![17, 18, 19, 20, 21, 22, 23, 28].into_iter().any(ends));
    }
}
