package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"errors"
	"os"
	"time"
	"unsafe"
)

// Pod is what containers have in common: namespaces, shared memory, volumes and a cgroup.
type Pod struct {
	handle                          *handle[C.pericarp_pod_t]
	id, name, namespace, cgroupPath string
	createdAt                       time.Time
}

func newPod(pointer *C.pericarp_pod_t) *Pod {
	return &Pod{
		handle:     newHandle(pointer, func(pod *C.pericarp_pod_t) { C.pericarp_pod_unref(pod) }),
		id:         C.GoString(C.pericarp_pod_id(pointer)),
		name:       C.GoString(C.pericarp_pod_name(pointer)),
		namespace:  C.GoString(C.pericarp_pod_namespace(pointer)),
		cgroupPath: C.GoString(C.pericarp_pod_cgroup_path(pointer)),
		createdAt:  time.Unix(0, int64(C.pericarp_pod_created_at(pointer))),
	}
}

// ID is unique: no other pod ever has it.
func (p *Pod) ID() string { return p.id }

// Name is what a later pod may have again.
func (p *Pod) Name() string { return p.name }

// Namespace is what the name is unique in. It is Kubernetes' word, not the kernel's.
func (p *Pod) Namespace() string { return p.namespace }

// CgroupPath is the directory of the pod's cgroup.
func (p *Pod) CgroupPath() string { return p.cgroupPath }

// CreatedAt is when it was made.
func (p *Pod) CreatedAt() time.Time { return p.createdAt }

// Close gives the pod back. It goes on with its containers.
func (p *Pod) Close() error { return p.handle.close() }

// Node is the node that it belongs to, as a handle to be closed.
func (p *Pod) Node() (*Node, error) {
	var pointer *C.pericarp_node_t
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		pointer = C.pericarp_pod_node(pod)
		return 0
	})
	if err != nil {
		return nil, err
	}
	return newNode(pointer), nil
}

// Spec reads the specification that it was made of into a value, as json.Unmarshal does.
func (p *Pod) Spec(value any) error {
	return p.handle.json(value, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_spec(pod, text, err)
	})
}

// Label is the value of one label, and whether there is one.
func (p *Pod) Label(key string) (value string, found bool, err error) {
	name, free := cString(key)
	defer free()
	value, err = p.handle.text(func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_label(pod, name, text, err)
	})
	if errors.Is(err, NotFound) {
		return "", false, nil
	}
	return value, err == nil, err
}

// NamespaceKind is a kind of namespace that a pod has.
type NamespaceKind uint32

// The kinds of namespaces; a pod has one of processes and one of users only if its specification asks for it.
const (
	Network   NamespaceKind = C.PERICARP_NAMESPACE_NETWORK
	IPC       NamespaceKind = C.PERICARP_NAMESPACE_IPC
	UTS       NamespaceKind = C.PERICARP_NAMESPACE_UTS
	Processes NamespaceKind = C.PERICARP_NAMESPACE_PID
	Users     NamespaceKind = C.PERICARP_NAMESPACE_USER
)

// OpenNamespace opens a namespace of the pod. It stays alive while the file is open.
func (p *Pod) OpenNamespace(kind NamespaceKind) (*os.File, error) {
	return p.handle.file("namespace", func(pod *C.pericarp_pod_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_open_namespace(pod, C.uint32_t(kind), fd, err)
	})
}

// NamespaceInode is the number of a namespace of the pod, as in readlink /proc/PID/ns/net.
func (p *Pod) NamespaceInode(kind NamespaceKind) (uint64, error) {
	var inode C.uint64_t
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_namespace_inode(pod, C.uint32_t(kind), &inode, err)
	})
	return uint64(inode), err
}

// CreateContainer makes a container, up to the point where its program would run.
func (p *Pod) CreateContainer(spec any) (*Container, error) {
	return p.CreateContainerWith(spec, Streams{})
}

// CreateContainerWith makes a container with open files as its streams, in place of what the specification says.
func (p *Pod) CreateContainerWith(spec any, streams Streams) (*Container, error) {
	text, free, err := marshal(spec)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_container_t
	err = streams.use(func(stdio *C.pericarp_stdio_t) error {
		return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
			return C.pericarp_pod_create_container(pod, text, stdio, &pointer, err)
		})
	})
	if err != nil {
		return nil, err
	}
	return newContainer(pointer), nil
}

// Run makes and starts a container, waits until it has ended, and removes it; when the context is done, it removes it
// at once. Streams asked for as "pipe" would have nobody at the other end: they are refused.
func (p *Pod) Run(ctx context.Context, spec any, streams Streams) (ExitStatus, error) {
	if err := refusePipes(spec); err != nil {
		return ExitStatus{}, err
	}
	container, err := p.CreateContainerWith(spec, streams)
	if err != nil {
		return ExitStatus{}, err
	}
	defer container.Close()
	var status ExitStatus
	if err = container.Start(); err == nil {
		status, err = container.Wait(ctx)
	}
	if removed := container.Remove(); err == nil {
		err = removed
	}
	return status, err
}

// Explain tells the steps for a container in words, a line a step, and does none.
func (p *Pod) Explain(spec any) (string, error) {
	given, free, err := marshal(spec)
	if err != nil {
		return "", err
	}
	defer free()
	return p.handle.text(func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_explain(pod, given, text, err)
	})
}

// OpenContainer opens a container by its name.
func (p *Pod) OpenContainer(name string) (*Container, error) {
	text, free := cString(name)
	defer free()
	var pointer *C.pericarp_container_t
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_open_container(pod, text, &pointer, err)
	})
	if err != nil {
		return nil, err
	}
	return newContainer(pointer), nil
}

// Containers returns all containers, to be closed each.
func (p *Pod) Containers() ([]*Container, error) {
	var list **C.pericarp_container_t
	var count C.size_t
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_containers(pod, &list, &count, err)
	})
	if err != nil {
		return nil, err
	}
	defer C.pericarp_container_list_free(list)
	containers := make([]*Container, 0, count)
	for _, pointer := range unsafe.Slice(list, count) {
		containers = append(containers, newContainer(C.pericarp_container_ref(pointer)))
	}
	return containers, nil
}

// Status tells the status of all containers, by name.
func (p *Pod) Status() (map[string]Status, error) {
	var pod struct {
		Containers map[string]statusJSON `json:"containers"`
	}
	err := p.handle.json(&pod, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_status(pod, text, err)
	})
	if err != nil {
		return nil, err
	}
	statuses := make(map[string]Status, len(pod.Containers))
	for name, status := range pod.Containers {
		statuses[name] = status.status()
	}
	return statuses, nil
}

// Stop asks every container to end, waits at most the grace time for all of them together, and kills what is left. When
// the context is done before, nothing is killed.
func (p *Pod) Stop(ctx context.Context, grace time.Duration) error {
	containers, err := p.Containers()
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, container := range containers {
		defer container.Close()
		if err := container.ask(); err != nil {
			return err
		}
	}
	for _, container := range containers {
		if err := container.ended(ctx, asked); err != nil {
			return err
		}
	}
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_stop(pod, 0, err)
	})
}

// Freeze stops every process of the pod where it is, and returns when all have stopped.
func (p *Pod) Freeze() error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_freeze(pod, err)
	})
}

// Thaw lets every process of the pod run again, except those of containers that are frozen themselves.
func (p *Pod) Thaw() error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_thaw(pod, err)
	})
}

// Remove ends all containers of the pod at once, and removes all that there is of it.
func (p *Pod) Remove() error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_remove(pod, err)
	})
}
