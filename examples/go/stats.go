package pericarp

// #include <pericarp.h>
import "C"

import "time"

// StatsOptions says what to read besides what is always read.
type StatsOptions struct {
	// Limits asks for the limits that are in force, too.
	Limits bool `json:"limits,omitempty"`
	// Filesystems asks how full writable layers and volumes are.
	Filesystems *FilesystemOptions `json:"filesystems,omitempty"`
}

// FilesystemOptions says how filesystems are looked at.
type FilesystemOptions struct {
	// MaxFiles is how many files of one directory are counted at most.
	MaxFiles uint64 `json:"maxFiles"`
}

// Stats are the numbers of a container that are looked at most often. What this machine cannot tell is nil.
type Stats struct {
	Time time.Time
	// CPU, CPUUser and CPUSystem are processor time; CPUThrottled is how long the quota held it back, CPUWaiting how long
	// at least one of its tasks waited for a processor.
	CPU, CPUUser, CPUSystem, CPUThrottled, CPUWaiting *time.Duration
	CPUThrottledPeriods                               *uint64
	// Bytes of memory: all, the most, what the kubelet evicts by, and swap.
	Memory, MemoryPeak, MemoryWorkingSet, MemorySwap *uint64
	MemoryOOMKills                                   *uint64
	MemoryWaiting, IOWaiting                         *time.Duration
	// Bytes of block devices.
	IORead, IOWritten *uint64
	// Processes, and tasks: processes and threads.
	Processes, Tasks *uint64
}

func known(value C.uint64_t) *uint64 {
	if value == C.PERICARP_STAT_UNKNOWN {
		return nil
	}
	number := uint64(value)
	return &number
}

func knownTime(value C.uint64_t) *time.Duration {
	number := known(value)
	if number == nil {
		return nil
	}
	duration := time.Duration(*number) * time.Microsecond
	return &duration
}

// Stats tells what the container uses, or has used until it ended.
func (c *Container) Stats() (Stats, error) {
	s := C.pericarp_container_stats_t{size: C.sizeof_pericarp_container_stats_t}
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_stats(container, &s, err)
	})
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Time:                time.UnixMicro(int64(s.timestamp_usec)),
		CPU:                 knownTime(s.cpu_usage_usec),
		CPUUser:             knownTime(s.cpu_user_usec),
		CPUSystem:           knownTime(s.cpu_system_usec),
		CPUThrottled:        knownTime(s.cpu_throttled_usec),
		CPUWaiting:          knownTime(s.cpu_waiting_usec),
		CPUThrottledPeriods: known(s.cpu_throttled_periods),
		Memory:              known(s.memory_bytes),
		MemoryPeak:          known(s.memory_peak_bytes),
		MemoryWorkingSet:    known(s.memory_working_set_bytes),
		MemorySwap:          known(s.memory_swap_bytes),
		MemoryOOMKills:      known(s.memory_oom_kills),
		MemoryWaiting:       knownTime(s.memory_waiting_usec),
		IOWaiting:           knownTime(s.io_waiting_usec),
		IORead:              known(s.io_read_bytes),
		IOWritten:           known(s.io_written_bytes),
		Processes:           known(s.processes),
		Tasks:               known(s.tasks),
	}, nil
}

// StatsJSON reads all that is told of the container into a value, as json.Unmarshal does.
func (c *Container) StatsJSON(options StatsOptions, value any) error {
	text, free, err := marshal(options)
	if err != nil {
		return err
	}
	defer free()
	return c.handle.json(value, func(container *C.pericarp_container_t, json **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_stats_json(container, text, json, err)
	})
}

// StatsJSON reads all that is told of the pod and its containers into a value, as json.Unmarshal does.
func (p *Pod) StatsJSON(options StatsOptions, value any) error {
	text, free, err := marshal(options)
	if err != nil {
		return err
	}
	defer free()
	return p.handle.json(value, func(pod *C.pericarp_pod_t, json **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_stats_json(pod, text, json, err)
	})
}

// StatsJSON reads all that is told of the node and its pods into a value, as json.Unmarshal does.
func (n *Node) StatsJSON(options StatsOptions, value any) error {
	text, free, err := marshal(options)
	if err != nil {
		return err
	}
	defer free()
	return n.handle.json(value, func(node *C.pericarp_node_t, json **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_stats_json(node, text, json, err)
	})
}

// Prometheus is the same as the text that Prometheus reads.
func (n *Node) Prometheus(options StatsOptions) (string, error) {
	text, free, err := marshal(options)
	if err != nil {
		return "", err
	}
	defer free()
	return n.handle.text(func(node *C.pericarp_node_t, out **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_node_stats_prometheus(node, text, out, err)
	})
}
