package pericarp

// #include <pericarp.h>
import "C"

import (
	"encoding/json"
	"os"
	"syscall"
)

// Streams are open files as the standard streams of a container or process. They stay the caller's, who may close them when the
// container is made. What is nil is as the specification says. A terminal is refused.
type Streams struct {
	Stdin, Stdout, Stderr *os.File
}

// use makes a call with the descriptors, which stay open meanwhile.
func (s Streams) use(call func(*C.pericarp_stdio_t) error) error {
	given := C.pericarp_stdio_t{size: C.sizeof_pericarp_stdio_t, stdin_fd: -1, stdout_fd: -1, stderr_fd: -1}
	run := func() error { return call(&given) }
	for _, stream := range []struct {
		file *os.File
		fd   *C.int32_t
	}{{s.Stdin, &given.stdin_fd}, {s.Stdout, &given.stdout_fd}, {s.Stderr, &given.stderr_fd}} {
		if stream.file == nil {
			continue
		}
		// Fd would make the file a blocking one.
		connection, err := stream.file.SyscallConn()
		if err != nil {
			return err
		}
		place, inner := stream.fd, run
		run = func() (err error) {
			failed := connection.Control(func(fd uintptr) {
				*place = C.int32_t(fd)
				err = inner()
			})
			if failed != nil {
				return failed
			}
			return err
		}
	}
	return run()
}

// refusePipes refuses a specification that asks for a pipe.
func refusePipes(spec any) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	var given struct {
		Stdio map[string]any `json:"stdio"`
	}
	// What is no specification at all, the library refuses with better words.
	if json.Unmarshal(text, &given) != nil {
		return nil
	}
	for _, stream := range given.Stdio {
		if stream == "pipe" {
			return &Error{
				Code:    InvalidSpec,
				Errno:   syscall.EINVAL,
				Step:    "check the specification",
				Subject: "stdio",
				message: "check the specification stdio: a pipe has nobody at its other end in Run; give an open file",
			}
		}
	}
	return nil
}

// take takes the other end of a pipe. Reading or writing it parks the goroutine and not a thread.
func (c *Container) take(stream string, call func(*C.pericarp_container_t, *C.int, **C.pericarp_error_t) C.int) (*os.File, error) {
	var fd C.int
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return call(container, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	return polled(int(fd), c.name+"."+stream)
}

// polled makes a file of a descriptor that is this program's own, for Go's poller.
func polled(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Stdin takes the other end of a standard input that the specification asked for as "pipe". Closing it is the end of
// file. It can be taken once.
func (c *Container) Stdin() (*os.File, error) {
	return c.take("stdin", func(container *C.pericarp_container_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_stdin(container, fd, err)
	})
}

// Stdout takes the other end of a standard output that the specification asked for as "pipe". It can be taken once.
func (c *Container) Stdout() (*os.File, error) {
	return c.take("stdout", func(container *C.pericarp_container_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_stdout(container, fd, err)
	})
}

// Stderr takes the other end of a standard error that the specification asked for as "pipe". It can be taken once.
func (c *Container) Stderr() (*os.File, error) {
	return c.take("stderr", func(container *C.pericarp_container_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_stderr(container, fd, err)
	})
}
