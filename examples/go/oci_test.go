package pericarp_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"pericarp"
)

// config is an OCI configuration whose container has the machine's programs.
func config(script string) object {
	mounts := []object{{"destination": "/proc", "type": "proc", "source": "proc"}}
	for _, path := range []string{"/bin", "/usr", "/lib", "/lib64"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, object{"destination": path, "source": path, "options": []string{"rbind", "ro"}})
		}
	}
	var namespaces []object
	for _, kind := range []string{"mount", "pid", "uts", "ipc", "network"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	return object{
		"ociVersion":  "1.2.0",
		"hostname":    "from-oci",
		"annotations": object{"key": "value"},
		"root":        object{"path": "rootfs"},
		"process": object{
			"user": object{"uid": 7, "gid": 8}, "args": []string{"/bin/sh", "-c", script}, "cwd": "/",
			"env":          []string{"PATH=/usr/bin:/bin"},
			"capabilities": object{"bounding": []string{"CAP_CHOWN", "CAP_FLY"}},
		},
		"mounts": mounts,
		"linux":  object{"namespaces": namespaces},
	}
}

// process is what ends and is waited for.
type process interface {
	Wait(context.Context) (pericarp.ExitStatus, error)
	Close() error
}

// said is what something has written to its output when it has ended.
func said(t *testing.T, start func(pericarp.Streams) (process, error)) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer file.Close()
	made, err := start(pericarp.Streams{Stdout: file})
	must(t, err)
	defer made.Close()
	status, err := made.Wait(context.Background())
	must(t, err)
	equal(t, status, pericarp.ExitStatus{})
	text, err := os.ReadFile(file.Name())
	must(t, err)
	return string(text)
}

func TestOCIConfigurations(t *testing.T) {
	node, _ := node(t)
	directory := t.TempDir()
	must(t, os.Mkdir(filepath.Join(directory, "rootfs"), 0o755))
	text, err := json.Marshal(config("uname -n; id -u"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(directory, "config.json"), text, 0o644))
	opened, err := pericarp.OpenBundle(directory)
	must(t, err)
	closed(t, opened)
	parsed, err := pericarp.ParseBundle(json.RawMessage(text), directory)
	must(t, err)
	closed(t, parsed)
	for at, bundle := range []*pericarp.Bundle{opened, parsed} {
		equal(t, bundle.Path(), directory)
		warnings, err := bundle.Warnings()
		must(t, err)
		equal(t, len(warnings), 1)
		var told struct {
			Hostname    string
			Annotations map[string]string
		}
		must(t, bundle.Config(&told))
		equal(t, told.Hostname+told.Annotations["key"], "from-ocivalue")
		pod, err := node.CreatePodOCI(bundle, []string{"one", "two"}[at])
		must(t, err)
		closed(t, pod)
		got := said(t, func(streams pericarp.Streams) (process, error) {
			container, err := pod.CreateContainerOCI(bundle, "main", streams)
			must(t, err)
			return container, container.Start()
		})
		equal(t, got, "from-oci\n7\n")
	}
	var spec object
	must(t, opened.PodSpec("three", &spec))
	equal(t, spec["name"], "three")
	must(t, opened.ContainerSpec(&spec))
	equal(t, spec["name"], "main")

	_, err = pericarp.OpenBundle(directory + "/none")
	refused(t, err, pericarp.NotFound)
	_, err = pericarp.ParseBundle(7, "/")
	refused(t, err, pericarp.InvalidSpec)
	var features struct{ OCIVersionMin string }
	must(t, pericarp.OCIFeatures(&features))
	equal(t, features.OCIVersionMin, "1.0.0")
}

func TestOCIProcessesAndLimits(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	spec := object{"user": object{"uid": 9, "gid": 9}, "args": []string{"id", "-u"}, "cwd": "/", "env": []string{"PATH=/usr/bin:/bin"}}
	got := said(t, func(streams pericarp.Streams) (process, error) {
		return container.ExecOCI(spec, streams)
	})
	equal(t, got, "9\n")
	wrong := object{"network": object{"classID": 7}}
	refused(t, container.UpdateOCI(wrong), pericarp.InvalidSpec)
	refused(t, pod.UpdateOCI(wrong), pericarp.InvalidSpec)
	must(t, container.UpdateOCI(object{}))
	must(t, pod.UpdateOCI(object{}))
}
