/*
 * Calls that make no container, for valgrind: errors, strings, a fanout, a terminal, requests of Kubernetes, and each
 * function of the header with nothing but NULL, by nulls.inc, which is made from it.
 */

#define _GNU_SOURCE

#include <pericarp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(holds)                                                                                         \
    do {                                                                                                     \
        if (!(holds)) {                                                                                      \
            fprintf(stderr, "line %d: this does not hold: %s\n", __LINE__, #holds);                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* One stream for two readers, one of whom comes when it is over. */
static void fan_out(void)
{
    pericarp_fanout_t *fanout = NULL, *same;
    int pipes[2], reader, late, waited, goes_on = 0;
    char said[8];

    CHECK(pipe(pipes) == 0);
    CHECK(pericarp_fanout_create(pipes[0], 4096, 1, &fanout, NULL) == 0);
    CHECK(pericarp_fanout_create(pipes[0], 4096, 7, &fanout, NULL) == -EINVAL);
    close(pipes[0]);
    same = pericarp_fanout_ref(fanout);
    CHECK(pericarp_fanout_open_reader_from_now(fanout, &reader, NULL) == 0);
    CHECK(pericarp_fanout_borrow_fd(fanout, &waited, NULL) == 0 && pericarp_fanout_readers(same) == 1);
    CHECK(write(pipes[1], "said", 4) == 4);
    CHECK(pericarp_fanout_pump(fanout, &goes_on, NULL) == 0 && goes_on == 1);
    close(pipes[1]);
    CHECK(pericarp_fanout_run(same, NULL) == 0);
    CHECK(pericarp_fanout_open_reader(fanout, &late, NULL) == 0);
    CHECK(read(reader, said, sizeof said) == 4 && read(late, said, sizeof said) == 4);
    close(reader);
    close(late);
    pericarp_fanout_unref(same);
    pericarp_fanout_unref(fanout);
}

static void use_a_terminal(void)
{
    pericarp_error_t *err = NULL;
    uint16_t width = 0, height = 0;
    char *name = NULL;
    int master = posix_openpt(O_RDWR | O_NOCTTY);

    CHECK(master >= 0);
    CHECK(pericarp_terminal_resize(master, 132, 43, NULL) == 0);
    CHECK(pericarp_terminal_size(master, &width, &height, NULL) == 0 && width == 132 && height == 43);
    CHECK(pericarp_terminal_name(master, &name, NULL) == 0);
    pericarp_string_free(name);
    CHECK(pericarp_terminal_send_to(master, "/no/such/socket", &err) < 0);
    pericarp_error_unref(err);
    close(master);
    CHECK(pericarp_terminal_size(master, &width, &height, NULL) == -EBADF);
}

static void explain(void)
{
    static const char REQUESTS[] = "{\"containers\": [{\"name\": \"a\", \"resources\": {\"requests\":"
                                   " {\"cpu\": \"250m\", \"memory\": \"64Mi\"}}}]}";
    static const char MACHINE[] = "{\"cpuMillis\": 2000, \"memory\": 1073741824, \"swap\": null, \"hugePages\": {},"
                                  " \"pids\": 1000, \"pageSize\": 4096}";
    pericarp_error_t *err = NULL;
    char *text = NULL;

    if (pericarp_kubernetes_explain(REQUESTS, MACHINE, &text, &err) != 0) {
        fprintf(stderr, "%s\n", pericarp_error_message(err));
        exit(1);
    }
    CHECK(strstr(text, "\"Burstable\"") != NULL);
    pericarp_string_free(text);
    CHECK(pericarp_kubernetes_explain("{\"containers\": 1}", MACHINE, &text, &err) == -EINVAL);
    pericarp_error_unref(err);
}

/* NULL_LOOKS(call) is one that cannot fail, NULL_FAILS(call) one that can and does, NULL_DOES(call) one that does not. */
static void nothing_but_null(void)
{
#define NULL_LOOKS(call) (void)call;
#define NULL_FAILS(call)                                                                                     \
    do {                                                                                                     \
        pericarp_error_t *err = NULL;                                                                        \
        CHECK((call) == -EINVAL && pericarp_error_message(err) != NULL);                                     \
        pericarp_error_unref(err);                                                                           \
    } while (0);
#define NULL_DOES(call)                                                                                      \
    do {                                                                                                     \
        pericarp_error_t *err = NULL;                                                                        \
        CHECK((call) == 0 && err == NULL);                                                                   \
    } while (0);
#include "nulls.inc"
}

int main(void)
{
    pericarp_node_options_t options;
    pericarp_node_t *node = NULL;
    pericarp_pod_t *pod = NULL;
    pericarp_error_t *err = NULL;
    char *text = NULL;
    int round;

    CHECK(strcmp(pericarp_version(), PERICARP_VERSION) == 0);
    CHECK(pericarp_version_number() == PERICARP_VERSION_NUMBER);
    CHECK(pericarp_has_feature("ipc-shm") == 1);
    CHECK(pericarp_has_feature("no such thing") == 0);
    for (round = 0; round < 100; round++) {
        memset(&options, 0, sizeof options);
        CHECK(pericarp_node_open(&options, &node, &err) == -EINVAL);
        CHECK(strstr(pericarp_error_message(err), "size 0") != NULL);
        pericarp_error_unref(err);
        options.size = sizeof options;
        options.flags = 1u << 31;
        CHECK(pericarp_node_open(&options, &node, &err) == -EINVAL);
        CHECK(strstr(pericarp_error_message(err), "unknown flags 0x80000000") != NULL);
        pericarp_error_unref(err);
        options.flags = 0;
        options.state_dir = "/proc/no/such/place";
        /* With a place for the error and without. */
        CHECK(pericarp_node_open(&options, &node, &err) < 0);
        pericarp_error_unref(err);
        CHECK(pericarp_node_open(&options, &node, NULL) < 0);
        CHECK(pericarp_node_create_pod_json(node, "{}", &pod, &err) == -EINVAL);
        CHECK(strcmp(pericarp_error_subject(err), "node") == 0);
        CHECK(pericarp_error_code(err) == PERICARP_ERROR_INVALID_ARGUMENT);
        pericarp_error_unref(err);
        err = NULL;
    }
    CHECK(node == NULL && pod == NULL && text == NULL);
    nothing_but_null();
    fan_out();
    use_a_terminal();
    explain();
    return 0;
}
