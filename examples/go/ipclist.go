package pericarp

// #include <pericarp.h>
import "C"

// Owner is who owns an IPC object, and what others may do with it.
type Owner struct {
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

// ShmInfo is a POSIX shared memory object that is there.
type ShmInfo struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Owner
}

// MessageQueueInfo is a POSIX message queue that is there.
type MessageQueueInfo struct {
	Name            string `json:"name"`
	MaxMessages     uint32 `json:"maxMessages"`
	MessageSize     uint32 `json:"messageSize"`
	CurrentMessages uint32 `json:"currentMessages"`
	Owner
}

// SysvShmInfo is a System V shared memory segment that is there.
type SysvShmInfo struct {
	Key      int32  `json:"key"`
	ID       int    `json:"id"`
	Size     int64  `json:"size"`
	Attached uint64 `json:"attached"`
	Owner
}

// SysvSemInfo is a System V semaphore set that is there.
type SysvSemInfo struct {
	Key        int32  `json:"key"`
	ID         int    `json:"id"`
	Semaphores uint64 `json:"semaphores"`
	Owner
}

// SysvMsgInfo is a System V message queue that is there.
type SysvMsgInfo struct {
	Key          int32  `json:"key"`
	ID           int    `json:"id"`
	CurrentBytes uint64 `json:"currentBytes"`
	Messages     uint64 `json:"messages"`
	MaxBytes     uint64 `json:"maxBytes"`
	Owner
}

// IPCListing is all IPC objects of a pod.
type IPCListing struct {
	Shm           []ShmInfo          `json:"shm"`
	MessageQueues []MessageQueueInfo `json:"mqueues"`
	SysvShm       []SysvShmInfo      `json:"sysvShm"`
	SysvSem       []SysvSemInfo      `json:"sysvSem"`
	SysvMsg       []SysvMsgInfo      `json:"sysvMsg"`
	Truncated     bool               `json:"truncated"` // there are more than the library lists
}

// ListIPC lists all IPC objects of the pod.
func (p *Pod) ListIPC() (IPCListing, error) {
	var listing IPCListing
	err := p.handle.json(&listing, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_ipc_list(pod, text, err)
	})
	return listing, err
}
