package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"os"
	"unsafe"
)

// Shm is a POSIX shared memory object to make.
type Shm struct {
	Name     string
	Size     int64  // in bytes
	Mode     uint32 // 0 is 0600
	UID, GID uint32
}

// MessageQueue is a POSIX message queue to make.
type MessageQueue struct {
	Name        string
	MaxMessages uint32 // 0 is 10
	MessageSize uint32 // bytes of the longest; 0 is 8192
	Mode        uint32 // 0 is 0600
	UID, GID    uint32
}

// SysvShm is a System V shared memory segment to make.
type SysvShm struct {
	Key      int32
	Size     int64  // in bytes
	Mode     uint32 // 0 is 0600
	UID, GID uint32
}

// SysvSem is a System V semaphore set to make.
type SysvSem struct {
	Key      int32
	Values   []uint16
	Mode     uint32 // 0 is 0600
	UID, GID uint32
}

// SysvMsg is a System V message queue to make.
type SysvMsg struct {
	Key      int32
	MaxBytes uint64 // 0 is the kernel's default
	Mode     uint32 // 0 is 0600
	UID, GID uint32
}

// CreateIPC makes all these objects, or none of them: the JSON of IpcObjects, see docs/pod-json.md.
func (p *Pod) CreateIPC(objects any) error {
	text, free, err := marshal(objects)
	if err != nil {
		return err
	}
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create(pod, text, err)
	})
}

// CreateShm makes a POSIX shared memory object, and opens it for reading and writing.
func (p *Pod) CreateShm(object Shm) (*os.File, error) {
	name, free := cString(object.Name)
	defer free()
	given := (*C.pericarp_shm_object_t)(C.calloc(1, C.sizeof_pericarp_shm_object_t))
	defer C.free(unsafe.Pointer(given))
	given.size, given.name, given.bytes = C.sizeof_pericarp_shm_object_t, name, C.uint64_t(object.Size)
	given.mode, given.uid, given.gid = C.uint32_t(object.Mode), C.uint32_t(object.UID), C.uint32_t(object.GID)
	return p.handle.file(object.Name, func(pod *C.pericarp_pod_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_shm_object(pod, given, fd, err)
	})
}

// OpenShm opens a POSIX shared memory object.
func (p *Pod) OpenShm(name string, writable bool) (*os.File, error) {
	text, free := cString(name)
	defer free()
	var write C.int
	if writable {
		write = 1
	}
	return p.handle.file(name, func(pod *C.pericarp_pod_t, fd *C.int, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_open_shm_object(pod, text, write, fd, err)
	})
}

// RemoveShm removes the name of a POSIX shared memory object; who has it open keeps it.
func (p *Pod) RemoveShm(name string) error {
	text, free := cString(name)
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_remove_shm_object(pod, text, err)
	})
}

// CreateMessageQueue makes a POSIX message queue.
func (p *Pod) CreateMessageQueue(queue MessageQueue) error {
	name, free := cString(queue.Name)
	defer free()
	given := (*C.pericarp_mqueue_t)(C.calloc(1, C.sizeof_pericarp_mqueue_t))
	defer C.free(unsafe.Pointer(given))
	given.size, given.name = C.sizeof_pericarp_mqueue_t, name
	given.max_messages, given.message_size = C.uint32_t(queue.MaxMessages), C.uint32_t(queue.MessageSize)
	given.mode, given.uid, given.gid = C.uint32_t(queue.Mode), C.uint32_t(queue.UID), C.uint32_t(queue.GID)
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_mqueue(pod, given, err)
	})
}

// RemoveMessageQueue removes the name of a POSIX message queue.
func (p *Pod) RemoveMessageQueue(name string) error {
	text, free := cString(name)
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_remove_mqueue(pod, text, err)
	})
}

// CreateSysvShm makes a System V shared memory segment, and returns its id.
func (p *Pod) CreateSysvShm(segment SysvShm) (int, error) {
	given := C.pericarp_sysv_shm_t{
		size: C.sizeof_pericarp_sysv_shm_t, key: C.int32_t(segment.Key), bytes: C.uint64_t(segment.Size),
		mode: C.uint32_t(segment.Mode), uid: C.uint32_t(segment.UID), gid: C.uint32_t(segment.GID),
	}
	var id C.int
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_sysv_shm(pod, &given, &id, err)
	})
	return int(id), err
}

// RemoveSysvShm removes a System V shared memory segment.
func (p *Pod) RemoveSysvShm(key int32) error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_remove_sysv_shm(pod, C.int32_t(key), err)
	})
}

// CreateSysvSem makes a System V semaphore set with its values, and returns its id.
func (p *Pod) CreateSysvSem(set SysvSem) (int, error) {
	// At least one, so that there is memory to point at; the library refuses a set of none.
	count := len(set.Values)
	values := (*C.uint16_t)(C.calloc(C.size_t(count)+1, C.sizeof_uint16_t))
	defer C.free(unsafe.Pointer(values))
	for at, value := range set.Values {
		unsafe.Slice(values, count)[at] = C.uint16_t(value)
	}
	given := (*C.pericarp_sysv_sem_t)(C.calloc(1, C.sizeof_pericarp_sysv_sem_t))
	defer C.free(unsafe.Pointer(given))
	given.size, given.key = C.sizeof_pericarp_sysv_sem_t, C.int32_t(set.Key)
	given.values, given.count = values, C.size_t(count)
	given.mode, given.uid, given.gid = C.uint32_t(set.Mode), C.uint32_t(set.UID), C.uint32_t(set.GID)
	var id C.int
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_sysv_sem(pod, given, &id, err)
	})
	return int(id), err
}

// RemoveSysvSem removes a System V semaphore set.
func (p *Pod) RemoveSysvSem(key int32) error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_remove_sysv_sem(pod, C.int32_t(key), err)
	})
}

// CreateSysvMsg makes a System V message queue, and returns its id.
func (p *Pod) CreateSysvMsg(queue SysvMsg) (int, error) {
	given := C.pericarp_sysv_msg_t{
		size: C.sizeof_pericarp_sysv_msg_t, key: C.int32_t(queue.Key), max_bytes: C.uint64_t(queue.MaxBytes),
		mode: C.uint32_t(queue.Mode), uid: C.uint32_t(queue.UID), gid: C.uint32_t(queue.GID),
	}
	var id C.int
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_create_sysv_msg(pod, &given, &id, err)
	})
	return int(id), err
}

// RemoveSysvMsg removes a System V message queue.
func (p *Pod) RemoveSysvMsg(key int32) error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_remove_sysv_msg(pod, C.int32_t(key), err)
	})
}
