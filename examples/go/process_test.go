package pericarp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pericarp"
)

func TestExec(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	process, err := container.Exec(piped(object{"args": []string{"sh", "-c", "cat; echo to err >&2; exit 3"}}, "stdin", "stdout", "stderr"))
	must(t, err)
	closed(t, process)
	_, ended, err := process.TryWait()
	must(t, err)
	equal(t, ended, false)
	pids, err := container.Processes()
	must(t, err)
	equal(t, contains(pids, process.PID()), true)
	of, err := process.Container()
	must(t, err)
	equal(t, of.Name(), "main")
	must(t, of.Close())

	stdin, err := process.Stdin()
	must(t, err)
	stdout, err := process.Stdout()
	must(t, err)
	stderr, err := process.Stderr()
	must(t, err)
	_, err = process.Stdout()
	refused(t, err, pericarp.NotFound)
	_, err = io.WriteString(stdin, "typed\n")
	must(t, err)
	must(t, stdin.Close())
	for file, want := range map[*os.File]string{stdout: "typed\n", stderr: "to err\n"} {
		text, err := io.ReadAll(file)
		must(t, err)
		equal(t, string(text), want)
		must(t, file.Close())
	}
	status, err := process.Wait(context.Background())
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Code: 3})
	refused(t, process.Signal(syscall.SIGTERM), pericarp.WrongState)

	_, err = container.Exec(object{"args": []string{"/none"}})
	refused(t, err, pericarp.Exec)
	_, err = container.Exec(object{"arg": []string{"sh"}})
	refused(t, err, pericarp.InvalidSpec)
}

func TestExecIsKilledAndItsContextEnds(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	process, err := container.ExecWith(object{"args": []string{"sh", "-c", "echo here; " + forever}}, pericarp.Streams{Stdout: write})
	must(t, err)
	closed(t, process)
	must(t, write.Close())
	line := make([]byte, 5)
	_, err = io.ReadFull(read, line)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err = process.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	must(t, process.Kill())
	status, err := process.Wait(context.Background())
	must(t, err)
	equal(t, status, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	must(t, process.Kill())
}

func TestTerminal(t *testing.T) {
	pod := pod(t)
	spec := script("main", "trap 'stty size' WINCH; echo ready; read line; echo got $line")
	spec["terminal"] = true
	container, err := pod.CreateContainer(spec)
	must(t, err)
	closed(t, container)
	terminal, err := container.Terminal()
	must(t, err)
	_, err = container.Terminal()
	refused(t, err, pericarp.NotFound)
	must(t, terminal.Resize(90, 30))
	must(t, container.Start())
	width, height, err := terminal.Size()
	must(t, err)
	equal(t, []uint16{width, height}, []uint16{90, 30})
	name, err := terminal.Name()
	must(t, err)
	equal(t, name, "/dev/pts/0")

	// Another program gets it by a socket, as with --console-socket.
	path := filepath.Join(t.TempDir(), "console")
	listener, err := net.Listen("unix", path)
	must(t, err)
	defer listener.Close()
	must(t, terminal.SendTo(path))
	connection, err := listener.Accept()
	must(t, err)
	text, space := make([]byte, 64), make([]byte, syscall.CmsgSpace(4))
	count, control, _, _, err := connection.(*net.UnixConn).ReadMsgUnix(text, space)
	must(t, err)
	must(t, connection.Close())
	equal(t, string(text[:count]), name)
	messages, err := syscall.ParseSocketControlMessage(space[:control])
	must(t, err)
	descriptors, err := syscall.ParseUnixRights(&messages[0])
	must(t, err)
	must(t, syscall.Close(descriptors[0]))

	_, err = io.WriteString(terminal, "it\n")
	must(t, err)
	displayed, err := io.ReadAll(terminal)
	must(t, err)
	if !strings.Contains(string(displayed), "got it\r\n") {
		t.Fatalf("%q", displayed)
	}
	status, err := container.Wait(context.Background())
	must(t, err)
	equal(t, status.Success(), true)
	must(t, terminal.Close())

	main := started(t, pod, script("other", forever))
	process, err := main.Exec(object{"args": []string{"tty"}, "terminal": true})
	must(t, err)
	closed(t, process)
	terminal, err = process.Terminal()
	must(t, err)
	displayed, err = io.ReadAll(terminal)
	must(t, err)
	equal(t, string(displayed), "/dev/pts/0\r\n")
	must(t, terminal.Close())
}

func TestFanout(t *testing.T) {
	pod := pod(t)
	// More than is kept, and than a pipe holds.
	container, err := pod.CreateContainer(piped(script("main", "echo first; read go; seq 1 50000"), "stdin", "stdout"))
	must(t, err)
	closed(t, container)
	stdout, err := container.Stdout()
	must(t, err)
	fanout, err := pericarp.NewFanout(stdout, 4096, pericarp.WaitForSlow)
	must(t, err)
	closed(t, fanout)
	must(t, stdout.Close())
	ended := make(chan error)
	go func() { ended <- fanout.Run(context.Background()) }()
	one, err := fanout.Attach()
	must(t, err)
	two, err := fanout.Attach()
	must(t, err)
	readers, err := fanout.Readers()
	must(t, err)
	equal(t, readers, 2)
	must(t, container.Start())
	line := make([]byte, 6)
	_, err = io.ReadFull(one, line)
	must(t, err)
	equal(t, string(line), "first\n")
	// One that comes later: it has missed nothing of what is kept.
	three, err := fanout.Attach()
	must(t, err)
	stdin, err := container.Stdin()
	must(t, err)
	_, err = io.WriteString(stdin, "go\n")
	must(t, err)
	type result struct {
		text []byte
		err  error
	}
	results := make(chan result)
	for _, reader := range []*os.File{two, three} {
		go func(reader *os.File) {
			text, err := io.ReadAll(reader)
			results <- result{text, err}
		}(reader)
	}
	rest, err := io.ReadAll(one)
	must(t, err)
	want := append(line, rest...)
	equal(t, bytes.HasSuffix(want, []byte("\n49999\n50000\n")), true)
	for range []int{0, 1} {
		got := <-results
		must(t, got.err)
		equal(t, bytes.Equal(got.text, want), true)
	}
	must(t, <-ended)
	for _, file := range []*os.File{one, two, three, stdin} {
		must(t, file.Close())
	}

	// A context ends it as well.
	read, write, err := os.Pipe()
	must(t, err)
	defer write.Close()
	quiet, err := pericarp.NewFanout(read, 4096, pericarp.Detach)
	must(t, err)
	closed(t, quiet)
	must(t, read.Close())
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- quiet.Run(ctx) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, err = pericarp.NewFanout(write, 1, pericarp.Detach)
	refused(t, err, pericarp.InvalidSpec)
}

func TestFrozenIsTold(t *testing.T) {
	pod := pod(t)
	container := started(t, pod, script("main", forever))
	tell := func(want bool) {
		t.Helper()
		frozen, err := container.IsFrozen()
		must(t, err)
		equal(t, frozen, want)
	}
	tell(false)
	must(t, container.Freeze())
	tell(true)
	must(t, container.Thaw())
	must(t, pod.Freeze())
	tell(true)
	must(t, pod.Thaw())
	tell(false)
	_, err := container.SeccompListener()
	refused(t, err, pericarp.NotFound)
	_, err = pod.IDMappings()
	refused(t, err, pericarp.NotFound)
}
