package pericarp_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pericarp"
)

func TestStats(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	must(t, container.Freeze())
	stats, err := container.Stats()
	must(t, err)
	if stats.CPU == nil || *stats.CPU <= 0 || stats.Time.IsZero() {
		t.Fatal(stats)
	}
	if stats.Processes == nil || *stats.Processes < 1 {
		t.Fatal(stats.Processes)
	}
	type cgroup struct {
		CPU struct {
			UsageUsec int64 `json:"usageUsec"`
		} `json:"cpu"`
		Memory *struct {
			WorkingSetBytes uint64 `json:"workingSetBytes"`
		} `json:"memory"`
	}
	type containerStats struct {
		Name   string `json:"name"`
		Cgroup cgroup `json:"cgroup"`
	}
	var alone containerStats
	must(t, container.StatsJSON(pericarp.StatsOptions{Limits: true}, &alone))
	equal(t, alone.Cgroup.CPU.UsageUsec, stats.CPU.Microseconds())
	// What the machine cannot tell is told in neither way.
	equal(t, alone.Cgroup.Memory == nil, stats.MemoryWorkingSet == nil)
	var whole struct {
		Containers []containerStats `json:"containers"`
	}
	must(t, pod.StatsJSON(pericarp.StatsOptions{}, &whole))
	equal(t, len(whole.Containers), 1)
	equal(t, whole.Containers[0].Cgroup.CPU, alone.Cgroup.CPU)
	node, err := pod.Node()
	must(t, err)
	closed(t, node)
	var all struct {
		Pods []struct {
			ID string `json:"id"`
		} `json:"pods"`
	}
	must(t, node.StatsJSON(pericarp.StatsOptions{}, &all))
	equal(t, len(all.Pods), 1)
	equal(t, all.Pods[0].ID, pod.ID())
	text, err := node.Prometheus(pericarp.StatsOptions{})
	must(t, err)
	if !strings.Contains(text, "\ncontainer_cpu_usage_seconds_total{container=\"main\",") {
		t.Fatal(text)
	}
	none := pericarp.StatsOptions{Filesystems: &pericarp.FilesystemOptions{}}
	refused(t, pod.StatsJSON(none, &whole), pericarp.InvalidSpec)
}

// Every key that the library tells has its place in the types.
func TestStatsHaveTypes(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	must(t, container.Freeze())
	options := pericarp.StatsOptions{Limits: true, Filesystems: &pericarp.FilesystemOptions{MaxFiles: 100}}
	node, err := pod.Node()
	must(t, err)
	closed(t, node)
	var text json.RawMessage
	must(t, node.StatsJSON(options, &text))
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	must(t, strict.Decode(new(pericarp.NodeStats)))

	all, err := node.Stats(options)
	must(t, err)
	whole, err := pod.Stats(options)
	must(t, err)
	alone, err := container.StatsWith(options)
	must(t, err)
	equal(t, len(all.Pods), 1)
	equal(t, whole.ID, pod.ID())
	equal(t, whole.CreatedAt.Time(), pod.CreatedAt().Truncate(time.Microsecond))
	equal(t, all.Pods[0].Containers[0].Cgroup.CPU, alone.Cgroup.CPU)
	equal(t, whole.Containers[0].Cgroup.CPU, alone.Cgroup.CPU)
	quick, err := container.Stats()
	must(t, err)
	equal(t, alone.Cgroup.CPU.Usage.Duration(), *quick.CPU)
	equal(t, alone.Cgroup.Processes, quick.Processes)
	equal(t, alone.Cgroup.Memory == nil, quick.Memory == nil)
	equal(t, whole.Network[0].Name, "lo")
	if alone.WritableLayer == nil || alone.WritableLayer.CapacityBytes == 0 || all.Machine.MemoryBytes == nil {
		t.Fatal(alone.WritableLayer, all.Machine)
	}
	if memory := alone.Cgroup.Memory; memory != nil {
		equal(t, *memory.Limit, pericarp.Limit{Max: true})
	}
}
