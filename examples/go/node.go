package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"unsafe"
)

// Options say how to open a node. What is empty is the library's default.
type Options struct {
	StateDir   string // where the node keeps its state: /run/pericarp
	CgroupName string // a cgroup below the root of the cgroup v2 mount: pericarp
	CgroupPath string // instead of CgroupName: the absolute path of a cgroup that is there

	// SingleID makes the node an ordinary user's, who needs no privilege: in its pods this user is root, and nobody else
	// exists. Its pods live as long as the program.
	SingleID bool
	// SubordinateIDs is the same with more users, whose ids /etc/subuid and /etc/subgid give to this one. The programs
	// newuidmap and newgidmap are run for that.
	SubordinateIDs bool
	// SubIDUser is whose ranges of /etc/subuid and /etc/subgid pods get ids from that ask for some: pericarp or containers.
	SubIDUser string
	// IDRanges are, in place of SubIDUser, the ranges themselves.
	IDRanges *IDRanges
	// IDClaims is where all nodes of the machine write down which ids their pods have: /run/pericarp-ids.
	IDClaims string

	// Admission refuses pods whose requests do not fit into what is left. Nil admits all.
	Admission *Admission
}

// IDRanges are ids of the host for the user namespaces of pods. Whole blocks of 65 536 ids are used that begin at a
// multiple of that.
type IDRanges struct {
	Users  []IDRange `json:"uids"`
	Groups []IDRange `json:"gids"`
}

// IDRange is a range of ids of the host.
type IDRange struct {
	First uint32 `json:"first"`
	Size  uint32 `json:"size"`
}

// Node is the pods of this machine under one state directory. Several programs may open the same.
type Node struct{ handle *handle[C.pericarp_node_t] }

func newNode(pointer *C.pericarp_node_t) *Node {
	return &Node{newHandle(pointer, func(node *C.pericarp_node_t) { C.pericarp_node_unref(node) })}
}

// Open opens a node, and makes it when it is missing.
func Open(options Options) (*Node, error) {
	given := (*C.pericarp_node_options_t)(C.calloc(1, C.sizeof_pericarp_node_options_t))
	defer C.free(unsafe.Pointer(given))
	given.size = C.sizeof_pericarp_node_options_t
	if options.SingleID {
		given.flags |= C.PERICARP_NODE_SINGLE_ID
	}
	if options.SubordinateIDs {
		given.flags |= C.PERICARP_NODE_SUBORDINATE_IDS
	}
	admission, ranges := "", ""
	if options.Admission != nil {
		text, err := json.Marshal(options.Admission)
		if err != nil {
			return nil, err
		}
		admission = string(text)
	}
	if options.IDRanges != nil {
		text, err := json.Marshal(options.IDRanges)
		if err != nil {
			return nil, err
		}
		ranges = string(text)
	}
	for _, field := range []struct {
		text  string
		place **C.char
	}{
		{options.StateDir, &given.state_dir},
		{options.CgroupName, &given.cgroup_name},
		{options.CgroupPath, &given.cgroup_path},
		{options.SubIDUser, &given.subid_user},
		{admission, &given.admission},
		{ranges, &given.id_ranges},
		{options.IDClaims, &given.id_claims},
	} {
		if field.text != "" {
			text, free := cString(field.text)
			defer free()
			*field.place = text
		}
	}
	var pointer *C.pericarp_node_t
	if err := try(func(err **C.pericarp_error_t) C.int { return C.pericarp_node_open(given, &pointer, err) }); err != nil {
		return nil, err
	}
	return newNode(pointer), nil
}

// Close gives the node back. Its pods go on.
func (n *Node) Close() error { return n.handle.close() }

// DelegatedCgroup is the path of the cgroup that was delegated to this user, for NodeOptions.CgroupPath: the topmost one
// that the user may write to, from this program's own upwards. NotFound is the error when there is none.
func DelegatedCgroup() (string, error) {
	var text *C.char
	err := try(func(err **C.pericarp_error_t) C.int {
		return C.pericarp_delegated_cgroup(&text, err)
	})
	if err != nil {
		return "", err
	}
	defer C.pericarp_string_free(text)
	return C.GoString(text), nil
}

// Remove removes the node itself: its state directory and its cgroup. There must be no pods.
func (n *Node) Remove() error {
	return n.handle.use(func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_remove(node, err)
	})
}

// Recovery is what Recover found and did: ids of pods, and of containers as POD-ID/NAME.
type Recovery struct {
	Adopted           []string `json:"adopted"`           // whole: they go on as they are
	Removed           []string `json:"removed"`           // half made or half removed: gone now
	RemovedContainers []string `json:"removedContainers"` // likewise, in pods that are whole
	Foreign           []string `json:"foreign"`           // not this library's: left alone
	Busy              []string `json:"busy"`              // a living program works on them: left alone

	ResizesTakenBack []string          `json:"resizesTakenBack"` // their program died while it resized them: they have what they had
	ResizesFinished  []string          `json:"resizesFinished"`  // likewise: they have what they were to have
	ResizesUnsettled []UnsettledResize `json:"resizesUnsettled"` // likewise, and neither was possible
}

// UnsettledResize is a pod of whose limits some are old and some new, and why.
type UnsettledResize struct {
	Pod   string `json:"pod"`
	Error string `json:"error"`
}

// Recover puts the node in order after programs died.
func (n *Node) Recover() (Recovery, error) {
	var recovery Recovery
	err := n.handle.json(&recovery, func(node *C.pericarp_node_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_recover(node, text, err)
	})
	return recovery, err
}

// Controllers are the cgroup controllers that limits can use here: "cpu", "memory".
func (n *Node) Controllers() ([]string, error) {
	var controllers []string
	err := n.handle.json(&controllers, func(node *C.pericarp_node_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_controllers(node, text, err)
	})
	return controllers, err
}

// CreatePod makes a pod.
func (n *Node) CreatePod(spec any) (*Pod, error) {
	text, free, err := marshal(spec)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_pod_t
	err = n.handle.use(func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_create_pod_json(node, text, &pointer, err)
	})
	if err != nil {
		return nil, err
	}
	return newPod(pointer), nil
}

// OpenPod opens a pod by its id, its name, or namespace/name.
func (n *Node) OpenPod(name string) (*Pod, error) {
	text, free := cString(name)
	defer free()
	var pointer *C.pericarp_pod_t
	err := n.handle.use(func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_open_pod(node, text, &pointer, err)
	})
	if err != nil {
		return nil, err
	}
	return newPod(pointer), nil
}

// Pods returns all pods of the node, to be closed each.
func (n *Node) Pods() ([]*Pod, error) {
	var list **C.pericarp_pod_t
	var count C.size_t
	err := n.handle.use(func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_pods(node, &list, &count, err)
	})
	if err != nil {
		return nil, err
	}
	defer C.pericarp_pod_list_free(list)
	pods := make([]*Pod, 0, count)
	for _, pointer := range unsafe.Slice(list, count) {
		pods = append(pods, newPod(C.pericarp_pod_ref(pointer)))
	}
	return pods, nil
}
