/*
 * The quickstart in C: two pods on this machine. Pod `shop` has two containers, a web server and a client that fetches a
 * page from it over localhost. Both also count on one number in shared memory under one semaphore. Pod `other` shows that
 * it sees nothing of that. Then all is removed, and counted. Needs root, and busybox and perl, which can use semaphores.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdint.h>
#include <stdlib.h>

#include "common.h"
#include "traces.h"

/* The semaphore with that value, and the shared memory: they are there before any container. */
#define OBJECTS(value)                                                                                       \
    "\"ipc\": {\"shm\": [{\"name\": \"visits\", \"size\": 4096}],"                                           \
    " \"sysvSem\": [{\"key\": 1885696617, \"values\": [" value "]}]}"

static const char SHOP[] = "{\"name\": \"shop\", \"hostnameFiles\": true, " OBJECTS("1") "}";
static const char OTHER[] = "{\"name\": \"other\", " OBJECTS("7") "}";

/* Adds one to the number so many times. Reading and writing are two steps: without the semaphore, counts would be lost. */
#define TIMES 1000
#define COUNT                                                                                                \
    "\"COUNT\": \"my $semaphore = semget(1885696617, 1, 0) // die; open my $visits, '+<', '/dev/shm/visits' or die;" \
    " for (1 .. 1000) { semop $semaphore, pack('s3', 0, -1, 0) or die;"                                      \
    " sysseek $visits, 0, 0; sysread $visits, my $number, 8; sysseek $visits, 0, 0;"                         \
    " syswrite $visits, pack('Q', unpack('Q', $number) + 1); semop $semaphore, pack('s3', 0, 1, 0) or die; }\""

#define SERVER                                                                                               \
    "{\"name\": \"server\", " ROOTFS ", \"env\": {" COUNT ", \"TICKET\": \"%ld\"}, \"args\": [\"sh\", \"-c\"," \
    " \"perl -e \\\"$COUNT\\\" && mkdir /tmp/www &&"                                                         \
    " echo hello from $(uname -n), ticket $TICKET > /tmp/www/index.html &&"                                  \
    " exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www\"]}"

static const char CLIENT[] =
    "{\"name\": \"client\", " ROOTFS ", \"env\": {" COUNT "}, \"stdio\": {\"stdout\": \"pipe\"}, \"args\": [\"sh\","
    " \"-c\", \"perl -e \\\"$COUNT\\\" &&"
    " until busybox wget -q -O - http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.05; done\"]}";

/* Looks for what belongs to the other pod. */
static const char NEIGHBOUR[] =
    "{\"name\": \"neighbour\", " ROOTFS ", \"stdio\": {\"stdout\": \"pipe\"}, \"args\": [\"perl\", \"-MSocket\", \"-e\","
    " \"open my $name, '<', '/proc/sys/kernel/hostname' or die; my $host = <$name>; chomp $host;"
    " socket my $socket, PF_INET, SOCK_STREAM, 0 or die;"
    " my $port = connect($socket, pack_sockaddr_in(8080, INADDR_LOOPBACK)) ? 'open' : 'closed';"
    " my $value = 0 + semctl(semget(1885696617, 1, 0) // die, 0, 12, 0);"
    " open my $visits, '<', '/dev/shm/visits' or die; sysread $visits, my $number, 8;"
    " my @processes = glob '/proc/[0-9]*';"
    " print 'port 8080 is ', $port, '; semaphore ', $value, ', number ', unpack('Q', $number),"
    " '; host name ', $host, ', processes ', scalar @processes;\"]}";

static int make_pod(pericarp_node_t *node, const char *json, pericarp_pod_t **pod)
{
    pericarp_error_t *err = NULL;

    if (pericarp_node_create_pod_json(node, json, pod, &err) < 0)
        return failed("create the pod", &err);
    printf("pod         %s, id %s\n", pericarp_pod_name(*pod), pericarp_pod_id(*pod));
    return 0;
}

/* A container is made first and started then. */
static int start(pericarp_pod_t *pod, const char *json, pericarp_container_t **container)
{
    pericarp_error_t *err = NULL;

    if (pericarp_pod_create_container(pod, json, NULL, container, &err) < 0)
        return failed("create", &err);
    if (pericarp_container_start(*container, &err) < 0)
        return failed("start", &err);
    printf("container   %s, process %ld\n", pericarp_container_name(*container),
           (long)pericarp_container_pid(*container));
    return 0;
}

/* Waits until a container has ended, and reads what it said, which must be that. */
static int finish(pericarp_container_t *container, const char *expected)
{
    const char *name = pericarp_container_name(container);
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    char said[512];
    ssize_t length;
    int pipe = -1;

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_wait_timeout(container, 60000, &status, &err) < 0)
        return failed("wait", &err);
    if (status.how == PERICARP_EXIT_NONE) {
        fprintf(stderr, "%s did not end in 60 s\n", name);
        return -1;
    }
    if (pericarp_container_take_stdout(container, &pipe, &err) < 0)
        return failed("take the output", &err);
    length = read(pipe, said, sizeof said - 1);
    close(pipe);
    said[length > 0 ? length : 0] = '\0';
    said[strcspn(said, "\n")] = '\0';
    printf("%-11s %s\n", name, said);
    if (!succeeded(name, &status))
        return -1;
    if (strcmp(said, expected) != 0) {
        fprintf(stderr, "%s should have said: %s\n", name, expected);
        return -1;
    }
    return 0;
}

