//! Other programs in containers, their terminals, and outputs with several readers, in Rust.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pericarp::{ExitStatus, Fanout, Process, Terminal};

use super::container;
use crate::api::*;

fn copy(file: impl AsFd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().expect("duplicate a descriptor")
}

impl ProcessApi for Process {
    fn again(&self) -> Box<dyn ProcessApi> {
        Box::new(self.clone())
    }

    fn container(&self) -> Box<dyn ContainerApi> {
        container(self.container().clone())
    }

    fn pid(&self) -> i32 {
        self.pid()
    }

    fn pidfd(&self) -> OwnedFd {
        copy(self.pidfd())
    }

    fn take_stdin(&self) -> Option<File> {
        self.take_stdin()
    }

    fn take_stdout(&self) -> Option<File> {
        self.take_stdout()
    }

    fn take_stderr(&self) -> Option<File> {
        self.take_stderr()
    }

    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>> {
        Some(Box::new(self.take_terminal()?))
    }

    fn signal(&self, signal: i32) -> Res<()> {
        Ok(self.signal(signal)?)
    }

    fn kill(&self) -> Res<()> {
        Ok(self.kill()?)
    }

    fn wait(&self) -> Res<ExitStatus> {
        Ok(self.wait()?)
    }

    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>> {
        Ok(self.wait_timeout(timeout)?)
    }

    fn try_wait(&self) -> Res<Option<ExitStatus>> {
        Ok(self.try_wait()?)
    }
}

impl TerminalApi for Terminal {
    fn file(&self) -> File {
        copy(self).into()
    }

    fn resize(&self, width: u16, height: u16) -> Res<()> {
        Ok(self.resize(width, height)?)
    }

    fn size(&self) -> Res<(u16, u16)> {
        Ok(self.size()?)
    }

    fn name(&self) -> Res<String> {
        Ok(self.name()?)
    }

    fn send_to(&self, path: &Path) -> Res<()> {
        Ok(self.send_to(path)?)
    }
}

impl FanoutApi for Fanout {
    fn again(&self) -> Box<dyn FanoutApi> {
        Box::new(self.clone())
    }

    fn attach(&self) -> Res<File> {
        Ok(self.attach()?)
    }

    fn attach_from_now(&self) -> Res<File> {
        Ok(self.attach_from_now()?)
    }

    fn fd(&self) -> OwnedFd {
        copy(self)
    }

    fn pump(&self) -> Res<bool> {
        Ok(self.pump()?)
    }

    fn run(&self) -> Res<()> {
        Ok(self.run()?)
    }

    fn readers(&self) -> usize {
        self.readers()
    }
}
