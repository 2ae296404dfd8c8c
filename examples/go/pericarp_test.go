package pericarp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pericarp"
)

type object = map[string]any

var number atomic.Int32

// node opens a node of the test's own. At the end of the test it is removed, and nothing may be left of it.
func node(t *testing.T) (*pericarp.Node, pericarp.Options) {
	t.Helper()
	name := fmt.Sprintf("pericarp-go-test-%d-%d", os.Getpid(), number.Add(1))
	options := pericarp.Options{StateDir: "/run/" + name, CgroupName: name, IDClaims: "/run/" + name + "-ids"}
	node, err := pericarp.Open(options)
	must(t, err)
	t.Cleanup(func() {
		pods, err := node.Pods()
		must(t, err)
		for _, pod := range pods {
			must(t, pod.Remove())
			must(t, pod.Close())
		}
		must(t, node.Remove())
		must(t, node.Close())
		for _, path := range []string{options.StateDir, options.IDClaims} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", path, err)
			}
		}
	})
	return node, options
}

func pod(t *testing.T) *pericarp.Pod {
	t.Helper()
	node, _ := node(t)
	pod, err := node.CreatePod(object{"name": "shop", "labels": object{"tier": "front"}})
	must(t, err)
	closed(t, pod)
	return pod
}

func closed(t *testing.T, closer io.Closer) {
	t.Cleanup(func() { must(t, closer.Close()) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v, want %#v", got, want)
	}
}

// refused checks that an error is of the library and of that kind.
func refused(t *testing.T, err error, code pericarp.Code) {
	t.Helper()
	var failure *pericarp.Error
	if !errors.Is(err, code) || !errors.As(err, &failure) || failure.Step == "" || failure.Error() == "" {
		t.Fatalf("got %v, want %v", err, code)
	}
}

// script is the JSON of a container that runs a shell script.
func script(name, script string) object {
	return object{
		"name":   name,
		"rootfs": object{"overlay": object{"lower": []string{"/"}}},
		"args":   []string{"sh", "-c", script},
	}
}

func piped(spec object, streams ...string) object {
	stdio := object{}
	for _, stream := range streams {
		stdio[stream] = "pipe"
	}
	spec["stdio"] = stdio
	return spec
}

const forever = "while :; do sleep 1000; done"

func started(t *testing.T, pod *pericarp.Pod, spec object) *pericarp.Container {
	t.Helper()
	container, err := pod.CreateContainer(spec)
	must(t, err)
	closed(t, container)
	must(t, container.Start())
	return container
}

// say is what a container writes that exits with 0.
func say(t *testing.T, pod *pericarp.Pod, text string) string {
	t.Helper()
	container, err := pod.CreateContainer(piped(script("say", text), "stdout"))
	must(t, err)
	defer container.Close()
	stdout, err := container.Stdout()
	must(t, err)
	defer stdout.Close()
	must(t, container.Start())
	said, err := io.ReadAll(stdout)
	must(t, err)
	status, err := container.Wait(context.Background())
	must(t, err)
	equal(t, status, pericarp.ExitStatus{})
	must(t, container.Remove())
	return string(said)
}

func TestVersion(t *testing.T) {
	var major, minor, patch int
	_, err := fmt.Sscanf(pericarp.Version(), "%d.%d.%d", &major, &minor, &patch)
	must(t, err)
	equal(t, pericarp.VersionNumber(), major*1000000+minor*1000+patch)
	equal(t, pericarp.HasFeature("freeze"), true)
	equal(t, pericarp.HasFeature("nothing"), false)
}

func TestErrors(t *testing.T) {
	node, _ := node(t)
	_, err := node.OpenPod("nobody")
	refused(t, err, pericarp.NotFound)
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOENT) || errors.Is(err, pericarp.Exec) {
		t.Fatal(err)
	}
	var failure *pericarp.Error
	if !errors.As(err, &failure) || failure.Code != pericarp.NotFound || !strings.Contains(failure.Subject, "nobody") {
		t.Fatalf("%#v", failure)
	}
	_, err = node.CreatePod(object{"name": "shop", "lables": object{}})
	refused(t, err, pericarp.InvalidSpec)
	if !strings.Contains(err.Error(), "lables") {
		t.Fatal(err)
	}
	_, err = node.CreatePod(func() {})
	if err == nil || errors.As(err, new(*pericarp.Error)) {
		t.Fatal("a function is no specification: ", err)
	}
	_, err = pericarp.Open(pericarp.Options{StateDir: "relative\x00"})
	if err == nil {
		t.Fatal("a path cannot have a NUL in it")
	}
}

func TestClosed(t *testing.T) {
	node, _ := node(t)
	pod, err := node.CreatePod(object{"name": "shop"})
	must(t, err)
	container, err := pod.CreateContainer(script("c", forever))
	must(t, err)
	must(t, container.Close())
	must(t, pod.Close())
	for _, err := range []error{container.Close(), container.Start(), pod.Close(), pod.Freeze()} {
		if err != pericarp.ErrClosed {
			t.Fatal(err)
		}
	}
	_, err = container.Wait(context.Background())
	equal(t, err, pericarp.ErrClosed)
}

