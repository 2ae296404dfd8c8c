package pericarp_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"pericarp"
)

// until takes events until one of that kind comes.
func until(t *testing.T, events *pericarp.Events, kind pericarp.EventKind) []pericarp.Event {
	t.Helper()
	patience := time.After(time.Minute)
	var seen []pericarp.Event
	for {
		select {
		case event, open := <-events.C:
			if !open {
				t.Fatalf("the channel is closed after %v: %v", seen, events.Err())
			}
			seen = append(seen, event)
			if event.Kind == kind {
				return seen
			}
		case <-patience:
			t.Fatalf("nothing comes after %v", seen)
		}
	}
}

func TestEvents(t *testing.T) {
	pod := pod(t)
	ctx, cancel := context.WithCancel(context.Background())
	events, err := pod.Events(ctx, pericarp.EventOptions{})
	must(t, err)
	// Nothing is left open when the channel is closed.
	defer func() {
		cancel()
		for range events.C {
		}
	}()
	equal(t, events.Sources[0], "containers")
	quick, err := pod.CreateContainer(script("quick", "exit 7"))
	must(t, err)
	closed(t, quick)
	must(t, quick.Start())
	seen := until(t, events, pericarp.PodEmpty)
	kinds := []pericarp.EventKind{}
	for _, event := range seen {
		kinds = append(kinds, event.Kind)
	}
	equal(t, kinds, []pericarp.EventKind{
		pericarp.ContainerCreated, pericarp.ContainerStarted, pericarp.ContainerExited, pericarp.PodEmpty,
	})
	equal(t, seen[2].Container, "quick")
	equal(t, *seen[2].Exit, pericarp.ExitStatus{Code: 7})
	equal(t, kinds[2].String(), "exited")

	long := started(t, pod, script("long", forever))
	until(t, events, pericarp.ContainerStarted)
	must(t, pod.Freeze())
	until(t, events, pericarp.Frozen)
	frozen, err := pod.IsFrozen()
	must(t, err)
	equal(t, frozen, true)
	must(t, pod.Thaw())
	until(t, events, pericarp.Thawed)
	must(t, pod.Kill())
	exit, err := long.Wait(context.Background())
	must(t, err)
	equal(t, exit, pericarp.ExitStatus{Signal: syscall.SIGKILL})
	seen = until(t, events, pericarp.ContainerExited)
	equal(t, *seen[len(seen)-1].Exit, exit)
	must(t, quick.Remove())
	until(t, events, pericarp.ContainerRemoved)
	window := pericarp.PressureTrigger{Resource: "cpu", Share: "some", Stall: time.Second, Window: time.Minute}
	_, err = pod.Events(context.Background(), pericarp.EventOptions{Pressure: []pericarp.PressureTrigger{window}})
	refused(t, err, pericarp.InvalidSpec)
}

func TestEventsEndWithThePodAndWithTheContext(t *testing.T) {
	node, _ := node(t)
	pod, err := node.CreatePod(object{"name": "shop"})
	must(t, err)
	closed(t, pod)
	ctx, cancel := context.WithCancel(context.Background())
	canceled, err := pod.Events(ctx, pericarp.EventOptions{FromNow: true})
	must(t, err)
	events, err := pod.Events(context.Background(), pericarp.EventOptions{})
	must(t, err)
	cancel()
	if event, open := <-canceled.C; open {
		t.Fatal(event)
	}
	if !errors.Is(canceled.Err(), context.Canceled) {
		t.Fatal(canceled.Err())
	}
	must(t, pod.Remove())
	until(t, events, pericarp.PodRemoved)
	if event, open := <-events.C; open || events.Err() != nil {
		t.Fatal(event, events.Err())
	}
}
