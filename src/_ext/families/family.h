/* A family of distributions with its link: log-densities of rows and their derivatives in the linear
   predictor eta and in the family's own parameters x, for blocks of rows. It knows nothing of models.

   Parameters x are unconstrained: a logarithm of a size or a dispersion, or thresholds by their differences.
 */

#ifndef LMM_FAMILY_H
#define LMM_FAMILY_H

#include <stddef.h>
#include <stdint.h>

typedef struct { /* n each; NULL: not wanted. Outside the domain l = -infinity, the others anything */
    double *l;   /* log-density less what depends on neither eta nor x (see constant)          */
    double *d1, *d2, *d3, *d4; /* its derivatives in eta                                       */
    double *w, *dw;            /* expected -d2, and its derivative in eta                      */
                               /* (of nb1 and beta-binomial the mean's information: shapes.c)  */
    double *lx, *d1x, *d2x;    /* derivatives of l, d1, d2 in each x: nextra arrays, ldx apart */
    double *wx;                /* the same of w                                                */
    ptrdiff_t ldx;
} lmm_density;

/* Rows of the same eta: they stay apart; y and w are summed (successes, trials); y becomes the mean by w, and
   w is summed (l is linear in y, w multiplies it); w is summed where y is the same (it multiplies l) */
enum { LMM_APART, LMM_SUMMED, LMM_AVERAGED, LMM_COUNTED };

typedef struct lmm_family lmm_family;

struct lmm_family {
    /* y: successes, counts, values or classes; w: trials of a binomial, what multiplies l of counts and
       classes, what divides the dispersion of others; NULL: ones */
    void (*density)(const lmm_family *f, int32_t n, const double *y, const double *w, const double *eta,
                    const double *x, const lmm_density *out);
    /* the sum of what l leaves out */
    double (*constant)(const lmm_family *f, int64_t n, const double *y, const double *w);
    int32_t nextra;  /* parameters x                                                          */
    int concave;     /* is l concave in eta whatever y is?                                    */
    int dispersion;  /* is x the logarithm of a dispersion, by which W is divided?            */
    int32_t classes; /* of an ordered response; else 0                                        */
    int merging;     /* how rows of the same eta can be one                                   */
    void *arg;       /* of a user's family                                                    */
};

/* The family of that name with that link; 0: there is none. classes: of an ordered response */
int lmm_find_family(const char *family, const char *link, int32_t classes, lmm_family *out);

#endif
