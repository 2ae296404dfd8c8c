/*
 * Other programs in a container: one whose output comes by pipe, and a shell on a terminal of its own, to which this
 * program types. Needs root, and busybox.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>

#include "common.h"

static const char SERVER[] =
    "{\"name\": \"server\", " ROOTFS ", \"env\": {\"GREETING\": \"hello\"}, \"args\": [\"sleep\", \"1000\"]}";

static const char GREET[] =
    "{\"args\": [\"sh\", \"-c\", \"echo $GREETING from user $(id -u)\"], \"user\": {\"uid\": 1000, \"gid\": 1000},"
    " \"stdio\": {\"stdout\": \"pipe\"}}";

static const char SHELL[] =
    "{\"args\": [\"sh\"], \"env\": {\"PS1\": \"\"}, \"terminal\": true, \"consoleSize\": {\"width\": 80, \"height\": 24}}";

/* Waits for a program, which has to end with 0, and gives it back. */
static int finish(const char *name, pericarp_process_t *process)
{
    pericarp_exit_status_t status;
    pericarp_error_t *err = NULL;
    int result = -1;

    memset(&status, 0, sizeof status);
    status.size = sizeof status;
    if (pericarp_process_wait_timeout(process, 60000, &status, &err) < 0)
        failed("wait", &err);
    else if (status.how != PERICARP_EXIT_NONE && succeeded(name, &status))
        result = 0;
    pericarp_process_unref(process);
    return result;
}

static int greet(pericarp_container_t *container)
{
    pericarp_process_t *process = NULL;
    pericarp_error_t *err = NULL;
    char said[64];
    ssize_t length = 0;
    int pipe = -1;

    if (pericarp_container_exec(container, GREET, NULL, &process, &err) < 0)
        return failed("execute", &err);
    if (pericarp_process_take_stdout(process, &pipe, &err) < 0)
        failed("take the output", &err);
    else
        length = read(pipe, said, sizeof said - 1);
    if (pipe >= 0)
        close(pipe);
    said[length > 0 ? length : 0] = '\0';
    printf("program     says: %s", said);
    if (finish("program", process) < 0)
        return -1;
    return strcmp(said, "hello from user 1000\n") == 0 ? 0 : -1;
}

/* Types on the shell's terminal, and reads what it displays until the shell has ended. */
static int converse(pericarp_container_t *container)
{
    static const char TYPED[] = "stty size\nexit\n";
    pericarp_process_t *process = NULL;
    pericarp_error_t *err = NULL;
    char shown[4096], *name = NULL;
    size_t length = 0;
    ssize_t more;
    int terminal = -1;

    if (pericarp_container_exec(container, SHELL, NULL, &process, &err) < 0)
        return failed("execute the shell", &err);
    if (pericarp_process_take_terminal(process, &terminal, &err) < 0 ||
        pericarp_terminal_name(terminal, &name, &err) < 0 ||
        pericarp_terminal_resize(terminal, 132, 43, &err) < 0) {
        failed("use the terminal", &err);
        goto out;
    }
    printf("terminal    %s\n", name);
    if (write(terminal, TYPED, sizeof TYPED - 1) != (ssize_t)(sizeof TYPED - 1)) {
        perror("type");
        goto out;
    }
    /* EIO is the end: nobody has the other side open any more. */
    while (length < sizeof shown - 1 && (more = read(terminal, shown + length, sizeof shown - 1 - length)) > 0)
        length += (size_t)more;
out:
    shown[length] = '\0';
    pericarp_string_free(name);
    if (terminal >= 0)
        close(terminal);
    if (finish("shell", process) < 0)
        return -1;
    if (strstr(shown, "43 132") == NULL) {
        fprintf(stderr, "the shell does not know the size of its terminal: %s\n", shown);
        return -1;
    }
    printf("shell       sees 43 rows of 132 characters\n");
    return 0;
}

static int tour(pericarp_node_t *node)
{
    pericarp_pod_t *pod = NULL;
    pericarp_container_t *container = NULL;
    pericarp_pod_options_t options;
    pericarp_error_t *err = NULL;
    int result = -1;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.name = "office";
    if (pericarp_node_create_pod(node, &options, &pod, &err) < 0)
        return failed("create the pod", &err);
    if (pericarp_pod_create_container(pod, SERVER, NULL, &container, &err) < 0 ||
        pericarp_container_start(container, &err) < 0)
        failed("start the container", &err);
    else if (greet(container) == 0 && converse(container) == 0)
        result = 0;
    pericarp_container_unref(container);
    pericarp_pod_unref(pod);
    return result;
}

int main(void)
{
    pericarp_node_t *node = NULL;
    int result;

    if (open_node("exec", &node) < 0)
        return EXIT_FAILURE;
    result = tour(node);
    if (remove_node(node) < 0)
        return EXIT_FAILURE;
    if (result == 0)
        printf("removed     all of it\n");
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
