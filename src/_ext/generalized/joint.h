/* Private: a generalized fit under way, as a problem for the minimizer (optimize/newton.h). A point is that
   of the principal axes of every Sigma (optimize/axes.h), or of a plane of theta; then w, (gamma, x) = fixed
   + basis w; then the w from which distances are taken. */

#ifndef LMM_JOINT_H
#define LMM_JOINT_H

#include "generalized/state.h"
#include "optimize/axes.h"
#include "optimize/newton.h"
#include "optimize/plane.h"

#define HIDDEN 1e-10 /* what the modes leave unknown of f */

typedef struct {
    glmm_model *g;
    const lmm_settings *s;
    newton_state *state;
    const plane *plane; /* of theta, where some of it is held or tied; NULL: all Sigma, by axes */
    ptrdiff_t first;    /* doubles of theta's part of a point */
    int nt, more;      /* variables of theta, those of a flat factor aside; of (gamma, x) = fixed + basis w */
    int skip, skipped; /* first variable of a flat factor, and their number */
    int own;           /* is the start the model's own? */
    double *fixed;     /* p + nextra */
    double *basis;     /* (p + nextra) x more, orthonormal columns */
    double *gF, *HF;   /* n, n x n of all coordinates */
    double *axes;      /* axes_size  a point of axes, from which one of a plane begins */
    double *work;      /* axes_work */
} joint;

int joint_fixed(const joint *t);                                     /* p + nextra             */
ptrdiff_t joint_point(const joint *t);                               /* doubles of a point     */
void joint_parameters(const joint *t, const double *x, double *out); /* (gamma, x) of a point */
double joint_value(void *arg, const double *x);
void joint_anchor(void *arg, double *x);
newton_problem joint_problem(joint *t);

/* evaluate.c: the criterion and its slopes where the model's T, gamma and x are; T := Tnew, triangular; the
   whitened coefficients of the user's */
lmm_status evaluate_at(glmm_model *g);
void find_slopes(glmm_model *g);
void set_triangular(glmm_model *g);
void theta_of_psi(glmm_model *g, const double *psi, double *theta);
/* The theta of a flat factor: the triangle of which FLAT C FLAT C' is the square; the rest stays */
void flat_theta(glmm_model *g, double *theta);
void whitened(const glmm_model *g, const double *beta, double *gamma);

#endif
