package pericarp

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// Microseconds is a time that something took, as the library tells it.
type Microseconds uint64

// Duration is it as Go has it.
func (m Microseconds) Duration() time.Duration { return time.Duration(m) * time.Microsecond }

// Timestamp is a moment, in microseconds since 1970.
type Timestamp int64

// Time is it as Go has it.
func (t Timestamp) Time() time.Time { return time.UnixMicro(int64(t)) }

// Limit is a bound, or none.
type Limit struct {
	Max   bool   // there is none: "max"
	Value uint64 // otherwise
}

// UnmarshalJSON reads a number or the word "max".
func (l *Limit) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte(`"max"`)) {
		*l = Limit{Max: true}
		return nil
	}
	*l = Limit{}
	return json.Unmarshal(text, &l.Value)
}

// MarshalJSON writes the same.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l.Max {
		return []byte(`"max"`), nil
	}
	return strconv.AppendUint(nil, l.Value, 10), nil
}

// NodeStats is what a node's pods use, and the machine as a whole. What this machine cannot tell is nil, here and below:
// the controller is missing, the kernel is older, or the cgroup is gone.
type NodeStats struct {
	Time    Timestamp    `json:"timestampUsec"`
	Machine MachineStats `json:"machine"`
	// CgroupMount is where cgroup v2 is mounted, and CgroupPath the directory of the node's cgroup.
	CgroupMount string      `json:"cgroupMount"`
	CgroupPath  string      `json:"cgroupPath"`
	Cgroup      CgroupStats `json:"cgroup"` // all pods together
	Pods        []PodStats  `json:"pods"`
}

// MachineStats is the machine, pods or not.
type MachineStats struct {
	CPU              CPUStats      `json:"cpu"`
	Processors       *uint64       `json:"processors"`
	MemoryBytes      *uint64       `json:"memoryBytes"`
	MemoryUsageBytes *uint64       `json:"memoryUsageBytes"`
	WorkingSetBytes  *uint64       `json:"workingSetBytes"`
	SwapBytes        *uint64       `json:"swapBytes"`
	SwapUsageBytes   *uint64       `json:"swapUsageBytes"`
	Pressure         PressureStats `json:"pressure"`
}

// PodStats is what a pod uses.
type PodStats struct {
	Time       Timestamp                  `json:"timestampUsec"`
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	Namespace  string                     `json:"namespace"`
	CreatedAt  Timestamp                  `json:"createdAtUsec"`
	CgroupPath string                     `json:"cgroupPath"`
	Cgroup     CgroupStats                `json:"cgroup"`
	Network    []InterfaceStats           `json:"network"` // nil if it has the host's
	Volumes    map[string]FilesystemStats `json:"volumes"` // if filesystems were asked for
	Containers []ContainerStats           `json:"containers"`
}

// ContainerStats is what a container uses.
type ContainerStats struct {
	Time      Timestamp   `json:"timestampUsec"`
	Name      string      `json:"name"`
	CreatedAt Timestamp   `json:"createdAtUsec"`
	StartedAt *Timestamp  `json:"startedAtUsec"`
	Cgroup    CgroupStats `json:"cgroup"`
	// WritableLayer is what it has changed in an overlay, if filesystems were asked for.
	WritableLayer *FilesystemStats `json:"writableLayer"`
}

// CgroupStats is what the cgroup of a pod or container has used, and what it waited for.
type CgroupStats struct {
	CPU       CPUStats                `json:"cpu"`
	Memory    *MemoryStats            `json:"memory"`
	IO        []DeviceIO              `json:"io"`
	PIDs      *PIDStats               `json:"pids"`
	Processes *uint64                 `json:"processes"`
	Pressure  PressureStats           `json:"pressure"`
	HugeTLB   map[string]HugeTLBStats `json:"hugetlb"` // by the size of a page: "2MB"
	RDMA      map[string]RDMAStats    `json:"rdma"`    // by adapter
	Misc      map[string]uint64       `json:"misc"`    // by resource, in its own units
}

// CPUStats is processor time.
type CPUStats struct {
	Usage            *Microseconds `json:"usageUsec"`
	User             *Microseconds `json:"userUsec"`
	System           *Microseconds `json:"systemUsec"`
	Periods          *uint64       `json:"periods"`          // of the quota, in which something wanted to run
	ThrottledPeriods *uint64       `json:"throttledPeriods"` // of these, in which it was held back
	Throttled        *Microseconds `json:"throttledUsec"`
	BurstPeriods     *uint64       `json:"burstPeriods"`
	Burst            *Microseconds `json:"burstUsec"`

	// The limits, if they were asked for.
	Weight     *uint64       `json:"weight"`
	Max        *CPUMax       `json:"max"`
	BurstLimit *Microseconds `json:"burstLimitUsec"` // what may be saved up
}

// CPUMax is how much processor time there may be in each period, both in microseconds.
type CPUMax struct {
	Quota  Limit        `json:"quota"`
	Period Microseconds `json:"period"`
}

