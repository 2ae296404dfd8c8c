package pericarp

// #include <pericarp.h>
import "C"

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Container is one isolated process tree in a pod.
type Container struct {
	handle *handle[C.pericarp_container_t]
	name   string
	pid    int
}

func newContainer(pointer *C.pericarp_container_t) *Container {
	return &Container{
		handle: newHandle(pointer, func(container *C.pericarp_container_t) { C.pericarp_container_unref(container) }),
		name:   C.GoString(C.pericarp_container_name(pointer)),
		pid:    int(C.pericarp_container_pid(pointer)),
	}
}

// Name is unique in the pod.
func (c *Container) Name() string { return c.name }

// PID is that of the first process, as the host sees it. It may have ended, and another process may have the number.
func (c *Container) PID() int { return c.pid }

// Close gives the container back. One that was never started ends, unless it is detached.
func (c *Container) Close() error { return c.handle.close() }

// Pod is the container's pod, as a handle to be closed.
func (c *Container) Pod() (*Pod, error) {
	var pointer *C.pericarp_pod_t
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		pointer = C.pericarp_container_pod(container)
		return 0
	})
	if err != nil {
		return nil, err
	}
	return newPod(pointer), nil
}

// Spec reads the specification that it was made of into a value, as json.Unmarshal does.
func (c *Container) Spec(value any) error {
	return c.handle.json(value, func(container *C.pericarp_container_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_spec(container, text, err)
	})
}

// Start executes the program, and returns when it runs.
func (c *Container) Start() error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_start(container, err)
	})
}

// Signal sends a signal to the container's first process.
func (c *Container) Signal(signal syscall.Signal) error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_signal(container, C.int(signal), err)
	})
}

// SignalAll sends a signal to every process of the container that there is at one moment.
func (c *Container) SignalAll(signal syscall.Signal) error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_signal_all(container, C.int(signal), err)
	})
}

// Kill kills every process of the container.
func (c *Container) Kill() error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_kill(container, err)
	})
}

// Stop asks the container to end by its stop signal, waits at most the grace time, and then kills all that is left of
// it. When the context is done before, nothing is killed.
func (c *Container) Stop(ctx context.Context, grace time.Duration) (ExitStatus, error) {
	asked, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := c.ask(); err != nil {
		return ExitStatus{}, err
	}
	if err := c.ended(ctx, asked); err != nil {
		return ExitStatus{}, err
	}
	status := C.pericarp_exit_status_t{size: C.sizeof_pericarp_exit_status_t}
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_stop(container, 0, &status, err)
	})
	if err != nil {
		return ExitStatus{}, err
	}
	return exitStatus(&status), nil
}

// ask sends the stop signal to a container that runs. One that was never started could not hear it: it is left to be
// killed.
func (c *Container) ask() error {
	status, err := c.Status()
	if err != nil || status.State != Running {
		return err
	}
	var spec struct {
		StopSignal syscall.Signal `json:"stopSignal"`
	}
	if err := c.Spec(&spec); err != nil {
		return err
	}
	if err := c.Signal(spec.StopSignal); err != nil && !errors.Is(err, WrongState) {
		return err
	}
	return nil
}

// ended waits until a container that runs has ended, or the time is over in which it was asked to.
func (c *Container) ended(ctx, asked context.Context) error {
	status, err := c.Status()
	if err != nil || status.State != Running {
		return err
	}
	_, err = c.Wait(asked)
	switch {
	case err == nil || errors.Is(err, StatusLost):
		return nil
	case errors.Is(err, asked.Err()):
		// Nil when only the grace time is over.
		return ctx.Err()
	}
	return err
}

// Remove ends the container if it has not ended, and removes all that there is of it.
func (c *Container) Remove() error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_remove(container, err)
	})
}

// Freeze stops every process of the container where it is, and returns when all have stopped.
func (c *Container) Freeze() error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_freeze(container, err)
	})
}

// Thaw lets every process of the container run again.
func (c *Container) Thaw() error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_thaw(container, err)
	})
}

// Processes are the ids of the container's processes, ascending, as the host sees them.
func (c *Container) Processes() ([]int, error) {
	// There may be more than at the last time.
	for room := 16; ; room *= 2 {
		pids := make([]C.int32_t, room)
		var count C.size_t
		err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
			return C.pericarp_container_processes(container, &pids[0], C.size_t(room), &count, err)
		})
		if err != nil {
			return nil, err
		}
		if int(count) > room {
			continue
		}
		processes := make([]int, 0, count)
		for _, pid := range pids[:count] {
			processes = append(processes, int(pid))
		}
		return processes, nil
	}
}
