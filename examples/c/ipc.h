/* What the two sides of the IPC example share: one page of memory, and whose turn it is. */

#ifndef EXAMPLES_IPC_H
#define EXAMPLES_IPC_H

#include <limits.h>
#include <stdint.h>
#include <time.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TABLE_NAME "table"
#define TABLE_SIZE 4096
#define ROUNDS 1000

enum turn { TURN_NOBODY, TURN_CONTAINER, TURN_HOST };

struct table {
    uint32_t turn; /* A futex(2). It must not be a private one: the two sides are two programs. */
    uint32_t number;
    char text[64];
};

static void give_turn(struct table *table, enum turn turn)
{
    __atomic_store_n(&table->turn, (uint32_t)turn, __ATOMIC_RELEASE);
    syscall(SYS_futex, &table->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Waits for a turn. 0, or -1 when it did not come in so many seconds. */
static int await_turn(struct table *table, enum turn turn, int seconds)
{
    int tries;

    for (tries = 0; tries < seconds * 10;) {
        uint32_t now = __atomic_load_n(&table->turn, __ATOMIC_ACQUIRE);
        struct timespec tenth = {0, 100000000};

        if (now == (uint32_t)turn)
            return 0;
        if (syscall(SYS_futex, &table->turn, FUTEX_WAIT, now, &tenth, NULL, 0) < 0)
            tries++;
    }
    return -1;
}

#endif
