/* Threads with a stack that is large enough for LAPACK and without the program's signals. */

#include "base/threads.h"

#ifndef THREADS_NONE

enum { STACK = 4 << 20 }; /* bytes: the defaults of macOS, musl and Windows are small for LAPACK */

#ifdef THREADS_WINDOWS

#include <process.h>

static unsigned __stdcall enter(void *arg)
{
    thread *t = arg;
    t->body(t->arg);
    return 0;
}

int thread_start(thread *t, thread_body *body, void *arg)
{
    t->body = body;
    t->arg = arg;
    t->id = (HANDLE)_beginthreadex(NULL, STACK, enter, t, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return t->id == 0;
}

void thread_join(thread *t)
{
    WaitForSingleObject(t->id, INFINITE);
    CloseHandle(t->id);
}

#else

#include <signal.h>

static void *enter(void *arg)
{
    thread *t = arg;
    t->body(t->arg);
    return NULL;
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

int thread_start(thread *t, thread_body *body, void *arg)
{
    sigset_t before;
    pthread_attr_t attributes;
    t->body = body;
    t->arg = arg;
    if (pthread_attr_init(&attributes)) return 1;
    pthread_attr_setstacksize(&attributes, STACK);
    block_signals(&before);
    int failed = pthread_create(&t->id, &attributes, enter, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

void thread_join(thread *t)
{
    pthread_join(t->id, NULL);
}

#endif
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
