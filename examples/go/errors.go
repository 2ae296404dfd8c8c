package pericarp

// #include <pericarp.h>
import "C"

import (
	"errors"
	"strconv"
	"syscall"
)

// Code says what kind of failure an error is. It is an error itself, so that errors.Is can look for it.
type Code int

// The codes of pericarp.h. More may be added.
const (
	InvalidSpec      Code = C.PERICARP_ERROR_INVALID_SPEC
	AlreadyExists    Code = C.PERICARP_ERROR_ALREADY_EXISTS
	NotFound         Code = C.PERICARP_ERROR_NOT_FOUND
	WrongState       Code = C.PERICARP_ERROR_WRONG_STATE
	Unsupported      Code = C.PERICARP_ERROR_UNSUPPORTED
	PermissionDenied Code = C.PERICARP_ERROR_PERMISSION_DENIED
	Exhausted        Code = C.PERICARP_ERROR_EXHAUSTED
	CorruptState     Code = C.PERICARP_ERROR_CORRUPT_STATE
	Exec             Code = C.PERICARP_ERROR_EXEC
	StatusLost       Code = C.PERICARP_ERROR_STATUS_LOST
	System           Code = C.PERICARP_ERROR_SYSTEM
	InvalidArgument  Code = C.PERICARP_ERROR_INVALID_ARGUMENT
	Panic            Code = C.PERICARP_ERROR_PANIC
	Hook             Code = C.PERICARP_ERROR_HOOK
)

var codes = map[Code]string{
	InvalidSpec:      "invalid specification",
	AlreadyExists:    "already exists",
	NotFound:         "not found",
	WrongState:       "wrong state",
	Unsupported:      "unsupported",
	PermissionDenied: "permission denied",
	Exhausted:        "exhausted",
	CorruptState:     "corrupt state",
	Exec:             "cannot be executed",
	StatusLost:       "exit status lost",
	System:           "system call failed",
	InvalidArgument:  "invalid argument",
	Panic:            "panic",
	Hook:             "a hook failed afterwards",
}

func (c Code) Error() string {
	if text, ok := codes[c]; ok {
		return "pericarp: " + text
	}
	return "pericarp: code " + strconv.Itoa(int(c))
}

// Error is why a call failed.
type Error struct {
	Code    Code
	Errno   syscall.Errno // of the failed system call, or what the code stands for
	Step    string        // what failed, in words
	Subject string        // what it worked on; may be empty
	message string
}

func (e *Error) Error() string { return e.message }

// Is says whether the target is the error's Code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// ErrClosed is returned for calls with what was closed.
var ErrClosed = errors.New("pericarp: already closed")

// try makes a call, and turns its result and the error of the library into an error.
func try(call func(err **C.pericarp_error_t) C.int) error {
	var err *C.pericarp_error_t
	result := call(&err)
	if result == 0 {
		return nil
	}
	defer C.pericarp_error_unref(err)
	return &Error{
		Code:    Code(C.pericarp_error_code(err)),
		Errno:   syscall.Errno(-result),
		Step:    C.GoString(C.pericarp_error_step(err)),
		Subject: C.GoString(C.pericarp_error_subject(err)),
		message: C.GoString(C.pericarp_error_message(err)),
	}
}
