/*
 * The host talks to a container through shared memory of the pod: it makes the object before the container runs, maps
 * it, and the two take turns, woken by a futex. The container's program is ipc_peer, beside this one.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <sys/mman.h>

#include "common.h"
#include "ipc.h"

/* The container: its program is mounted from the directory that this program is in. */
static int describe(char *json, size_t size)
{
    char self[1024], *slash;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    int written;

    if (length < 0) {
        perror("readlink");
        return -1;
    }
    self[length] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    written = snprintf(json, size,
                       "{\"name\": \"peer\", " ROOTFS ", \"args\": [\"/peer\"], \"mounts\": [{\"type\": \"bind\","
                       " \"source\": \"%s/ipc_peer\", \"destination\": \"/peer\", \"readonly\": true}]}",
                       self);
    return written > 0 && (size_t)written < size ? 0 : -1;
}

static int talk(pericarp_container_t *peer, struct table *table)
{
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        strcpy(table->text, "hello");
        give_turn(table, TURN_CONTAINER);
        if (await_turn(table, TURN_HOST, 60) < 0) {
            fprintf(stderr, "no answer in round %d\n", round);
            return -1;
        }
        if (strcmp(table->text, "HELLO") != 0 || table->number != (uint32_t)round + 1) {
            fprintf(stderr, "a wrong answer in round %d\n", round);
            return -1;
        }
    }
    printf("talked      %d rounds, the last answer was %s\n", ROUNDS, table->text);
    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_wait(peer, &status, &err) < 0)
        return failed("wait", &err);
    return succeeded("peer", &status) ? 0 : -1;
}

static int run(pericarp_pod_t *pod)
{
    pericarp_shm_object_t object;
    pericarp_container_t *peer = NULL;
    pericarp_error_t *err = NULL;
    char json[2048], *listing = NULL;
    int fd, result = -1;
    void *memory;

    memset(&object, 0, sizeof object);
    object.size = sizeof object;
    object.name = TABLE_NAME;
    object.bytes = TABLE_SIZE;
    if (pericarp_ipc_create_shm_object(pod, &object, &fd, &err) < 0)
        return failed("make shared memory", &err);
    memory = mmap(NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return -1;
    }
    /* Other kinds of IPC objects, as JSON and in one call: all are made, or none. */
    if (pericarp_ipc_create(pod, "{\"mqueues\": [{\"name\": \"q\"}], \"sysvSem\": [{\"key\": 42, \"values\": [1]}]}",
                            &err) < 0 ||
        pericarp_ipc_list(pod, &listing, &err) < 0) {
        failed("IPC objects", &err);
        goto out;
    }
    printf("objects     %s\n", listing);
    if (describe(json, sizeof json) < 0)
        goto out;
    if (pericarp_pod_create_container(pod, json, NULL, &peer, &err) < 0 || pericarp_container_start(peer, &err) < 0)
        failed("start the container", &err);
    else
        result = talk(peer, (struct table *)memory);
out:
    pericarp_string_free(listing);
    pericarp_container_unref(peer);
    munmap(memory, TABLE_SIZE);
    return result;
}

int main(void)
{
    pericarp_node_t *node = NULL;
    pericarp_pod_t *pod = NULL;
    pericarp_error_t *err = NULL;
    int result;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (open_node("c-ipc", &node) < 0)
        return EXIT_FAILURE;
    if (pericarp_node_create_pod_json(node, "{\"name\": \"desk\", \"shmSize\": 1048576}", &pod, &err) < 0)
        result = failed("create the pod", &err);
    else
        result = run(pod);
    pericarp_pod_unref(pod);
    if (remove_node(node) < 0 || result < 0)
        return EXIT_FAILURE;
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
