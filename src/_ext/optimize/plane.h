/* A plane of the covariance parameters, phi = fixed + basis z: what is held or tied, and what structures have
   of their own (surface.h). The minimizer moves x = z / unit. */

#ifndef LMM_PLANE_H
#define LMM_PLANE_H

#include "optimize/direct.h"
#include "optimize/surface.h"

typedef struct {       /* everything in elimination order and the user's coordinates          */
    surface s;         /* theta as a function of phi; without structures phi is theta         */
    direct direct;     /* of models whose parameters are few                                  */
    int few;           /* are they few here, though derivatives in Sigma can be had?          */
    int n;             /* variables                                                           */
    ptrdiff_t nphi;    /* Q below                                                             */
    double *scale;     /* Q      size of each parameter: norm of its row of C, 1 of an angle  */
    double *unit;      /* n      z = unit x, so that x is of the size of whitened theta       */
    double *fixed;     /* Q                                                                   */
    double *basis;     /* Q x n  phi = fixed + basis x                                        */
    double *gram;      /* n x n  Cholesky factor of the Gram matrix of basis over scale       */
    int32_t *control;  /* Q      the one x that phi is a multiple of, -1: there is none       */
    int32_t *head;     /* Q      place of the diagonal of the column of T that it is in; of a structure's
                                 standard deviation itself, of its other parameters -1        */
    int32_t *bound;    /* n      1: x must not be negative, -1: not positive, 0: any          */
    uint8_t *still;    /* n      is x held by a bound? at the last plane_tangent               */
    double *most;      /* n      |x| is at most this: a structure's standard deviation beside which sigma is
                                 next to nothing                                              */
    double *phi;       /* Q      of the last plane_theta                                      */
    double *theta;     /* N      of the last plane_theta                                      */
    double *T;         /* p x p  for each factor: whitened T of the last plane_coordinates    */
    double *slope, *H; /* Q, Q x Q  derivatives in phi                                        */
    double *HB;        /* Q x n  scratch                                                      */
    double *flipped;   /* Q      scratch                                                      */
    double *work;      /* chain_work  scratch                                                 */
    void *memory;
} plane;

/* LMM_NOTPOSDEF: the columns of the basis are dependent. */
lmm_status plane_open(plane *p, const lmm_model *m, const lmm_plane *given);
void plane_close(plane *p);

/* x of z, within most; a variance that x alone makes zero is lifted to least. */
void plane_start(const plane *p, const double *z, double least, double most, double *x);
void plane_lift(const plane *p, double least, double most, double *x); /* the same of an x */
void plane_result(const plane *p, const double *x, double *z);         /* z of x           */
const double *plane_theta(const plane *p, const double *x);
/* The x of the nearest phi, over scale; in theta's place: of a phi whose Sigma is near */
void plane_nearest_phi(const plane *p, const double *phi, double *x);
void plane_nearest(const plane *p, const lmm_model *m, const double *theta, double *x);
void plane_move(const plane *p, const double *x, const double *step, double *to); /* not beyond bounds */
/* Sigma = T T' at x, whitened lower triangles */
void plane_coordinates(const plane *p, const lmm_model *m, const double *x, double *sigma);
/* Gradient and Hessian in x of the function of Sigma with this slope and Hessian B there; B is overwritten.
   What a bound holds has neither. */
void plane_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                   double *g, double *H);

/* The same of a function of phi with this slope and Hessian there, of models whose parameters are few */
void plane_direct_tangent(const plane *p, const lmm_model *m, const double *x, const double *slope,
                          const double *A, double *g, double *H);
void plane_direct_derivatives(const plane *p, const double *slope, const double *A, double *g, double *H);
void plane_phi(const plane *p, const double *x, double *phi);

/* The x of a middling start of such models: uncorrelated columns of equal size */
void plane_typical(const plane *p, const lmm_model *m, double *x);

/* The same in z, and as it is where something is at a bound or a floor */
void plane_derivatives(const plane *p, const lmm_model *m, const double *x, const double *slope, double *B,
                       double *g, double *H);

/* g := J'slope, J = dSigma/dx */
void plane_pull(const plane *p, const lmm_model *m, const double *x, const double *slope, double *g);

/* x := with diagonals of T below limit at zero. Returns whether that changes anything. */
int plane_round_to_zero(const plane *p, double limit, double *x);

/* Diagonals of T nonnegative, where the plane has such a theta. */
void plane_signs(const plane *p, double *x);

#endif
