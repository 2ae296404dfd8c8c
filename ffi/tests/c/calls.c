/* Calls that need no kernel, for valgrind: errors, strings, NULL. */

#include <pericarp.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CHECK(holds)                                                                                         \
    do {                                                                                                     \
        if (!(holds)) {                                                                                      \
            fprintf(stderr, "line %d: this does not hold: %s\n", __LINE__, #holds);                          \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

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
    pericarp_node_unref(NULL);
    pericarp_pod_unref(NULL);
    pericarp_container_unref(NULL);
    pericarp_error_unref(NULL);
    pericarp_string_free(NULL);
    pericarp_pod_list_free(NULL);
    pericarp_container_list_free(NULL);
    return 0;
}
