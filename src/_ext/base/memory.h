/* Private: blocks of memory that are freed together. Who owns some has a field `void *memory`, NULL at first.
 */

#ifndef LMM_MEMORY_H
#define LMM_MEMORY_H

#include <stddef.h>

#include "lmm.h"

void *grab(void **memory, size_t count, size_t size); /* zeroed; NULL: there is none               */
void release(void **memory, void *since);             /* what was grabbed since *memory was that; NULL: all */

#define GRAB(owner, field, count) \
    if (!((field) = grab(&(owner)->memory, (size_t)(count), sizeof(*(field))))) return LMM_NOMEM

#define TRY(call)                              \
    do {                                       \
        lmm_status status_ = (call);           \
        if (status_ != LMM_OK) return status_; \
    } while (0)

#endif
