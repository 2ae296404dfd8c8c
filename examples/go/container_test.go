package pericarp_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pericarp"
)

func TestLife(t *testing.T) {
	pod := pod(t)
	container, err := pod.CreateContainer(script("c", "exit 7"))
	must(t, err)
	closed(t, container)
	status, err := container.Status()
	must(t, err)
	equal(t, status, pericarp.Status{State: pericarp.Created})
	_, ended, err := container.TryWait()
	must(t, err)
	equal(t, ended, false)
	must(t, container.Start())
	exit, err := container.Wait(context.Background())
	must(t, err)
	equal(t, exit, pericarp.ExitStatus{Code: 7})
	equal(t, exit.String(), "exited with 7")
	refused(t, container.Start(), pericarp.WrongState)
	refused(t, container.Signal(syscall.SIGTERM), pericarp.WrongState)
	status, err = container.Status()
	must(t, err)
	equal(t, status, pericarp.Status{State: pericarp.Exited, Exit: &exit})

	runs := started(t, pod, script("runs", forever))
	statuses, err := pod.Status()
	must(t, err)
	equal(t, statuses, map[string]pericarp.Status{"c": status, "runs": {State: pericarp.Running}})
	containers, err := pod.Containers()
	must(t, err)
	equal(t, len(containers), 2)
	for _, container := range containers {
		must(t, container.Close())
	}
	found, err := pod.OpenContainer("runs")
	must(t, err)
	closed(t, found)
	equal(t, found.PID(), runs.PID())
	_, err = pod.OpenContainer("none")
	refused(t, err, pericarp.NotFound)
	processes, err := found.Processes()
	must(t, err)
	if len(processes) == 0 || !contains(processes, found.PID()) {
		t.Fatal(processes)
	}
	of, err := runs.Pod()
	must(t, err)
	equal(t, of.ID(), pod.ID())
	must(t, of.Close())
	must(t, found.Kill())
	exit, err = runs.Wait(context.Background())
	must(t, err)
	equal(t, exit, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	must(t, runs.Remove())
	refused(t, runs.Remove(), pericarp.NotFound)
	nothing := script("nothing", "")
	nothing["args"] = []string{"/no/such/program"}
	missing, err := pod.CreateContainer(nothing)
	must(t, err)
	closed(t, missing)
	refused(t, missing.Start(), pericarp.Exec)
}

func contains(list []int, wanted int) bool {
	for _, element := range list {
		if element == wanted {
			return true
		}
	}
	return false
}

func TestContexts(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("c", forever))
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := container.Wait(short)
	equal(t, err, context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(context.Background())
	go cancel()
	_, err = container.Wait(cancelled)
	equal(t, err, context.Canceled)
	// Who gives up does not end it.
	_, err = container.Stop(cancelled, time.Hour)
	equal(t, err, context.Canceled)
	equal(t, pod.Stop(cancelled, time.Hour), context.Canceled)
	_, err = pod.Run(short, script("run", forever), pericarp.Streams{})
	equal(t, err, context.DeadlineExceeded)
	status, err := container.Status()
	must(t, err)
	equal(t, status.State, pericarp.Running)
	containers, err := pod.Status()
	must(t, err)
	equal(t, len(containers), 1)

	waits := make(chan pericarp.ExitStatus)
	for range [10]int{} {
		go func() {
			status, _ := container.Wait(context.Background())
			waits <- status
		}()
	}
	must(t, container.Kill())
	for range [10]int{} {
		equal(t, <-waits, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	}
}

func TestStop(t *testing.T) {
	pod := pod(t)
	ctx := context.Background()
	handles := func(name, code string) *pericarp.Container {
		text := "trap 'exit " + code + "' INT; echo; while :; do sleep 0.01; done"
		spec := piped(script(name, text), "stdout")
		spec["stopSignal"] = int(syscall.SIGINT)
		container := started(t, pod, spec)
		stdout, err := container.Stdout()
		must(t, err)
		defer stdout.Close()
		_, err = stdout.Read(make([]byte, 1))
		must(t, err)
		return container
	}
	status, err := handles("one", "5").Stop(ctx, time.Minute)
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Code: 5})
	deaf := started(t, pod, script("deaf", forever))
	status, err = deaf.Stop(ctx, 10*time.Millisecond)
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	status, err = deaf.Stop(ctx, time.Hour)
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	never, err := pod.CreateContainer(script("never", forever))
	must(t, err)
	closed(t, never)
	status, err = never.Stop(ctx, time.Hour)
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Signal: syscall.SIGKILL})

	two, three := handles("two", "6"), started(t, pod, script("three", forever))
	must(t, pod.Stop(ctx, 500*time.Millisecond))
	for container, want := range map[*pericarp.Container]pericarp.ExitStatus{two: {Code: 6}, three: {Signal: syscall.SIGKILL}} {
		status, ended, err := container.TryWait()
		must(t, err)
		equal(t, []any{status, ended}, []any{want, true})
	}
	status, err = pod.Run(ctx, script("next", "exit 3"), pericarp.Streams{})
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Code: 3})
}

