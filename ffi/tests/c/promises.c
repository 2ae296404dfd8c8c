/*
 * "The host program is a guest of nobody", clause by clause: writes down all that the library promises not to change,
 * loads it, uses it, and compares. The argument is the shared library; the program itself is linked with the static one.
 */

#define _GNU_SOURCE

#include "notes.h"

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct notes before, during, after;
static int files, running;

static void on_signal(int number)
{
    (void)number;
}

/* Threads that were joined may need a moment more to be gone from /proc. */
static void no_thread_more(const char *when)
{
    int tries;

    for (tries = 0; threads() != running && tries < 500; tries++)
        usleep(10000);
    if (threads() != running) {
        fprintf(stderr, "%s, there are %d threads, and were %d\n", when, threads(), running);
        exit(1);
    }
}

static void no_file_more(const char *when)
{
    if (links(&after, "/proc/self/fd", 1) != files) {
        after.length = 0;
        links(&after, "/proc/self/fd", 0);
        fprintf(stderr, "%s, there were %d files, and now:\n%s", when, files, after.text);
        exit(1);
    }
}

/* What is not the default shows better whether it is kept. */
static void be_unusual(void)
{
    struct sigaction action;
    sigset_t blocked;

    CHECK(chdir("/tmp") == 0);
    umask(027);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGPIPE, &action, NULL) == 0);
    CHECK(sigaction(SIGRTMAX, &action, NULL) == 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    CHECK(setenv("PROMISE", "kept", 1) == 0);
}

/* A second thread, with a signal mask of its own, which stands by until the end. */
static int ends[2], stand_by[2];

static void *by_stand(void *argument)
{
    sigset_t blocked;
    char byte;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    bystander = (pid_t)syscall(SYS_gettid);
    CHECK(write(stand_by[1], "x", 1) == 1);
    CHECK(read(ends[0], &byte, 1) == 1);
    return argument;
}

