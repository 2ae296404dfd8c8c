// The quickstart in Go: two pods on this machine. Pod shop has two containers, a web server and a client that fetches a
// page from it over localhost. Both also count on one number in shared memory under one semaphore. Pod other shows that it
// sees nothing of that. Then all is removed, and counted. Needs root, and busybox and perl, which can use semaphores.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pericarp"
)

type object = map[string]any

// key is that of the semaphore, and times how often each container adds one to the number.
const key, times = 0x70657269, 1000

// Reading and writing are two steps: without the semaphore, counts would be lost.
var count = fmt.Sprintf(`my $semaphore = semget(%d, 1, 0) // die; open my $visits, '+<', '/dev/shm/visits' or die;
for (1 .. %d) {
	semop $semaphore, pack('s3', 0, -1, 0) or die;
	sysseek $visits, 0, 0; sysread $visits, my $number, 8;
	sysseek $visits, 0, 0; syswrite $visits, pack('Q', unpack('Q', $number) + 1);
	semop $semaphore, pack('s3', 0, 1, 0) or die;
}`, key, times)

// look looks for what belongs to the other pod.
var look = fmt.Sprintf(`open my $name, '<', '/proc/sys/kernel/hostname' or die; my $host = <$name>; chomp $host;
socket my $socket, PF_INET, SOCK_STREAM, 0 or die;
my $port = connect($socket, pack_sockaddr_in(8080, INADDR_LOOPBACK)) ? 'open' : 'closed';
my $value = 0 + semctl(semget(%d, 1, 0) // die, 0, 12, 0);
open my $visits, '<', '/dev/shm/visits' or die; sysread $visits, my $number, 8;
my @processes = glob '/proc/[0-9]*';
print 'port 8080 is ', $port, '; semaphore ', $value, ', number ', unpack('Q', $number),
	'; host name ', $host, ', processes ', scalar @processes;`, key)

// pod is one with a semaphore of that value and the shared memory: they are there before any container.
func pod(name string, value int) object {
	return object{
		"name": name,
		"ipc": object{
			"shm":     []object{{"name": "visits", "size": 4096}},
			"sysvSem": []object{{"key": key, "values": []int{value}}},
		},
	}
}

// container is one over this machine's own files, whose changes are thrown away.
func container(name string, args ...string) object {
	return object{
		"name":   name,
		"rootfs": object{"overlay": object{"lower": []string{"/"}}},
		"args":   args,
		"env":    object{"COUNT": count, "TICKET": fmt.Sprint(os.Getpid())},
		"stdio":  object{"stdout": "pipe"},
	}
}

func start(pod *pericarp.Pod, spec object) (*pericarp.Container, error) {
	container, err := pod.CreateContainer(spec)
	if err != nil {
		return nil, err
	}
	return container, container.Start()
}

// finish reads what a container says, and waits until it has ended.
func finish(ctx context.Context, container *pericarp.Container, expected string) error {
	output, err := container.Stdout()
	if err != nil {
		return err
	}
	defer output.Close()
	said, err := io.ReadAll(output)
	if err != nil {
		return err
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(said))
	fmt.Printf("%-10s%v, said %q\n", container.Name(), status, text)
	if text != expected {
		return fmt.Errorf("%s should have said %q", container.Name(), expected)
	}
	return nil
}

