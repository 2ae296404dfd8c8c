package pericarp

// #include <pericarp.h>
import "C"

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Fanout lets several readers have one output of a container: each byte goes to all who are attached, and the last ones
// are kept for those who come later. It works while Run runs.
type Fanout struct {
	handle *handle[C.pericarp_fanout_t]
}

// SlowReader says what becomes of a reader that has not read more than what is kept.
type SlowReader int

const (
	// Detach gives it the end of the stream early.
	Detach SlowReader = iota
	// WaitForSlow has everybody wait for it, and in the end the container.
	WaitForSlow
)

// NewFanout distributes what comes from a pipe, a terminal or a socket, which nobody else may read, and keeps the last
// backlog bytes (4096 to 1048576). The source stays the caller's, who may close it after the call.
func NewFanout(source *os.File, backlog int, slow SlowReader) (*Fanout, error) {
	// Fd would make the file a blocking one.
	connection, err := source.SyscallConn()
	if err != nil {
		return nil, err
	}
	var pointer *C.pericarp_fanout_t
	failed := connection.Control(func(fd uintptr) {
		err = try(func(err **C.pericarp_error_t) C.int {
			return C.pericarp_fanout_create(C.int(fd), C.size_t(backlog), C.int(slow), &pointer, err)
		})
	})
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return &Fanout{newHandle(pointer, func(fanout *C.pericarp_fanout_t) { C.pericarp_fanout_unref(fanout) })}, nil
}

// Close gives it back. The readers get the end of the stream.
func (f *Fanout) Close() error { return f.handle.close() }

// Attach makes a reader, which has all that is kept, and gets what comes. Closing it detaches it.
func (f *Fanout) Attach() (*os.File, error) {
	return f.reader(func(fanout *C.pericarp_fanout_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_fanout_open_reader(fanout, fd, err)
	})
}

// AttachFromNow is Attach without what is kept.
func (f *Fanout) AttachFromNow() (*os.File, error) {
	return f.reader(func(fanout *C.pericarp_fanout_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_fanout_open_reader_from_now(fanout, fd, err)
	})
}

func (f *Fanout) reader(call func(*C.pericarp_fanout_t, *C.int, **C.pericarp_error_t) C.int) (*os.File, error) {
	var fd C.int
	err := f.handle.use(func(fanout *C.pericarp_fanout_t, err **C.pericarp_error_t) C.int {
		return call(fanout, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	return polled(int(fd), "fanout")
}

// Readers is how many readers are attached.
func (f *Fanout) Readers() (int, error) {
	var count C.size_t
	err := f.handle.use(func(fanout *C.pericarp_fanout_t, err **C.pericarp_error_t) C.int {
		count = C.pericarp_fanout_readers(fanout)
		return 0
	})
	return int(count), err
}

// Run distributes until the stream has ended and each reader has got all or is gone, or until the context is done. No
// thread waits meanwhile: the goroutine is parked until Go's poller says that there is something to do.
func (f *Fanout) Run(ctx context.Context) error {
	var fd C.int
	err := f.handle.use(func(fanout *C.pericarp_fanout_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_fanout_borrow_fd(fanout, &fd, err)
	})
	if err != nil {
		return err
	}
	own, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return os.NewSyscallError("fcntl", errno)
	}
	poll, err := polled(int(own), "fanout")
	if err != nil {
		return err
	}
	defer poll.Close()
	defer interrupted(ctx, poll)()
	connection, err := poll.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = connection.Read(func(fd uintptr) bool {
		for {
			var goesOn C.int
			failed = f.handle.use(func(fanout *C.pericarp_fanout_t, err **C.pericarp_error_t) C.int {
				return C.pericarp_fanout_pump(fanout, &goesOn, err)
			})
			if failed != nil || goesOn == 0 {
				return true
			}
			// Go's poller tells only of what is new: what is left to do, it does not tell again.
			count, err := syscall.EpollWait(int(fd), make([]syscall.EpollEvent, 1), 0)
			if err == nil && count == 0 {
				return false
			}
			if ctx.Err() != nil {
				failed = ctx.Err()
				return true
			}
		}
	})
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return failed
}
