/*
 * The side of the IPC example that runs in the container. It knows nothing of pericarp: to it, the memory is a POSIX
 * shared memory object like any other.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "ipc.h"

int main(void)
{
    struct table *table;
    void *memory;
    int fd, round, i;

    fd = shm_open("/" TABLE_NAME, O_RDWR, 0);
    if (fd < 0) {
        perror("shm_open");
        return 1;
    }
    memory = mmap(NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    table = (struct table *)memory;
    for (round = 0; round < ROUNDS; round++) {
        if (await_turn(table, TURN_CONTAINER, 60) < 0)
            return 2;
        table->number++;
        for (i = 0; table->text[i] != '\0'; i++)
            table->text[i] = (char)toupper((unsigned char)table->text[i]);
        give_turn(table, TURN_HOST);
    }
    return 0;
}
