// Package pericarp makes Kubernetes-style pods on Linux, through the C interface of the pericarp library.
//
// A Node is the pods of one machine under one state directory. A Pod is what containers share. A Container is one
// isolated process tree in a pod. All may be used by any goroutine, and should be closed; a finalizer is only a net.
// Closing never kills or removes anything, with one exception: a container that was created and never started ends
// when it is closed.
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
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Code says what kind of failure an error is.
type Code int

// The codes of pericarp.h.
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
)

// Error is why a call failed. errors.Is finds the error number in it: errors.Is(err, syscall.ENOENT), and so
// errors.Is(err, fs.ErrNotExist).
type Error struct {
	Code    Code
	Errno   syscall.Errno
	Step    string
	Subject string
	message string
}

func (e *Error) Error() string { return e.message }

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

// handle keeps a handle of the library while calls use it, and gives it back once.
type handle[T any] struct {
	mutex   sync.RWMutex
	pointer *T
}

// use makes a call with the handle. Close waits for it. The owner is kept from its finalizer.
func (h *handle[T]) use(owner any, call func(*T, **C.pericarp_error_t) C.int) error {
	defer runtime.KeepAlive(owner)
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	if h.pointer == nil {
		return ErrClosed
	}
	return try(func(err **C.pericarp_error_t) C.int { return call(h.pointer, err) })
}

func (h *handle[T]) close(owner any, unref func(*T)) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.pointer == nil {
		return ErrClosed
	}
	runtime.SetFinalizer(owner, nil)
	unref(h.pointer)
	h.pointer = nil
	return nil
}

// Version is that of the library that the program runs with.
func Version() string { return C.GoString(C.pericarp_version()) }

// Options say how to open a node. What is empty is the library's default.
type Options struct {
	StateDir   string // where the node keeps its state: /run/pericarp
	CgroupName string // a cgroup below the root of the cgroup v2 mount: pericarp
}

// Node is the pods of this machine under one state directory.
type Node struct{ handle handle[C.pericarp_node_t] }

// Open opens a node, and makes it when it is missing.
func Open(options Options) (*Node, error) {
	given := (*C.pericarp_node_options_t)(C.calloc(1, C.sizeof_pericarp_node_options_t))
	defer C.free(unsafe.Pointer(given))
	given.size = C.sizeof_pericarp_node_options_t
	if options.StateDir != "" {
		text, free := cString(options.StateDir)
		defer free()
		given.state_dir = text
	}
	if options.CgroupName != "" {
		text, free := cString(options.CgroupName)
		defer free()
		given.cgroup_name = text
	}
	var pointer *C.pericarp_node_t
	if err := try(func(err **C.pericarp_error_t) C.int { return C.pericarp_node_open(given, &pointer, err) }); err != nil {
		return nil, err
	}
	node := &Node{handle[C.pericarp_node_t]{pointer: pointer}}
	runtime.SetFinalizer(node, (*Node).Close)
	return node, nil
}

// Close gives the node back. Its pods go on.
func (n *Node) Close() error {
	return n.handle.close(n, func(node *C.pericarp_node_t) { C.pericarp_node_unref(node) })
}

// Remove removes the node itself: its state directory and its cgroup. There must be no pods.
func (n *Node) Remove() error {
	return n.handle.use(n, func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_remove(node, err)
	})
}

// Recover puts the node in order after programs died.
func (n *Node) Recover() error {
	var text *C.char
	err := n.handle.use(n, func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_recover(node, &text, err)
	})
	C.pericarp_string_free(text)
	return err
}

// CreatePod makes a pod. The specification is anything that encoding/json makes the JSON of a pod of: a
// map[string]any, a struct, or the JSON itself as json.RawMessage. Its keys are told in docs/pod-json.md.
func (n *Node) CreatePod(spec any) (*Pod, error) {
	text, free, err := marshal(spec)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_pod_t
	err = n.handle.use(n, func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_create_pod_json(node, text, &pointer, err)
	})
	return newPod(pointer, err)
}

// OpenPod opens a pod by its id, its name, or namespace/name.
func (n *Node) OpenPod(name string) (*Pod, error) {
	text, free := cString(name)
	defer free()
	var pointer *C.pericarp_pod_t
	err := n.handle.use(n, func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_open_pod(node, text, &pointer, err)
	})
	return newPod(pointer, err)
}

// Pods returns all pods of the node.
func (n *Node) Pods() ([]*Pod, error) {
	var list **C.pericarp_pod_t
	var count C.size_t
	err := n.handle.use(n, func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_pods(node, &list, &count, err)
	})
	if err != nil {
		return nil, err
	}
	defer C.pericarp_pod_list_free(list)
	pods := make([]*Pod, 0, count)
	for _, pointer := range unsafe.Slice(list, count) {
		pod, _ := newPod(C.pericarp_pod_ref(pointer), nil)
		pods = append(pods, pod)
	}
	return pods, nil
}

// Pod is what containers have in common: namespaces, shared memory, volumes and a cgroup.
type Pod struct {
	handle   handle[C.pericarp_pod_t]
	id, name string
}

func newPod(pointer *C.pericarp_pod_t, err error) (*Pod, error) {
	if err != nil {
		return nil, err
	}
	pod := &Pod{
		handle: handle[C.pericarp_pod_t]{pointer: pointer},
		id:     C.GoString(C.pericarp_pod_id(pointer)),
		name:   C.GoString(C.pericarp_pod_name(pointer)),
	}
	runtime.SetFinalizer(pod, (*Pod).Close)
	return pod, nil
}

