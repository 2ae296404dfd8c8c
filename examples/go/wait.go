package pericarp

// #include <pericarp.h>
import "C"

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ExitStatus is how a container or a process ended.
type ExitStatus struct {
	Code       int            // the exit code, if Signal is 0
	Signal     syscall.Signal // the signal that ended it
	CoreDumped bool
}

// Success says whether it exited with 0.
func (s ExitStatus) Success() bool { return s == ExitStatus{} }

func (s ExitStatus) String() string {
	if s.Signal != 0 {
		return "killed by signal " + strconv.Itoa(int(s.Signal))
	}
	return "exited with " + strconv.Itoa(s.Code)
}

func exitStatus(status *C.pericarp_exit_status_t) ExitStatus {
	return ExitStatus{int(status.code), syscall.Signal(status.signal), status.core_dumped != 0}
}

// State is where a container is in its life.
type State uint32

// The states of a container.
const (
	Created State = C.PERICARP_CONTAINER_CREATED // made, waiting for its start
	Running State = C.PERICARP_CONTAINER_RUNNING
	Exited  State = C.PERICARP_CONTAINER_EXITED
)

func (s State) String() string {
	switch s {
	case Created:
		return "created"
	case Running:
		return "running"
	case Exited:
		return "exited"
	}
	return "state " + strconv.Itoa(int(s))
}

// Status is the state of a container, and how it ended. Exit is nil when it has not ended, and when its status is lost:
// nobody waited, and the kernel does not keep it.
type Status struct {
	State State
	Exit  *ExitStatus
}

// statusJSON is a status as the library writes it.
type statusJSON struct {
	State      string          `json:"state"`
	ExitCode   *int            `json:"exitCode"`
	Signal     *syscall.Signal `json:"signal"`
	CoreDumped bool            `json:"coreDumped"`
}

func (s statusJSON) status() Status {
	states := map[string]State{"created": Created, "running": Running, "exited": Exited}
	status := Status{State: states[s.State]}
	switch {
	case s.ExitCode != nil:
		status.Exit = &ExitStatus{Code: *s.ExitCode}
	case s.Signal != nil:
		status.Exit = &ExitStatus{Signal: *s.Signal, CoreDumped: s.CoreDumped}
	}
	return status
}

// Status tells where the container is in its life.
func (c *Container) Status() (Status, error) {
	given := C.pericarp_exit_status_t{size: C.sizeof_pericarp_exit_status_t}
	var state C.uint32_t
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_status(container, &state, &given, err)
	})
	if err != nil {
		return Status{}, err
	}
	status := Status{State: State(state)}
	if given.how != C.PERICARP_EXIT_NONE {
		exit := exitStatus(&given)
		status.Exit = &exit
	}
	return status, nil
}

// TryWait returns how the container ended, or false if it has not.
func (c *Container) TryWait() (status ExitStatus, ended bool, err error) {
	given := C.pericarp_exit_status_t{size: C.sizeof_pericarp_exit_status_t}
	err = c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_try_wait(container, &given, err)
	})
	if err != nil || given.how == C.PERICARP_EXIT_NONE {
		return ExitStatus{}, false, err
	}
	return exitStatus(&given), true, nil
}

// Wait waits until the container has ended, or the context is done. No thread waits meanwhile: the goroutine is
// parked until Go's poller says that the pidfd is readable.
func (c *Container) Wait(ctx context.Context) (ExitStatus, error) {
	poll, err := c.pollable()
	if errors.Is(err, NotFound) {
		// It had ended before this program opened it.
		status, _, err := c.TryWait()
		return status, err
	}
	if err != nil {
		return ExitStatus{}, err
	}
	return await(ctx, poll, c.TryWait)
}

// interrupted ends what waits for the file when the context is done. The function that it returns is called when nothing
// waits any more.
func interrupted(ctx context.Context, poll *os.File) func() {
	over := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			poll.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	return func() { close(over) }
}

// await waits with Go's poller until a process has ended, or the context is done. It closes the file.
func await(ctx context.Context, poll *os.File, try func() (ExitStatus, bool, error)) (ExitStatus, error) {
	defer poll.Close()
	defer interrupted(ctx, poll)()
	connection, err := poll.SyscallConn()
	if err != nil {
		return ExitStatus{}, err
	}
	var status ExitStatus
	var failed error
	err = connection.Read(func(uintptr) bool {
		var ended bool
		status, ended, failed = try()
		return ended || failed != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ExitStatus{}, ctx.Err()
	}
	if err != nil {
		return ExitStatus{}, err
	}
	return status, failed
}

// pollable makes a file that Go's poller can wait for.
func (c *Container) pollable() (*os.File, error) {
	var fd C.int
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_dup_pidfd(container, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	return pollPidfd(int(fd), c.name)
}

// pollPidfd makes an epoll(7) instance with a pidfd in it, which Go's poller can wait for, and closes the pidfd. That one
// would have to be made non-blocking, and a copy of it shares that with the library's.
func pollPidfd(fd int, name string) (*os.File, error) {
	// The library has its own descriptor of the process, which keeps the entry in the set.
	defer syscall.Close(fd)
	set, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	err = syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, fd, &event)
	if err == nil {
		err = syscall.SetNonblock(set, true)
	}
	if err != nil {
		syscall.Close(set)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return os.NewFile(uintptr(set), name+".pidfd"), nil
}
