//! Running other programs.

use std::{
    io::{Read, Write},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs a command whose exit status becomes xtask's own.
pub fn exit_code(command: &mut Command) -> Result<ExitCode> {
    let status = status(command)?;
    // A program that a signal killed has no exit status.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run {}", describe(command)))
}

pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

/// How a command ended that was run by [`stream`].
#[derive(Debug)]
pub enum End {
    Exited(ExitStatus),
    TimedOut(Duration),
}

/// Runs a command, copies its standard output to `copy` as it comes, and returns all of it.
pub fn stream(
    command: &mut Command,
    limit: Duration,
    mut copy: impl Write + Send + 'static,
) -> Result<(String, End)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    let mut pipe = child.stdout.take().expect("it is piped");
    let collected = Arc::new(Mutex::new(Vec::new()));
    let (at_end, ended) = mpsc::channel();
    let reader = Arc::clone(&collected);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            // That nobody reads the copy is no reason to stop the tests.
            let _ = copy.write_all(&buffer[..length]);
            let _ = copy.flush();
            reader.lock().unwrap().extend_from_slice(&buffer[..length]);
        }
        let _ = at_end.send(());
    });

    let deadline = Instant::now() + limit;
    let end = loop {
        if let Some(status) = child.try_wait()? {
            break End::Exited(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break End::TimedOut(limit);
        }
        thread::sleep(Duration::from_millis(20));
    };
    // A process that the command left behind may keep the pipe open for ever.
    if ended.recv_timeout(Duration::from_secs(5)).is_err() {
        eprintln!("xtask: a process that was left behind still holds the standard output");
    }
    let output = String::from_utf8_lossy(&collected.lock().unwrap()).into_owned();
    Ok((output, end))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn shell(script: &str, limit: Duration) -> (String, End) {
        stream(Command::new("sh").args(["-c", script]), limit, io::sink()).unwrap()
    }

    #[test]
    fn output_and_status_are_returned() {
        let (output, end) = shell("echo one; printf two; exit 3", Duration::from_secs(60));
        assert_eq!(output, "one\ntwo");
        assert!(matches!(end, End::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let (_, end) = shell("exec sleep 600", Duration::from_millis(10));
        assert!(matches!(end, End::TimedOut(_)));
    }
}
