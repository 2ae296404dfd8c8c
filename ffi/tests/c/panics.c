/*
 * The library of a test build panics where PERICARP_PANIC_IN says so. In each function of the header that becomes an error
 * and poisons the handle, which can still be given back. calls.inc has a line for each function, made from the header.
 */

#define _GNU_SOURCE

#include "host.h"

#include <errno.h>

struct objects {
    pericarp_node_t *node;
    pericarp_pod_t *pod;
    pericarp_container_t *container;
    pericarp_process_t *process;
    pericarp_fanout_t *fanout;
    pericarp_events_t *events;
    pericarp_bundle_t *bundle;
};

static struct objects objects;
static union {
    size_t size;
    char bytes[4096];
} structure_memory, place_memory;
static void *const structure = &structure_memory, *const place = &place_memory;
static int functions;
/* With a handle of its own, which nothing poisons. */
static pericarp_pod_t *pod;

static void make_objects(void)
{
    int pipes[2];

    OK(pericarp_node_open_pod(objects.node, "pod", &objects.pod, &err));
    OK(pericarp_pod_open_container(objects.pod, "c", &objects.container, &err));
    OK(pericarp_container_exec(objects.container, "{\"args\": [\"sleep\", \"1000\"]}", NULL, &objects.process, &err));
    CHECK(pipe(pipes) == 0);
    OK(pericarp_fanout_create(pipes[0], 4096, 0, &objects.fanout, &err));
    close(pipes[0]);
    close(pipes[1]);
    OK(pericarp_pod_events(objects.pod, NULL, &objects.events, &err));
    OK(pericarp_bundle_parse("{\"ociVersion\": \"1.2.0\"}", "/", &objects.bundle, &err));
}

static void give_back(void)
{
    pericarp_bundle_unref(objects.bundle);
    pericarp_events_unref(objects.events);
    pericarp_fanout_unref(objects.fanout);
    pericarp_process_unref(objects.process);
    pericarp_container_unref(objects.container);
    pericarp_pod_unref(objects.pod);
}

static void panic_in(const char *where)
{
    memset(&structure_memory, 0, sizeof structure_memory);
    structure_memory.size = 512;
    functions++;
    CHECK(setenv("PERICARP_PANIC_IN", where, 1) == 0);
}

static void panic_nowhere(void)
{
    CHECK(unsetenv("PERICARP_PANIC_IN") == 0);
}

static void is_error(const char *function, int result, pericarp_error_t *err, const char *says)
{
    const char *message = pericarp_error_message(err);

    if (result != -ENOTRECOVERABLE || pericarp_error_code(err) != PERICARP_ERROR_PANIC || message == NULL ||
        strstr(message, says) == NULL) {
        fprintf(stderr, "%s: %d, %s\n", function, result, message != NULL ? message : "no error");
        exit(1);
    }
    pericarp_error_unref(err);
}

/* A function that takes a handle: the same call is refused afterwards, though nothing panics any more. All are made anew for
 * the next one. */
#define FAILS(function, handle, call)                                                                        \
    do {                                                                                                     \
        pericarp_error_t *err = NULL;                                                                        \
        int result;                                                                                          \
        fresh(#handle);                                                                                      \
        panic_in(#function);                                                                                 \
        result = call;                                                                                       \
        panic_nowhere();                                                                                     \
        is_error(#function, result, err, "on purpose, in " #function);                                       \
        err = NULL;                                                                                          \
        result = call;                                                                                       \
        is_error(#function " with the poisoned handle", result, err, #handle ": is poisoned");                \
        used(#handle);                                                                                       \
    } while (0);

#define BARE(function, call)                                                                                 \
    do {                                                                                                     \
        pericarp_error_t *err = NULL;                                                                        \
        int result;                                                                                          \
        panic_in("begin:" #function);                                                                        \
        result = call;                                                                                       \
        panic_nowhere();                                                                                     \
        is_error(#function, result, err, "on purpose, in begin:" #function);                                 \
    } while (0);

/* A function without errors answers as it does for NULL. */
#define LOOKS(function, handle, call)                                                                        \
    do {                                                                                                     \
        fresh(#handle);                                                                                      \
        panic_in(#function);                                                                                 \
        looks(#function, (long)call);                                                                        \
        panic_nowhere();                                                                                     \
        looks(#function " with the poisoned handle", (long)call);                                            \
        used(#handle);                                                                                       \
    } while (0);

static void looks(const char *function, long answer)
{
    if (answer != 0 && (int)answer != -1) {
        fprintf(stderr, "%s: %ld\n", function, answer);
        exit(1);
    }
}

/* Handles that nothing has poisoned. */
static void fresh(const char *handle)
{
    if (strcmp(handle, "node") != 0)
        make_objects();
}

static void used(const char *handle)
{
    if (strcmp(handle, "node") != 0) {
        give_back();
    } else {
        pericarp_node_unref(objects.node);
        objects.node = pericarp_pod_node(pod);
    }
}

/* Nothing of these has a place for an error. */
static void without_errors(void)
{
    char *text = NULL;
    pericarp_pod_t **pods = NULL;
    pericarp_error_t *err = NULL;
    size_t count = 0;

    panic_in("begin:pericarp_has_feature");
    CHECK(pericarp_has_feature("events") == 0);
    panic_in("ref");
    CHECK(pericarp_node_ref(objects.node) == NULL);
    panic_in("error");
    /* It cannot be told in words then. */
    CHECK(pericarp_node_open_pod(objects.node, "none", &objects.pod, &err) == -ENOTRECOVERABLE && err == NULL);
    panic_nowhere();
    OK(pericarp_node_controllers(objects.node, &text, &err));
    OK(pericarp_node_pods(objects.node, &pods, &count, &err));
    CHECK(count == 1);
    panic_in("free_text");
    pericarp_string_free(text);
    panic_in("free_handles");
    pericarp_pod_list_free(pods);
    make_objects();
    panic_in("unref");
    give_back();
    panic_nowhere();
}

int main(void)
{
    pericarp_container_t *container = NULL;

    objects.node = open_own_node("panics");
    pod = make_pod(objects.node, "pod", 0);
    OK(pericarp_pod_create_container(pod, "{\"name\": \"c\", " ROOTFS ", \"args\": [\"sleep\", \"1000\"]}", NULL,
                                     &container, &err));
    OK(pericarp_container_start(container, &err));
#include "calls.inc"
    without_errors();
    /* All of that has left the pod and its container as they were. */
    OK(pericarp_container_stop(container, 0, NULL, &err));
    pericarp_container_unref(container);
    OK(pericarp_pod_remove(pod, &err));
    pericarp_pod_unref(pod);
    OK(pericarp_node_remove(objects.node, &err));
    pericarp_node_unref(objects.node);
    printf("%d functions\nno panic crossed\n", functions);
    return 0;
}
