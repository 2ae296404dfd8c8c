// Package pericarp makes Kubernetes-style pods on Linux, through the C interface of the pericarp library.
//
// A Node is the pods of one machine under one state directory. A Pod is what containers share. A Container is one
// isolated process tree in a pod. All may be used by any number of goroutines at the same time, and are to be closed.
// Closing never kills or removes anything, with one exception: a container that was created and never started ends when
// it is closed, unless it is detached. What is forgotten is closed when the garbage collector finds it, whenever that
// is: that is a net, and no way to free descriptors in time.
//
// Specifications are anything that encoding/json makes the JSON of the library of: a map[string]any, a struct, or the
// JSON itself as json.RawMessage. docs/pod-json.md tells the keys.
//
// Errors of the library are *Error. errors.Is finds the Code in them, and the error number:
//
//	errors.Is(err, pericarp.NotFound)
//	errors.Is(err, fs.ErrNotExist)
//
// What may take long takes a context, and parks the goroutine and not a thread.
//
// The package needs cgo, and pkg-config to find the installed library (ffi/install.sh, or cargo cinstall).
package pericarp

/*
#cgo pkg-config: pericarp
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// Version is that of the library that the program runs with.
func Version() string { return C.GoString(C.pericarp_version()) }

// VersionNumber is the version as a number that can be compared: major * 1000000 + minor * 1000 + patch.
func VersionNumber() int { return int(C.pericarp_version_number()) }

// HasFeature says whether the library can do something, see pericarp_has_feature in the header.
func HasFeature(name string) bool {
	text, free := cString(name)
	defer free()
	return C.pericarp_has_feature(text) == 1
}

// handle keeps a handle of the library while calls use it, and gives it back once.
type handle[T any] struct {
	mutex   sync.RWMutex
	pointer *T
	unref   func(*T)
}

// newHandle takes a reference of the library's. It is a value of its own, so that what the garbage collector finds is this
// and nothing that is still in use: a call has it until it returns.
func newHandle[T any](pointer *T, unref func(*T)) *handle[T] {
	h := &handle[T]{pointer: pointer, unref: unref}
	runtime.SetFinalizer(h, func(h *handle[T]) { h.close() })
	return h
}

// with does something with the handle. Close waits for it.
func (h *handle[T]) with(do func(*T) error) error {
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	if h.pointer == nil {
		return ErrClosed
	}
	return do(h.pointer)
}

// use makes a call with the handle.
func (h *handle[T]) use(call func(*T, **C.pericarp_error_t) C.int) error {
	return h.with(func(pointer *T) error {
		return try(func(err **C.pericarp_error_t) C.int { return call(pointer, err) })
	})
}

func (h *handle[T]) close() error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.pointer == nil {
		return ErrClosed
	}
	h.unref(h.pointer)
	h.pointer = nil
	runtime.SetFinalizer(h, nil)
	return nil
}

func cString(text string) (*C.char, func()) {
	c := C.CString(text)
	return c, func() { C.free(unsafe.Pointer(c)) }
}

// marshal makes the JSON text of a specification.
func marshal(spec any) (*C.char, func(), error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, nil, err
	}
	c, free := cString(string(text))
	return c, free, nil
}

// text makes a call that gives a string.
func (h *handle[T]) text(call func(*T, **C.char, **C.pericarp_error_t) C.int) (string, error) {
	var text *C.char
	err := h.use(func(pointer *T, err **C.pericarp_error_t) C.int { return call(pointer, &text, err) })
	if err != nil {
		return "", err
	}
	defer C.pericarp_string_free(text)
	return C.GoString(text), nil
}

// json makes a call that gives JSON, and reads it into a value.
func (h *handle[T]) json(value any, call func(*T, **C.char, **C.pericarp_error_t) C.int) error {
	text, err := h.text(call)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), value)
}

// file makes a call that opens a file.
func (h *handle[T]) file(name string, call func(*T, *C.int, **C.pericarp_error_t) C.int) (*os.File, error) {
	var fd C.int
	err := h.use(func(pointer *T, err **C.pericarp_error_t) C.int { return call(pointer, &fd, err) })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
