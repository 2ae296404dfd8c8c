/* 64 threads use one node at the same time. */

#define _GNU_SOURCE

#include "host.h"

#include <pthread.h>

#define THREADS 64
#define ROUNDS 3

static pericarp_node_t *node;

static int is_among(const char *id, pericarp_pod_t **pods)
{
    for (; *pods != NULL; pods++)
        if (strcmp(pericarp_pod_id(*pods), id) == 0)
            return 1;
    return 0;
}

static void *hammer(void *argument)
{
    int number = (int)(size_t)argument, round;

    for (round = 0; round < ROUNDS; round++) {
        pericarp_exit_status_t status = no_status();
        pericarp_container_t *container = NULL, *again = NULL;
        pericarp_pod_t **pods = NULL, *pod, *other = NULL;
        pericarp_node_t *same;
        size_t count = 0;
        char name[32], json[256], *text = NULL;

        snprintf(name, sizeof name, "pod-%d-%d", number, round);
        pod = make_pod(node, name, number % 2 == 0 ? PERICARP_POD_EPHEMERAL : 0);
        same = pericarp_pod_node(pod);
        OK(pericarp_node_open_pod(same, name, &other, &err));
        CHECK(strcmp(pericarp_pod_id(pod), pericarp_pod_id(other)) == 0);
        snprintf(json, sizeof json, "{\"name\": \"c\", " ROOTFS ", \"args\": [\"sh\", \"-c\", \"exit %d\"]}", number);
        OK(pericarp_pod_create_container(other, json, NULL, &container, &err));
        /* Other threads make and remove their pods meanwhile: the list is of those that are whole, with the own one. */
        OK(pericarp_node_pods(node, &pods, &count, &err));
        CHECK(pods[count] == NULL && is_among(pericarp_pod_id(pod), pods));
        pericarp_pod_list_free(pods);
        OK(pericarp_container_start(container, &err));
        OK(pericarp_pod_open_container(pod, "c", &again, &err));
        OK(pericarp_container_wait(container, &status, &err));
        CHECK(status.how == PERICARP_EXIT_CODE && status.code == number);
        OK(pericarp_container_wait(again, &status, &err));
        CHECK(status.how == PERICARP_EXIT_CODE && status.code == number);
        OK(pericarp_pod_status(pod, &text, &err));
        pericarp_string_free(text);
        pericarp_container_unref(again);
        OK(pericarp_container_remove(container, &err));
        OK(pericarp_pod_remove(pod, &err));
        pericarp_container_unref(container);
        pericarp_pod_unref(other);
        pericarp_pod_unref(pod);
        pericarp_node_unref(same);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pericarp_pod_t **pods = NULL;
    size_t count = 1, i;

    node = open_own_node("threads");
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    OK(pericarp_node_pods(node, &pods, &count, &err));
    CHECK(count == 0);
    pericarp_pod_list_free(pods);
    OK(pericarp_node_remove(node, &err));
    pericarp_node_unref(node);
    printf("%d threads, %d pods\n", THREADS, THREADS * ROUNDS);
    return 0;
}
