//! What podtop shows at a terminal of 80 columns and 24 lines: the screen is read as a terminal would show it.

use libtest_mimic::Failed;
use pericarp::{ExitStatus, Pod};

use super::stats_programs::{Terminal, program};
use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    each_key_sorts_by_its_column_and_the_screen_is_not_wider_than_the_terminal,
    a_pod_is_frozen_and_thawed_by_what_it_is_itself,
    a_pod_is_stopped_by_its_line,
];

/// The lines of a frame as they stand on the screen, without the foot, and the foot.
type Frame = (Vec<String>, String);

/// The last whole frame that was drawn.
fn frame(seen: &str) -> Option<Frame> {
    let end = seen.rfind("\x1b[24;1H")?;
    let (whole, foot) = (&seen[..end], &seen[end + 7..]);
    let foot = foot.split_once("\x1b[K")?.0;
    let frame = &whole[whole.rfind("\x1b[H")? + 3..];
    Some((frame.split("\r\n").map(bare).filter(|line| !line.is_empty()).collect(), bare(foot)))
}

/// Without the sequences that set colours and clear the rest of a line.
fn bare(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text += before;
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// Waits for a frame that is as it should be.
fn until(top: &mut Terminal, done: impl Fn(&Frame) -> bool) -> Result<Frame, Failed> {
    for _ in 0..600 {
        if let Some(frame) = frame(&top.seen).filter(&done) {
            return Ok(frame);
        }
        top.read()?;
    }
    Err(format!("not in {:?}", frame(&top.seen)).into())
}

/// The words of the lines of containers, or of those of pods: these are not indented.
fn words((lines, _): &Frame, containers: bool) -> Vec<Vec<String>> {
    let of = |line: &&String| line.starts_with("  ") == containers;
    // A state of two words ("exit 7") is one column.
    let split =
        |line: &String| line.replace("exit ", "exit_").split_ascii_whitespace().map(str::to_string).collect();
    lines.iter().skip(2).filter(of).map(split).collect()
}

/// A cell as a number: bytes with their unit, ages, shares. What is not known is less than everything.
fn number(cell: &str) -> f64 {
    let digits = cell.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &cell[digits.len()..] {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    };
    digits.parse::<f64>().map_or(-1.0, |number| number * unit)
}

fn falls(numbers: &[f64]) -> bool {
    numbers.is_sorted_by(|a, b| a >= b)
}

fn started(pod: &Pod, name: &str, command: &str) -> Result<pericarp::Container, Failed> {
    let container = pod.create_container(&script(name, command))?;
    container.start()?;
    Ok(container)
}

/// Seen to fail: with `Order::Pids` comparing a with b instead of b with a (podtop/table.rs), the lines did not come in the
/// order of their processes.
fn each_key_sorts_by_its_column_and_the_screen_is_not_wider_than_the_terminal() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("a-pod-with-a-name-that-is-longer-than-its-column");
    // By name they are in another order than by any other column.
    started(&pod, "zz-oldest", "exec sleep 1000")?;
    // So much later that the times of their files differ.
    std::thread::sleep(std::time::Duration::from_millis(50));
    started(&pod, "many", "sleep 1000 & sleep 1000 & sleep 1000 & wait")?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    started(&pod, "a-container-with-a-name-that-is-just-as-long-as-can-be", "exec sleep 1000")?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    started(&pod, "busy", "while :; do :; done")?;
    let mut command = program(&fixture, "podtop");
    command.args(["--interval", "0.3", "--sort", "name"]);
    let mut top = Terminal::start(command)?;
    let column = |at: usize| {
        move |frame: &Frame| -> Vec<f64> {
            words(frame, true).iter().map(|words| number(&words[at])).collect()
        }
    };
    let names = |frame: &Frame| -> Vec<String> {
        words(frame, true).iter().map(|words| words[0].chars().take(4).collect()).collect()
    };
    let whole = |frame: &Frame| words(frame, true).len() == 4;
    let (cpu, memory, pids) = (column(2), column(3), column(7));
    let worst = |frame: &Frame| -> Vec<f64> {
        let of = |words: &Vec<String>| words[4..7].iter().map(|cell| number(cell)).fold(-1.0, f64::max);
        words(frame, true).iter().map(of).collect()
    };
    // By name first. Processor time is told from the second reading on.
    let by_name = |frame: &Frame| whole(frame) && names(frame) == ["a-co", "busy", "many", "zz-o"];
    let mut frames =
        vec![until(&mut top, |frame| by_name(frame) && cpu(frame).iter().all(|share| *share >= 0.0))?];
    let mut press = |key: &str, done: &dyn Fn(&Frame) -> bool| -> Result<(), Failed> {
        top.press(key)?;
        frames.push(until(&mut top, |frame| whole(frame) && done(frame))?);
        Ok(())
    };
    press("c", &|frame| names(frame)[0] == "busy" && falls(&cpu(frame)))?;
    press("p", &|frame| names(frame)[0] == "many" && falls(&pids(frame)) && pids(frame)[0] == 4.0)?;
    press("a", &|frame| names(frame) == ["zz-o", "many", "a-co", "busy"])?;
    press("m", &|frame| falls(&memory(frame)) && names(frame) != ["zz-o", "many", "a-co", "busy"])?;
    press("a", &|frame| names(frame) == ["zz-o", "many", "a-co", "busy"])?;
    press("w", &|frame| falls(&worst(frame)) && names(frame) != ["zz-o", "many", "a-co", "busy"])?;
    press("n", &by_name)?;
    for (lines, foot) in &frames {
        assert!(lines.len() <= 23, "{lines:#?}");
        let widest = lines.iter().chain([foot]).map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?} columns: {lines:#?} {foot}");
        assert!(
            lines[1].trim_end().ends_with("AGE") && lines[2].starts_with("a-pod-with-a-name"),
            "{lines:#?}"
        );
    }
    top.press("q")?;
    assert!(top.end()?.success());
    PASS
}

