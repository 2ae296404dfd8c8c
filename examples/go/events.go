package pericarp

// #include <pericarp.h>
import "C"

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// EventKind is what happened.
type EventKind uint32

// The kinds of events. More may be added.
const (
	ContainerCreated EventKind = C.PERICARP_EVENT_CREATED
	ContainerStarted EventKind = C.PERICARP_EVENT_STARTED
	ContainerExited  EventKind = C.PERICARP_EVENT_EXITED // Exit and OOMKilled tell how
	ContainerRemoved EventKind = C.PERICARP_EVENT_REMOVED
	OOMKill          EventKind = C.PERICARP_EVENT_OOM_KILL    // Count processes were killed
	MemoryHigh       EventKind = C.PERICARP_EVENT_MEMORY_HIGH // memory.high was passed Count times
	MemoryMax        EventKind = C.PERICARP_EVENT_MEMORY_MAX  // memory.max was met Count times
	Pressure         EventKind = C.PERICARP_EVENT_PRESSURE    // Trigger tells which threshold
	Frozen           EventKind = C.PERICARP_EVENT_FROZEN
	Thawed           EventKind = C.PERICARP_EVENT_THAWED
	PodEmpty         EventKind = C.PERICARP_EVENT_EMPTY   // no process is left
	Skipped          EventKind = C.PERICARP_EVENT_SKIPPED // of Count containers nothing is told
	PodRemoved       EventKind = C.PERICARP_EVENT_POD_REMOVED
)

var eventKinds = map[EventKind]string{
	ContainerCreated: "created",
	ContainerStarted: "started",
	ContainerExited:  "exited",
	ContainerRemoved: "removed",
	OOMKill:          "OOM kill",
	MemoryHigh:       "memory high",
	MemoryMax:        "memory max",
	Pressure:         "pressure",
	Frozen:           "frozen",
	Thawed:           "thawed",
	PodEmpty:         "empty",
	Skipped:          "skipped",
	PodRemoved:       "pod removed",
}

func (k EventKind) String() string {
	if text, ok := eventKinds[k]; ok {
		return text
	}
	return "event " + strconv.Itoa(int(k))
}

// Event is something that happened in a pod.
type Event struct {
	Kind      EventKind
	Container string      // empty if it is about the pod
	Exit      *ExitStatus // nil if the status is lost
	OOMKilled *bool       // nil if there is no memory controller to tell
	Count     uint64      // since the event of that kind before
	Trigger   *PressureTrigger
}

// PressureTrigger is a threshold of pressure stall information: an event comes when processes have stalled for so long
// within the window.
type PressureTrigger struct {
	Resource string        // "cpu", "memory" or "io"
	Share    string        // "some" or "full"
	Stall    time.Duration // of whole microseconds, as is Window
	Window   time.Duration // 0.5 s to 10 s; without CAP_SYS_RESOURCE a multiple of 2 s
}

// EventOptions say what to watch. The zero value is all that this machine can tell without being asked for thresholds,
// from the pod's beginning.
type EventOptions struct {
	FromNow  bool  // only what changes from now on
	Memory   *bool // nil: if there is a memory controller; true is an error if there is none
	Pressure []PressureTrigger
}

// spec is the JSON of the library.
func (o EventOptions) spec() map[string]any {
	spec := map[string]any{}
	if o.FromNow {
		spec["since"] = "now"
	}
	if o.Memory != nil {
		spec["memory"] = *o.Memory
	}
	triggers := []map[string]any{}
	for _, trigger := range o.Pressure {
		triggers = append(triggers, map[string]any{
			"resource":     trigger.Resource,
			"share":        trigger.Share,
			"stallMicros":  trigger.Stall.Microseconds(),
			"windowMicros": trigger.Window.Microseconds(),
		})
	}
	spec["pressure"] = triggers
	return spec
}

// Events is a subscription. C is closed when the context is done, when the pod was removed, and when something failed,
// which Err tells then.
type Events struct {
	C <-chan Event
	// Sources are what it hears of: "containers", "freezer", "memory" and "pressure". What this machine cannot tell, and
	// what was not asked for, is not among them.
	Sources []string
	mutex   sync.Mutex
	failed  error
}

// Err is why C was closed: nil if the pod was removed, and the context's error if that is done.
func (e *Events) Err() error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.failed
}

