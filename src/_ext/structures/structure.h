/* Covariance structures: Sigma(phi) of p columns, or of p visits, by a few parameters phi. A room of its own:
   it knows nothing of models.

   Parameters are chosen so that boundaries need no bounds: a correlation is the sine of its parameter, and f
   is even about the points where |rho| = 1; one common standard deviation may have either sign. Standard
   deviations of their own (heterogeneous structures) must not be negative: a sign would turn correlations. */

#ifndef LMM_STRUCTURE_H
#define LMM_STRUCTURE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {                /* what a parameter is measured in                                         */
               LMM_DEVIATION, /* in the units of a column: a standard deviation, or an entry of a root    */
               LMM_ANGLE,     /* of a correlation                                                        */
               LMM_LOGARITHM  /* of a range                                                              */
} lmm_parameter;

typedef struct lmm_structure lmm_structure; /* its head in lmm.h, too */

struct lmm_structure {
    int32_t p, nphi;     /* order of Sigma; parameters                                              */
    int32_t nbound;      /* the first of them, which are >= 0: standard deviations of their own     */
    const uint8_t *kind; /* nphi    lmm_parameter                                                   */
    const int32_t *row;  /* nphi    the column in whose units an LMM_DEVIATION is (of a common one: 0) */
    ptrdiff_t work;      /* doubles of scratch that each call below needs                           */
    /* root (p x p, column-major): root root' = Sigma, not by way of Sigma where that would cost digits; any
       root, not only a triangle. dSigma: nphi symmetric p x p blocks, or NULL. Nonzero: there is no Sigma. */
    int (*map)(const lmm_structure *s, const double *phi, double *root, double *dSigma, double *work);
    /* H (nphi x nphi, both triangles) += tr(S d2Sigma_ij), S symmetric p x p */
    void (*bend)(const lmm_structure *s, const double *phi, const double *S, double *H, double *work);
    /* phi whose Sigma is near a given one, inside of all boundaries: where a fit begins */
    void (*nearest)(const lmm_structure *s, const double *Sigma, double *phi, double *work);
    /* The which-th other phi that lowers tr(S Sigma) although the slope at phi is zero or cut off by a bound
       (a zero standard deviation with correlations free to be chosen; |rho| = 1; a column of a root that is
       zero); 0: there is none. S = df/dSigma. unit (p): standard deviations of columns that are of a middling
       size, for how far to go; NULL: ones. No function: no such phi exists. */
    int (*trial)(const lmm_structure *s, const double *phi, const double *S, const double *unit, int which,
                 double *to, double *work);
    const void *table; /* lags, distances, or the caller's function                               */
};

typedef struct {      /* what a structure is made of                                             */
    const char *name; /* us diag homdiag cs homcs ar1 hetar1 toep homtoep ad homad exp gau mat32 mat52 rr */
    int32_t p;
    int32_t rank;              /* rr: columns of its root                                                 */
    int32_t dimension;         /* of the coordinates; 0: none are needed                                  */
    const double *coordinates; /* p x dimension, row-major                                                */
} lmm_structure_spec;

/* NULL: no memory, or no such structure (known: receives whether there is one of that name). */
lmm_structure *lmm_structure_new(const lmm_structure_spec *spec, int *known);
void lmm_structure_free(lmm_structure *s); /* NULL is fine */

/* root root' = A, A symmetric (p x p, both triangles), of as few columns as rounding allows, the others 0:
   for structures whose root is not closed. Nonzero: A has a negative eigenvalue, or is not finite. work: 3 p.
 */
int lmm_semidefinite_root(int32_t p, const double *A, double *root, double *work);

#ifdef __cplusplus
}
#endif

#endif
