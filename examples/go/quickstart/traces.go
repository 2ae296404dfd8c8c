package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// traces is what to look for: what pods leave on a machine, without asking the library.
type traces struct {
	stateDir, cgroup string
	// As /proc shows them: "net:[4026532008]".
	namespaces map[string]bool
}

type counts struct{ processes, mounts, cgroups, namespaces int }

// links are the names that the links of a directory lead to.
func links(directory string) (names []string) {
	entries, _ := os.ReadDir(directory)
	for _, entry := range entries {
		if name, err := os.Readlink(filepath.Join(directory, entry.Name())); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// processes are those in the cgroups of the node and children of this program, also those that are zombies.
func (t *traces) processes() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		cgroup, _ := os.ReadFile(process + "/cgroup")
		status, _ := os.ReadFile(process + "/status")
		if strings.Contains(string(cgroup), "/"+filepath.Base(t.cgroup)+"/") ||
			strings.Contains(string(status), fmt.Sprintf("PPid:\t%d\n", os.Getpid())) {
			found = append(found, process)
		}
	}
	return found
}

// mounts are the roots of the mounts at or below the state directory: a namespace if one is held.
func (t *traces) mounts() (roots []string) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], t.stateDir) {
			roots = append(roots, fields[3])
		}
	}
	return roots
}

// noteLiving adds the namespaces of running containers, and the one that holds those of pods.
func (t *traces) noteLiving() {
	own := make(map[string]bool)
	for _, name := range links("/proc/self/ns") {
		own[name] = true
	}
	names := t.mounts()
	for _, process := range t.processes() {
		names = append(names, links(process+"/ns")...)
	}
	for _, name := range names {
		if strings.Contains(name, ":[") && !own[name] {
			t.namespaces[name] = true
		}
	}
}

// count is how much there is. A namespace is there while a process of the node is in it, this program has it open, or a
// mount holds it.
func (t *traces) count() (found counts) {
	processes, mounts := t.processes(), t.mounts()
	held := append(links("/proc/self/ns"), links("/proc/self/fd")...)
	for _, process := range processes {
		held = append(held, links(process+"/ns")...)
	}
	there := make(map[string]bool)
	for _, name := range append(held, mounts...) {
		if t.namespaces[name] {
			there[name] = true
		}
	}
	found.processes, found.mounts, found.namespaces = len(processes), len(mounts), len(there)
	_ = filepath.WalkDir(t.cgroup, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			found.cgroups++
		}
		return nil
	})
	return found
}
