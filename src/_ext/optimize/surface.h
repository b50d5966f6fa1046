/* theta as a function of the covariance parameters phi: a term with a structure (structures/structure.h) has
   those of its Sigma(phi), any other its part of theta. Structures speak the user's coordinates: whitening
   only scales and mixes what they give. */

#ifndef LMM_SURFACE_H
#define LMM_SURFACE_H

#include "model/model.h"
#include "structures/structure.h"

typedef struct {
    const lmm_structure *of; /* NULL: phi is the term's theta                       */
    term t;
    int32_t first, count; /* its parameters, in elimination order                */
    int32_t user;         /* its first parameter in the user's order             */
    double *J;            /* nth x count  d(whitened lower triangle of Sigma)/dphi */
} piece;

typedef struct {           /* in elimination order                                     */
    int32_t nphi, nterm;   /* Q below                                                  */
    int structured;        /* has any term a structure? else phi is theta              */
    piece *piece;          /* nterm                                                    */
    double *root, *dSigma; /* p x p, nphi p x p  of the term with most                 */
    double *scratch;       /* of the structures, and 3 p x p                           */
    double *unit;          /* p  standard deviations that are 1 when whitened          */
    double *half, *X;      /* of the chain rule: p N + 3 p^2, N x Q                    */
    void *memory;
} surface;

/* structure: one for each term, factor by factor as in lmm_data; NULL: none has any. phi has their order. */
lmm_status surface_open(surface *s, const lmm_model *m, const lmm_structure *const *structure);
void surface_close(surface *s);

/* Between the user's order and that of elimination */
void surface_from_user(const surface *s, const double *user, double *phi);
void surface_to_user(const surface *s, const double *phi, double *user);

/* theta (the user's coordinates) at phi; nan where a structure has no Sigma. */
void surface_theta(const surface *s, const double *phi, double *theta);
/* phi of the unstructured terms, and of the others one whose Sigma is near; T: whitened, one block a factor
 */
void surface_nearest(const surface *s, const lmm_model *m, const double *theta, const double *T, double *phi);
/* Gradient (Q) and Hessian (Q x Q) in phi of the function of Sigma with this slope and Hessian B; H NULL: the
   gradient alone. B is overwritten; T at phi, whitened. */
void surface_pull(const surface *s, const lmm_model *m, const double *phi, const double *T,
                  const double *slope, double *B, double *g, double *H);
/* unit (k) := standard deviations of the columns of a piece that are 1 when whitened */
void surface_units(const piece *p, double *unit);
/* S (k x k) := df/dSigma of a piece in the user's coordinates; work: 2 k x k */
void surface_slope(const lmm_model *m, const piece *p, double *S, double *work);

#endif
