package pericarp_test

import (
	"errors"
	"syscall"
	"testing"

	"pericarp"
)

func TestIPC(t *testing.T) {
	pod := pod(t)
	board, err := pod.CreateShm(pericarp.Shm{Name: "board", Size: 4096, Mode: 0o640, UID: 5, GID: 6})
	must(t, err)
	defer board.Close()
	_, err = board.WriteAt([]byte("hello\n"), 0)
	must(t, err)
	equal(t, say(t, pod, "head -n 1 /dev/shm/board"), "hello\n")
	read, err := pod.OpenShm("board", false)
	must(t, err)
	defer read.Close()
	if _, err := read.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
		t.Fatal(err)
	}
	_, err = pod.CreateShm(pericarp.Shm{Name: "board", Size: 1})
	refused(t, err, pericarp.AlreadyExists)

	must(t, pod.CreateMessageQueue(pericarp.MessageQueue{Name: "jobs", MaxMessages: 4, MessageSize: 128}))
	segment, err := pod.CreateSysvShm(pericarp.SysvShm{Key: 7, Size: 8192})
	must(t, err)
	set, err := pod.CreateSysvSem(pericarp.SysvSem{Key: 7, Values: []uint16{1, 2, 3}})
	must(t, err)
	queue, err := pod.CreateSysvMsg(pericarp.SysvMsg{Key: 7, MaxBytes: 4096})
	must(t, err)
	_, err = pod.CreateSysvSem(pericarp.SysvSem{Key: 8})
	refused(t, err, pericarp.InvalidSpec)
	listing, err := pod.ListIPC()
	must(t, err)
	own := pericarp.Owner{Mode: 0o600}
	equal(t, listing, pericarp.IPCListing{
		Shm:           []pericarp.ShmInfo{{Name: "board", Size: 4096, Owner: pericarp.Owner{Mode: 0o640, UID: 5, GID: 6}}},
		MessageQueues: []pericarp.MessageQueueInfo{{Name: "jobs", MaxMessages: 4, MessageSize: 128, Owner: own}},
		SysvShm:       []pericarp.SysvShmInfo{{Key: 7, ID: segment, Size: 8192, Owner: own}},
		SysvSem:       []pericarp.SysvSemInfo{{Key: 7, ID: set, Semaphores: 3, Owner: own}},
		SysvMsg:       []pericarp.SysvMsgInfo{{Key: 7, ID: queue, MaxBytes: 4096, Owner: own}},
	})
	must(t, pod.RemoveShm("board"))
	must(t, pod.RemoveMessageQueue("jobs"))
	must(t, pod.RemoveSysvShm(7))
	must(t, pod.RemoveSysvSem(7))
	must(t, pod.RemoveSysvMsg(7))
	refused(t, pod.RemoveSysvMsg(7), pericarp.NotFound)
	must(t, pod.CreateIPC(object{"shm": []object{{"name": "a", "size": 1}}, "sysvSem": []object{{"key": 1, "values": []int{1}}}}))
	listing, err = pod.ListIPC()
	must(t, err)
	equal(t, []int{len(listing.Shm), len(listing.SysvSem)}, []int{1, 1})
}
