/* Private: correlations R(x) of p columns that have few distinct entries, or one for each pair. */

#ifndef LMM_CORRELATION_H
#define LMM_CORRELATION_H

#include "base/small.h"
#include "structures/structure.h"

#define HALF_PI 1.57079632679489661923

typedef struct correlation correlation;

struct correlation {
    int32_t p, n;           /* order of R; parameters                                          */
    int32_t count;          /* distinct entries of R: that of the diagonal, 1, is the first    */
    int32_t others;         /* how many other x there are to try                               */
    const int32_t *place;   /* p x p   which entry is where                                    */
    const double *distance; /* count   kernels: in units of the largest                        */
    const int32_t *order;   /* p       exp in one dimension: columns along the line            */
    uint8_t kind;           /* of all parameters                                               */
    int which;              /* kernels: which of them                                          */
    ptrdiff_t work;         /* doubles of scratch                                              */
    void (*entries)(const correlation *c, const double *x, double *r, double *work);
    /* dr / dx_i */
    void (*slope)(const correlation *c, const double *x, int i, double *dr, double *work);
    /* H (both triangles, ld apart) += sum of weight_k d2 r_k / dx_i dx_j */
    void (*curve)(const correlation *c, const double *x, const double *weight, double *H, int ld,
                  double *work);
    /* root root' = R; any root. Nonzero: there is no R. */
    int (*root)(const correlation *c, const double *x, double *root, double *work);
    /* x near the given entries, inside of all boundaries */
    void (*nearest)(const correlation *c, const double *r, double *x, double *work);
    /* the which-th other x, or, share < 1, what lies on the way there */
    void (*other)(const correlation *c, const double *x, int which, double share, double *to, double *work);
};

typedef struct { /* a structure with what it is made of */
    lmm_structure face;
    void *memory;
    int common; /* one standard deviation for all columns?                 */
    int rank;   /* us, rr: columns of the root                             */
    correlation c;
} structure;

INLINE const structure *whole(const lmm_structure *s)
{
    return s->table;
}

/* correlation_*: fill c, whose p is set; nonzero: no memory */
int correlation_none(correlation *c, void **memory);
int correlation_compound(correlation *c, void **memory);
int correlation_ar1(correlation *c, void **memory);
int correlation_ad(correlation *c, void **memory);
int correlation_toeplitz(correlation *c, void **memory);
int correlation_kernel(correlation *c, void **memory, const lmm_structure_spec *spec);

/* Where entries are: every pair its own (i < j at 1 + j (j - 1) / 2 + i), or one for every lag; NULL: no
 * memory */
int32_t *pairs(int p, void **memory);
int32_t *lags(int p, void **memory);

/* structure_of_*: the calls of a structure whose p, common, rank, c are set */
void structure_of_deviations(structure *s);
void structure_of_compound(structure *s);
void structure_of_triangle(structure *s);
int deviations_trial(const lmm_structure *s, const double *phi, const double *S, const double *unit,
                     int which, double *to, double *work);
double least_unit(const double *unit, int p); /* of columns that share a standard deviation; 1 of none    */
void deviations_of(const structure *s, const double *phi, double *sd);
/* sd (p) of a diagonal; those that are zero: a share of the smallest other one, as units are not known */
void start_deviations(int p, const double *Sigma, double *sd);

/* A = V diag(A) V' in place, by rotations; V: p x p */
void eigenvectors(int p, double *A, double *V);
/* B (p x d) := B Q, Q orthogonal, with zeros above the diagonal */
void trapezoid(int p, int d, double *B);

/* Sizes of what is tried where a slope says nothing: standard deviations, and shares of the way to another x
 */
#define SIZES 4
extern const double DEVIATIONS[SIZES], SHARES[SIZES];
#define LEAST_DEVIATION 0.1 /* where a fit begins instead of at zero: of others, or alone */
#define NOT_LOWER 1e-9      /* of what is summed: differences that rounding makes */

#endif