fn state(frame: &Frame, name: &str) -> String {
    let mut lines = words(frame, true).into_iter().chain(words(frame, false));
    lines.find(|words| words[0] == name).map_or(String::new(), |words| words[1].clone())
}

/// Seen to fail: as it was before, with a pod taken for frozen when all of its containers are, the line of a frozen pod
/// without containers never said so.
fn a_pod_is_frozen_and_thawed_by_what_it_is_itself() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut command = program(&fixture, "podtop");
    command.args(["--interval", "0.3", "--sort", "name"]);
    let mut top = Terminal::start(command)?;
    // A pod without containers.
    until(&mut top, |frame| state(frame, "web") == "0/0")?;
    top.press("jf")?;
    until(&mut top, |(_, foot)| foot == "froze web")?;
    assert!(pod.is_frozen()?);
    until(&mut top, |frame| state(frame, "web") == "frozen")?;
    top.press("f")?;
    until(&mut top, |(_, foot)| foot == "thawed web")?;
    assert!(!pod.is_frozen()?);

    let main = started(&pod, "main", "exec sleep 1000")?;
    until(&mut top, |frame| state(frame, "web") == "1/1" && state(frame, "main") == "running")?;
    // A container that is frozen by itself does not make its pod frozen.
    main.freeze()?;
    until(&mut top, |frame| state(frame, "web") == "0/1" && state(frame, "main") == "frozen")?;
    top.press("f")?;
    until(&mut top, |(_, foot)| foot == "froze web")?;
    assert!(pod.is_frozen()?);
    // One container of a pod that is frozen cannot run.
    top.press("jf")?;
    until(&mut top, |(_, foot)| foot.starts_with("the whole pod is frozen"))?;
    top.press("kf")?;
    until(&mut top, |(_, foot)| foot == "thawed web; still frozen: main")?;
    assert!(!pod.is_frozen()? && main.is_frozen()?);
    top.press("jf")?;
    until(&mut top, |(_, foot)| foot == "thawed web/main")?;
    until(&mut top, |frame| state(frame, "main") == "running" && state(frame, "web") == "1/1")?;
    assert!(!main.is_frozen()?);
    top.press("q")?;
    assert!(top.end()?.success());
    PASS
}

/// Seen to fail: with `press` in podtop/app.rs stopping at once, without a second key, both containers had been stopped
/// ("exit 5") and the foot never said "s again stops web".
fn a_pod_is_stopped_by_its_line() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let trap = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
    let both = [started(&pod, "a", trap)?, started(&pod, "b", trap)?];
    let mut command = program(&fixture, "podtop");
    command.args(["--interval", "0.3", "--sort", "name"]);
    let mut top = Terminal::start(command)?;
    until(&mut top, |frame| state(frame, "web") == "2/2")?;
    top.press("js")?;
    until(&mut top, |(_, foot)| foot == "s again stops web")?;
    // Any other key takes that back.
    top.press("n")?;
    until(&mut top, |(_, foot)| foot.starts_with("sort:"))?;
    top.press("s")?;
    until(&mut top, |(_, foot)| foot == "s again stops web")?;
    assert!(both[0].try_wait()?.is_none() && both[1].try_wait()?.is_none());
    top.press("s")?;
    let last = until(&mut top, |frame| frame.1 == "stopped web" && state(frame, "web") == "0/2")?;
    assert_eq!((both[0].wait()?, both[1].wait()?), (ExitStatus::Exited(5), ExitStatus::Exited(5)));
    assert_eq!((state(&last, "a").as_str(), state(&last, "b").as_str()), ("exit_5", "exit_5"));
    top.press("q")?;
    assert!(top.end()?.success());
    PASS
}
