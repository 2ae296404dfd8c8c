package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"errors"
)

// ResourceList is amounts by resource, as in a manifest of Kubernetes: {"cpu": "500m", "memory": "1Gi"}. The resources
// are "cpu", "memory" and "hugepages-SIZE".
type ResourceList map[string]string

// Requirements are what a container, or a pod as a whole, asks for and may have at most. A resource with a limit and
// no request requests its limit.
type Requirements struct {
	Requests ResourceList `json:"requests,omitempty"`
	Limits   ResourceList `json:"limits,omitempty"`
}

// KubernetesPod is "kubernetes" in the specification of a pod: what its containers and the pod as a whole ask for.
type KubernetesPod struct {
	Containers        []KubernetesContainer `json:"containers"`
	InitContainers    []KubernetesContainer `json:"initContainers,omitempty"`
	Resources         *Requirements         `json:"resources,omitempty"` // in place of the sum of the containers
	Overhead          ResourceList          `json:"overhead,omitempty"`
	PriorityClassName string                `json:"priorityClassName,omitempty"`
	// Policy is what the configuration of a kubelet says on top; docs/pod-json.md tells the keys.
	Policy json.RawMessage `json:"policy,omitempty"`
}

// KubernetesContainer is a container of a KubernetesPod.
type KubernetesContainer struct {
	Name          string        `json:"name"`                    // that it is made with
	RestartPolicy string        `json:"restartPolicy,omitempty"` // "Always" makes an init container a sidecar
	Resources     *Requirements `json:"resources,omitempty"`
}

// Admission is how a node admits pods: by their requests.
type Admission struct {
	Reserved ResourceList `json:"reserved,omitempty"` // kept for others than pods
}

// QOSClass is a quality-of-service class of Kubernetes.
type QOSClass string

// The classes.
const (
	Guaranteed QOSClass = "Guaranteed"
	Burstable  QOSClass = "Burstable"
	BestEffort QOSClass = "BestEffort"
)

// Capacity is what there is for the pods of a node: the machine's, or what a cgroup above the pods leaves of it.
type Capacity struct {
	CPUMillis uint64 `json:"cpuMillis"`
	Memory    uint64 `json:"memory"` // bytes
	// AllocatableMemory is what of the memory is for pods, in bytes; nil when nothing is reserved for others.
	AllocatableMemory *uint64           `json:"allocatableMemory,omitempty"`
	Swap              *uint64           `json:"swap"`      // bytes; nil where the kernel does not account for it by cgroup
	HugePages         map[uint64]uint64 `json:"hugePages"` // bytes, by the size of a page in bytes
	PIDs              uint64            `json:"pids"`
	PageSize          uint64            `json:"pageSize"` // bytes
}

// Capacity tells what there is for the pods of the node.
func (n *Node) Capacity() (Capacity, error) {
	var capacity Capacity
	err := n.handle.json(&capacity, func(node *C.pericarp_node_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_capacity(node, text, err)
	})
	return capacity, err
}

// Explanation is all that follows from requests and limits on one machine. Resources are limits as the specification of
// a container has them.
type Explanation struct {
	QOSClass   QOSClass                        `json:"qosClass"`
	Requests   ResourceList                    `json:"requests"` // what has to be free
	Resources  json.RawMessage                 `json:"resources"`
	Containers map[string]ContainerExplanation `json:"containers"`
}

// ContainerExplanation is what a container gets.
type ContainerExplanation struct {
	Resources   json.RawMessage `json:"resources"`
	OOMScoreAdj int             `json:"oomScoreAdj"`
}

// Explain tells all that follows from requests and limits on a machine. Nothing is made and nothing asked.
func (k KubernetesPod) Explain(machine Capacity) (Explanation, error) {
	var explanation Explanation
	given, free, err := marshal(k)
	if err != nil {
		return explanation, err
	}
	defer free()
	capacity, free, err := marshal(machine)
	if err != nil {
		return explanation, err
	}
	defer free()
	var text *C.char
	err = try(func(err **C.pericarp_error_t) C.int {
		return C.pericarp_kubernetes_explain(given, capacity, &text, err)
	})
	if err != nil {
		return explanation, err
	}
	defer C.pericarp_string_free(text)
	err = json.Unmarshal([]byte(C.GoString(text)), &explanation)
	return explanation, err
}

// QOSClass is the pod's class, or "" for a pod that was made without "kubernetes".
func (p *Pod) QOSClass() (QOSClass, error) {
	class, err := p.handle.text(func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_qos_class(pod, text, err)
	})
	if errors.Is(err, NotFound) {
		return "", nil
	}
	return QOSClass(class), err
}

// Kubernetes tells the requests and limits that the pod and its containers have now, after every resize. NotFound is
// the error for a pod that was made without any, and for one that is gone.
func (p *Pod) Kubernetes() (KubernetesPod, error) {
	var kubernetes KubernetesPod
	err := p.handle.json(&kubernetes, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_kubernetes(pod, text, err)
	})
	return kubernetes, err
}

// Resize is other requests and limits for a pod that runs.
type Resize struct {
	// Containers are all requests and limits that containers are to have then, by name. Others keep theirs.
	Containers map[string]Requirements `json:"containers,omitempty"`
	// Resources are those of the pod as a whole; nil leaves them.
	Resources *Requirements `json:"resources,omitempty"`
	// Reclaim asks the kernel to reclaim memory where a new limit is less than what is in use. Otherwise that is an error.
	Reclaim bool `json:"-"`
}

// MarshalJSON makes the JSON of the library.
func (r Resize) MarshalJSON() ([]byte, error) {
	type plain Resize
	shrink := "refuse"
	if r.Reclaim {
		shrink = "reclaim"
	}
	return json.Marshal(struct {
		plain
		Shrink string `json:"shrink"`
	}{plain(r), shrink})
}

// Reclaimed is the use of memory before and after reclaim, in bytes.
type Reclaimed struct {
	Before uint64 `json:"before"`
	After  uint64 `json:"after"`
}

// Resize gives the pod and its containers other requests and limits: all of them, or none. It tells where memory had
// to be reclaimed: by container, "" for the pod as a whole.
func (p *Pod) Resize(resize Resize) (map[string]Reclaimed, error) {
	given, free, err := marshal(resize)
	if err != nil {
		return nil, err
	}
	defer free()
	var resized struct {
		Reclaimed map[string]Reclaimed `json:"reclaimed"`
	}
	err = p.handle.json(&resized, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_resize_json(pod, given, text, err)
	})
	return resized.Reclaimed, err
}
