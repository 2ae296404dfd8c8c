//! A further program in a container.

use std::path::Path;

use pericarp::spec::oci::ProcessFile;
use pericarp::spec::{ContainerSpec, ExecSpec};

use crate::commands::{hand_over, inherited, inherited_streams, own_streams, write_pid};
use crate::foreground::{Console, take_signals, wait};
use crate::log::Log;
use crate::options::{Exec, Options};
use crate::socket::send_pidfd;
use crate::{Outcome, store};

pub fn exec(options: &Options, exec: &Exec) -> Outcome {
    let found = store::find(options, &exec.id)?;
    let container = found.container()?;
    let mut spec = match &exec.process {
        Some(file) => from_file(options, file)?,
        None => from_command_line(exec, container.spec())?,
    };
    if !own_streams(spec.terminal, exec.console_socket.as_deref(), !exec.detach)? {
        spec.stdio = inherited_streams();
    }
    spec.preserved_fds = inherited(exec.preserve_fds)?;
    // Before there are other threads, which have the same.
    let signals = if exec.detach { None } else { Some(take_signals()?) };
    let process = container.exec(&spec)?;
    let told = hand_over(|| process.take_terminal(), exec.console_socket.as_deref())
        .and_then(|()| send_pidfd(Some(process.pidfd()), exec.pidfd_socket.as_deref()))
        .and_then(|()| write_pid(exec.pid_file.as_deref(), process.pid()));
    if let Err(error) = told {
        // Nobody would know of it.
        let _ = process.signal(nix::sys::signal::Signal::SIGKILL as i32);
        let _ = process.wait();
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let console = process.take_terminal().map(Console::attach).transpose()?;
    let signalled = process.clone();
    wait(signals, console, |timeout| process.wait_timeout(timeout), move |signal| signalled.signal(signal))
}

fn from_file(options: &Options, file: &Path) -> Outcome<ExecSpec> {
    let read = ProcessFile::open(file)?;
    read.warnings().iter().for_each(|warning| Log::new(options).warning(warning));
    Ok(read.spec()?)
}

fn from_command_line(exec: &Exec, container: &ContainerSpec) -> Outcome<ExecSpec> {
    let own = &container.user;
    if exec.command.is_empty() {
        return Err("there is no command, and no --process".into());
    }
    let mut spec = ExecSpec::new(exec.command.clone());
    for entry in &exec.env {
        let (key, value) =
            entry.split_once('=').ok_or_else(|| format!("--env {entry:?} is not KEY=value"))?;
        spec = spec.env(key, value);
    }
    spec.cwd = exec.cwd.clone();
    spec.terminal = exec.tty;
    if exec.user.is_some() || !exec.additional_gids.is_empty() {
        let (uid, gid) = match &exec.user {
            None => (own.uid, own.gid),
            Some(text) => {
                let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
                let number =
                    |text: &str| text.parse::<u32>().map_err(|_| format!("--user {text:?} is no number"));
                (number(uid)?, if gid.is_empty() { own.gid } else { number(gid)? })
            }
        };
        spec = spec.user(uid, gid).additional_gids(exec.additional_gids.iter().copied());
    }
    if !exec.cap.is_empty() {
        let mut capabilities = container.security.capabilities.clone();
        for name in &exec.cap {
            let capability = name.parse().map_err(|_| format!("--cap {name:?} is no capability"))?;
            capabilities = capabilities.with(capability);
        }
        (capabilities.permitted, capabilities.effective) = (None, None);
        spec = spec.capabilities(capabilities);
    }
    if exec.no_new_privs {
        spec = spec.no_new_privileges(true);
    }
    spec.apparmor_profile = exec.apparmor.clone();
    spec.selinux_label = exec.process_label.clone();
    Ok(spec)
}