// ID is unique: no other pod ever has it.
func (p *Pod) ID() string { return p.id }

// Name is what a later pod may have again.
func (p *Pod) Name() string { return p.name }

// Close gives the pod back. It goes on with its containers.
func (p *Pod) Close() error {
	return p.handle.close(p, func(pod *C.pericarp_pod_t) { C.pericarp_pod_unref(pod) })
}

// Remove ends all containers of the pod at once, and removes all that there is of it.
func (p *Pod) Remove() error {
	return p.handle.use(p, func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_remove(pod, err)
	})
}

// Stop asks every container to end, waits at most that long for all of them together, and kills what is left.
func (p *Pod) Stop(grace time.Duration) error {
	return p.handle.use(p, func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_stop(pod, C.uint64_t(grace.Milliseconds()), err)
	})
}

// CreateShm makes a POSIX shared memory object in the pod, and opens it.
func (p *Pod) CreateShm(name string, size int64) (*os.File, error) {
	object := (*C.pericarp_shm_object_t)(C.calloc(1, C.sizeof_pericarp_shm_object_t))
	defer C.free(unsafe.Pointer(object))
	text, free := cString(name)
	defer free()
	object.size, object.name, object.bytes = C.sizeof_pericarp_shm_object_t, text, C.uint64_t(size)
	var fd C.int
	err := p.handle.use(p, func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_shm_object(pod, object, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CreateContainer makes a container, up to the point where its program would run. The specification is like that of
// CreatePod.
func (p *Pod) CreateContainer(spec any) (*Container, error) {
	text, free, err := marshal(spec)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_container_t
	err = p.handle.use(p, func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_create_container(pod, text, nil, &pointer, err)
	})
	if err != nil {
		return nil, err
	}
	container := &Container{
		handle: handle[C.pericarp_container_t]{pointer: pointer},
		name:   C.GoString(C.pericarp_container_name(pointer)),
	}
	runtime.SetFinalizer(container, (*Container).Close)
	return container, nil
}

// Container is one isolated process tree in a pod.
type Container struct {
	handle handle[C.pericarp_container_t]
	name   string
}

// Name is unique in the pod.
func (c *Container) Name() string { return c.name }

// Close gives the container back.
func (c *Container) Close() error {
	return c.handle.close(c, func(container *C.pericarp_container_t) { C.pericarp_container_unref(container) })
}

// Start executes the program, and returns when it runs.
func (c *Container) Start() error {
	return c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_start(container, err)
	})
}

// Signal sends a signal to the container's first process.
func (c *Container) Signal(signal syscall.Signal) error {
	return c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_signal(container, C.int(signal), err)
	})
}

// Kill kills every process of the container.
func (c *Container) Kill() error {
	return c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_kill(container, err)
	})
}

// Remove ends the container if it has not ended, and removes all that there is of it.
func (c *Container) Remove() error {
	return c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_remove(container, err)
	})
}

// Stdout takes the other end of a standard output that the specification asked for as "pipe".
func (c *Container) Stdout() (*os.File, error) {
	var fd C.int
	err := c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_take_stdout(container, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	// Reading then parks the goroutine and not a thread.
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		syscall.Close(int(fd))
		return nil, err
	}
	return os.NewFile(uintptr(fd), c.name+".stdout"), nil
}

// ExitStatus is how a container ended.
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

// TryWait returns how the container ended, or false if it has not.
func (c *Container) TryWait() (status ExitStatus, ended bool, err error) {
	given := C.pericarp_exit_status_t{size: C.sizeof_pericarp_exit_status_t}
	err = c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_try_wait(container, &given, err)
	})
	if err != nil || given.how == C.PERICARP_EXIT_NONE {
		return ExitStatus{}, false, err
	}
	return ExitStatus{int(given.code), syscall.Signal(given.signal), given.core_dumped != 0}, true, nil
}

// Wait waits until the container has ended, or the context is done. No thread waits meanwhile: the goroutine is
// parked until Go's poller says that the pidfd is readable.
func (c *Container) Wait(ctx context.Context) (ExitStatus, error) {
	poll, err := c.pollable()
	if errors.Is(err, syscall.ENOENT) {
		// It had ended before this program opened it.
		status, _, err := c.TryWait()
		return status, err
	}
	if err != nil {
		return ExitStatus{}, err
	}
	defer poll.Close()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-ctx.Done():
			poll.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	connection, err := poll.SyscallConn()
	if err != nil {
		return ExitStatus{}, err
	}
	var status ExitStatus
	var failed error
	err = connection.Read(func(uintptr) bool {
		var ended bool
		status, ended, failed = c.TryWait()
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

// pollable makes a file that Go's poller can wait for: an epoll(7) instance with the pidfd in it. The pidfd itself
// would have to be made non-blocking, and a copy of it shares that with the library's.
func (c *Container) pollable() (*os.File, error) {
	var fd C.int
	err := c.handle.use(c, func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_dup_pidfd(container, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	set, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		syscall.Close(int(fd))
		return nil, err
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	err = syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, int(fd), &event)
	if err == nil {
		err = syscall.SetNonblock(set, true)
	}
	// The library has its own descriptor of the process, which keeps the entry in the set.
	syscall.Close(int(fd))
	if err != nil {
		syscall.Close(set)
		return nil, err
	}
	return os.NewFile(uintptr(set), c.name+".pidfd"), nil
}