func TestPods(t *testing.T) {
	node, options := node(t)
	before := time.Now()
	spec := object{"name": "shop", "namespace": "blue", "labels": object{"tier": "front"}}
	pod, err := node.CreatePod(spec)
	must(t, err)
	closed(t, pod)
	equal(t, pod.Name()+" "+pod.Namespace(), "shop blue")
	if pod.CreatedAt().Before(before) || pod.CreatedAt().After(time.Now()) {
		t.Fatal(pod.CreatedAt())
	}
	_, err = os.Stat(pod.CgroupPath())
	must(t, err)
	_, err = node.CreatePod(spec)
	refused(t, err, pericarp.AlreadyExists)

	other, err := pericarp.Open(options)
	must(t, err)
	closed(t, other)
	for _, name := range []string{"blue/shop", pod.ID()} {
		found, err := other.OpenPod(name)
		must(t, err)
		equal(t, found.ID(), pod.ID())
		must(t, found.Close())
	}
	pods, err := node.Pods()
	must(t, err)
	equal(t, len(pods), 1)
	must(t, pods[0].Close())
	of, err := pod.Node()
	must(t, err)
	refused(t, of.Remove(), pericarp.WrongState)
	must(t, of.Close())

	var read struct {
		Name   string
		Labels map[string]string
	}
	must(t, pod.Spec(&read))
	equal(t, read.Name+" "+read.Labels["tier"], "shop front")
	value, found, err := pod.Label("tier")
	must(t, err)
	equal(t, []any{value, found}, []any{"front", true})
	_, found, err = pod.Label("none")
	must(t, err)
	equal(t, found, false)

	for kind, name := range map[pericarp.NamespaceKind]string{pericarp.Network: "net", pericarp.IPC: "ipc", pericarp.UTS: "uts"} {
		inode, err := pod.NamespaceInode(kind)
		must(t, err)
		link := fmt.Sprintf("%s:[%d]", name, inode)
		equal(t, strings.TrimSpace(say(t, pod, "readlink /proc/self/ns/"+name)), link)
		file, err := pod.OpenNamespace(kind)
		must(t, err)
		info, err := file.Stat()
		must(t, err)
		equal(t, info.Sys().(*syscall.Stat_t).Ino, inode)
		must(t, file.Close())
	}
	_, err = pod.NamespaceInode(pericarp.Processes)
	refused(t, err, pericarp.NotFound)
	must(t, pod.Remove())
	refused(t, pod.Remove(), pericarp.NotFound)
}

func TestRecovery(t *testing.T) {
	node, options := node(t)
	for _, name := range []string{"whole", "broken"} {
		pod, err := node.CreatePod(object{"name": name})
		must(t, err)
		defer pod.Close()
		if name == "broken" {
			// As if a program had died while it removed the pod.
			must(t, os.Rename(filepath.Join(options.StateDir, "pods", pod.ID()), filepath.Join(options.StateDir, "garbage", pod.ID())))
		}
	}
	recovery, err := node.Recover()
	must(t, err)
	whole, err := node.OpenPod("whole")
	must(t, err)
	defer whole.Close()
	equal(t, recovery.Adopted, []string{whole.ID()})
	equal(t, len(recovery.Removed), 1)
	controllers, err := node.Controllers()
	must(t, err)
	file, err := os.ReadFile(filepath.Join(whole.CgroupPath(), "cgroup.controllers"))
	must(t, err)
	// These are enabled where a limit asks for them.
	optional := " hugetlb rdma misc "
	for _, controller := range controllers {
		if !strings.Contains(string(file), controller) && !strings.Contains(optional, " "+controller+" ") {
			t.Fatal(controllers, string(file))
		}
	}
}

// TestMain checks that all was closed: nothing is left to a garbage collector.
func TestMain(m *testing.M) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			panic(err)
		}
		return len(entries)
	}
	// The runtime opens what its poller needs with the first pipe.
	read, write, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	read.Close()
	write.Close()
	before := files()
	code := m.Run()
	if after := files(); code == 0 && after > before {
		fmt.Fprintf(os.Stderr, "%d open files instead of %d\n", after, before)
		code = 1
	}
	os.Exit(code)
}

// ended says whether a process is gone, or has only its status left.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// With the line of newHandle taken out that sets the finalizer: "nobody has the container, which was never started, and it
// lives", after a minute.
func TestWhatIsForgottenIsClosed(t *testing.T) {
	pod := pod(t)
	pid := func() int {
		container, err := pod.CreateContainer(script("main", forever))
		must(t, err)
		return container.PID()
	}()
	for deadline := time.Now().Add(time.Minute); !ended(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody has the container, which was never started, and it lives")
		}
		runtime.GC()
	}
	// What has started goes on.
	pid = func() int {
		container, err := pod.CreateContainer(script("other", forever))
		must(t, err)
		must(t, container.Start())
		return container.PID()
	}()
	for round := 0; round < 10; round++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	equal(t, ended(pid), false)
}
