package pericarp_test

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"pericarp"
)

type line struct {
	level           int
	target, message string
}

// lines collects messages, from any goroutine.
type lines struct {
	mutex sync.Mutex
	all   []line
}

func (l *lines) log(level int, target, message string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.all = append(l.all, line{level, target, message})
}

func (l *lines) taken() []line {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	all := l.all
	l.all = nil
	return all
}

func TestMessagesComeAsLongAsAFunctionIsSet(t *testing.T) {
	var first, second lines
	node, _ := node(t)
	makeAndRemove := func() []line {
		pod, err := node.CreatePod(object{"name": "shop"})
		must(t, err)
		of := fmt.Sprintf("pod default/shop (%s)", pod.ID())
		must(t, pod.Remove())
		must(t, pod.Close())
		return []line{
			{pericarp.LogInfo, "pericarp::pod", of + " was made"},
			{pericarp.LogInfo, "pericarp::pod", of + " was removed"},
		}
	}
	same := func(is, should []line) {
		t.Helper()
		if !reflect.DeepEqual(is, should) {
			t.Errorf("%v instead of %v", is, should)
		}
	}
	defer func() { must(t, pericarp.SetLog(pericarp.LogOff, nil)) }()
	must(t, pericarp.SetLog(pericarp.LogTrace, first.log))
	same(first.taken(), nil)
	all := makeAndRemove()
	same(first.taken(), all)
	must(t, pericarp.SetLog(pericarp.LogInfo, second.log))
	all = makeAndRemove()
	same(first.taken(), nil)
	same(second.taken(), all)
	// What is refused changes nothing.
	refused(t, pericarp.SetLog(6, first.log), pericarp.InvalidArgument)
	refused(t, pericarp.SetLog(-1, nil), pericarp.InvalidArgument)
	all = makeAndRemove()
	same(first.taken(), nil)
	same(second.taken(), all)
	must(t, pericarp.SetLog(pericarp.LogWarn, second.log))
	makeAndRemove()
	same(second.taken(), nil)
	must(t, pericarp.SetLog(pericarp.LogInfo, nil))
	makeAndRemove()
	same(second.taken(), nil)
}

// Without the look at the thread (tried), the last SetLog in the function waits for ever: for the lock of the first, which waits for the callback.
func TestAFunctionCannotReplaceItself(t *testing.T) {
	node, _ := node(t)
	entered, other, errs := make(chan bool), make(chan error), make(chan error, 2)
	var once sync.Once
	must(t, pericarp.SetLog(pericarp.LogInfo, func(int, string, string) {
		once.Do(func() {
			errs <- pericarp.SetLog(pericarp.LogOff, nil)
			go func() { other <- pericarp.SetLog(pericarp.LogOff, nil) }()
			close(entered)
			time.Sleep(50 * time.Millisecond) // so that the other one has come to wait
			errs <- pericarp.SetLog(pericarp.LogOff, nil)
		})
	}))
	pod, err := node.CreatePod(object{"name": "shop"})
	must(t, err)
	closed(t, pod)
	<-entered
	refused(t, <-errs, pericarp.WrongState)
	refused(t, <-errs, pericarp.WrongState)
	must(t, <-other)
}
