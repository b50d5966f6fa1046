/* A plane of parameters, theta = fixed + basis z: what is held or tied. The minimizer moves x = z / unit. */

#ifndef LMM_PLANE_H
#define LMM_PLANE_H

#include "model/model.h"

typedef struct {       /* everything in elimination order and the user's coordinates          */
    int n;             /* variables                                                           */
    ptrdiff_t ntheta;  /* N below                                                             */
    double *scale;     /* N      size of each parameter: norm of its row of C                 */
    double *unit;      /* n      z = unit x, so that x is of the size of whitened theta       */
    double *fixed;     /* N                                                                   */
    double *basis;     /* N x n  theta = fixed + basis x                                      */
    double *gram;      /* n x n  Cholesky factor of the Gram matrix of basis over scale       */
    int32_t *control;  /* N      the one x that theta is a multiple of, -1: there is none     */
    int32_t *head;     /* N      place of the diagonal of the column of T that it is in       */
    double *theta;     /* N      of the last plane_theta                                      */
    double *T;         /* p x p  for each factor: whitened T of the last plane_coordinates    */
    double *slope, *H; /* N, N x N  derivatives in theta                                      */
    double *HB;        /* N x n  scratch                                                      */
    double *flipped;   /* N      scratch                                                      */
    double *work;      /* chain_work  scratch                                                 */
    void *memory;
} plane;

/* LMM_NOTPOSDEF: the columns of the basis are dependent. */
lmm_status plane_open(plane *p, const lmm_model *m, const lmm_plane *given);
void plane_close(plane *p);

/* x of z, within most; a variance that x alone makes zero is lifted to least. */
void plane_start(const plane *p, const double *z, double least, double most, double *x);
const double *plane_theta(const plane *p, const double *x);
void plane_nearest(const plane *p, const double *theta,
                   double *x); /* the x of the nearest theta, over scale */
/* Sigma = T T' at x, whitened lower triangles */
void plane_coordinates(const plane *p, const lmm_model *m, const double *x, double *sigma);
/* Gradient and Hessian in x of the function of Sigma with this slope and Hessian B there; B is overwritten.
 */
void plane_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                   double *g, double *H);

/* g := J'slope, J = dSigma/dx */
void plane_pull(const plane *p, const lmm_model *m, const double *x, const double *slope, double *g);

/* x := with diagonals of T below limit at zero. Returns whether that changes anything. */
int plane_round_to_zero(const plane *p, double limit, double *x);

/* Diagonals of T nonnegative, where the plane has such a theta. */
void plane_signs(const plane *p, double *x);

#endif
