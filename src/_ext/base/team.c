/* A team of threads: they wait for a run, take its parts one by one, and wait again. */

#include "base/team.h"

#include <stdlib.h>

typedef void part_body(void *arg, int64_t i, int worker);

static void plain_loop(int64_t count, part_body *body, void *arg)
{
    for (int64_t i = 0; i < count; i++) body(arg, i, 0);
}

#ifdef _WIN32 /* no threads there */

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

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

enum {
    SPIN = 1000,    /* looks at the next run or the last worker before a thread lies down: 20-50 us */
    STACK = 4 << 20 /* bytes: the defaults of macOS and musl are small for LAPACK                     */
};

typedef struct { /* a thread other than the caller */
    team *t;
    pthread_t thread;
    int number;
} member;

/* A run does not wait for threads that have not woken up: who comes when it is over lies down again.
   So a busy machine delays a run by no more than the parts that were begun. */
struct team {
    int size;
    pid_t process; /* a forked child has the team but not its threads */
    int started;
    member *others;
    pthread_mutex_t lock; /* of everything below; the atomic ones may be looked at without it */
    pthread_cond_t begin, end;
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
    pthread_mutex_lock(&t->lock);
    while (!t->quit && !(t->open && t->run != seen)) pthread_cond_wait(&t->begin, &t->lock);
}

static void *work(void *arg)
{
    member *me = arg;
    team *t = me->t;
    unsigned seen = 0;
    for (;;) {
        await_run(t, seen);
        if (t->quit) break;
        seen = t->run;
        t->inside++;
        pthread_mutex_unlock(&t->lock);
        do_parts(t, me->number);
        pthread_mutex_lock(&t->lock);
        if (--t->inside == 0 && !t->open) pthread_cond_signal(&t->end);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void open_run(team *t, int64_t count, part_body *body, void *arg)
{
    pthread_mutex_lock(&t->lock);
    t->body = body;
    t->arg = arg;
    t->count = count;
    t->next = 0;
    t->open = true;
    t->run++;
    pthread_mutex_unlock(&t->lock);
    if (count >= t->size)
        pthread_cond_broadcast(&t->begin);
    else
        for (int64_t k = 1; k < count; k++) pthread_cond_signal(&t->begin);
}

static void close_run(team *t)
{
    pthread_mutex_lock(&t->lock);
    t->open = false;
    pthread_mutex_unlock(&t->lock);
    for (int k = 0; k < SPIN && atomic_load_explicit(&t->inside, memory_order_relaxed); k++) relax();
    pthread_mutex_lock(&t->lock);
    while (t->inside) pthread_cond_wait(&t->end, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void team_run(team *t, int64_t count, part_body *body, void *arg)
{
    if (count <= 1 || team_size(t) == 1 || t->process != getpid()) {
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

/* Signals are for the program's own threads, but for those that a thread raises by what it does. */
static void block_signals(sigset_t *before)
{
    static const int raised[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t k = 0; k < sizeof raised / sizeof *raised; k++) sigdelset(&blocked, raised[k]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static void start(team *t)
{
    sigset_t before;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setstacksize(&attributes, STACK);
    block_signals(&before);
    while (t->started < t->size - 1) {
        member *m = t->others + t->started;
        m->t = t;
        m->number = t->started + 1;
        if (pthread_create(&m->thread, &attributes, work, m)) break;
        t->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

team *team_new(int threads)
{
    team *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->size = threads > 1 ? threads : 1;
    t->process = getpid();
    t->others = calloc((size_t)t->size, sizeof *t->others);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);
    if (t->others) start(t);
    if (t->started == t->size - 1 && t->others) return t;
    team_free(t);
    return NULL;
}

static void stop(team *t)
{
    pthread_mutex_lock(&t->lock);
    t->quit = true;
    t->run++; /* ends the spinning */
    pthread_mutex_unlock(&t->lock);
    pthread_cond_broadcast(&t->begin);
    for (int k = 0; k < t->started; k++) pthread_join(t->others[k].thread, NULL);
    pthread_cond_destroy(&t->end);
    pthread_cond_destroy(&t->begin);
    pthread_mutex_destroy(&t->lock);
}

void team_free(team *t)
{
    if (!t) return;
    if (t->process == getpid()) stop(t); /* else there is nobody to wait for */
    free(t->others);
    free(t);
}

#endif