func TestStreams(t *testing.T) {
	pod := pod(t)
	container, err := pod.CreateContainer(piped(script("c", "cat; echo done >&2"), "stdin", "stdout", "stderr"))
	must(t, err)
	closed(t, container)
	stdin, err := container.Stdin()
	must(t, err)
	stdout, err := container.Stdout()
	must(t, err)
	defer stdout.Close()
	stderr, err := container.Stderr()
	must(t, err)
	defer stderr.Close()
	_, err = container.Stdout()
	refused(t, err, pericarp.NotFound)
	must(t, container.Start())
	// A deadline shows that the poller knows the pipe.
	must(t, stdout.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = stdout.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	must(t, stdout.SetReadDeadline(time.Time{}))
	sent := strings.Repeat("0123456789abcdef", 20000)
	go func() {
		io.WriteString(stdin, sent)
		stdin.Close()
	}()
	received, err := io.ReadAll(stdout)
	must(t, err)
	equal(t, string(received) == sent, true)
	said, err := io.ReadAll(stderr)
	must(t, err)
	equal(t, string(said), "done\n")

	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer file.Close()
	streams := pericarp.Streams{Stdout: file, Stderr: file}
	status, err := pod.Run(context.Background(), script("file", "echo one; echo two >&2"), streams)
	must(t, err)
	equal(t, status.Success(), true)
	written, err := os.ReadFile(file.Name())
	must(t, err)
	equal(t, string(written), "one\ntwo\n")
	_, err = pod.Run(context.Background(), piped(script("pipe", "exit 0"), "stdout"), pericarp.Streams{})
	refused(t, err, pericarp.InvalidSpec)
}

func TestExplain(t *testing.T) {
	pod := pod(t)
	text, err := pod.Explain(script("c", "exit 0"))
	must(t, err)
	if strings.Count(text, "\n") < 20 {
		t.Fatal(text)
	}
	_, err = pod.Explain(script("C", "exit 0"))
	refused(t, err, pericarp.InvalidSpec)
}

func TestFreeze(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("c", forever))
	frozen := func(path string) bool {
		events, err := os.ReadFile(filepath.Join(pod.CgroupPath(), path, "cgroup.events"))
		must(t, err)
		return strings.Contains(string(events), "frozen 1")
	}
	must(t, container.Freeze())
	equal(t, frozen("c"), true)
	must(t, container.Thaw())
	equal(t, frozen("c"), false)
	must(t, pod.Freeze())
	equal(t, frozen("."), true)
	_, err := pod.CreateContainer(script("d", forever))
	refused(t, err, pericarp.WrongState)
	must(t, pod.Thaw())
	equal(t, frozen("."), false)
}

func TestSignalAll(t *testing.T) {
	pod := pod(t)
	text := "trap 'heard=1' USR1; sh -c \"trap 'exit 0' USR1; while :; do sleep 0.01; done\" & " +
		"while [ -z \"$heard\" ]; do sleep 0.01; done; wait; exit 9"
	container := started(t, pod, script("c", text))
	// Until both have their handlers, the signal is lost or ends the child, and another one comes.
	for {
		must(t, container.SignalAll(syscall.SIGUSR1))
		wait, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		status, err := container.Wait(wait)
		cancel()
		if err == nil {
			equal(t, status, pericarp.ExitStatus{Code: 9})
			break
		}
	}
	refused(t, container.SignalAll(syscall.SIGUSR1), pericarp.WrongState)
	refused(t, container.SignalAll(65), pericarp.InvalidSpec)
}

func TestUpdateDeviceRules(t *testing.T) {
	pod := pod(t)
	spec := piped(script("c", "read line; (: >/log) 2>/dev/null && exit 7; exit 8"), "stdin")
	spec["devices"] = []object{{"path": "/log", "kind": "char", "major": 1, "minor": 11}}
	rule := object{"allow": true, "kind": "char", "major": 1, "minor": 11, "access": "rw"}
	for _, wanted := range []int{8, 7} {
		container := started(t, pod, spec)
		if wanted == 7 {
			must(t, container.UpdateDeviceRules([]object{rule}))
		} else {
			must(t, container.UpdateDeviceRules(nil))
		}
		stdin, err := container.Stdin()
		must(t, err)
		must(t, stdin.Close())
		status, err := container.Wait(context.Background())
		must(t, err)
		equal(t, status.Code, wanted)
		refused(t, container.UpdateDeviceRules([]object{{"allow": 1}}), pericarp.InvalidSpec)
		must(t, container.Remove())
	}
}
