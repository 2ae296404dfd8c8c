//! Containers through C.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

use pericarp::spec::{DeviceRule, StdioSet};
use pericarp::stats::StatsOptions;
use pericarp::{ContainerSpec, ContainerStatus, ErrorKind, ExecSpec, ExitStatus, Resources, Stdio};
use pericarp_ffi::*;

use super::pod::get_fd;
use super::*;

/// A specification as C gives it: JSON, and descriptors in a structure.
pub(super) fn given(spec: &ContainerSpec) -> (CString, pericarp_stdio_t) {
    let mut spec = spec.clone();
    let stdio = descriptors(&mut spec.stdio);
    (c_json(&spec), stdio)
}

/// Moves open files from a specification to a structure. The caller's own specification keeps them open.
fn descriptors(stdio: &mut StdioSet) -> pericarp_stdio_t {
    let mut fds = [-1; 3];
    for (stream, fd) in [&mut stdio.stdin, &mut stdio.stdout, &mut stdio.stderr].into_iter().zip(&mut fds) {
        if let Stdio::Fd(file) = stream {
            *fd = file.as_fd().as_raw_fd();
            *stream = Stdio::Null;
        }
    }
    let [stdin_fd, stdout_fd, stderr_fd] = fds;
    let size = size_of::<pericarp_stdio_t>();
    pericarp_stdio_t { size, flags: 0, stdin_fd, stdout_fd, stderr_fd, reserved: 0 }
}

/// The structure with that as the standard output.
pub(super) fn output(stdout: &Stdio) -> pericarp_stdio_t {
    descriptors(&mut StdioSet { stdout: stdout.clone(), ..StdioSet::default() })
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().expect("a short time")
}

impl ContainerHandle {
    /// The end of a pipe, or none.
    fn take(
        &self,
        function: unsafe extern "C" fn(
            *const pericarp_container_t,
            *mut c_int,
            *mut *mut pericarp_error_t,
        ) -> c_int,
    ) -> Option<File> {
        // SAFETY: all pointers are to what the header asks for.
        let taken = get_fd(|place, err| unsafe { function(self.pointer, place, err) });
        taken.inspect_err(|failure| assert_eq!(failure.kind, ErrorKind::NotFound)).ok().map(File::from)
    }
}

impl ContainerApi for ContainerHandle {
    fn again(&self) -> Box<dyn ContainerApi> {
        Box::new(self.another())
    }

