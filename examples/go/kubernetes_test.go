package pericarp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pericarp"
)

func cpu(request string) pericarp.Requirements {
	return pericarp.Requirements{Requests: pericarp.ResourceList{"cpu": request}}
}

func web(request string) pericarp.KubernetesPod {
	requirements := cpu(request)
	return pericarp.KubernetesPod{Containers: []pericarp.KubernetesContainer{{Name: "web", Resources: &requirements}}}
}

func TestCapacityAndExplain(t *testing.T) {
	node, _ := node(t)
	capacity, err := node.Capacity()
	must(t, err)
	if capacity.CPUMillis == 0 || capacity.Memory == 0 || capacity.PIDs == 0 || capacity.PageSize < 4096 {
		t.Fatal(capacity)
	}
	limits := pericarp.Requirements{Limits: pericarp.ResourceList{"cpu": "250m", "memory": "64Mi"}}
	pod := pericarp.KubernetesPod{Containers: []pericarp.KubernetesContainer{
		{Name: "web", Resources: &limits},
		{Name: "log"},
	}}
	explanation, err := pod.Explain(capacity)
	must(t, err)
	equal(t, explanation.QOSClass, pericarp.Burstable)
	equal(t, explanation.Requests, limits.Limits)
	equal(t, len(explanation.Containers), 2)
	var resources struct {
		Memory struct {
			Max pericarp.Limit `json:"max"`
		} `json:"memory"`
	}
	must(t, json.Unmarshal(explanation.Containers["web"].Resources, &resources))
	equal(t, resources.Memory.Max, pericarp.Limit{Value: 64 << 20})

	pod.Containers = pod.Containers[:1]
	explanation, err = pod.Explain(capacity)
	must(t, err)
	equal(t, explanation.QOSClass, pericarp.Guaranteed)
	equal(t, explanation.Containers["web"].OOMScoreAdj, -997)
	_, err = web("a lot").Explain(capacity)
	refused(t, err, pericarp.InvalidSpec)
}

// Where the controllers are missing it must be refused.
func TestRequestsAreToldAndChanged(t *testing.T) {
	node, _ := node(t)
	plain, err := node.CreatePod(object{"name": "plain"})
	must(t, err)
	closed(t, plain)
	class, err := plain.QOSClass()
	must(t, err)
	equal(t, class, pericarp.QOSClass(""))
	_, err = plain.Kubernetes()
	refused(t, err, pericarp.NotFound)
	resize := pericarp.Resize{Containers: map[string]pericarp.Requirements{"web": cpu("200m")}, Reclaim: true}
	_, err = plain.Resize(resize)
	refused(t, err, pericarp.InvalidSpec)

	controllers, err := node.Controllers()
	must(t, err)
	has := map[string]bool{}
	for _, controller := range controllers {
		has[controller] = true
	}
	limit := object{"pidsMax": 7}
	main := started(t, plain, script("main", forever))
	if has["pids"] {
		must(t, plain.Update(limit))
		must(t, main.Update(limit))
		must(t, plain.UpdateAll(limit, map[string]any{"main": limit}))
		refused(t, plain.UpdateAll(nil, map[string]any{"none": limit}), pericarp.NotFound)
	} else {
		refused(t, plain.UpdateAll(limit, map[string]any{"main": limit}), pericarp.Unsupported)
		refused(t, plain.Update(limit), pericarp.Unsupported)
		refused(t, main.Update(limit), pericarp.Unsupported)
	}
	refused(t, plain.Update(object{"pids": 7}), pericarp.InvalidSpec)
	must(t, main.SetOOMScoreAdj(1000))
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", main.PID()))
	must(t, err)
	equal(t, string(score), "1000\n")
	refused(t, main.SetOOMScoreAdj(1001), pericarp.InvalidSpec)

	pod, err := node.CreatePod(object{"name": "shop", "kubernetes": web("100m")})
	if !has["cpu"] || !has["memory"] {
		refused(t, err, pericarp.Unsupported)
		return
	}
	must(t, err)
	closed(t, pod)
	class, err = pod.QOSClass()
	must(t, err)
	equal(t, class, pericarp.Burstable)
	now, err := pod.Kubernetes()
	must(t, err)
	equal(t, now, web("100m"))
	reclaimed, err := pod.Resize(resize)
	must(t, err)
	equal(t, reclaimed, map[string]pericarp.Reclaimed{})
	now, err = pod.Kubernetes()
	must(t, err)
	equal(t, now, web("200m"))
}

