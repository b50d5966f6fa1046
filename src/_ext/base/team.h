/* Private: a fixed number of threads that share the parts of a loop. Which thread runs which part is not
   fixed, so a part must write only what is its own: then no result depends on the number of threads. */

#ifndef LMM_TEAM_H
#define LMM_TEAM_H

#include <stdint.h>

typedef struct team team;

team *team_new(int threads);  /* NULL: no memory or no threads to be had. 1: none is started      */
void team_free(team *t);      /* NULL is fine                                                     */
int team_size(const team *t); /* NULL: 1                                                         */

/* body(arg, i, worker) for i = 0 .. count-1, worker 0 .. size-1; the caller is worker 0 and works too.
   Returns when all are done. t may be NULL: a plain loop. */
void team_run(team *t, int64_t count, void (*body)(void *arg, int64_t i, int worker), void *arg);

#endif
