/* Writes down all that the library promises not to change, and compares. */

#ifndef NOTES_H
#define NOTES_H

#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
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

/* The thread that does nothing, once it is there. */
static pid_t bystander;

/* What a thread has for itself. */
static void note_thread(struct notes *notes, pid_t thread)
{
    char path[64], line[256], target[512];
    ssize_t length;
    FILE *stream;

    snprintf(path, sizeof path, "/proc/self/task/%d/ns", (int)thread);
    CHECK(links(notes, path, 0) > 0);
    snprintf(path, sizeof path, "/proc/self/task/%d/cwd", (int)thread);
    length = readlink(path, target, sizeof target);
    CHECK(length > 0);
    NOTE(notes, "%s %.*s\n", path, (int)length, target);
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)thread);
    stream = fopen(path, "re");
    CHECK(stream != NULL);
    while (fgets(line, sizeof line, stream) != NULL)
        /* How many signals are queued is told of all programs of the user together. */
        if ((strncmp(line, "Sig", 3) == 0 && strncmp(line, "SigQ", 4) != 0) || strncmp(line, "Cap", 3) == 0 || strncmp(line, "Umask", 5) == 0)
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
    for (number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        int other;

        if (sigaction(number, NULL, &action) != 0)
            continue;
        NOTE(notes, "signal %d blocked %d handler %p flags %x mask", number, sigismember(&mask, number),
             (void *)(size_t)action.sa_handler, (unsigned)action.sa_flags);
        for (other = 1; other <= SIGRTMAX; other++)
            if (sigismember(&action.sa_mask, other) == 1)
                NOTE(notes, " %d", other);
        NOTE(notes, "\n");
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
    if (bystander != 0)
        note_thread(notes, bystander);
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

#endif
