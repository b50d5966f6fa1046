/* Private: threads, locks and conditions as team.c needs them, by POSIX or by Windows. */

#ifndef LMM_THREADS_H
#define LMM_THREADS_H

#if defined LMM_SERIAL || (defined __wasm__ && !defined __EMSCRIPTEN_PTHREADS__)
#define THREADS_NONE /* a platform without threads: loops are plain */
#elif defined _WIN32
#define THREADS_WINDOWS
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <pthread.h>
#include <unistd.h>
#endif

#ifndef THREADS_NONE

typedef void thread_body(void *arg);

typedef struct { /* stays where it is until it is joined */
#ifdef THREADS_WINDOWS
    HANDLE id;
#else
    pthread_t id;
#endif
    thread_body *body;
    void *arg;
} thread;

int thread_start(thread *t, thread_body *body, void *arg); /* not 0: none is to be had          */
void thread_join(thread *t);                               /* waits until its body has returned */

#ifdef THREADS_WINDOWS

typedef SRWLOCK mutex;
typedef CONDITION_VARIABLE condition;

static inline void mutex_init(mutex *m)
{
    InitializeSRWLock(m);
}
static inline void mutex_free(mutex *m)
{
    (void)m;
}
static inline void mutex_lock(mutex *m)
{
    AcquireSRWLockExclusive(m);
}
static inline void mutex_unlock(mutex *m)
{
    ReleaseSRWLockExclusive(m);
}
static inline void condition_init(condition *c)
{
    InitializeConditionVariable(c);
}
static inline void condition_free(condition *c)
{
    (void)c;
}
static inline void condition_wait(condition *c, mutex *m)
{
    SleepConditionVariableSRW(c, m, INFINITE, 0);
}
static inline void condition_signal(condition *c)
{
    WakeConditionVariable(c);
}
static inline void condition_broadcast(condition *c)
{
    WakeAllConditionVariable(c);
}
static inline long process_id(void)
{
    return 0; /* nothing forks */
}

#else

typedef pthread_mutex_t mutex;
typedef pthread_cond_t condition;

static inline void mutex_init(mutex *m)
{
    pthread_mutex_init(m, NULL);
}
static inline void mutex_free(mutex *m)
{
    pthread_mutex_destroy(m);
}
static inline void mutex_lock(mutex *m)
{
    pthread_mutex_lock(m);
}
static inline void mutex_unlock(mutex *m)
{
    pthread_mutex_unlock(m);
}
static inline void condition_init(condition *c)
{
    pthread_cond_init(c, NULL);
}
static inline void condition_free(condition *c)
{
    pthread_cond_destroy(c);
}
static inline void condition_wait(condition *c, mutex *m)
{
    pthread_cond_wait(c, m);
}
static inline void condition_signal(condition *c)
{
    pthread_cond_signal(c);
}
static inline void condition_broadcast(condition *c)
{
    pthread_cond_broadcast(c);
}
static inline long process_id(void)
{
    return (long)getpid();
}

#endif
#endif
#endif
