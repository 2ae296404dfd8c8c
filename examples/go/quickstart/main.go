// The quickstart in Go: a pod with a web server and a client that fetches a page from it over localhost, and writes
// it into the pod's shared memory, which this program reads. Needs root, and busybox.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"pericarp"
)

type object = map[string]any

// container is the JSON of a container that runs a script over this machine's own files.
func container(name, script string) object {
	return object{
		"name":   name,
		"rootfs": object{"overlay": object{"lower": []string{"/"}}},
		"args":   []string{"sh", "-c", script},
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

func tour(ctx context.Context, node *pericarp.Node) error {
	pod, err := node.CreatePod(object{"name": "shop"})
	if err != nil {
		return err
	}
	defer pod.Close()
	fmt.Println("pod      ", pod.Name(), pod.ID())
	board, err := pod.CreateShm(pericarp.Shm{Name: "board", Size: 4096})
	if err != nil {
		return err
	}
	defer board.Close()
	server, err := start(pod, container("server", "mkdir /tmp/www && echo hello from $(uname -n) > /tmp/www/index.html &&"+
		" exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www"))
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := start(pod, container("client", "until busybox wget -q -O /tmp/page http://127.0.0.1:8080/ 2>/dev/null;"+
		" do sleep 0.05; done; dd if=/tmp/page of=/dev/shm/board conv=notrunc 2>/dev/null; echo fetched"))
	if err != nil {
		return err
	}
	defer client.Close()
	output, err := client.Stdout()
	if err != nil {
		return err
	}
	defer output.Close()
	said, err := io.ReadAll(output)
	if err != nil {
		return err
	}
	status, err := client.Wait(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("client    %v, said %q\n", status, said)
	page := make([]byte, 4096)
	if _, err := board.ReadAt(page, 0); err != nil {
		return err
	}
	page = bytes.TrimRight(page, "\x00")
	fmt.Printf("board     %q\n", page)
	if string(page) != "hello from shop\n" {
		return errors.New("the page is not what the server has")
	}

	// The server does not end: a context says how long to wait.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := server.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the server should still run: %v", err)
	}
	if err := server.Kill(); err != nil {
		return err
	}
	if status, err = server.Wait(ctx); err != nil {
		return err
	}
	fmt.Println("server   ", status)
	if _, err := node.OpenPod("nobody"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there should be no such pod: %v", err)
	}
	return nil
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
	err = tour(ctx, node)
	pods, failed := node.Pods()
	for _, pod := range pods {
		failed = first(failed, pod.Remove())
		pod.Close()
	}
	return first(err, failed, node.Remove())
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
