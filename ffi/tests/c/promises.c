/*
 * "The host program is a guest of nobody", clause by clause: writes down all that the library promises not to change,
 * uses it, and compares.
 */

#define _GNU_SOURCE

#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

struct notes {
    char text[65536];
    size_t length;
};

#define NOTE(notes, ...)                                                                                     \
    do {                                                                                                     \
        (notes)->length += (size_t)snprintf((notes)->text + (notes)->length,                                 \
                                            sizeof(notes)->text - (notes)->length, __VA_ARGS__);             \
        CHECK((notes)->length < sizeof(notes)->text);                                                        \
    } while (0)

/* The links in a directory of /proc/self, in ascending order, and how many. */
static int links(struct notes *notes, const char *directory, int only_count)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort), i, found = 0;

    CHECK(count >= 0);
    for (i = 0; i < count; i++) {
        char path[512], target[512];
        ssize_t length;

        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        length = readlink(path, target, sizeof target - 1);
        if (length >= 0) {
            target[length] = '\0';
            /* The directory that is being read. */
            if (strstr(target, "/fd") == NULL || strncmp(target, "/proc/", 6) != 0) {
                found++;
                if (!only_count)
                    NOTE(notes, "%s -> %s\n", path, target);
            }
        }
        free(entries[i]);
    }
    free(entries);
    return found;
}

static int threads(void)
{
    struct dirent **entries;
    int count = scandir("/proc/self/task", &entries, NULL, alphasort), i;

    CHECK(count >= 0);
    for (i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return count - 2;
}

static void file(struct notes *notes, const char *path)
{
    FILE *stream = fopen(path, "re");
    char line[256];

    CHECK(stream != NULL);
    while (fgets(line, sizeof line, stream) != NULL)
        NOTE(notes, "%s: %s", path, line);
    fclose(stream);
}

/* All but files and threads, which the library may have while something is open. */
static void note(struct notes *notes)
{
    char cwd[4096];
    sigset_t mask;
    int number;
    mode_t mode;
    char **variable;

    notes->length = 0;
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    NOTE(notes, "cwd %s\n", cwd);
    mode = umask(0);
    umask(mode);
    NOTE(notes, "umask %o\n", (unsigned)mode);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
    for (number = 1; number < SIGRTMAX; number++) {
        struct sigaction action;

        if (sigaction(number, NULL, &action) == 0)
            NOTE(notes, "signal %d blocked %d handler %p flags %x\n", number, sigismember(&mask, number),
                 (void *)(size_t)action.sa_handler, (unsigned)action.sa_flags);
    }
    NOTE(notes, "dumpable %d\n", prctl(PR_GET_DUMPABLE));
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &number) == 0);
    NOTE(notes, "subreaper %d\n", number);
    CHECK(prctl(PR_GET_PDEATHSIG, &number) == 0);
    NOTE(notes, "pdeathsig %d no_new_privs %d\n", number, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    for (number = 0; number < RLIMIT_NLIMITS; number++) {
        struct rlimit limit;

        CHECK(getrlimit((__rlimit_resource_t)number, &limit) == 0);
        NOTE(notes, "rlimit %d %llu %llu\n", number, (unsigned long long)limit.rlim_cur,
             (unsigned long long)limit.rlim_max);
    }
    file(notes, "/proc/self/oom_score_adj");
    file(notes, "/proc/self/cgroup");
    NOTE(notes, "uid %d gid %d nice %d\n", (int)geteuid(), (int)getegid(), getpriority(PRIO_PROCESS, 0));
    links(notes, "/proc/self/ns", 0);
    links(notes, "/proc/thread-self/ns", 0);
    for (variable = environ; *variable != NULL; variable++)
        NOTE(notes, "%s\n", *variable);
}

static void same(const struct notes *before, const struct notes *after, const char *when)
{
    const char *a = before->text, *b = after->text;

    if (strcmp(a, b) == 0)
        return;
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    fprintf(stderr, "%s, from here on it is not the same: before %.80s, after %.80s\n", when, a, b);
    exit(1);
}

/* Which files this program was started with. */
static char inherited[1024];

static void note_inherited(void)
{
    int fd;

    for (fd = 0; fd < 1024; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* Every other file closes on exec. */
static void all_close_on_exec(void)
{
    int fd;

    for (fd = 0; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);

        if (!inherited[fd] && flags >= 0 && !(flags & FD_CLOEXEC)) {
            fprintf(stderr, "descriptor %d stays open on exec\n", fd);
            exit(1);
        }
    }
}

static void on_signal(int number)
{
    (void)number;
}

int main(void)
{
    static struct notes before, during, after;
    int files, running, tries;
    struct sigaction action;
    sigset_t blocked;
    pericarp_node_t *node;
    pericarp_pod_t *pod;
    pericarp_container_t *container = NULL;
    pericarp_exit_status_t status = no_status();
    pericarp_shm_object_t object;
    char *json = NULL;
    int fd;

    /* What is not the default shows better whether it is kept. */
    CHECK(chdir("/tmp") == 0);
    umask(027);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGPIPE, &action, NULL) == 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    CHECK(setenv("PROMISE", "kept", 1) == 0);

    note_inherited();
    note(&before);
    files = links(&before, "/proc/self/fd", 1);
    running = threads();

    node = open_own_node("promises");
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
    OK(pericarp_pod_create_container(
        pod, "{\"name\": \"c\", " ROOTFS ", \"args\": [\"sleep\", \"600\"], \"stdio\": {\"stdout\": \"pipe\"}}", NULL,
        &container, &err));
    OK(pericarp_container_start(container, &err));
    note(&during);
    same(&before, &during, "while a container runs");
    all_close_on_exec();
    OK(pericarp_container_freeze(container, &err));
    OK(pericarp_container_thaw(container, &err));
    OK(pericarp_container_stop(container, 0, &status, &err));
    CHECK(status.how == PERICARP_EXIT_SIGNAL);
    OK(pericarp_container_remove(container, &err));
    pericarp_container_unref(container);
    close(fd);
    OK(pericarp_pod_remove(pod, &err));
    pericarp_pod_unref(pod);
    OK(pericarp_node_remove(node, &err));
    pericarp_node_unref(node);

    note(&after);
    same(&before, &after, "at the end");
    if (links(&after, "/proc/self/fd", 1) != files) {
        links(&after, "/proc/self/fd", 0);
        fprintf(stderr, "there were %d files, and now:\n%s", files, after.text);
        return 1;
    }
    /* A thread that was joined may need a moment more to be gone from /proc. */
    for (tries = 0; threads() != running && tries < 100; tries++)
        usleep(10000);
    CHECK(threads() == running);
    puts("nothing of the host has changed");
    return 0;
}
