/* Trust-region minimizer of f(c(x)), where f is nearly quadratic in the coordinates c and its curvature there
   is given; knows nothing of mixed models.

   The model in c is exact about how c bends: it is minimized over x by inner Newton steps that cost no
   evaluation. Points are opaque to it; a step is a vector of n variables around a point. */

#ifndef LMM_NEWTON_H
#define LMM_NEWTON_H

#include <stddef.h>

typedef struct {    /* what to minimize, and how                                                  */
    int n, nc;      /* variables of a step; coordinates                                           */
    ptrdiff_t size; /* doubles that a point takes                                                 */
    double (*value)(void *arg, const double *x); /* infinity where undefined        */
    /* in c, at the last x of value(); and, if E is wanted, E := the Hessian less A: whether it is to be had
     */
    int (*derivatives)(void *arg, double *slope, double *A, double *E);
    void (*coordinates)(void *arg, const double *x, double *c);
    /* gradient and Hessian, in steps from x, of the function of c whose slope and Hessian at c(x) are given;
       B may be overwritten */
    void (*tangent)(void *arg, const double *x, const double *slope, double *B, double *g, double *H);
    void (*move)(void *arg, const double *x, const double *step, double *to);
    void (*anchor)(void *arg, double *x);           /* distances are taken from here on from x ...  */
    double (*distance)(void *arg, const double *x); /* ... to points that x was moved to            */
    double (*extent)(void *arg, const double *x);   /* size of x, for steps that are worth a promise */
    int (*poll)(void *arg, const double *x, double f, double best, double radius, double predicted);
    void (*syev)(char *, char *, int *, double *, int *, double *, double *, int *, int *);
    void (*potrf)(char *, int *, double *, int *, int *);
    void *arg;
    double tolerance; /* stop when the predicted decrease is below                         */
    double enough;    /* ... or, at the first x, below this: f need not be seen to fall    */
    double noise;     /* rounding error of value(): smaller decreases cannot be seen       */
    int patience;     /* so many steps near a minimum call for E; 0: nothing does           */
    int maxeval;      /* evaluations of value()                                            */
} newton_problem;

typedef struct {      /* in: f is +infinity at the first call; out: where it stands        */
    double f;         /* value at x                                                        */
    double radius;    /* trust radius                                                      */
    double predicted; /* decrease that it still promises: the certificate                    */
    int neval;        /* evaluations so far                                                */
    int moved;        /* 1: value() was last called elsewhere than at x                    */
    double *ahead;    /* the point one last step from x, not evaluated; NULL: x is as good */
} newton_state;

/* UNDEFINED: f is not finite at the first x; NOTFINITE: its derivatives are not where f is. */
typedef enum {
    NEWTON_CONVERGED,
    NEWTON_STOPPED,
    NEWTON_MAXEVAL,
    NEWTON_UNDEFINED,
    NEWTON_NOTFINITE
} newton_end;

ptrdiff_t newton_workspace(int n, int nc, ptrdiff_t size); /* doubles that newton_minimize needs */
newton_end newton_minimize(const newton_problem *p, double *x, newton_state *s, double *work);

#endif
