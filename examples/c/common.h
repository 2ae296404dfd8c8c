/* What the examples have in common: a node of their own, errors in words, and leaving no trace. */

#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pericarp.h>

/* A root filesystem for all: this machine's own files, whose changes are thrown away. */
#define ROOTFS "\"rootfs\": {\"overlay\": {\"lower\": [\"/\"]}}"

/* Says what failed and why, and gives the error back. To be returned: -1. */
static inline int failed(const char *what, pericarp_error_t **err)
{
    const char *message = pericarp_error_message(*err);

    fprintf(stderr, "%s: %s\n", what, message != NULL ? message : "failed");
    pericarp_error_unref(*err);
    *err = NULL;
    return -1;
}

/* Opens a node that no other program uses, so that it can be removed as a whole. */
static inline int open_node(const char *name, pericarp_node_t **node)
{
    char state_dir[128], cgroup[96];
    pericarp_node_options_t options;
    pericarp_error_t *err = NULL;

    snprintf(cgroup, sizeof cgroup, "pericarp-%s-%ld", name, (long)getpid());
    snprintf(state_dir, sizeof state_dir, "/run/%s", cgroup);
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.state_dir = state_dir;
    options.cgroup_name = cgroup;
    if (pericarp_node_open(&options, node, &err) < 0)
        return failed("open the node", &err);
    return 0;
}

/* Removes all pods, which ends their containers, and the node, and gives the node back. */
static inline int remove_node(pericarp_node_t *node)
{
    pericarp_pod_t **pods = NULL;
    pericarp_error_t *err = NULL;
    size_t count = 0, i;
    int result = 0;

    if (pericarp_node_pods(node, &pods, &count, &err) < 0)
        result = failed("list the pods", &err);
    for (i = 0; i < count; i++)
        if (pericarp_pod_remove(pods[i], &err) < 0)
            result = failed("remove a pod", &err);
    pericarp_pod_list_free(pods);
    if (pericarp_node_remove(node, &err) < 0)
        result = failed("remove the node", &err);
    pericarp_node_unref(node);
    return result;
}

/* Whether a container ended with exit code 0; says how it ended otherwise. */
static inline int succeeded(const char *name, const pericarp_exit_status_t *status)
{
    if (status->how == PERICARP_EXIT_CODE && status->code == 0)
        return 1;
    if (status->how == PERICARP_EXIT_CODE)
        fprintf(stderr, "%s exited with %d\n", name, status->code);
    else
        fprintf(stderr, "%s was killed by signal %d\n", name, status->signal);
    return 0;
}

#endif
