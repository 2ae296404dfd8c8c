/*
 * A host that takes every child's status (argument "handler"), or that ignores SIGCHLD ("ignore"). It learns how its
 * containers ended where the kernel keeps that (6.15 and later), and otherwise that it cannot be known. It never hangs.
 */

#define _GNU_SOURCE

#include "host.h"

#include <errno.h>
#include <signal.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define ROUNDS 20

static volatile sig_atomic_t taken;

static void take_all(int number)
{
    int saved = errno;

    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        taken = taken + 1;
    errno = saved;
}

static int kernel_keeps_statuses(void)
{
    struct utsname name;
    int major = 0, minor = 0;

    CHECK(uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2);
    return major > 6 || (major == 6 && minor >= 15);
}

/* A container that exits with 7: told, or told to be lost. 1 if it was told. */
static int round_trip(pericarp_pod_t *pod, int at_once)
{
    const char *json = "{\"name\": \"c\", " ROOTFS ", \"args\": [\"sh\", \"-c\", \"exit 7\"]}";
    pericarp_exit_status_t status = no_status();
    pericarp_container_t *container = NULL;
    pericarp_error_t *err = NULL;
    int result;

    if (at_once) {
        result = pericarp_pod_run(pod, json, NULL, &status, &err);
    } else {
        OK(pericarp_pod_create_container(pod, json, NULL, &container, &err));
        OK(pericarp_container_start(container, &err));
        result = pericarp_container_wait(container, &status, &err);
        OK(pericarp_container_remove(container, &err));
        pericarp_container_unref(container);
    }
    if (result == 0) {
        CHECK(status.how == PERICARP_EXIT_CODE && status.code == 7);
        return 1;
    }
    CHECK(pericarp_error_code(err) == PERICARP_ERROR_STATUS_LOST);
    CHECK(status.how == PERICARP_EXIT_NONE);
    pericarp_error_unref(err);
    return 0;
}

int main(int count, char **arguments)
{
    struct sigaction action;
    pericarp_node_t *node;
    pericarp_pod_t *pod;
    int round, told = 0, ignored;

    CHECK(count == 2);
    ignored = strcmp(arguments[1], "ignore") == 0;
    memset(&action, 0, sizeof action);
    if (ignored)
        action.sa_handler = SIG_IGN;
    else
        action.sa_handler = take_all;
    action.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    node = open_own_node("sigchld");
    pod = make_pod(node, "pod", 0);
    for (round = 0; round < ROUNDS; round++)
        told += round_trip(pod, round % 2);
    printf("%d of %d statuses told, %d children taken\n", told, ROUNDS, (int)taken);
    /* Otherwise the handler would prove nothing. */
    CHECK(ignored || taken > 0);
    if (kernel_keeps_statuses())
        CHECK(told == ROUNDS);
    else
        CHECK(told < ROUNDS && (told == 0 || !ignored));
    OK(pericarp_pod_remove(pod, &err));
    pericarp_pod_unref(pod);
    OK(pericarp_node_remove(node, &err));
    pericarp_node_unref(node);
    return 0;
}
