/* Blocks of memory in one list, freed together. */

#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>

typedef struct chunk { /* header of every block */
    struct chunk *next;
} chunk;

void *grab(void **memory, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - sizeof(chunk)) / size) return NULL;
    chunk *c = calloc(1, sizeof(chunk) + count * size);
    if (!c) return NULL;
    c->next = *memory;
    *memory = c;
    return c + 1;
}

void release(void **memory, void *since)
{
    for (chunk *c = *memory, *next; c != since; c = next) {
        next = c->next;
        free(c);
    }
    *memory = since;
}