/* The host can look into the pod's shared memory, too. */
static int both_have_counted(pericarp_pod_t *pod)
{
    pericarp_error_t *err = NULL;
    uint64_t visits = 0;
    int fd;

    if (pericarp_ipc_open_shm_object(pod, "visits", 0, &fd, &err) < 0)
        return failed("open the shared memory", &err);
    if (pread(fd, &visits, sizeof visits, 0) != sizeof visits)
        perror("pread");
    close(fd);
    printf("visits      %lu, counted by both under one semaphore\n", (unsigned long)visits);
    if (visits != 2 * TIMES) {
        fprintf(stderr, "it should be %d\n", 2 * TIMES);
        return -1;
    }
    return 0;
}

/* The namespaces of a pod, and where its cgroup is. */
static int note_pod(struct traces *traces, pericarp_pod_t *pod)
{
    static const uint32_t kinds[] = {PERICARP_NAMESPACE_NETWORK, PERICARP_NAMESPACE_IPC, PERICARP_NAMESPACE_UTS};
    static const char *const words[] = {"net", "ipc", "uts"};
    pericarp_error_t *err = NULL;
    uint64_t inode = 0;
    char name[40];
    int i;

    for (i = 0; i < 3; i++) {
        if (pericarp_pod_namespace_inode(pod, kinds[i], &inode, &err) < 0)
            return failed("ask for a namespace", &err);
        snprintf(name, sizeof name, "%s:[%lu]", words[i], (unsigned long)inode);
        add_namespace(traces, name);
    }
    snprintf(traces->cgroup, sizeof traces->cgroup, "%s", pericarp_pod_cgroup_path(pod));
    *strrchr(traces->cgroup, '/') = '\0';
    return 0;
}

/* Two pods, from the first call on. Whatever fails, `main` removes all that was made. */
static int tour(pericarp_node_t *node, struct traces *traces, struct counts *alive)
{
    pericarp_pod_t *shop = NULL, *other = NULL;
    pericarp_container_t *server = NULL, *client = NULL, *neighbour = NULL;
    char json[2048], page[64];
    int result = -1;

    snprintf(json, sizeof json, SERVER, (long)getpid());
    snprintf(page, sizeof page, "hello from shop, ticket %ld", (long)getpid());
    if (make_pod(node, SHOP, &shop) < 0 || start(shop, json, &server) < 0 || start(shop, CLIENT, &client) < 0)
        goto out;
    if (finish(client, page) < 0 || both_have_counted(shop) < 0)
        goto out;
    /* A second pod has objects of the same names, but its own. */
    if (make_pod(node, OTHER, &other) < 0 || start(other, NEIGHBOUR, &neighbour) < 0)
        goto out;
    if (finish(neighbour, "port 8080 is closed; semaphore 7, number 0; host name other, processes 1") < 0)
        goto out;
    if (note_pod(traces, shop) < 0 || note_pod(traces, other) < 0)
        goto out;
    note_living(traces);
    *alive = count_traces(traces);
    alive->namespaces = traces->count;
    result = 0;
out:
    pericarp_container_unref(neighbour);
    pericarp_container_unref(client);
    pericarp_container_unref(server);
    pericarp_pod_unref(other);
    pericarp_pod_unref(shop);
    return result;
}

/* Some before, none left. */
static int is_gone(const char *what, int before, int after)
{
    printf("%-11s %d before, %d left\n", what, before, after);
    return before > 0 && after == 0;
}

int main(void)
{
    static struct traces traces;
    pericarp_node_t *node = NULL;
    struct counts alive, left;
    int result;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("pericarp    %s\n", pericarp_version());
    if (open_node("c-pod", &node) < 0)
        return EXIT_FAILURE;
    snprintf(traces.state_dir, sizeof traces.state_dir, "/run/pericarp-c-pod-%ld", (long)getpid());
    memset(&alive, 0, sizeof alive);
    result = tour(node, &traces, &alive);
    if (remove_node(node) < 0 || result < 0)
        return EXIT_FAILURE;
    left = count_traces(&traces);
    result = is_gone("processes", alive.processes, left.processes);
    result &= is_gone("mounts", alive.mounts, left.mounts);
    result &= is_gone("cgroups", alive.cgroups, left.cgroups);
    result &= is_gone("namespaces", alive.namespaces, left.namespaces);
    if (!result || access(traces.state_dir, F_OK) == 0) {
        fprintf(stderr, "something is left\n");
        return EXIT_FAILURE;
    }
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