// Events subscribes to what happens in the pod, whichever program does it. The subscription ends with the context. No
// thread waits: a goroutine is parked until Go's poller says that there is an event.
func (p *Pod) Events(ctx context.Context, options EventOptions) (*Events, error) {
	json, free, err := marshal(options.spec())
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_events_t
	err = p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_events(pod, json, &pointer, err)
	})
	if err != nil {
		return nil, err
	}
	source := &eventSource{newHandle(pointer, func(events *C.pericarp_events_t) { C.pericarp_events_unref(events) })}
	var sources []string
	err = source.handle.json(&sources, func(events *C.pericarp_events_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_events_sources(events, text, err)
	})
	if err != nil {
		source.handle.close()
		return nil, err
	}
	poll, err := source.pollable()
	if err != nil {
		source.handle.close()
		return nil, err
	}
	channel := make(chan Event)
	events := &Events{C: channel, Sources: sources}
	go func() {
		err := source.pump(ctx, poll, channel)
		events.mutex.Lock()
		events.failed = err
		events.mutex.Unlock()
		poll.Close()
		source.handle.close()
		close(channel)
	}()
	return events, nil
}

// eventSource is the library's side of a subscription.
type eventSource struct {
	handle *handle[C.pericarp_events_t]
}

// pollable is a copy of the descriptor for Go's poller.
func (s *eventSource) pollable() (*os.File, error) {
	var fd C.int
	err := s.handle.use(func(events *C.pericarp_events_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_events_borrow_fd(events, &fd, err)
	})
	if err != nil {
		return nil, err
	}
	own, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("fcntl", errno)
	}
	// Nothing is read from it, so that this changes nothing; it makes Go use its poller.
	if err := syscall.SetNonblock(int(own), true); err != nil {
		syscall.Close(int(own))
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(own, "events"), nil
}

// pump sends what comes until the pod is removed, the context is done, or something fails.
func (s *eventSource) pump(ctx context.Context, poll *os.File, channel chan<- Event) error {
	defer interrupted(ctx, poll)()
	connection, err := poll.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var event *Event
		var failed error
		err := connection.Read(func(uintptr) bool {
			event, failed = s.next()
			return event != nil || failed != nil
		})
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		select {
		case channel <- *event:
		case <-ctx.Done():
			return ctx.Err()
		}
		if event.Kind == PodRemoved {
			return nil
		}
	}
}

// next is the next event, or nil.
func (s *eventSource) next() (*Event, error) {
	told := C.pericarp_event_t{size: C.sizeof_pericarp_event_t}
	err := s.handle.use(func(events *C.pericarp_events_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_events_next(events, &told, err)
	})
	if err != nil || told.kind == C.PERICARP_EVENT_NONE {
		return nil, err
	}
	event := &Event{
		Kind:      EventKind(told.kind),
		Container: C.GoString(&told.container[0]),
		Count:     uint64(told.count),
	}
	if event.Kind == ContainerExited {
		if told.how != C.PERICARP_EXIT_NONE {
			event.Exit = &ExitStatus{int(told.code), syscall.Signal(told.signal), told.core_dumped != 0}
		}
		if told.oom_killed >= 0 {
			killed := told.oom_killed == 1
			event.OOMKilled = &killed
		}
	}
	if event.Kind == Pressure {
		resources := map[C.uint32_t]string{
			C.PERICARP_PRESSURE_CPU:    "cpu",
			C.PERICARP_PRESSURE_MEMORY: "memory",
			C.PERICARP_PRESSURE_IO:     "io",
		}
		shares := map[C.uint32_t]string{C.PERICARP_PRESSURE_SOME: "some", C.PERICARP_PRESSURE_FULL: "full"}
		event.Trigger = &PressureTrigger{
			Resource: resources[told.resource],
			Share:    shares[told.share],
			Stall:    time.Duration(told.stall_us) * time.Microsecond,
			Window:   time.Duration(told.window_us) * time.Microsecond,
		}
	}
	return event, nil
}

// Kill kills every process of every container of the pod at once. The pod stays.
func (p *Pod) Kill() error {
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_kill(pod, err)
	})
}

// IsFrozen says whether the processes of the pod stand still, because it was frozen.
func (p *Pod) IsFrozen() (bool, error) {
	var frozen C.int
	err := p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_is_frozen(pod, &frozen, err)
	})
	return frozen == 1, err
}
