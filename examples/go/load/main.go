// 100 goroutines make and remove pods with containers on one node, and each learns how its own containers ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"pericarp"
)

type object = map[string]any

// round makes a pod with one container, which exits with the goroutine's own number, and removes both.
func round(ctx context.Context, node *pericarp.Node, number, turn int) error {
	pod, err := node.CreatePod(object{"name": fmt.Sprintf("pod-%d-%d", number, turn), "ephemeral": true})
	if err != nil {
		return err
	}
	defer pod.Close()
	container, err := pod.CreateContainer(object{
		"name":   "job",
		"rootfs": object{"overlay": object{"lower": []string{"/"}}},
		"args":   []string{"sh", "-c", fmt.Sprintf("exit %d", number%100)},
	})
	if err != nil {
		return err
	}
	defer container.Close()
	if err := container.Start(); err != nil {
		return err
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return err
	}
	if status != (pericarp.ExitStatus{Code: number % 100}) {
		return fmt.Errorf("container of goroutine %d %v", number, status)
	}
	if err := container.Remove(); err != nil {
		return err
	}
	return pod.Remove()
}

func run(goroutines, rounds int) error {
	name := fmt.Sprintf("pericarp-go-load-%d", os.Getpid())
	node, err := pericarp.Open(pericarp.Options{StateDir: "/run/" + name, CgroupName: name})
	if err != nil {
		return err
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	failures := make(chan error, goroutines)
	var group sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			for turn := 0; turn < rounds; turn++ {
				if err := round(ctx, node, number, turn); err != nil {
					failures <- err
					return
				}
			}
		}(number)
	}
	group.Wait()
	close(failures)
	failure := <-failures
	pods, err := node.Pods()
	if err != nil {
		return err
	}
	for _, pod := range pods {
		pod.Remove()
		pod.Close()
	}
	if failure == nil && len(pods) != 0 {
		failure = errors.New("pods were left")
	}
	if err := node.Remove(); err != nil && failure == nil {
		failure = err
	}
	return failure
}

func main() {
	goroutines := flag.Int("goroutines", 100, "how many at the same time")
	rounds := flag.Int("rounds", 3, "pods that each makes, one after the other")
	flag.Parse()
	started := time.Now()
	if err := run(*goroutines, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	fmt.Printf("%d pods by %d goroutines in %v\n", *goroutines**rounds, *goroutines, time.Since(started).Round(time.Millisecond))
	fmt.Println("removed   all of it")
}