// MemoryStats is memory and swap, in bytes but for the faults.
type MemoryStats struct {
	UsageBytes      *uint64 `json:"usageBytes"`
	PeakBytes       *uint64 `json:"peakBytes"`
	WorkingSetBytes *uint64 `json:"workingSetBytes"` // what the kubelet evicts by
	Limit           *Limit  `json:"limit"`           // if limits were asked for
	High            *Limit  `json:"high"`            // likewise, as Low and Min
	Low             *Limit  `json:"low"`
	Min             *Limit  `json:"min"`
	SwapBytes       *uint64 `json:"swapBytes"`
	SwapLimit       *Limit  `json:"swapLimit"` // if limits were asked for

	AnonBytes         *uint64 `json:"anonBytes"`
	FileBytes         *uint64 `json:"fileBytes"`
	KernelBytes       *uint64 `json:"kernelBytes"`
	KernelStackBytes  *uint64 `json:"kernelStackBytes"`
	SlabBytes         *uint64 `json:"slabBytes"`
	SockBytes         *uint64 `json:"sockBytes"`
	ShmemBytes        *uint64 `json:"shmemBytes"`
	MappedFileBytes   *uint64 `json:"mappedFileBytes"`
	DirtyFileBytes    *uint64 `json:"dirtyFileBytes"`
	WritebackBytes    *uint64 `json:"writebackBytes"`
	ActiveAnonBytes   *uint64 `json:"activeAnonBytes"`
	InactiveAnonBytes *uint64 `json:"inactiveAnonBytes"`
	ActiveFileBytes   *uint64 `json:"activeFileBytes"`
	InactiveFileBytes *uint64 `json:"inactiveFileBytes"`
	UnevictableBytes  *uint64 `json:"unevictableBytes"`
	PageFaults        *uint64 `json:"pageFaults"`
	MajorPageFaults   *uint64 `json:"majorPageFaults"`

	Events MemoryEvents `json:"events"`
}

// MemoryEvents is how often limits of memory were met.
type MemoryEvents struct {
	Low          *uint64 `json:"low"`
	High         *uint64 `json:"high"`
	Max          *uint64 `json:"max"`
	OOM          *uint64 `json:"oom"`
	OOMKill      *uint64 `json:"oomKill"` // processes that were killed
	OOMGroupKill *uint64 `json:"oomGroupKill"`
}

// DeviceIO is what one block device did.
type DeviceIO struct {
	Major          uint32  `json:"major"`
	Minor          uint32  `json:"minor"`
	Name           *string `json:"name"` // "sda"
	ReadBytes      *uint64 `json:"readBytes"`
	WrittenBytes   *uint64 `json:"writtenBytes"`
	Reads          *uint64 `json:"reads"`
	Writes         *uint64 `json:"writes"`
	DiscardedBytes *uint64 `json:"discardedBytes"`
	Discards       *uint64 `json:"discards"`
}

// PIDStats is tasks: processes and threads.
type PIDStats struct {
	Current *uint64 `json:"current"`
	Peak    *uint64 `json:"peak"`
	Limit   *Limit  `json:"limit"` // if limits were asked for
}

// PressureStats is time lost to waiting.
type PressureStats struct {
	CPU    *PressureStall `json:"cpu"`
	Memory *PressureStall `json:"memory"`
	IO     *PressureStall `json:"io"`
}

// PressureStall is pressure stall information of one resource.
type PressureStall struct {
	Some Stall  `json:"some"` // at least one task waited
	Full *Stall `json:"full"` // all that had something to do waited
}

// Stall is how long something waited: percent of the last 10 seconds, minute and 5 minutes, and in all.
type Stall struct {
	Avg10  float64      `json:"avg10"`
	Avg60  float64      `json:"avg60"`
	Avg300 float64      `json:"avg300"`
	Total  Microseconds `json:"totalUsec"`
}

// HugeTLBStats is huge pages of one size.
type HugeTLBStats struct {
	UsageBytes *uint64 `json:"usageBytes"`
	LimitHits  *uint64 `json:"limitHits"`
}

// RDMAStats is what is used of an adapter.
type RDMAStats struct {
	HCAHandles *uint64 `json:"hcaHandles"`
	HCAObjects *uint64 `json:"hcaObjects"`
}

// InterfaceStats is what a network interface of a pod did.
type InterfaceStats struct {
	Name            string `json:"name"`
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	ReceiveErrors   uint64 `json:"receiveErrors"`
	ReceiveDropped  uint64 `json:"receiveDropped"`
	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	SendErrors      uint64 `json:"sendErrors"`
	SendDropped     uint64 `json:"sendDropped"`
}

// FilesystemStats is how full something is that holds files.
type FilesystemStats struct {
	Device         string  `json:"device"` // "/dev/sda1", or the kind of one without a device: "tmpfs"
	UsedBytes      uint64  `json:"usedBytes"`
	UsedInodes     uint64  `json:"usedInodes"`
	Complete       bool    `json:"complete"` // otherwise the two are a lower bound
	CapacityBytes  uint64  `json:"capacityBytes"`
	AvailableBytes uint64  `json:"availableBytes"`
	Inodes         *uint64 `json:"inodes"`
	FreeInodes     *uint64 `json:"freeInodes"`
}

// Stats tells what the pods of the node use, in one reading.
func (n *Node) Stats(options StatsOptions) (NodeStats, error) {
	var stats NodeStats
	err := n.StatsJSON(options, &stats)
	return stats, err
}

// Stats tells what the pod and its containers use.
func (p *Pod) Stats(options StatsOptions) (PodStats, error) {
	var stats PodStats
	err := p.StatsJSON(options, &stats)
	return stats, err
}

// StatsWith tells all that is known of the container; Stats is less, and costs less.
func (c *Container) StatsWith(options StatsOptions) (ContainerStats, error) {
	var stats ContainerStats
	err := c.StatsJSON(options, &stats)
	return stats, err
}