func TestAdmission(t *testing.T) {
	node, options := node(t)
	options.Admission = &pericarp.Admission{Reserved: pericarp.ResourceList{"cpu": "100m"}}
	admitting, err := pericarp.Open(options)
	must(t, err)
	closed(t, admitting)
	// No machine has so many processors.
	_, err = admitting.CreatePod(object{"name": "shop", "kubernetes": web("1M")})
	refused(t, err, pericarp.Exhausted)
	options.Admission.Reserved["cpu"] = "much"
	_, err = pericarp.Open(options)
	refused(t, err, pericarp.InvalidSpec)
	pods, err := node.Pods()
	must(t, err)
	equal(t, len(pods), 0)
}

func TestIDMappings(t *testing.T) {
	node, _ := node(t)
	ids := []pericarp.IDMapping{{Container: 0, Host: 100000, Size: 65536}}
	given := pericarp.IDMappings{Users: ids, Groups: ids}
	user := object{"user": object{"mapped": given}}
	pod, err := node.CreatePod(object{"name": "shop", "namespaces": user})
	must(t, err)
	closed(t, pod)
	mappings, err := pod.IDMappings()
	must(t, err)
	equal(t, mappings, given)
}

func TestIDRanges(t *testing.T) {
	_, options := node(t)
	options.IDRanges = &pericarp.IDRanges{
		Users:  []pericarp.IDRange{{First: 0x40_0000, Size: 0x1_0000}},
		Groups: []pericarp.IDRange{{First: 0x60_0000, Size: 0x1_0000}},
	}
	node, err := pericarp.Open(options)
	must(t, err)
	closed(t, node)
	spec := func(name string) object {
		return object{"name": name, "namespaces": object{"user": object{"auto": object{}}}}
	}
	pod, err := node.CreatePod(spec("shop"))
	must(t, err)
	closed(t, pod)
	mappings, err := pod.IDMappings()
	must(t, err)
	equal(t, mappings, pericarp.IDMappings{
		Users:  []pericarp.IDMapping{{Container: 0, Host: 0x40_0000, Size: 0x1_0000}},
		Groups: []pericarp.IDMapping{{Container: 0, Host: 0x60_0000, Size: 0x1_0000}},
	})
	_, err = node.CreatePod(spec("another"))
	refused(t, err, pericarp.Exhausted)
	claims, err := os.ReadDir(options.IDClaims)
	must(t, err)
	equal(t, len(claims), 3)
	_, err = node.CreatePod(object{"name": "mapped", "namespaces": object{"user": object{"mapped": mappings}}})
	refused(t, err, pericarp.AlreadyExists)
	options.SubIDUser = "pericarp"
	_, err = pericarp.Open(options)
	refused(t, err, pericarp.InvalidArgument)
	users, err := pod.OpenNamespace(pericarp.Users)
	must(t, err)
	must(t, users.Close())
}

func TestNodesOfAnOrdinaryUser(t *testing.T) {
	_, options := node(t)
	options.SingleID, options.SubordinateIDs = true, true
	_, err := pericarp.Open(options)
	refused(t, err, pericarp.InvalidArgument)

	// Root may have one as well. It has no cgroups unless one is named.
	own := options.StateDir + "-user"
	node, err := pericarp.Open(pericarp.Options{StateDir: own, SingleID: true})
	must(t, err)
	closed(t, node)
	pod, err := node.CreatePod(object{"name": "shop", "ephemeral": true})
	must(t, err)
	closed(t, pod)
	// The namespace is the node's.
	_, err = pod.IDMappings()
	refused(t, err, pericarp.NotFound)
	// This user may not put an overlay on any filesystem.
	rootfs := t.TempDir()
	for _, name := range []string{"bin", "dev", "proc", "sys"} {
		must(t, os.Mkdir(filepath.Join(rootfs, name), 0o755))
	}
	busybox, err := exec.LookPath("busybox")
	must(t, err)
	program, err := os.ReadFile(busybox)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(rootfs, "bin/busybox"), program, 0o755))
	container, err := pod.CreateContainer(piped(object{
		"name":   "ids",
		"rootfs": object{"directory": object{"path": rootfs}},
		"args":   []string{"/bin/busybox", "cat", "/proc/self/uid_map"},
	}, "stdout"))
	must(t, err)
	closed(t, container)
	stdout, err := container.Stdout()
	must(t, err)
	closed(t, stdout)
	must(t, container.Start())
	said, err := io.ReadAll(stdout)
	must(t, err)
	equal(t, strings.Fields(string(said)), []string{"0", "0", "1"})
	must(t, pod.Remove())
	must(t, node.Remove())
	if _, err := os.Stat(own); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
