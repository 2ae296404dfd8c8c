package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"os"
	"strconv"
	"syscall"
)

// Process is another program in a container: see Container.Exec.
type Process struct {
	handle *handle[C.pericarp_process_t]
	pid    int
}

// Exec runs another program in the container, and returns when it runs: in all of the container's namespaces and its
// cgroup. It ends with the container.
func (c *Container) Exec(spec any) (*Process, error) { return c.ExecWith(spec, Streams{}) }

// ExecWith is Exec with open files as the streams, in place of what the specification says.
func (c *Container) ExecWith(spec any, streams Streams) (*Process, error) {
	text, free, err := marshal(spec)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_process_t
	err = streams.use(func(stdio *C.pericarp_stdio_t) error {
		return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
			return C.pericarp_container_exec(container, text, stdio, &pointer, err)
		})
	})
	if err != nil {
		return nil, err
	}
	return newProcess(pointer), nil
}

func newProcess(pointer *C.pericarp_process_t) *Process {
	return &Process{
		handle: newHandle(pointer, func(process *C.pericarp_process_t) { C.pericarp_process_unref(process) }),
		pid:    int(C.pericarp_process_pid(pointer)),
	}
}

// PID is its id as the host sees it. It may have ended, and another process may have the number.
func (p *Process) PID() int { return p.pid }

// Close gives the process back. It goes on.
func (p *Process) Close() error { return p.handle.close() }

// Container is the container that it runs in, as a handle to be closed.
func (p *Process) Container() (*Container, error) {
	var pointer *C.pericarp_container_t
	err := p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		pointer = C.pericarp_process_container(process)
		return 0
	})
	if err != nil {
		return nil, err
	}
	return newContainer(pointer), nil
}

// Signal sends it a signal.
func (p *Process) Signal(signal syscall.Signal) error {
	return p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_signal(process, C.int(signal), err)
	})
}

// Kill kills it, and no process that it has started. Nothing to kill is no error.
func (p *Process) Kill() error {
	return p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_kill(process, err)
	})
}

// TryWait returns how it ended, or false if it has not.
func (p *Process) TryWait() (status ExitStatus, ended bool, err error) {
	given := C.pericarp_exit_status_t{size: C.sizeof_pericarp_exit_status_t}
	err = p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_try_wait(process, &given, err)
	})
	if err != nil || given.how == C.PERICARP_EXIT_NONE {
		return ExitStatus{}, false, err
	}
	return exitStatus(&given), true, nil
}

// Wait waits until it has ended, or the context is done. No thread waits meanwhile, as with Container.Wait.
func (p *Process) Wait(ctx context.Context) (ExitStatus, error) {
	var fd C.int
	err := p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_dup_pidfd(process, &fd, err)
	})
	if err != nil {
		return ExitStatus{}, err
	}
	poll, err := pollPidfd(int(fd), p.name())
	if err != nil {
		return ExitStatus{}, err
	}
	return await(ctx, poll, p.TryWait)
}

func (p *Process) name() string { return "process " + strconv.Itoa(p.pid) }

func (p *Process) take(stream string, call func(*C.pericarp_process_t, *C.int, **C.pericarp_error_t) C.int) (*os.File, error) {
	var fd C.int
	err := p.handle.use(func(process *C.pericarp_process_t, err **C.pericarp_error_t) C.int {
		return call(process, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	return polled(int(fd), p.name()+"."+stream)
}

// Stdin takes the other end of a standard input that was asked for as "pipe". It can be taken once.
func (p *Process) Stdin() (*os.File, error) {
	return p.take("stdin", func(process *C.pericarp_process_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_take_stdin(process, fd, err)
	})
}

// Stdout takes the other end of a standard output that was asked for as "pipe". It can be taken once.
func (p *Process) Stdout() (*os.File, error) {
	return p.take("stdout", func(process *C.pericarp_process_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_take_stdout(process, fd, err)
	})
}

// Stderr takes the other end of a standard error that was asked for as "pipe". It can be taken once.
func (p *Process) Stderr() (*os.File, error) {
	return p.take("stderr", func(process *C.pericarp_process_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_take_stderr(process, fd, err)
	})
}

// Terminal takes the terminal that was asked for with "terminal": true. It can be taken once.
func (p *Process) Terminal() (*Terminal, error) {
	return terminal(p.take("terminal", func(process *C.pericarp_process_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_process_take_terminal(process, fd, err)
	}))
}
