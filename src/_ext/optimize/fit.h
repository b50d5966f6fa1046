/* A fit under way: the model as a problem for the minimizer, over all Sigma or within a plane of theta. */

#ifndef LMM_FIT_H
#define LMM_FIT_H

#include "evaluate/chain.h"
#include "evaluate/evaluate.h"
#include "optimize/axes.h"
#include "optimize/newton.h"
#include "optimize/plane.h"

typedef struct { /* variables behind those of theta: what else the model's A depends on (more.c)  */
    int n;
    /* the model stands there; nonzero: it cannot */
    int (*place)(void *arg, const double *values);
    /* derivatives() in (Sigma, these): ntheta + n */
    lmm_status (*derivatives)(void *arg, int reml, double *slope, double *A);
    void *arg;
} more;

typedef struct {
    lmm_model *m;
    const lmm_settings *s;
    newton_state *state;
    int n;               /* variables of a step                                              */
    const plane *plane;  /* NULL: all Sigma, see axes.h                                      */
    const more *more;    /* NULL: nothing but theta                                          */
    newton_problem base; /* ... and with more, the problem of theta alone                   */
    int close;           /* does it begin close to a minimum?                               */
    double f;            /* the criterion of the last evaluation                             */
    double *sigma;       /* N + 1  scratch: Sigma                                            */
    double *begin;       /* where an approach began                                          */
    double *theta;       /* 2 N  scratch: theta                                              */
    double *T;           /* scratch: T of every factor                                       */
    double *work;        /* axes_work  scratch                                               */
    /* iterative models, at the last evaluation: */
    double *x, *slope, *A; /* where, derivatives in Sigma                                   */
    double value;          /* the criterion by integration                                  */
    struct {               /* the last accepted one                                         */
        double *x, *sigma, *slope, value, f;
    } last;
    int begun;
} fit;

/* As lmm_fit, with more variables: values (n) in and out. */
lmm_status fit_with(lmm_model *m, const lmm_settings *s, const lmm_plane *within, const double *start,
                    const more *others, double *values, double *theta, double *z, lmm_info *info);

/* more.c: the problem of t, whose points and steps are followed by those of the other variables */
ptrdiff_t
more_size(const fit *t); /* doubles of them in a point: values, and those distances are taken from */
newton_problem with_more(fit *t, newton_problem p);
ptrdiff_t fit_theta_size(const fit *t); /* doubles of theta's part of a point */

newton_end fit_minimize(fit *t, double *x); /* newton_minimize, with the model's trailing matrix */
double fit_value(void *arg, const double *x);
void fit_coordinates(void *arg, const double *x, double *sigma);
ptrdiff_t fit_size(const fit *t);           /* doubles of a point                       */
ptrdiff_t fit_workspace(const layout *lay); /* doubles of scratch.newton that a fit needs   */

#endif
