//! What the library tells a logger that the host has installed (crate `log`); without one it tells nobody.
//!
//! Only where a call of the public interface works on its caller's thread: a logger is code of the host's. Never on a thread
//! of the library's own, never between fork and exec, and never in `sys::worker`, whose process shares the memory of the
//! host, with whatever a logger has locked. What ends well is told when its locks are free; warnings may come earlier.

use std::fmt::Display;

/// The targets of the messages.
pub(crate) const NODE: &str = "pericarp::node";
pub(crate) const POD: &str = "pericarp::pod";
pub(crate) const CONTAINER: &str = "pericarp::container";

/// What failed, where a call that has failed takes back its work.
pub(crate) const UNDO: &str = "take back what was half made";

/// Warns of a failure that the caller is not told, since something else matters more to it.
pub(crate) fn swallowed<T, E: Display>(target: &str, of: impl Display, step: &str, result: Result<T, E>) {
    if let Err(error) = result {
        log::warn!(target: target, "{of}: {step}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    struct Logger;

    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {} {}", record.level(), record.target(), record.args());
            WARNINGS.lock().unwrap().push(line);
        }

        fn flush(&self) {}
    }

    /// With `info!` in place of `warn!` there is no line. (That was tried.)
    #[test]
    fn a_log_has_a_failure_that_is_swallowed_and_nothing_of_what_went_well() {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        swallowed(POD, "pod of-logs-1", "take it back", Ok::<(), String>(()));
        swallowed(POD, "pod of-logs-2", "take it back", Err::<(), _>("it is busy"));
        log::set_max_level(log::LevelFilter::Off);
        // Other tests of this process make pods.
        let all = WARNINGS.lock().unwrap();
        let ours: Vec<&String> = all.iter().filter(|line| line.contains("of-logs-")).collect();
        assert_eq!(ours, ["WARN pericarp::pod pod of-logs-2: take it back: it is busy"]);
    }
}
