use super::*;
use crate::results;

fn output(lines: &str, result: &str) -> Results {
    results::parse(&format!(
        "running 9 tests\n{lines}\n\ntest result: {result}; 0 measured; 0 filtered out; finished in 0.01s\n"
    ))
}

fn report() -> Report {
    let mut report = Report::default();
    let native = output(
        "test a ... ok\ntest b ... ignored (no cgroup v2)\ntest c ... ignored, slow",
        "ok. 1 passed; 0 failed; 2 ignored",
    );
    let guest = output(
        "test a ... ignored (no compiler)\ntest b ... ok\ntest c ... ignored, slow",
        "ok. 1 passed; 0 failed; 2 ignored",
    );
    report.add("suite".to_owned(), Place::Native, native, None);
    report.add("suite".to_owned(), Place::Guest, guest, None);
    report
}

#[test]
fn everything_is_added_up() {
    let report = report();
    assert!(report.is_success());
    assert_eq!(
        report.text(),
        "
suite | where  | passed | failed | skipped
suite | native |      1 |      0 |       2
suite | guest  |      1 |      0 |       2

Skipped:
    suite, native: b (no cgroup v2)
    suite, native: c (slow)
    suite, guest: a (no compiler)
    suite, guest: c (slow)

2 passed, 0 failed, 4 skipped
"
    );
}

#[test]
fn a_test_that_ran_nowhere_is_a_failure() {
    let mut report = report();
    report.find_never_run();
    assert!(!report.is_success());
    let text = report.text();
    assert!(text.ends_with("FAILED:\n    suite: c ran nowhere\n\n2 passed, 1 failed, 4 skipped\n"), "{text}");
}

#[test]
fn a_failed_test_is_counted_once() {
    let mut report = Report::default();
    let results = output("test a ... FAILED", "FAILED. 0 passed; 1 failed; 0 ignored");
    report.add("suite".to_owned(), Place::Guest, results, Some("it ended with 101".to_owned()));
    let text = report.text();
    assert!(text.ends_with("FAILED:\n    suite, guest: a\n\n0 passed, 1 failed, 0 skipped\n"), "{text}");
}

#[test]
fn what_a_failed_test_said_stands_below_its_name() {
    let mut report = Report::default();
    let results = results::parse(
        "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nhello\n\n\
         thread 'a' panicked at a.rs:1:1:\nboom\n\n\nfailures:\n    a\n\n\
         test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n",
    );
    report.add("suite".to_owned(), Place::Native, results, Some("it ended with 101".to_owned()));
    let text = report.text();
    let end = "suite, native: a\n        | thread 'a' panicked at a.rs:1:1:\n        | boom\n\n0 passed, 1 failed, 0 skipped\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn an_ending_that_the_results_do_not_explain_is_a_failure() {
    let good = || output("test a ... ok", "ok. 1 passed; 0 failed; 0 ignored");
    let mut report = Report::default();
    report.add("suite".to_owned(), Place::Native, good(), Some("it ended with 1".to_owned()));
    assert!(report.text().ends_with("1 passed, 1 failed, 0 skipped\n"));

    let mut report = Report::default();
    report.add("suite".to_owned(), Place::Guest, results::parse(""), Some("the guest died".to_owned()));
    assert!(report.text().contains("suite, guest: it printed no result\n    suite, guest: the guest died\n"));
    assert!(!report.is_success());
}

#[test]
fn nothing_at_all_is_a_failure() {
    let mut report = Report::default();
    report.check_not_empty();
    assert!(!report.is_success());
}
