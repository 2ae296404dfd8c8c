/* What the host programs have in common: a node of their own, and checks that end the program. */

#ifndef HOST_H
#define HOST_H

#include <pericarp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOTFS "\"rootfs\": {\"overlay\": {\"lower\": [\"/\"]}}"

/* Ends the program if a call of the library failed. */
#define OK(call)                                                                                             \
    do {                                                                                                     \
        pericarp_error_t *err = NULL;                                                                        \
        if ((call) < 0) {                                                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, pericarp_error_message(err));                         \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK(holds)                                                                                         \
    do {                                                                                                     \
        if (!(holds)) {                                                                                      \
            fprintf(stderr, "line %d: this does not hold: %s\n", __LINE__, #holds);                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static inline pericarp_node_t *open_own_node(const char *name)
{
    char state_dir[128], cgroup[96];
    pericarp_node_options_t options;
    pericarp_node_t *node = NULL;

    snprintf(cgroup, sizeof cgroup, "pericarp-%s-%ld", name, (long)getpid());
    snprintf(state_dir, sizeof state_dir, "/run/%s", cgroup);
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.state_dir = state_dir;
    options.cgroup_name = cgroup;
    OK(pericarp_node_open(&options, &node, &err));
    return node;
}

static inline pericarp_pod_t *make_pod(pericarp_node_t *node, const char *name, uint64_t flags)
{
    pericarp_pod_options_t options;
    pericarp_pod_t *pod = NULL;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.name = name;
    options.flags = flags;
    OK(pericarp_node_create_pod(node, &options, &pod, &err));
    return pod;
}

static inline pericarp_exit_status_t no_status(void)
{
    pericarp_exit_status_t status;

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    return status;
}

#endif
