/*
 * The quickstart in C: a pod with a web server and a client that fetches a page from it over localhost. The client
 * puts the page into the pod's shared memory, which this program has mapped. Needs root, and busybox.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <sys/mman.h>

#include "common.h"

#define BOARD_SIZE 4096

static const char SERVER[] =
    "{\"name\": \"server\", " ROOTFS ", \"args\": [\"sh\", \"-c\","
    " \"mkdir /tmp/www && echo hello from $(uname -n) > /tmp/www/index.html &&"
    " exec busybox httpd -f -p 127.0.0.1:8080 -h /tmp/www\"]}";

static const char CLIENT[] =
    "{\"name\": \"client\", " ROOTFS ", \"stdio\": {\"stdout\": \"pipe\"}, \"args\": [\"sh\", \"-c\","
    " \"until busybox wget -q -O /tmp/page http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.05; done;"
    " dd if=/tmp/page of=/dev/shm/board conv=notrunc 2>/dev/null; echo fetched $(wc -c < /tmp/page) bytes\"]}";

/* Makes the container and starts it. */
static int start(pericarp_pod_t *pod, const char *json, pericarp_container_t **container)
{
    pericarp_error_t *err = NULL;

    if (pericarp_pod_create_container(pod, json, NULL, container, &err) < 0)
        return failed("create", &err);
    printf("container   %s, process %ld\n", pericarp_container_name(*container),
           (long)pericarp_container_pid(*container));
    if (pericarp_container_start(*container, &err) < 0)
        return failed("start", &err);
    return 0;
}

/* The pod's shared memory, from the host. */
static char *map_board(pericarp_pod_t *pod)
{
    pericarp_shm_object_t board;
    pericarp_error_t *err = NULL;
    void *memory;
    int fd;

    memset(&board, 0, sizeof board);
    board.size = sizeof board;
    board.name = "board";
    board.bytes = BOARD_SIZE;
    if (pericarp_ipc_create_shm_object(pod, &board, &fd, &err) < 0) {
        failed("make shared memory", &err);
        return NULL;
    }
    memory = mmap(NULL, BOARD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return NULL;
    }
    return (char *)memory;
}

static int tour(pericarp_node_t *node)
{
    pericarp_pod_t *pod = NULL;
    pericarp_container_t *server = NULL, *client = NULL;
    pericarp_exit_status_t status;
    pericarp_pod_options_t options;
    pericarp_error_t *err = NULL;
    char *board = NULL, said[256];
    int result = -1, pipe = -1;
    ssize_t length;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.name = "shop";
    if (pericarp_node_create_pod(node, &options, &pod, &err) < 0)
        return failed("create the pod", &err);
    printf("pod         %s, id %s\n", pericarp_pod_name(pod), pericarp_pod_id(pod));
    board = map_board(pod);
    if (board == NULL || start(pod, SERVER, &server) < 0 || start(pod, CLIENT, &client) < 0)
        goto out;

    if (pericarp_container_take_stdout(client, &pipe, &err) < 0) {
        failed("take the client's output", &err);
        goto out;
    }
    length = read(pipe, said, sizeof said - 1);
    said[length > 0 ? length : 0] = '\0';
    printf("client      says: %s", said);

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_wait_timeout(client, 60000, &status, &err) < 0) {
        failed("wait for the client", &err);
        goto out;
    }
    if (status.how == PERICARP_EXIT_NONE || !succeeded("client", &status))
        goto out;
    printf("board       %s", board);
    if (strcmp(board, "hello from shop\n") != 0) {
        fprintf(stderr, "the page is not what the server has\n");
        goto out;
    }
    if (pericarp_container_stop(server, 0, &status, &err) < 0) {
        failed("stop the server", &err);
        goto out;
    }
    printf("server      stopped, signal %d\n", status.signal);
    result = 0;
out:
    if (board != NULL)
        munmap(board, BOARD_SIZE);
    if (pipe >= 0)
        close(pipe);
    pericarp_container_unref(client);
    pericarp_container_unref(server);
    pericarp_pod_unref(pod);
    return result;
}

int main(void)
{
    pericarp_node_t *node = NULL;
    int result;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("pericarp    %s\n", pericarp_version());
    if (open_node("c-pod", &node) < 0)
        return EXIT_FAILURE;
    result = tour(node);
    if (remove_node(node) < 0 || result < 0)
        return EXIT_FAILURE;
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
