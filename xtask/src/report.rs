//! Adding up the results of several suites in several places.

use std::fmt::Write;

use crate::results::{Outcome, Results};

/// Where a suite ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Native,
    Guest,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Native => "native",
            Place::Guest => "guest",
        }
    }
}

/// One run of one suite.
#[derive(Debug)]
pub struct Run {
    pub suite: String,
    pub place: Place,
    pub results: Results,
}

#[derive(Debug, Default)]
pub struct Report {
    runs: Vec<Run>,
    /// What is wrong with the whole, as opposed to one run.
    problems: Vec<String>,
}

impl Report {
    /// Adds a run. `ending` tells how it ended if not in the way that a harness without failed tests
    /// ends, with status 0.
    pub fn add(&mut self, suite: String, place: Place, mut results: Results, ending: Option<String>) {
        match ending {
            // A harness that finishes with failed tests ends with a status too; that is no problem.
            Some(ending) if results.failed() == 0 || !results.problems.is_empty() => {
                results.problems.push(ending);
            }
            None if results.failed() > 0 => results.problems.push("it failed, but ended with 0".to_owned()),
            _ => {}
        }
        self.runs.push(Run { suite, place, results });
    }

    /// Finds the tests that were skipped wherever they could run: nothing ever runs them.
    pub fn find_never_run(&mut self) {
        let mut never: Vec<(&str, &str)> = Vec::new();
        for (run, test) in self.tests() {
            let id = (run.suite.as_str(), test.name.as_str());
            let ran = self.tests().any(|(other, same)| {
                (other.suite.as_str(), same.name.as_str()) == id
                    && !matches!(same.outcome, Outcome::Skipped(_))
            });
            if !ran && !never.contains(&id) {
                never.push(id);
            }
        }
        let lines =
            never.iter().map(|(suite, test)| format!("{suite}: {test} ran nowhere")).collect::<Vec<_>>();
        self.problems.extend(lines);
    }

    /// A FILTER may be misspelt.
    pub fn check_not_empty(&mut self) {
        if self.totals() == (0, 0, 0) {
            self.problems.push("there was no test to run".to_owned());
        }
    }

    fn tests(&self) -> impl Iterator<Item = (&Run, &crate::results::Test)> {
        self.runs.iter().flat_map(|run| run.results.tests.iter().map(move |test| (run, test)))
    }

    pub fn is_success(&self) -> bool {
        self.totals().1 == 0
    }

    /// Passed, failed and skipped. Every problem counts as a failure, so that no line hides one.
    fn totals(&self) -> (usize, usize, usize) {
        let sum =
            |count: fn(&Results) -> usize| self.runs.iter().map(|run| count(&run.results)).sum::<usize>();
        (sum(Results::passed), sum(failures) + self.problems.len(), sum(Results::skipped))
    }

    /// The table, the skipped and the failed tests, and the closing line.
    pub fn text(&self) -> String {
        let mut text = String::from("\n");
        self.table(&mut text);

        let skipped = self.tests().filter_map(|(run, test)| match &test.outcome {
            Outcome::Skipped(reason) => Some((run, test, reason.as_deref().unwrap_or("no reason given"))),
            _ => None,
        });
        let skipped: Vec<String> = skipped
            .map(|(run, test, reason)| {
                format!("{}, {}: {} ({reason})", run.suite, run.place.name(), test.name)
            })
            .collect();
        list(&mut text, "Skipped", &skipped);

        let failed = self.tests().filter(|(_, test)| test.outcome == Outcome::Failed);
        let mut failed: Vec<String> = failed
            .map(|(run, test)| {
                let said = quote(&run.results, &test.name);
                format!("{}, {}: {}{said}", run.suite, run.place.name(), test.name)
            })
            .collect();
        for run in &self.runs {
            let problems = run.results.problems.iter();
            failed.extend(problems.map(|problem| format!("{}, {}: {problem}", run.suite, run.place.name())));
        }
        failed.extend(self.problems.iter().cloned());
        list(&mut text, "FAILED", &failed);

        let (passed, failed, skipped) = self.totals();
        writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped").unwrap();
        text
    }

    fn table(&self, text: &mut String) {
        let head = ["suite", "where", "passed", "failed", "skipped"].map(str::to_owned);
        // A program without unit tests needs no row.
        let runs = self.runs.iter().filter(|run| run.results != Results::default());
        let rows = runs.map(|run| {
            let counts = [run.results.passed(), failures(&run.results), run.results.skipped()];
            let [passed, failed, skipped] = counts.map(|count| count.to_string());
            [run.suite.clone(), run.place.name().to_owned(), passed, failed, skipped]
        });
        let rows: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (suite, place) = (width(0), width(1));
        for [name, location, passed, failed, skipped] in &rows {
            writeln!(text, "{name:suite$} | {location:place$} | {passed:>6} | {failed:>6} | {skipped:>7}")
                .unwrap();
        }
        text.push('\n');
    }
}

fn failures(results: &Results) -> usize {
    results.failed() + results.problems.len()
}

/// What a failed test said, as the lines that follow its name: who sees only the end of the output sees why too.
fn quote(results: &Results, name: &str) -> String {
    const LINES: usize = 12;
    let Some((_, lines)) = results.messages.iter().find(|(of, _)| of == name) else {
        return String::new();
    };
    // What it printed before it panicked says less.
    let panic = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(0);
    let lines = lines[panic..].iter().filter(|line| !line.is_empty());
    lines.take(LINES).map(|line| format!("\n        | {line}")).collect()
}

fn list(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    writeln!(text, "{title}:").unwrap();
    for line in lines {
        writeln!(text, "    {line}").unwrap();
    }
    text.push('\n');
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
