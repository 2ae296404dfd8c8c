package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Terminal is this program's side of the terminal of a container or process, the master of a pty(7): what is written to it
// is typed, what is read from it is displayed. Reading and writing park the goroutine and not a thread.
type Terminal struct{ file *os.File }

func terminal(file *os.File, err error) (*Terminal, error) {
	if err != nil {
		return nil, err
	}
	return &Terminal{file}, nil
}

// Terminal takes the terminal of a container whose specification asked for one ("terminal": true). It can be taken once.
func (c *Container) Terminal() (*Terminal, error) {
	return terminal(c.take("terminal", func(container *C.pericarp_container_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_terminal(container, fd, err)
	}))
}

// Read reads what is displayed. It is io.EOF once nobody has the other side open any more.
func (t *Terminal) Read(buffer []byte) (int, error) {
	count, err := t.file.Read(buffer)
	if errors.Is(err, syscall.EIO) {
		err = io.EOF
	}
	return count, err
}

// Write types.
func (t *Terminal) Write(text []byte) (int, error) { return t.file.Write(text) }

// Close closes this side: the terminal hangs up when nobody else has it.
func (t *Terminal) Close() error { return t.file.Close() }

// use makes a call with the descriptor, which stays open meanwhile.
func (t *Terminal) use(call func(C.int, **C.pericarp_error_t) C.int) error {
	connection, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	failed := connection.Control(func(fd uintptr) {
		err = try(func(err **C.pericarp_error_t) C.int { return call(C.int(fd), err) })
	})
	if failed != nil {
		return failed
	}
	return err
}

// Name is the path of the other side in the container: "/dev/pts/0".
func (t *Terminal) Name() (string, error) {
	var text *C.char
	if err := t.use(func(fd C.int, err **C.pericarp_error_t) C.int { return C.pericarp_terminal_name(fd, &text, err) }); err != nil {
		return "", err
	}
	defer C.pericarp_string_free(text)
	return C.GoString(text), nil
}

// Size is how many characters it is wide and high.
func (t *Terminal) Size() (width, height uint16, err error) {
	var w, h C.uint16_t
	err = t.use(func(fd C.int, err **C.pericarp_error_t) C.int { return C.pericarp_terminal_size(fd, &w, &h, err) })
	return uint16(w), uint16(h), err
}

// Resize sets the size. The processes in the foreground get SIGWINCH.
func (t *Terminal) Resize(width, height uint16) error {
	return t.use(func(fd C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_terminal_resize(fd, C.uint16_t(width), C.uint16_t(height), err)
	})
}

// SendTo sends the terminal to a program that listens on a stream socket at that path, as OCI runtimes do with
// --console-socket. It stays open here.
func (t *Terminal) SendTo(path string) error {
	text, free := cString(path)
	defer free()
	return t.use(func(fd C.int, err **C.pericarp_error_t) C.int { return C.pericarp_terminal_send_to(fd, text, err) })
}

// SeccompListener takes the listener of a system call filter that notifies: whoever holds it answers what the container
// asks, see seccomp_unotify(2). It is there once the container has started.
func (c *Container) SeccompListener() (*os.File, error) {
	return c.handle.file("seccomp", func(container *C.pericarp_container_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_seccomp_listener(container, fd, err)
	})
}
