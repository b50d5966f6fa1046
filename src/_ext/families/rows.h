/* Private: how a family is written. One inline function gives the row

     void NAME_row(const int level, const parameters *c, double y, double w, double eta, row *r)

   where `level` says which of a row's numbers are wanted; DENSITY(NAME) makes of it the loops over rows that
   lmm_family.density points to, one for each level. A row's numbers that are not stored are not computed. */

#ifndef LMM_ROWS_H
#define LMM_ROWS_H

#include "families/family.h"
#include "families/vector.h"

#define CHUNK 128 /* rows whose numbers nobody wants are written to scratch of this length */
#define BARRED (-INFINITY)

enum { VALUES, SLOPES, WEIGHTS, EXTRA }; /* l | and d1, d2, d3 | and d4, w, dw | and lx, d1x, d2x, wx */

typedef struct {
    double l, d1, d2, d3, d4, w, dw, lx, d1x, d2x, wx;
} row;

typedef struct {     /* what all rows of a call share                                     */
    double x;        /* the extra parameter                                               */
    double e;        /* e^x                                                               */
    double inv[8];   /* 1 / (e^x + j)                                                     */
    double constant; /* of the family                                                     */
} parameters;

extern const double lmm_ones[CHUNK];

INLINE int wanted_level(const lmm_density *o)
{
    if (o->lx || o->d1x || o->d2x || o->wx) return EXTRA;
    if (o->d4 || o->w || o->dw) return WEIGHTS;
    return o->d1 || o->d2 || o->d3 ? SLOPES : VALUES;
}

/* A family without parameters writes nothing of these, whatever the pointers are. */
INLINE lmm_density asked_of(const lmm_family *family, const lmm_density *o)
{
    lmm_density p = *o;
    if (!family->nextra) p.lx = p.d1x = p.d2x = p.wx = NULL;
    return p;
}

/* The part of a call that begins at `from`: pointers nobody gave lead to scratch. */
INLINE lmm_density part_of(const lmm_density *o, int32_t from, double scratch[11][CHUNK])
{
    lmm_density p = *o;
    double **at[] = {&p.l, &p.d1, &p.d2, &p.d3, &p.d4, &p.w, &p.dw, &p.lx, &p.d1x, &p.d2x, &p.wx};
    for (int i = 0; i < 11; i++) *at[i] = *at[i] ? *at[i] + from : scratch[i];
    return p;
}

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

#define DENSITY(NAME, PREPARE)                                                                               \
    INLINE void NAME##_rows(const int level, const parameters *given, int32_t n, const double *y,            \
                            const double *w, const double *eta, lmm_density o)                               \
    {                                                                                                        \
        const parameters c = *given;                                                                         \
        INDEPENDENT                                                                                          \
        for (int32_t i = 0; i < n; i++) {                                                                    \
            row r;                                                                                           \
            NAME##_row(level, &c, y[i], w[i], eta[i], &r);                                                   \
            o.l[i] = r.l;                                                                                    \
            if (level >= SLOPES) o.d1[i] = r.d1, o.d2[i] = r.d2, o.d3[i] = r.d3;                             \
            if (level >= WEIGHTS) o.d4[i] = r.d4, o.w[i] = r.w, o.dw[i] = r.dw;                              \
            if (level >= EXTRA) o.lx[i] = r.lx, o.d1x[i] = r.d1x, o.d2x[i] = r.d2x, o.wx[i] = r.wx;          \
        }                                                                                                    \
    }                                                                                                        \
    CLONES static void NAME##_density(const lmm_family *family, int32_t n, const double *y, const double *w, \
                                      const double *eta, const double *x, const lmm_density *out)            \
    {                                                                                                        \
        double scratch[11][CHUNK];                                                                           \
        const lmm_density all = asked_of(family, out);                                                       \
        const int level = wanted_level(&all);                                                                \
        const parameters c = PREPARE(family, x);                                                             \
        for (int32_t from = 0; from < n; from += CHUNK) {                                                    \
            const lmm_density o = part_of(&all, from, scratch);                                              \
            const int32_t m = n - from < CHUNK ? n - from : CHUNK;                                           \
            const double *yi = y + from, *wi = w ? w + from : lmm_ones, *ei = eta + from;                    \
            switch (level) {                                                                                 \
            case VALUES: NAME##_rows(VALUES, &c, m, yi, wi, ei, o); break;                                   \
            case SLOPES: NAME##_rows(SLOPES, &c, m, yi, wi, ei, o); break;                                   \
            case WEIGHTS: NAME##_rows(WEIGHTS, &c, m, yi, wi, ei, o); break;                                 \
            default: NAME##_rows(EXTRA, &c, m, yi, wi, ei, o);                                               \
            }                                                                                                \
        }                                                                                                    \
    }

/* Families without a parameter of their own */
INLINE parameters no_parameters(const lmm_family *family, const double *x)
{
    (void)family, (void)x;
    return (parameters){0};
}

/* log phi: e = 1 / phi */
INLINE parameters dispersion(const lmm_family *family, const double *x)
{
    (void)family;
    return (parameters){.x = x[0], .e = exp(-larger(smaller(x[0], 600), -600))};
}

INLINE void no_extra(row *r)
{
    r->lx = r->d1x = r->d2x = r->wx = 0;
}

/* families by files: each sets all fields but classes, and returns 0 where there is no such link */
int find_binomial(const char *family, const char *link, lmm_family *out);
int find_count(const char *family, const char *link, lmm_family *out);
int find_gamma(const char *family, const char *link, lmm_family *out);
int find_inverse_gaussian(const char *family, const char *link, lmm_family *out);
int find_gaussian(const char *family, const char *link, lmm_family *out);
int find_ordered(const char *family, const char *link, lmm_family *out);
int find_shape(const char *family, const char *link, lmm_family *out);
int find_truncated(const char *family, const char *link, lmm_family *out);

/* constants: of binomial coefficients, of factorials */
double binomial_constant(const lmm_family *family, int64_t n, const double *y, const double *w);
double count_constant(const lmm_family *family, int64_t n, const double *y, const double *w);

#endif
