/* Trust-region minimizer with a given curvature matrix; knows nothing of mixed models. */

#ifndef LMM_NEWTON_H
#define LMM_NEWTON_H

#include <stddef.h>

typedef struct { /* what to minimize, and how                                         */
    int n;       /* variables                                                         */
    double (*value)(void *arg, const double *x);                 /* infinity where undefined       */
    void (*derivatives)(void *arg, double *gradient, double *H); /* at the last x of value()     */
    int (*poll)(void *arg, const double *x, double f, double best, double radius, double predicted);
    void (*syev)(char *, char *, int *, double *, int *, double *, double *, int *, int *);
    void *arg;
    double tolerance; /* stop when the predicted decrease is below                         */
    double noise;     /* rounding error of value(): smaller decreases cannot be seen       */
    int maxeval;      /* evaluations of value()                                            */
    int noisy;        /* differences of gradients are not worth their evaluations          */
} newton_problem;

typedef struct {      /* in: f is +infinity at the first call; out: where it stands        */
    double f;         /* value at x                                                        */
    double radius;    /* trust radius                                                      */
    double predicted; /* decrease that the model still promises: the certificate           */
    int neval;        /* evaluations so far                                                */
    int moved;        /* 1: value() was last called elsewhere than at x                    */
    int turns;        /* in: how often the caller can offer other coordinates, see below   */
} newton_state;

/* UNDEFINED: f is not finite at the first x; NOTFINITE: its derivatives are not where f is.
   COLLAPSED: the trust region shrank until nothing was promised inside; other coordinates may help (only with
   turns left). */
typedef enum {
    NEWTON_CONVERGED,
    NEWTON_STOPPED,
    NEWTON_MAXEVAL,
    NEWTON_UNDEFINED,
    NEWTON_NOTFINITE,
    NEWTON_COLLAPSED
} newton_end;

ptrdiff_t newton_workspace(int n); /* doubles that newton_minimize needs */
newton_end newton_minimize(const newton_problem *p, double *x, newton_state *s, double *work);

#endif