/* "Installs nothing when it is loaded": one more copy of the library, by dlopen(3), and one of its functions. */
static void load(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    const char *(*version)(void);

    if (handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&version = dlsym(handle, "pericarp_version");
    CHECK(version != NULL && strcmp(version(), PERICARP_VERSION) == 0);
    note(&during);
    same(&before, &during, "after loading the library");
    no_thread_more("after loading the library");
    no_file_more("after loading the library");
}

/* A child of the program's own, which ends when it is told to. */
static pid_t own_child(int *tell)
{
    int pipes[2];
    pid_t child;
    char byte;

    CHECK(pipe2(pipes, O_CLOEXEC) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(pipes[1]);
        while (read(pipes[0], &byte, 1) > 0)
            ;
        _exit(42);
    }
    close(pipes[0]);
    *tell = pipes[1];
    return child;
}

/* It is a zombie, that is, nobody has waited for it. */
static void is_still_there(pid_t child)
{
    siginfo_t info;

    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    CHECK(info.si_pid == child && info.si_code == CLD_EXITED && info.si_status == 42);
}

static void is_running(pericarp_pod_t *pod, int32_t pid)
{
    pericarp_container_t *container = NULL;
    pericarp_exit_status_t status = no_status();
    uint32_t state = 0;

    OK(pericarp_pod_open_container(pod, "c", &container, &err));
    OK(pericarp_container_status(container, &state, &status, &err));
    CHECK(state == PERICARP_CONTAINER_RUNNING && pericarp_container_pid(container) == pid);
    pericarp_container_unref(container);
}

/* Giving handles back neither blocks, also when what they stand for is frozen and cannot end, nor kills. */
static void give_back_while_it_runs(pericarp_pod_t *pod)
{
    pericarp_container_t *container = NULL;
    pericarp_process_t *process = NULL;
    int32_t pid, executed;

    OK(pericarp_pod_open_container(pod, "c", &container, &err));
    pid = pericarp_container_pid(container);
    OK(pericarp_container_exec(container, "{\"args\": [\"sleep\", \"600\"]}", NULL, &process, &err));
    executed = pericarp_process_pid(process);
    OK(pericarp_container_freeze(container, &err));
    pericarp_process_unref(process);
    pericarp_container_unref(container);
    OK(pericarp_pod_open_container(pod, "c", &container, &err));
    OK(pericarp_container_thaw(container, &err));
    pericarp_container_unref(container);
    is_running(pod, pid);
    CHECK(kill(executed, 0) == 0);
}

/* A program in the container with a terminal. */
static void use_a_terminal(pericarp_container_t *container)
{
    pericarp_process_t *process = NULL;
    pericarp_exit_status_t status = no_status();
    uint16_t width = 0, height = 0;
    char *name = NULL, said[256];
    int master = -1;

    OK(pericarp_container_exec(container, "{\"args\": [\"tty\"], \"terminal\": true}", NULL, &process, &err));
    OK(pericarp_process_take_terminal(process, &master, &err));
    OK(pericarp_terminal_resize(master, 100, 40, &err));
    OK(pericarp_terminal_size(master, &width, &height, &err));
    CHECK(width == 100 && height == 40);
    OK(pericarp_terminal_name(master, &name, &err));
    pericarp_string_free(name);
    OK(pericarp_process_wait(process, &status, &err));
    CHECK(status.how == PERICARP_EXIT_CODE && status.code == 0);
    CHECK(read(master, said, sizeof said) > 0);
    close(master);
    pericarp_process_unref(process);
}

/* A program in the container whose output has two readers. */
static void use_a_fanout(pericarp_container_t *container)
{
    pericarp_process_t *process = NULL;
    pericarp_fanout_t *fanout = NULL;
    pericarp_exit_status_t status = no_status();
    char said[2][8];
    int source = -1, readers[2], i;

    OK(pericarp_container_exec(container, "{\"args\": [\"echo\", \"twice\"], \"stdio\": {\"stdout\": \"pipe\"}}",
                               NULL, &process, &err));
    OK(pericarp_process_take_stdout(process, &source, &err));
    OK(pericarp_fanout_create(source, 4096, 0, &fanout, &err));
    close(source);
    for (i = 0; i < 2; i++)
        OK(pericarp_fanout_open_reader(fanout, &readers[i], &err));
    OK(pericarp_fanout_run(fanout, &err));
    for (i = 0; i < 2; i++) {
        CHECK(read(readers[i], said[i], 8) == 6 && memcmp(said[i], "twice\n", 6) == 0);
        close(readers[i]);
    }
    pericarp_fanout_unref(fanout);
    OK(pericarp_process_wait(process, &status, &err));
    pericarp_process_unref(process);
}

static void read_stats(pericarp_node_t *node, pericarp_pod_t *pod, pericarp_container_t *container)
{
    pericarp_container_stats_t stats;
    char *text = NULL;

    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    OK(pericarp_container_stats(container, &stats, &err));
    OK(pericarp_pod_stats_json(pod, NULL, &text, &err));
    pericarp_string_free(text);
    OK(pericarp_node_stats_prometheus(node, NULL, &text, &err));
    pericarp_string_free(text);
}

/* Takes events until the container has ended. */
static void read_events(pericarp_events_t *events)
{
    pericarp_event_t event;
    struct pollfd waited;

    memset(&waited, 0, sizeof waited);
    waited.events = POLLIN;
    OK(pericarp_events_borrow_fd(events, &waited.fd, &err));
    do {
        CHECK(poll(&waited, 1, 60000) == 1);
        memset(&event, 0, sizeof event);
        event.size = sizeof event;
        OK(pericarp_events_next(events, &event, &err));
    } while (event.kind != PERICARP_EVENT_EXITED);
}

static void use_all_of_it(void)
{
    pericarp_node_t *node = open_own_node("promises");
    pericarp_pod_t *pod;
    pericarp_container_t *container = NULL;
    pericarp_events_t *events = NULL;
    pericarp_exit_status_t status = no_status();
    pericarp_shm_object_t object;
    char *json = NULL;
    int fd, tell;
    pid_t child;

    OK(pericarp_node_recover(node, &json, &err));
    pericarp_string_free(json);
    pod = make_pod(node, "pod", PERICARP_POD_SHARED_PID | PERICARP_POD_HOSTNAME_FILES);
    memset(&object, 0, sizeof object);
    object.size = sizeof object;
    object.name = "object";
    object.bytes = 4096;
    OK(pericarp_ipc_create_shm_object(pod, &object, &fd, &err));
    CHECK(pericarp_pod_create_container(pod, "{\"name\": \"wrong\", " ROOTFS ", \"args\": [\"/no/such\"]}", NULL,
                                        &container, NULL) == 0);
    CHECK(pericarp_container_start(container, NULL) < 0);
    OK(pericarp_container_remove(container, &err));
    pericarp_container_unref(container);
    OK(pericarp_pod_events(pod, NULL, &events, &err));
    OK(pericarp_pod_create_container(
        pod, "{\"name\": \"c\", " ROOTFS ", \"args\": [\"sleep\", \"600\"], \"stdio\": {\"stdout\": \"pipe\"}}", NULL,
        &container, &err));
    OK(pericarp_container_start(container, &err));
    /* One that ends while the library works. */
    child = own_child(&tell);
    note(&during);
    same(&before, &during, "while a container runs");
    no_thread_more("while a container runs");
    all_close_on_exec();
    close(tell);
    give_back_while_it_runs(pod);
    use_a_terminal(container);
    use_a_fanout(container);
    read_stats(node, pod, container);
    note(&during);
    same(&before, &during, "while a container runs that all was done with");
    all_close_on_exec();
    OK(pericarp_container_stop(container, 0, &status, &err));
    CHECK(status.how == PERICARP_EXIT_SIGNAL);
    read_events(events);
    is_still_there(child);
    CHECK(waitpid(child, NULL, 0) == child);
    OK(pericarp_container_remove(container, &err));
    pericarp_events_unref(events);
    pericarp_container_unref(container);
    close(fd);
    OK(pericarp_pod_remove(pod, &err));
    pericarp_pod_unref(pod);
    OK(pericarp_node_remove(node, &err));
    pericarp_node_unref(node);
}

int main(int count, char **arguments)
{
    pthread_t thread;
    pid_t zombie;
    char byte;
    int tell;

    CHECK(count == 2);
    be_unusual();
    CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(stand_by, O_CLOEXEC) == 0);
    CHECK(pthread_create(&thread, NULL, by_stand, NULL) == 0);
    CHECK(read(stand_by[0], &byte, 1) == 1);
    /* One that has ended before the library is used: who waits for any child would take its status. */
    zombie = own_child(&tell);
    close(tell);
    is_still_there(zombie);

    note_inherited();
    note(&before);
    files = links(&before, "/proc/self/fd", 1);
    running = threads();
    load(arguments[1]);
    use_all_of_it();
    note(&after);
    same(&before, &after, "at the end");
    no_file_more("at the end");
    no_thread_more("at the end");
    is_still_there(zombie);
    CHECK(waitpid(zombie, NULL, 0) == zombie && waitpid(-1, NULL, WNOHANG) == -1);
    CHECK(write(ends[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0);
    puts("nothing of the host has changed");
    return 0;
}
