/*
 * A program with an event loop of its own: epoll(7) over the pidfds of many containers, and over the events of the pods
 * that they are in. The library has no loop, no thread that stays and no callback: a pidfd becomes readable when its
 * container has ended, and the descriptor of a pod's events when something happened in the pod.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "common.h"

#define PODS 4
#define CONTAINERS 8
/* This one would run forever: it is killed when its pod tells that it has started. */
#define ENDLESS (CONTAINERS - 1)

struct work {
    pericarp_container_t *container;
    int ended; /* its pidfd has said so */
    int told;  /* its pod has told how */
};

struct watched_pod {
    pericarp_events_t *events;
    struct work works[CONTAINERS];
    int started, told, empty;
};

/* What stands behind a descriptor of the loop: a container of a pod, or the pod itself. */
struct source {
    struct watched_pod *pod;
    struct work *work;
};

static int watch(int loop, int fd, struct source *source)
{
    struct epoll_event event;

    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = source;
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0) {
        perror("epoll_ctl");
        return -1;
    }
    return 0;
}

/* Whether a container ended as it should: each exits with its own number, and one is killed. */
static int as_expected(int number, uint32_t how, int code, int sig)
{
    return number == ENDLESS ? how == PERICARP_EXIT_SIGNAL && sig == SIGKILL
                             : how == PERICARP_EXIT_CODE && code == number;
}

/* Each container sleeps a little, and exits with its own number. */
static int start(pericarp_pod_t *pod, int loop, int number, struct source *source)
{
    struct work *work = source->work;
    pericarp_error_t *err = NULL;
    char json[256];
    int pidfd;

    snprintf(json, sizeof json,
             "{\"name\": \"job-%d\", " ROOTFS ", \"args\": [\"sh\", \"-c\", \"sleep %s%d; exit %d\"]}", number,
             number == ENDLESS ? "100" : "0.", number % 5, number);
    if (pericarp_pod_create_container(pod, json, NULL, &work->container, &err) < 0)
        return failed("create", &err);
    if (pericarp_container_start(work->container, &err) < 0)
        return failed("start", &err);
    /* The descriptor stays the library's, as long as this program has the container. */
    if (pericarp_container_borrow_pidfd(work->container, &pidfd, &err) < 0)
        return failed("get the pidfd", &err);
    return watch(loop, pidfd, source);
}

/* A container has ended, and its pod has told so: nobody needs it any more. */
static int finished(struct work *work)
{
    pericarp_error_t *err = NULL;

    if (work->ended && work->told && pericarp_container_remove(work->container, &err) < 0)
        return failed("remove", &err);
    return 0;
}

/* A container has ended: asks how, and stops listening to it. */
static int ended(int loop, struct source *source)
{
    struct work *work = source->work;
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    int pidfd;

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_try_wait(work->container, &status, &err) < 0)
        return failed("wait", &err);
    if (!as_expected((int)(work - source->pod->works), status.how, status.code, status.signal)) {
        fprintf(stderr, "%s ended otherwise than it should\n", pericarp_container_name(work->container));
        return -1;
    }
    if (pericarp_container_borrow_pidfd(work->container, &pidfd, &err) < 0)
        return failed("get the pidfd", &err);
    if (epoll_ctl(loop, EPOLL_CTL_DEL, pidfd, NULL) < 0) {
        perror("epoll_ctl");
        return -1;
    }
    work->ended = 1;
    return finished(work);
}

/* The container that an event is about: job-0, job-1, ... */
static struct work *about(struct watched_pod *pod, const pericarp_event_t *event)
{
    int number = -1;

    if (sscanf(event->container, "job-%d", &number) != 1 || number < 0 || number >= CONTAINERS)
        return NULL;
    return &pod->works[number];
}

/* One event of a pod. What is not of interest here is passed over: there may be more kinds some day. */
static int happened(struct watched_pod *pod, const pericarp_event_t *event)
{
    struct work *work = about(pod, event);
    pericarp_error_t *err = NULL;

    switch (event->kind) {
    case PERICARP_EVENT_STARTED:
        pod->started++;
        pod->empty = 0;
        if (work == &pod->works[ENDLESS] && pericarp_container_kill(work->container, &err) < 0)
            return failed("kill", &err);
        return 0;
    case PERICARP_EVENT_EXITED:
        /* Without a memory controller, nobody can tell who killed it: oom_killed is -1 then. */
        if (work == NULL || event->oom_killed == 1
            || !as_expected((int)(work - pod->works), event->how, event->code, event->signal)) {
            fprintf(stderr, "%s is told to have ended otherwise than it should\n", event->container);
            return -1;
        }
        pod->told++;
        work->told = 1;
        return finished(work);
    case PERICARP_EVENT_EMPTY:
        pod->empty = 1;
        return 0;
    default:
        return 0;
    }
}

