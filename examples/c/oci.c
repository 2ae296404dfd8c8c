/*
 * A pod and a container of an OCI configuration, and another program in it as a `process` of one. With the path of a
 * bundle as its argument, that one's container runs; otherwise one of the example's own, which needs busybox without
 * shared libraries. Needs root.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <sys/stat.h>

#include "common.h"

/* The root filesystem is an empty directory, which busybox is mounted into. */
static const char CONFIG[] =
    "{\"ociVersion\": \"1.2.0\", \"hostname\": \"from-oci\", \"root\": {\"path\": \"rootfs\"},"
    " \"process\": {\"user\": {\"uid\": 1000, \"gid\": 1000}, \"cwd\": \"/\", \"args\": [\"/busybox\", \"cat\"],"
    "  \"capabilities\": {\"bounding\": [\"CAP_CHOWN\", \"CAP_OF_TOMORROW\"]}},"
    " \"mounts\": [{\"destination\": \"/busybox\", \"source\": \"%s\", \"options\": [\"bind\", \"ro\"]},"
    "  {\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\"}],"
    " \"linux\": {\"namespaces\": [{\"type\": \"mount\"}, {\"type\": \"pid\"}, {\"type\": \"uts\"}, {\"type\": \"ipc\"},"
    "  {\"type\": \"network\"}]}}";

static const char PROCESS[] =
    "{\"user\": {\"uid\": 0, \"gid\": 0}, \"cwd\": \"/\", \"args\": [\"/busybox\", \"uname\", \"-n\"]}";

/* Where busybox is. */
static const char *busybox(void)
{
    return access("/bin/busybox", X_OK) == 0 ? "/bin/busybox" : "/usr/bin/busybox";
}

/* Runs another program in the container, whose output is a pipe of this program's. */
static int execute(pericarp_container_t *container)
{
    pericarp_process_t *process = NULL;
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    pericarp_stdio_t stdio;
    char said[64];
    ssize_t length;
    int ends[2], result;

    if (pipe(ends) != 0)
        return -1;
    memset(&stdio, 0, sizeof stdio);
    stdio.size = sizeof stdio;
    stdio.stdin_fd = stdio.stderr_fd = -1;
    stdio.stdout_fd = ends[1];
    result = pericarp_container_exec_oci(container, PROCESS, &stdio, &process, &err);
    close(ends[1]);
    if (result < 0) {
        close(ends[0]);
        return failed("execute", &err);
    }
    length = read(ends[0], said, sizeof said - 1);
    close(ends[0]);
    said[length > 0 ? length : 0] = '\0';
    printf("process     says: %s", said);
    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    result = pericarp_process_wait(process, &status, &err);
    pericarp_process_unref(process);
    if (result < 0)
        return failed("wait", &err);
    return succeeded("process", &status) ? 0 : -1;
}

/* Makes the pod and its container, and waits until that has ended. */
static int tour(pericarp_node_t *node, pericarp_bundle_t *bundle, int own)
{
    pericarp_pod_t *pod = NULL;
    pericarp_container_t *container = NULL;
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    char *warnings = NULL;
    int result = -1;

    if (pericarp_bundle_warnings(bundle, &warnings, &err) < 0)
        return failed("read the warnings", &err);
    printf("bundle      %s, warnings: %s\n", pericarp_bundle_path(bundle), warnings);
    pericarp_string_free(warnings);
    if (pericarp_node_create_pod_oci(node, bundle, "web", &pod, &err) < 0)
        return failed("make the pod", &err);
    if (pericarp_pod_create_container_oci(pod, bundle, "main", NULL, &container, &err) < 0) {
        failed("make the container", &err);
        goto out;
    }
    /* Before the container's own program runs: that ends at once. */
    if (own && execute(container) < 0)
        goto out;
    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_container_start(container, &err) < 0)
        failed("start", &err);
    else if (pericarp_container_wait(container, &status, &err) < 0)
        failed("wait", &err);
    else if (succeeded("container", &status))
        result = 0;
out:
    pericarp_container_unref(container);
    pericarp_pod_unref(pod);
    return result;
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/pericarp-oci-XXXXXX", rootfs[64], config[2048];
    pericarp_bundle_t *bundle = NULL;
    pericarp_node_t *node = NULL;
    pericarp_error_t *err = NULL;
    int own = argc < 2, result = -1;

    rootfs[0] = '\0';
    if (own) {
        if (mkdtemp(directory) == NULL)
            return EXIT_FAILURE;
        snprintf(rootfs, sizeof rootfs, "%s/rootfs", directory);
        snprintf(config, sizeof config, CONFIG, busybox());
        if (mkdir(rootfs, 0755) != 0 || pericarp_bundle_parse(config, directory, &bundle, &err) < 0)
            failed("take the configuration", &err);
    } else if (pericarp_bundle_open(argv[1], &bundle, &err) < 0) {
        failed("open the bundle", &err);
    }
    if (bundle != NULL && open_node("oci", &node) == 0) {
        result = tour(node, bundle, own);
        if (remove_node(node) < 0)
            result = -1;
    }
    pericarp_bundle_unref(bundle);
    if (own) {
        char file[80];

        /* What the mounts are on was made in the root filesystem. */
        snprintf(file, sizeof file, "%s/busybox", rootfs);
        unlink(file);
        snprintf(file, sizeof file, "%s/proc", rootfs);
        rmdir(file);
        if (rmdir(rootfs) != 0 || rmdir(directory) != 0)
            result = -1;
    }
    if (result < 0)
        return EXIT_FAILURE;
    printf("removed     all of it\n");
    return EXIT_SUCCESS;
}
