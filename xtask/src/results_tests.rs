//! All of the outputs here were printed by real harnesses.

use super::*;

fn test(name: &str, outcome: Outcome) -> Test {
    Test { name: name.to_owned(), outcome }
}

fn skipped(reason: &str) -> Outcome {
    Outcome::Skipped(Some(reason.to_owned()))
}

#[test]
fn the_standard_harness() {
    let results = parse(
        "
running 6 tests
test tests::dies ... ok
test tests::fails ... FAILED
test tests::ok ... ok
test tests::panics - should panic ... ok
test tests::skipped ... ignored, because ... of (this)
test tests::skipped_without ... ignored

failures:

---- tests::fails stdout ----
test quoted ... ok
running 3 tests

thread 'tests::fails' (19390) panicked at src/lib.rs:43:9:
assertion failed: std::env::var(\"SCRATCH_FAIL\").is_err()


failures:
    tests::fails

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.08s
",
    );
    assert_eq!(
        results.tests,
        [
            test("tests::dies", Outcome::Passed),
            test("tests::fails", Outcome::Failed),
            test("tests::ok", Outcome::Passed),
            test("tests::panics - should panic", Outcome::Passed),
            test("tests::skipped", skipped("because ... of (this)")),
            test("tests::skipped_without", Outcome::Skipped(None)),
        ]
    );
    let [(name, said)] = &results.messages[..] else { panic!("{:?}", results.messages) };
    assert_eq!(name, "tests::fails");
    assert_eq!(said.len(), 7, "{said:?}");
    assert_eq!(said[4], "assertion failed: std::env::var(\"SCRATCH_FAIL\").is_err()");
    assert_eq!(results.problems, [""; 0]);
    assert_eq!((results.passed(), results.failed(), results.skipped()), (3, 1, 2));
}

#[test]
fn libtest_mimic_with_one_thread() {
    let results = parse(
        "
running 9 tests
test         net::passes         ... ok
test         prints_lines        ... hello
world
ok
test         prints_half_a_line  ... hellook
test         cgroup::needs_guest ... ignored (no cgroup v2 (root))
test         native::only        ... ok
test         nowhere             ... ok
test         helper              ... helper runs
ok
test         may_fail            ... FAILED
test [risky] may_die             ... ok

failures:

---- may_fail ----
test panicked: asked to fail


failures:
    may_fail

test result: FAILED. 7 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.07s

",
    );
    assert_eq!(
        results.tests,
        [
            test("net::passes", Outcome::Passed),
            test("prints_lines", Outcome::Passed),
            test("prints_half_a_line", Outcome::Passed),
            test("cgroup::needs_guest", skipped("no cgroup v2 (root)")),
            test("native::only", Outcome::Passed),
            test("nowhere", Outcome::Passed),
            test("helper", Outcome::Passed),
            test("may_fail", Outcome::Failed),
            test("[risky] may_die", Outcome::Passed),
        ]
    );
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn libtest_mimic_with_several_threads() {
    let results = parse(
        "
running 3 tests
hello
world
test         prints_lines        ... ok
hellotest         prints_half_a_line  ... ok
helper runs
test         helper              ... ok

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 6 filtered out; finished in 0.00s
",
    );
    assert_eq!(
        results.tests,
        ["prints_lines", "prints_half_a_line", "helper"].map(|name| test(name, Outcome::Passed))
    );
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn rustdoc_runs_more_than_once() {
    let results = parse(
        "
running 2 tests
test src/lib.rs - add (line 8) - compile ... ok
test src/lib.rs - add (line 4) ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s


running 2 tests
test src/lib.rs - add (line 12) - compile fail ... ok
test src/lib.rs - add (line 16) ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

all doctests ran in 0.34s; merged doctests compilation took 0.24s
",
    );
    assert_eq!((results.passed(), results.failed(), results.skipped()), (4, 0, 0));
    assert_eq!(results.tests[0].name, "src/lib.rs - add (line 8) - compile");
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn a_binary_that_dies_says_where() {
    let results = parse("\nrunning 2 tests\ntest one ... ok\ntest two ... Aborted");
    assert_eq!(results.tests, [test("one", Outcome::Passed)]);
    assert_eq!(results.problems, ["it ended before its result, during test two"]);
}

#[test]
fn a_binary_that_says_nothing_has_no_result() {
    assert_eq!(parse("").problems, ["it printed no result"]);
    assert_eq!(parse("error: no such file\n").problems, ["it printed no result"]);
}

#[test]
fn a_binary_without_tests_is_no_problem() {
    let output = "
running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
    assert_eq!(parse(output), Results::default());
}

#[test]
fn lines_that_do_not_add_up_are_a_problem() {
    let output = "
running 2 tests
test one ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
    assert_eq!(
        parse(output).problems,
        ["the lines of the tests do not add up: 1 passed, 0 failed, 0 skipped, but its result says 2, 0, 0"]
    );
}

#[test]
fn colours_are_ignored() {
    let output = "\nrunning 1 test\ntest one ... \x1b[32mok\x1b[0m\n\ntest result: \x1b[32mok\x1b[0m. 1 passed; \
                  0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
    assert_eq!(parse(output).tests, [test("one", Outcome::Passed)]);
}
