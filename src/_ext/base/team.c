/* A team of threads: they wait for a run, take its parts one by one, and wait again. */

#include "base/team.h"

#include "base/threads.h"

#include <stdlib.h>

typedef void part_body(void *arg, int64_t i, int worker);

static void plain_loop(int64_t count, part_body *body, void *arg)
{
    for (int64_t i = 0; i < count; i++) body(arg, i, 0);
}

#ifdef THREADS_NONE

struct team {
    int size;
};

team *team_new(int threads)
{
    team *t = malloc(sizeof *t);
    (void)threads;
    if (t) t->size = 1;
    return t;
}

void team_free(team *t)
{
    free(t);
}

int team_size(const team *t)
{
    return t ? t->size : 1;
}

void team_run(team *t, int64_t count, part_body *body, void *arg)
{
    (void)t;
    plain_loop(count, body, arg);
}

#else

#include <stdatomic.h>
#include <stdbool.h>

enum { SPIN = 1000 }; /* looks at the next run or the last worker before a thread lies down: 20-50 us */

typedef struct { /* a thread other than the caller */
    team *t;
    thread self;
    int number;
} member;

/* A run does not wait for threads that have not woken up: who comes when it is over lies down again.
   So a busy machine delays a run by no more than the parts that were begun. */
struct team {
    int size;
    long process; /* a forked child has the team but not its threads */
    int started;
    member *others;
    mutex lock; /* of everything below; the atomic ones may be looked at without it */
    condition begin, end;
    bool open, quit;
    atomic_uint run;   /* number of the run                  */
    atomic_int inside; /* members that work at its parts     */
    int64_t count;
    atomic_int_least64_t next; /* first part that nobody has taken */
    part_body *body;
    void *arg;
};

static void relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static void do_parts(team *t, int worker)
{
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        if (i >= t->count) return;
        t->body(t->arg, i, worker);
    }
}

/* Returns with the lock: a run that is new to the member, or the end of the team. */
static void await_run(team *t, unsigned seen)
{
    for (int k = 0; k < SPIN && atomic_load_explicit(&t->run, memory_order_relaxed) == seen; k++) relax();
    mutex_lock(&t->lock);
    while (!t->quit && !(t->open && t->run != seen)) condition_wait(&t->begin, &t->lock);
}

static void work(void *arg)
{
    member *me = arg;
    team *t = me->t;
    unsigned seen = 0;
    for (;;) {
        await_run(t, seen);
        if (t->quit) break;
        seen = t->run;
        t->inside++;
        mutex_unlock(&t->lock);
        do_parts(t, me->number);
        mutex_lock(&t->lock);
        if (--t->inside == 0 && !t->open) condition_signal(&t->end);
        mutex_unlock(&t->lock);
    }
    mutex_unlock(&t->lock);
}

static void open_run(team *t, int64_t count, part_body *body, void *arg)
{
    mutex_lock(&t->lock);
    t->body = body;
    t->arg = arg;
    t->count = count;
    t->next = 0;
    t->open = true;
    t->run++;
    mutex_unlock(&t->lock);
    if (count >= t->size)
        condition_broadcast(&t->begin);
    else
        for (int64_t k = 1; k < count; k++) condition_signal(&t->begin);
}

static void close_run(team *t)
{
    mutex_lock(&t->lock);
    t->open = false;
    mutex_unlock(&t->lock);
    for (int k = 0; k < SPIN && atomic_load_explicit(&t->inside, memory_order_relaxed); k++) relax();
    mutex_lock(&t->lock);
    while (t->inside) condition_wait(&t->end, &t->lock);
    mutex_unlock(&t->lock);
}

void team_run(team *t, int64_t count, part_body *body, void *arg)
{
    if (count <= 1 || team_size(t) == 1 || t->process != process_id()) {
        plain_loop(count, body, arg);
        return;
    }
    open_run(t, count, body, arg);
    do_parts(t, 0);
    close_run(t);
}

int team_size(const team *t)
{
    return t ? t->size : 1;
}

static void start(team *t)
{
    while (t->started < t->size - 1) {
        member *m = t->others + t->started;
        m->t = t;
        m->number = t->started + 1;
        if (thread_start(&m->self, work, m)) break;
        t->started++;
    }
}

team *team_new(int threads)
{
    team *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->size = threads > 1 ? threads : 1;
    t->process = process_id();
    t->others = calloc((size_t)t->size, sizeof *t->others);
    mutex_init(&t->lock);
    condition_init(&t->begin);
    condition_init(&t->end);
    if (t->others) start(t);
    if (t->started == t->size - 1 && t->others) return t;
    team_free(t);
    return NULL;
}

static void stop(team *t)
{
    mutex_lock(&t->lock);
    t->quit = true;
    t->run++; /* ends the spinning */
    mutex_unlock(&t->lock);
    condition_broadcast(&t->begin);
    for (int k = 0; k < t->started; k++) thread_join(&t->others[k].self);
    condition_free(&t->end);
    condition_free(&t->begin);
    mutex_free(&t->lock);
}

void team_free(team *t)
{
    if (!t) return;
    if (t->process == process_id()) stop(t); /* else there is nobody to wait for */
    free(t->others);
    free(t);
}

#endif
