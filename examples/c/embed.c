/*
 * A program with an event loop of its own: epoll(7) over the pidfds of many containers of several pods. The library
 * has no loop, no thread that stays and no callback: each pidfd becomes readable when its container has ended.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <sys/epoll.h>

#include "common.h"

#define PODS 4
#define CONTAINERS 8

struct work {
    pericarp_container_t *container;
    int expected;
};

/* Each container sleeps a little, and exits with its own number. */
static int start(pericarp_pod_t *pod, int loop, int number, struct work *work)
{
    struct epoll_event event;
    pericarp_error_t *err = NULL;
    char json[256];
    int pidfd;

    snprintf(json, sizeof json,
             "{\"name\": \"job-%d\", " ROOTFS ", \"args\": [\"sh\", \"-c\", \"sleep 0.%d; exit %d\"]}", number,
             number % 5, number);
    work->expected = number;
    if (pericarp_pod_create_container(pod, json, NULL, &work->container, &err) < 0)
        return failed("create", &err);
    if (pericarp_container_start(work->container, &err) < 0)
        return failed("start", &err);
    /* The descriptor stays the library's, as long as this program has the container. */
    if (pericarp_container_borrow_pidfd(work->container, &pidfd, &err) < 0)
        return failed("get the pidfd", &err);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = work;
    if (epoll_ctl(loop, EPOLL_CTL_ADD, pidfd, &event) < 0) {
        perror("epoll_ctl");
        return -1;
    }
    return 0;
}

/* A container has ended: asks how, stops listening to it, and removes it. */
static int ended(int loop, struct work *work)
{
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    int pidfd;

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_try_wait(work->container, &status, &err) < 0)
        return failed("wait", &err);
    if (status.how != PERICARP_EXIT_CODE || status.code != work->expected) {
        fprintf(stderr, "%s ended otherwise than it should\n", pericarp_container_name(work->container));
        return -1;
    }
    if (pericarp_container_borrow_pidfd(work->container, &pidfd, &err) < 0)
        return failed("get the pidfd", &err);
    if (epoll_ctl(loop, EPOLL_CTL_DEL, pidfd, NULL) < 0) {
        perror("epoll_ctl");
        return -1;
    }
    if (pericarp_container_remove(work->container, &err) < 0)
        return failed("remove", &err);
    return 0;
}

static int run(pericarp_node_t *node, int loop, struct work *works)
{
    struct epoll_event events[16];
    pericarp_error_t *err = NULL;
    int pod_number, number, left = 0;

    for (pod_number = 0; pod_number < PODS; pod_number++) {
        pericarp_pod_t *pod = NULL;
        char json[64];
        int result = 0;

        snprintf(json, sizeof json, "{\"name\": \"pod-%d\", \"labels\": {\"app\": \"embed\"}}", pod_number);
        if (pericarp_node_create_pod_json(node, json, &pod, &err) < 0)
            return failed("create a pod", &err);
        for (number = 0; number < CONTAINERS && result == 0; number++, left++)
            result = start(pod, loop, number, &works[left]);
        /* Containers keep what they need: the pod's handle can go. */
        pericarp_pod_unref(pod);
        if (result < 0)
            return -1;
    }
    printf("started     %d containers in %d pods\n", left, PODS);
    while (left > 0) {
        int count = epoll_wait(loop, events, 16, 60000), i;

        if (count <= 0) {
            fprintf(stderr, "%d containers did not end\n", left);
            return -1;
        }
        for (i = 0; i < count; i++, left--)
            if (ended(loop, (struct work *)events[i].data.ptr) < 0)
                return -1;
    }
    printf("ended       all of them, each with its own exit code\n");
    return 0;
}

int main(void)
{
    struct work works[PODS * CONTAINERS];
    pericarp_node_t *node = NULL;
    int loop, result, i;

    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(works, 0, sizeof works);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0) {
        perror("epoll_create1");
        return EXIT_FAILURE;
    }
    if (open_node("c-embed", &node) < 0)
        return EXIT_FAILURE;
    result = run(node, loop, works);
    for (i = 0; i < PODS * CONTAINERS; i++)
        pericarp_container_unref(works[i].container);
    close(loop);
    if (remove_node(node) < 0 || result < 0)
        return EXIT_FAILURE;
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