// shop is the pod with the server and the client, and returns it for what comes after.
func shop(ctx context.Context, node *pericarp.Node) (*pericarp.Pod, error) {
	shop, err := node.CreatePod(pod("shop", 1))
	if err != nil {
		return nil, err
	}
	fmt.Println("pod      ", shop.Name(), shop.ID())
	server, err := start(shop, container("server", "sh", "-c", `perl -e "$COUNT" && mkdir /tmp/www &&
		echo hello from $(uname -n), ticket $TICKET > /tmp/www/index.html &&
		exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www`))
	if err != nil {
		return shop, err
	}
	defer server.Close()
	client, err := start(shop, container("client", "sh", "-c", `perl -e "$COUNT" &&
		until busybox wget -q -O - http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.05; done`))
	if err != nil {
		return shop, err
	}
	defer client.Close()
	if err := finish(ctx, client, fmt.Sprintf("hello from shop, ticket %d", os.Getpid())); err != nil {
		return shop, err
	}

	// This program can look into the pod's shared memory, too.
	memory, err := shop.OpenShm("visits", false)
	if err != nil {
		return shop, err
	}
	defer memory.Close()
	number := make([]byte, 8)
	if _, err := memory.ReadAt(number, 0); err != nil {
		return shop, err
	}
	visits := binary.LittleEndian.Uint64(number)
	fmt.Println("visits   ", visits, "counted by both under one semaphore")
	if visits != 2*times {
		return shop, fmt.Errorf("it should be %d", 2*times)
	}

	// The server does not end: a context says how long to wait.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := server.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		return shop, fmt.Errorf("the server should still run: %v", err)
	}
	return shop, nil
}

// tour makes two pods. Whatever fails, run removes all that was made.
func tour(ctx context.Context, node *pericarp.Node, traces *traces) (alive counts, err error) {
	shop, err := shop(ctx, node)
	if shop != nil {
		defer shop.Close()
	}
	if err != nil {
		return alive, err
	}
	// A second pod has objects of the same names, but its own.
	other, err := node.CreatePod(pod("other", 7))
	if err != nil {
		return alive, err
	}
	defer other.Close()
	fmt.Println("pod      ", other.Name(), other.ID())
	neighbour, err := start(other, container("neighbour", "perl", "-MSocket", "-e", look))
	if err != nil {
		return alive, err
	}
	defer neighbour.Close()
	seen := "port 8080 is closed; semaphore 7, number 0; host name other, processes 1"
	if err := finish(ctx, neighbour, seen); err != nil {
		return alive, err
	}
	if _, err := node.OpenPod("nobody"); !errors.Is(err, fs.ErrNotExist) {
		return alive, fmt.Errorf("there should be no such pod: %v", err)
	}

	traces.cgroup = filepath.Dir(shop.CgroupPath())
	kinds := map[string]pericarp.NamespaceKind{
		"net": pericarp.Network, "ipc": pericarp.IPC, "uts": pericarp.UTS,
	}
	for _, pod := range []*pericarp.Pod{shop, other} {
		for word, kind := range kinds {
			inode, err := pod.NamespaceInode(kind)
			if err != nil {
				return alive, err
			}
			traces.namespaces[fmt.Sprintf("%s:[%d]", word, inode)] = true
		}
	}
	traces.noteLiving()
	alive = traces.count()
	// Those of pods live without a process, where only the library sees them.
	alive.namespaces = len(traces.namespaces)
	return alive, nil
}

func run() error {
	name := fmt.Sprintf("pericarp-go-%d", os.Getpid())
	node, err := pericarp.Open(pericarp.Options{StateDir: "/run/" + name, CgroupName: name})
	if err != nil {
		return err
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	traces := &traces{stateDir: "/run/" + name, namespaces: make(map[string]bool)}
	alive, err := tour(ctx, node, traces)
	pods, failed := node.Pods()
	for _, pod := range pods {
		failed = first(failed, pod.Remove())
		pod.Close()
	}
	// A node that is open keeps one of its namespaces.
	if err := first(err, failed, node.Remove(), node.Close()); err != nil {
		return err
	}
	left := traces.count()
	for _, what := range []struct {
		name          string
		before, after int
	}{
		{"processes", alive.processes, left.processes},
		{"mounts", alive.mounts, left.mounts},
		{"cgroups", alive.cgroups, left.cgroups},
		{"namespaces", alive.namespaces, left.namespaces},
	} {
		fmt.Printf("%-10s%d before, %d left\n", what.name, what.before, what.after)
		if what.before == 0 || what.after != 0 {
			return fmt.Errorf("%s: there should be some before and none left", what.name)
		}
	}
	if _, err := os.Stat(traces.stateDir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s should be gone: %v", traces.stateDir, err)
	}
	return nil
}

// first is the first of the errors that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	fmt.Println("pericarp ", pericarp.Version())
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
	fmt.Println("removed   all of it")
}
