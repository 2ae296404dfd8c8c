/* Counts what pods leave on a machine, without asking the library: from /proc and the tree of cgroups. */

#ifndef EXAMPLES_TRACES_H
#define EXAMPLES_TRACES_H

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_NAMESPACES 64

/* What to look for: a node's state directory, its cgroup, and namespaces as /proc shows them: "net:[4026532008]". */
struct traces {
    char state_dir[128];
    char cgroup[512];
    char namespaces[MOST_NAMESPACES][40];
    int count;
};

struct counts {
    int processes, mounts, cgroups, namespaces;
};

/* Looks at a path; to be given to `each`. */
typedef void (*look_t)(const char *path, void *with);

static void each(const char *directory, look_t look, void *with)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;
    char path[1024];

    if (entries == NULL)
        return;
    while ((entry = readdir(entries)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] != '.')
            look(path, with);
    }
    closedir(entries);
}

/* Whether a file has a line with that text in it. */
static int has(const char *path, const char *text)
{
    FILE *file = fopen(path, "re");
    char line[4096];
    int found = 0;

    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strstr(line, text) != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

/* Whether a directory of /proc is that of a process of the node, or of a child of this program, also of a zombie. */
static int is_of_node(const struct traces *traces, const char *process)
{
    char path[1100], text[600];

    if (!isdigit((unsigned char)process[strlen("/proc/")]))
        return 0;
    snprintf(path, sizeof path, "%s/status", process);
    snprintf(text, sizeof text, "PPid:\t%ld\n", (long)getpid());
    if (has(path, text))
        return 1;
    snprintf(path, sizeof path, "%s/cgroup", process);
    snprintf(text, sizeof text, "%s/", strrchr(traces->cgroup, '/'));
    return has(path, text);
}

static int known(const struct traces *traces, const char *name)
{
    int i;

    for (i = 0; i < traces->count; i++)
        if (strcmp(traces->namespaces[i], name) == 0)
            return i;
    return -1;
}

static void add_namespace(struct traces *traces, const char *name)
{
    if (known(traces, name) < 0 && traces->count < MOST_NAMESPACES)
        snprintf(traces->namespaces[traces->count++], sizeof traces->namespaces[0], "%s", name);
}

/* Where a link leads: "mnt:[4026532008]", or anything else. */
static void follow(const char *path, char *target, size_t room)
{
    ssize_t length = readlink(path, target, room - 1);

    target[length > 0 ? length : 0] = '\0';
}

/* A namespace of a process counts unless this program is in it, too. */
static void add_link(const char *path, void *with)
{
    char target[512], own[512], own_path[64];

    snprintf(own_path, sizeof own_path, "/proc/self/ns/%s", strrchr(path, '/') + 1);
    follow(path, target, sizeof target);
    follow(own_path, own, sizeof own);
    if (target[0] != '\0' && strcmp(target, own) != 0)
        add_namespace((struct traces *)with, target);
}

static void add_process(const char *path, void *with)
{
    char directory[1100];

    snprintf(directory, sizeof directory, "%s/ns", path);
    if (is_of_node((struct traces *)with, path))
        each(directory, add_link, with);
}

/* A line of the mount table at or below the state directory. Its root may be a namespace that it holds. */
typedef void (*line_t)(const char *root, void *with);

static void each_mount(const char *state_dir, line_t look, void *with)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char line[4096], root[1024], point[1024];

    while (table != NULL && fgets(line, sizeof line, table) != NULL)
        if (sscanf(line, "%*s %*s %*s %1023s %1023s", root, point) == 2 &&
            strncmp(point, state_dir, strlen(state_dir)) == 0)
            look(root, with);
    if (table != NULL)
        fclose(table);
}

static void add_mount(const char *root, void *with)
{
    if (strstr(root, ":[") != NULL)
        add_namespace((struct traces *)with, root);
}

/* To be called while the containers run: adds their namespaces, and the one that holds those of pods. */
static void note_living(struct traces *traces)
{
    each("/proc", add_process, traces);
    each_mount(traces->state_dir, add_mount, traces);
}

struct counting {
    const struct traces *traces;
    struct counts counts;
    char held[MOST_NAMESPACES];
};

static void hold(struct counting *counting, const char *name)
{
    int number = known(counting->traces, name);

    if (number >= 0)
        counting->held[number] = 1;
}

static void hold_link(const char *path, void *with)
{
    char target[512];

    follow(path, target, sizeof target);
    hold((struct counting *)with, target);
}

static void count_process(const char *path, void *with)
{
    struct counting *counting = (struct counting *)with;
    char directory[1100];

    if (!is_of_node(counting->traces, path))
        return;
    counting->counts.processes++;
    snprintf(directory, sizeof directory, "%s/ns", path);
    each(directory, hold_link, with);
}

static void count_cgroup(const char *path, void *with)
{
    struct stat status;

    if (lstat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return;
    ((struct counting *)with)->counts.cgroups++;
    each(path, count_cgroup, with);
}

static void count_mount(const char *root, void *with)
{
    hold((struct counting *)with, root);
    ((struct counting *)with)->counts.mounts++;
}

/* How much there is. A namespace is there while a process of the node is in it, this program has it open, or a mount holds
 * it. (Those of pods live without any of that, in a mount table of their own, which is a namespace that counts.) */
static struct counts count_traces(const struct traces *traces)
{
    struct counting counting;
    int i;

    memset(&counting, 0, sizeof counting);
    counting.traces = traces;
    each("/proc", count_process, &counting);
    each("/proc/self/ns", hold_link, &counting);
    each("/proc/self/fd", hold_link, &counting);
    each_mount(traces->state_dir, count_mount, &counting);
    count_cgroup(traces->cgroup, &counting);
    for (i = 0; i < traces->count; i++)
        counting.counts.namespaces += counting.held[i];
    return counting.counts;
}

#endif
