package pericarp

/*
#include <pericarp.h>

// What cgo declares of an exported function then is what the header says.
typedef const char pericarp_go_text;
void pericarpGoLog(uint32_t level, pericarp_go_text *target, pericarp_go_text *message, void *data);
*/
import "C"

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Levels of messages, for SetLog.
const (
	LogOff   = C.PERICARP_LOG_OFF
	LogError = C.PERICARP_LOG_ERROR // nothing is told at this level yet: errors are what calls return
	LogWarn  = C.PERICARP_LOG_WARN  // failures that no call returns, and what Recover has found broken
	LogInfo  = C.PERICARP_LOG_INFO  // pods and containers were made, started, ended and removed
	LogDebug = C.PERICARP_LOG_DEBUG // programs were executed in containers
	LogTrace = C.PERICARP_LOG_TRACE // nothing is told at this level yet
)

type logFunc = func(level int, target, message string)

var (
	// logs is a logFunc, or nil. Not under the lock: who replaces it waits for those that run.
	logs atomic.Value
	// logSetting is held by who replaces it.
	logSetting sync.Mutex
	// logging has the threads that are in it: such a thread belongs to one goroutine.
	logging sync.Map
)

// SetLog sets what is called for messages of the library up to a level, in place of what was set before: the program has
// one, and the library writes none by itself. nil removes it. The target is the part of the library, such as "pericarp::pod".
//
// It is called by whatever goroutine calls the library, by several at the same time, and must not call the library: in it
// SetLog fails with WrongState, and other calls may wait for a lock that their caller has. When SetLog has returned, what was
// set before is not running any more. A panic in it ends the program, since none can pass through the library.
func SetLog(level int, log func(level int, target, message string)) error {
	_, inside := logging.Load(syscall.Gettid())
	if inside || level < LogOff || level > LogTrace {
		// Refused by the library, in its words. Whoever has the lock may be waiting for the callback.
		return setLog(level, nil)
	}
	logSetting.Lock()
	defer logSetting.Unlock()
	before, _ := logs.Load().(logFunc)
	if log == nil {
		if err := setLog(level, nil); err != nil {
			return err
		}
		logs.Store(logFunc(nil))
		return nil
	}
	// From here on the new one may be called, in the old one's place or at last by itself.
	logs.Store(logFunc(log))
	err := setLog(level, C.pericarp_log_callback_t(C.pericarpGoLog))
	if err != nil {
		logs.Store(before)
	}
	return err
}

func setLog(level int, callback C.pericarp_log_callback_t) error {
	if level < LogOff || level > LogTrace {
		// As the library says it; not every int is a number of its type.
		level = LogTrace + 1
	}
	return try(func(err **C.pericarp_error_t) C.int {
		return C.pericarp_log_set(C.uint32_t(level), callback, nil, err)
	})
}

//export pericarpGoLog
func pericarpGoLog(level C.uint32_t, target, message *C.pericarp_go_text, _ unsafe.Pointer) {
	log, _ := logs.Load().(logFunc)
	if log == nil {
		return
	}
	thread, returned := syscall.Gettid(), false
	logging.Store(thread, true)
	defer func() {
		logging.Delete(thread)
		if !returned {
			failure := recover()
			go panic(fmt.Sprint("pericarp: the function of SetLog did not return: ", failure))
			select {}
		}
	}()
	log(int(level), C.GoString((*C.char)(target)), C.GoString((*C.char)(message)))
	returned = true
}
