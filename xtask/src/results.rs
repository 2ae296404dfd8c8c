//! Reading what test binaries print: the standard library's harness, rustdoc's and libtest-mimic.

use std::mem;

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Passed,
    Failed,
    /// With the reason, where one is given.
    Skipped(Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub name: String,
    pub outcome: Outcome,
}

/// All that one run of a test binary said.
#[derive(Debug, Default, PartialEq)]
pub struct Results {
    pub tests: Vec<Test>,
    /// What failed tests said, by their names.
    pub messages: Vec<(String, Vec<String>)>,
    /// Why the results cannot be taken as they are.
    pub problems: Vec<String>,
}

impl Results {
    pub fn count(&self, which: fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| which(&test.outcome)).count()
    }

    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    pub fn failed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Failed)
    }

    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }
}

/// Reads the standard output of a test binary. There may be several runs in it, each from `running N
/// tests` to `test result: ...`, as rustdoc prints.
pub fn parse(output: &str) -> Results {
    let mut reader = Reader::default();
    for line in output.lines() {
        reader.line(without_colours(line).trim_end());
    }
    reader.end()
}

#[derive(Default)]
struct Reader {
    results: Results,
    /// Whether a run has begun and not yet closed with its `test result:`.
    running: bool,
    /// How many runs have closed.
    closed: usize,
    /// How many tests earlier runs had.
    before: usize,
    /// Whether the run has come to its list of failures, in which tests' own output is quoted.
    failures: bool,
    /// Whether its lines are what a test said.
    quoting: bool,
    /// A test whose name was printed but not its outcome: with one thread, the test runs in between,
    /// and what it prints comes in between too.
    pending: Option<String>,
    /// The last line that came in between.
    between: String,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if !self.running {
            if is_title(line) {
                self.running = true;
                self.failures = false;
                self.quoting = false;
            }
            return;
        }
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.settle();
            self.close(summary);
        } else if self.failures {
            self.message(line);
        } else if line == "failures:" {
            self.settle();
            self.failures = true;
        } else if let Some((name, rest)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        {
            self.settle();
            self.started(name.trim(), rest);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ...")) {
            // The trailing space is gone: the test printed a line feed first.
            self.settle();
            self.started(name.trim(), "");
        } else if let Some((name, outcome)) = behind_half_a_line(line) {
            self.settle();
            self.results.tests.push(Test { name: name.to_owned(), outcome });
        } else if let Some(name) = &self.pending {
            if let Some(outcome) = outcome(line) {
                let name = name.clone();
                self.pending = None;
                self.results.tests.push(Test { name, outcome });
            } else if !line.is_empty() {
                self.between = line.to_owned();
            }
        }
    }

    /// A line of the list of failures: a title, or what the test of the last title said. The list of names that ends
    /// it has a title too.
    fn message(&mut self, line: &str) {
        if let Some(title) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" ----")) {
            let name = title.strip_suffix(" stdout").unwrap_or(title);
            self.results.messages.push((name.to_owned(), Vec::new()));
            self.quoting = true;
        } else if line == "failures:" {
            self.quoting = false;
        } else if let (true, Some((_, lines))) = (self.quoting, self.results.messages.last_mut()) {
            lines.push(line.to_owned());
        }
    }

    fn started(&mut self, name: &str, rest: &str) {
        match outcome(rest) {
            Some(outcome) => self.results.tests.push(Test { name: name.to_owned(), outcome }),
            None => {
                self.pending = Some(name.to_owned());
                self.between = rest.to_owned();
            }
        }
    }

    /// Settles the pending test, whose outcome came on no line of its own. A test that printed half
    /// a line has it at the end of that line.
    fn settle(&mut self) {
        let Some(name) = self.pending.take() else {
            return;
        };
        let last = mem::take(&mut self.between);
        let outcome = if last.ends_with("ok") {
            Outcome::Passed
        } else if last.ends_with("FAILED") {
            Outcome::Failed
        } else if let Some(start) = last.rfind("ignored") {
            outcome(&last[start..]).unwrap_or(Outcome::Failed)
        } else {
            self.results.problems.push(format!("no outcome of test {name}"));
            return;
        };
        self.results.tests.push(Test { name, outcome });
    }

    /// Closes a run: its own count must be that of the lines.
    fn close(&mut self, summary: &str) {
        self.running = false;
        self.closed += 1;
        let tests = &self.results.tests[self.before..];
        let count = |which: fn(&Outcome) -> bool| tests.iter().filter(|test| which(&test.outcome)).count();
        let lines = [
            count(|outcome| *outcome == Outcome::Passed),
            count(|outcome| *outcome == Outcome::Failed),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        ];
        self.before = self.results.tests.len();
        match totals(summary) {
            Some(said) if said == lines => {}
            Some(said) => self.results.problems.push(format!(
                "the lines of the tests do not add up: {} passed, {} failed, {} skipped, \
                 but its result says {}, {}, {}",
                lines[0], lines[1], lines[2], said[0], said[1], said[2],
            )),
            None => self.results.problems.push(format!("a result that is not understood: {summary}")),
        }
    }

    fn end(mut self) -> Results {
        if self.running {
            let during = self.pending.take().map(|name| format!(", during test {name}"));
            let during = during.unwrap_or_default();
            self.results.problems.push(format!("it ended before its result{during}"));
        } else if self.closed == 0 {
            self.results.problems.push("it printed no result".to_owned());
        }
        self.results
    }
}

/// Whether a line is `running N tests`.
fn is_title(line: &str) -> bool {
    line.strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test")))
        .is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The test in a line that begins with what a test of another thread printed without a line feed.
fn behind_half_a_line(line: &str) -> Option<(&str, Outcome)> {
    line.match_indices("test ").find_map(|(start, word)| {
        let (name, rest) = line[start + word.len()..].split_once(" ... ")?;
        Some((name.trim(), outcome(rest)?))
    })
}

fn outcome(text: &str) -> Option<Outcome> {
    if text == "ok" || text.starts_with("bench:") {
        return Some(Outcome::Passed);
    }
    // The standard library adds a reason in brackets for some failures.
    if text == "FAILED" || text.starts_with("FAILED (") {
        return Some(Outcome::Failed);
    }
    let rest = text.strip_prefix("ignored")?;
    if rest.is_empty() {
        return Some(Outcome::Skipped(None));
    }
    let reason = rest
        .strip_prefix(", ") // libtest
        .or_else(|| rest.strip_prefix(" (")?.strip_suffix(')')); // libtest-mimic
    reason.map(|reason| Outcome::Skipped(Some(reason.to_owned())))
}

/// Passed, failed and ignored of `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`
fn totals(summary: &str) -> Option<[usize; 3]> {
    let (_, counts) = summary.split_once(". ")?;
    let count = |what: &str| -> Option<usize> {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some([count("passed")? + count("measured")?, count("failed")?, count("ignored")?])
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            // A control sequence ends with its first letter.
            characters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