    fn name(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_container_name(self.pointer)) }.expect("a name")
    }

    fn pod(&self) -> Box<dyn PodApi> {
        // SAFETY: it is a live handle.
        boxed_pod(unsafe { pericarp_container_pod(self.pointer) })
    }

    fn spec(&self) -> ContainerSpec {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_container_spec(self.pointer, place, err) })
            .expect("a specification")
    }

    fn pid(&self) -> i32 {
        // SAFETY: it is a live handle.
        unsafe { pericarp_container_pid(self.pointer) }
    }

    fn pidfd(&self) -> Option<OwnedFd> {
        // SAFETY: all pointers are to what the header asks for.
        let borrowed =
            get(-77, |place, err| unsafe { pericarp_container_borrow_pidfd(self.pointer, place, err) });
        // SAFETY: all pointers are to what the header asks for.
        let copy = get_fd(|place, err| unsafe { pericarp_container_dup_pidfd(self.pointer, place, err) });
        match (borrowed, copy) {
            (Ok(borrowed), Ok(copy)) => {
                assert_ne!(borrowed, copy.as_raw_fd());
                Some(copy)
            }
            (Err(borrowed), Err(copy)) => {
                assert_eq!((borrowed.kind, copy.kind), (ErrorKind::NotFound, ErrorKind::NotFound));
                None
            }
            other => panic!("only one of them is an error: {other:?}"),
        }
    }

    fn take_stdin(&self) -> Option<File> {
        self.take(pericarp_container_take_stdin)
    }

    fn take_stdout(&self) -> Option<File> {
        self.take(pericarp_container_take_stdout)
    }

    fn take_stderr(&self) -> Option<File> {
        self.take(pericarp_container_take_stderr)
    }

    fn start(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_start(self.pointer, err) })
    }

    fn signal(&self, signal: i32) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_signal(self.pointer, signal, err) })
    }

    fn signal_all(&self, signal: i32) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_signal_all(self.pointer, signal, err) })
    }

    fn update_device_rules(&self, rules: &[DeviceRule]) -> Res<()> {
        let json = c_json(&rules);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_update_device_rules_json(self.pointer, json.as_ptr(), err) })
    }

    fn kill(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_kill(self.pointer, err) })
    }

    fn wait(&self) -> Res<ExitStatus> {
        // SAFETY: all pointers are to what the header asks for.
        let status = get_status(|place, err| unsafe { pericarp_container_wait(self.pointer, place, err) })?;
        Ok(status.expect("it has ended"))
    }

    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>> {
        let timeout = timeout.map_or(-1, |time| milliseconds(time).try_into().expect("a short time"));
        // SAFETY: all pointers are to what the header asks for.
        get_status(|place, err| unsafe { pericarp_container_wait_timeout(self.pointer, timeout, place, err) })
    }

    fn try_wait(&self) -> Res<Option<ExitStatus>> {
        // SAFETY: all pointers are to what the header asks for.
        get_status(|place, err| unsafe { pericarp_container_try_wait(self.pointer, place, err) })
    }

    fn status(&self) -> Res<ContainerStatus> {
        let mut state = 77;
        let state_of = &raw mut state;
        // SAFETY: all pointers are to what the header asks for.
        let status = get_status(|place, err| unsafe {
            pericarp_container_status(self.pointer, state_of, place, err)
        })?;
        Ok(match state {
            PERICARP_CONTAINER_CREATED => {
                assert_eq!(status, None);
                ContainerStatus::Created
            }
            PERICARP_CONTAINER_RUNNING => {
                assert_eq!(status, None);
                ContainerStatus::Running
            }
            PERICARP_CONTAINER_EXITED => ContainerStatus::Exited(status),
            other => panic!("a container is in the state {other}"),
        })
    }

    fn stop(&self, grace: Duration) -> Res<ExitStatus> {
        let grace = milliseconds(grace);
        // SAFETY: all pointers are to what the header asks for.
        let status =
            get_status(|place, err| unsafe { pericarp_container_stop(self.pointer, grace, place, err) })?;
        Ok(status.expect("it has ended"))
    }

    fn remove(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_remove(self.pointer, err) })
    }

    /// Asks how many there are, then for so many and a few more.
    fn set_oom_score_adj(&self, adjustment: i32) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_set_oom_score_adj(self.pointer, adjustment, err) })
    }

    fn processes(&self) -> Res<Vec<i32>> {
        // SAFETY: all pointers are to what the header asks for.
        let count = get(77, |place, err| unsafe {
            pericarp_container_processes(self.pointer, null_mut(), 0, place, err)
        })?;
        let mut pids = vec![-77; count + 4];
        let (first, room) = (pids.as_mut_ptr(), pids.len());
        // SAFETY: all pointers are to what the header asks for.
        let count = get(77, |place, err| unsafe {
            pericarp_container_processes(self.pointer, first, room, place, err)
        })?;
        assert!(pids[count.min(room)..].iter().all(|pid| *pid == -77), "more was written than was told");
        pids.truncate(count);
        Ok(pids)
    }

    fn freeze(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_freeze(self.pointer, err) })
    }

    fn thaw(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_thaw(self.pointer, err) })
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        let options = c_json(options);
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe {
            pericarp_container_stats_json(self.pointer, options.as_ptr(), place, err)
        })
    }

    fn exec(&self, spec: &ExecSpec) -> Res<Box<dyn ProcessApi>> {
        let mut json = spec.clone();
        let stdio = descriptors(&mut json.stdio);
        let json = c_json(&json);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_container_exec(self.pointer, json.as_ptr(), &stdio, place, err)
        })
        .map(streams::process)
    }

    fn exec_oci(&self, process: &Value, stdout: Stdio) -> Res<Box<dyn ProcessApi>> {
        let (json, stdio) = (c_json(process), output(&stdout));
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_container_exec_oci(self.pointer, json.as_ptr(), &stdio, place, err)
        })
        .map(streams::process)
    }

    fn update(&self, resources: &Resources) -> Res<()> {
        let json = c_json(resources);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_update_json(self.pointer, json.as_ptr(), err) })
    }

    fn update_oci(&self, resources: &Value) -> Res<()> {
        let json = c_json(resources);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_update_oci(self.pointer, json.as_ptr(), err) })
    }

    fn is_frozen(&self) -> Res<bool> {
        // SAFETY: all pointers are to what the header asks for.
        get(77, |place, err| unsafe { pericarp_container_is_frozen(self.pointer, place, err) })
            .map(|frozen| frozen == 1)
    }

    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>> {
        // SAFETY: all pointers are to what the header asks for.
        streams::taken(|place, err| unsafe { pericarp_container_take_terminal(self.pointer, place, err) })
            .map(streams::terminal)
    }

    fn take_seccomp_listener(&self) -> Option<OwnedFd> {
        // SAFETY: all pointers are to what the header asks for.
        streams::taken(|place, err| unsafe {
            pericarp_container_take_seccomp_listener(self.pointer, place, err)
        })
    }

    fn hot_stats(&self) -> Res<BTreeMap<&'static str, Option<u64>>> {
        // SAFETY: all bytes zero is a value of it, and what the header asks for.
        let mut stats: pericarp_container_stats_t = unsafe { std::mem::zeroed() };
        stats.size = size_of::<pericarp_container_stats_t>();
        let place = &raw mut stats;
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_container_stats(self.pointer, place, err) })?;
        let known = |value| (value != PERICARP_STAT_UNKNOWN).then_some(value);
        let numbers = [
            stats.timestamp_usec,
            stats.cpu_usage_usec,
            stats.cpu_user_usec,
            stats.cpu_system_usec,
            stats.cpu_throttled_periods,
            stats.cpu_throttled_usec,
            stats.cpu_waiting_usec,
            stats.memory_bytes,
            stats.memory_peak_bytes,
            stats.memory_working_set_bytes,
            stats.memory_swap_bytes,
            stats.memory_oom_kills,
            stats.memory_waiting_usec,
            stats.io_read_bytes,
            stats.io_written_bytes,
            stats.io_waiting_usec,
            stats.processes,
            stats.tasks,
        ];
        Ok(HOT.iter().zip(numbers).map(|((name, _), value)| (*name, known(value))).collect())
    }
}