/* Reads all events that there are. */
static int drain(struct watched_pod *pod)
{
    pericarp_event_t event;
    pericarp_error_t *err = NULL;

    for (;;) {
        memset(&event, 0, sizeof event);
        event.size = sizeof event;
        if (pericarp_events_next(pod->events, &event, &err) < 0)
            return failed("read the events", &err);
        if (event.kind == PERICARP_EVENT_NONE)
            return 0;
        if (happened(pod, &event) < 0)
            return -1;
    }
}

static int make(pericarp_node_t *node, int loop, int number, struct watched_pod *watched, struct source *sources)
{
    pericarp_pod_t *pod = NULL;
    pericarp_error_t *err = NULL;
    char json[64];
    int fd, i, result = -1;

    snprintf(json, sizeof json, "{\"name\": \"pod-%d\", \"labels\": {\"app\": \"embed\"}}", number);
    if (pericarp_node_create_pod_json(node, json, &pod, &err) < 0)
        return failed("create a pod", &err);
    sources[CONTAINERS].pod = watched;
    /* The descriptor stays the library's, as long as this program has the subscription. */
    if (pericarp_pod_events(pod, NULL, &watched->events, &err) < 0)
        failed("subscribe to the events", &err);
    else if (pericarp_events_borrow_fd(watched->events, &fd, &err) < 0)
        failed("get the descriptor of the events", &err);
    else
        result = watch(loop, fd, &sources[CONTAINERS]);
    for (i = 0; i < CONTAINERS && result == 0; i++) {
        sources[i].pod = watched;
        sources[i].work = &watched->works[i];
        result = start(pod, loop, i, &sources[i]);
    }
    /* Containers and subscriptions keep what they need: the pod's handle can go. */
    pericarp_pod_unref(pod);
    return result;
}

/* Whether all has been told of a pod that there is to be told. */
static int is_over(const struct watched_pod *pod)
{
    int i;

    for (i = 0; i < CONTAINERS; i++)
        if (!pod->works[i].ended)
            return 0;
    return pod->started == CONTAINERS && pod->told == CONTAINERS && pod->empty;
}

static int run(pericarp_node_t *node, int loop, struct watched_pod *pods, struct source (*sources)[CONTAINERS + 1])
{
    struct epoll_event events[16];
    int number, left;

    for (number = 0; number < PODS; number++)
        if (make(node, loop, number, &pods[number], sources[number]) < 0)
            return -1;
    printf("started     %d containers in %d pods\n", PODS * CONTAINERS, PODS);
    do {
        int count = epoll_wait(loop, events, 16, 60000), i;

        if (count <= 0) {
            fprintf(stderr, "not all containers did end, or were told of\n");
            return -1;
        }
        for (i = 0; i < count; i++) {
            struct source *source = (struct source *)events[i].data.ptr;

            if ((source->work != NULL ? ended(loop, source) : drain(source->pod)) < 0)
                return -1;
        }
        for (number = 0, left = 0; number < PODS; number++)
            left += !is_over(&pods[number]);
    } while (left > 0);
    printf("ended       all of them, each in its own way\n");
    printf("told        all of that by the pods, which are empty\n");
    return 0;
}

int main(void)
{
    struct watched_pod pods[PODS];
    struct source sources[PODS][CONTAINERS + 1];
    pericarp_node_t *node = NULL;
    int loop, result, i, j;

    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(pods, 0, sizeof pods);
    memset(sources, 0, sizeof sources);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0) {
        perror("epoll_create1");
        return EXIT_FAILURE;
    }
    if (open_node("c-embed", &node) < 0)
        return EXIT_FAILURE;
    result = run(node, loop, pods, sources);
    for (i = 0; i < PODS; i++) {
        pericarp_events_unref(pods[i].events);
        for (j = 0; j < CONTAINERS; j++)
            pericarp_container_unref(pods[i].works[j].container);
    }
    close(loop);
    if (remove_node(node) < 0 || result < 0)
        return EXIT_FAILURE;
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
