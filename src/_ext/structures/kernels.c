/* Correlations that fall with the distance of columns: x = log(range / largest distance), u = distance /
   range.

     exp     e^-u              (Ornstein-Uhlenbeck in one dimension)
     gau     e^-u^2
     mat32   (1 + v) e^-v            v = sqrt(3) u        (Rasmussen and Williams 2006, eq. 4.17)
     mat52   (1 + v + v^2/3) e^-v    v = sqrt(5) u

   Long ranges make R singular to rounding, that of gau soon. Its root is a Cholesky factor with pivots that
   ends where what is left is rounding: nothing is added to the diagonal. In one dimension exp is a Markov
   process, and has a closed root of full accuracy. */

#include <stdlib.h>

#include "base/memory.h"
#include "structures/correlation.h"

#define FAR 1e4    /* ranges: nothing is left there, of powers of u neither */
#define NRANGES 12 /* ranges that are looked at: largest distance times 3 / 2^k */

typedef struct {
    double k, slope, bend; /* value, first and second derivative in x */
} jet;

typedef jet kernel(double u);

static jet exponential(double u)
{
    const double e = exp(-u);
    return (jet){e, u * e, u * (u - 1) * e};
}

static jet gaussian(double u)
{
    const double s = u * u, e = exp(-s);
    return (jet){e, 2 * s * e, 4 * s * (s - 1) * e};
}

static jet matern32(double u)
{
    const double v = sqrt(3) * u, e = exp(-v);
    return (jet){(1 + v) * e, v * v * e, v * v * (v - 2) * e};
}

static jet matern52(double u)
{
    const double v = sqrt(5) * u, e = exp(-v), s = v * v / 3;
    return (jet){(1 + v + s) * e, s * (1 + v) * e, s * ((v - 2) * v - 2) * e};
}

static const struct {
    const char *name;
    kernel *of;
} KERNELS[] = {{"exp", exponential}, {"gau", gaussian}, {"mat32", matern32}, {"mat52", matern52}};

/* Calls F(c, kernel, ...) with the kernel known at compile time */
#define BY_KERNEL(F, c, ...)                       \
    switch ((c)->which) {                          \
    case 0: F(c, exponential, __VA_ARGS__); break; \
    case 1: F(c, gaussian, __VA_ARGS__); break;    \
    case 2: F(c, matern32, __VA_ARGS__); break;    \
    default: F(c, matern52, __VA_ARGS__);          \
    }

INLINE void all_entries(const correlation *c, kernel *of, double over, double *r)
{
    for (ptrdiff_t k = 0; k < c->count; k++) r[k] = of(fmin(c->distance[k] * over, FAR)).k;
}

INLINE void all_slopes(const correlation *c, kernel *of, double over, double *dr)
{
    for (ptrdiff_t k = 0; k < c->count; k++) dr[k] = of(fmin(c->distance[k] * over, FAR)).slope;
}

INLINE void all_bends(const correlation *c, kernel *of, double over, const double *weight, double *H)
{
    double sum = 0;
    for (ptrdiff_t k = 1; k < c->count; k++) sum += weight[k] * of(fmin(c->distance[k] * over, FAR)).bend;
    *H += sum;
}

static double over_range(double x)
{
    return exp(-fmin(fmax(x, -700), 700));
}

static void entries(const correlation *c, const double *x, double *r, double *work)
{
    (void)work;
    BY_KERNEL(all_entries, c, over_range(*x), r)
}

static void slope(const correlation *c, const double *x, int i, double *dr, double *work)
{
    (void)i, (void)work;
    BY_KERNEL(all_slopes, c, over_range(*x), dr)
}

static void curve(const correlation *c, const double *x, const double *weight, double *H, int ld,
                  double *work)
{
    (void)ld, (void)work;
    BY_KERNEL(all_bends, c, over_range(*x), weight, H)
}

static int root(const correlation *c, const double *x, double *L, double *work)
{
    const ptrdiff_t p = c->p;
    double *r = work, *R = r + c->count;
    entries(c, x, r, NULL);
    for (ptrdiff_t i = 0; i < p * p; i++) R[i] = r[c->place[i]];
    return lmm_semidefinite_root((int32_t)p, R, L, R + p * p);
}

/* Along the line r_ij is the product of the r of neighbours between; L_ij = r_ij sqrt(1 - r_(j-1)j^2). */
static int markov_root(const correlation *c, const double *x, double *L, double *work)
{
    const ptrdiff_t p = c->p;
    const double over = over_range(*x);
    double *step = work, *innovation = step + p; /* of each, given the one before */
    memset(L, 0, sizeof(double) * (size_t)(p * p));
    for (ptrdiff_t j = 0; j < p; j++) {
        const double gap = j ? over * c->distance[c->place[c->order[j] + c->order[j - 1] * p]] : INFINITY;
        step[j] = exp(-gap), innovation[j] = sqrt(-expm1(-2 * gap));
    }
    for (ptrdiff_t j = 0; j < p; j++) {
        double r = innovation[j];
        for (ptrdiff_t i = j; i < p; i++) {
            if (i > j) r *= step[i];
            L[c->order[i] + j * p] = r;
        }
    }
    return 0;
}

static double range_at(int k)
{
    return log(3) - k * log(2);
}

static void nearest(const correlation *c, const double *r, double *x, double *work)
{
    double best = INFINITY;
    for (int k = 0; k < NRANGES; k++) {
        const double there = range_at(k);
        double error = 0;
        entries(c, &there, work, NULL);
        for (ptrdiff_t i = 1; i < c->count; i++) error += (work[i] - r[i]) * (work[i] - r[i]);
        if (error < best) best = error, *x = there;
    }
}

static void other(const correlation *c, const double *x, int which, double share, double *to, double *work)
{
    (void)c, (void)work;
    *to = *x + share * (range_at(which) - *x);
}

/* ---- set-up -----------------------------------------------------------------------------------------------
 */

/* Euclidean distances of pairs, over the largest; 0 if there is none */
static void measure(const lmm_structure_spec *spec, double *distance)
{
    double most = 0, *at = distance;
    *at++ = 0;
    for (ptrdiff_t j = 1; j < spec->p; j++)
        for (ptrdiff_t i = 0; i < j; i++) {
            double norm = 0;
            for (ptrdiff_t k = 0; k < spec->dimension; k++)
                norm = hypot(norm, spec->coordinates[i * spec->dimension + k] -
                                       spec->coordinates[j * spec->dimension + k]);
            *at++ = norm, most = fmax(most, norm);
        }
    for (double *d = distance + 1; d < at && most > 0; d++) *d /= most;
}

typedef struct {
    double x;
    int32_t column;
} location;

static int ascending(const void *a, const void *b)
{
    const location *one = a, *two = b;
    return one->x != two->x ? (one->x > two->x) - (one->x < two->x) : one->column - two->column;
}

/* columns along a line; NULL: no memory */
static int32_t *along(const lmm_structure_spec *spec, void **memory)
{
    int32_t *order = grab(memory, (size_t)spec->p, sizeof(*order));
    location *at = malloc((size_t)spec->p * sizeof(*at));
    for (int32_t i = 0; order && at && i < spec->p; i++) at[i] = (location){spec->coordinates[i], i};
    if (at) qsort(at, (size_t)spec->p, sizeof(*at), ascending);
    for (int32_t i = 0; order && at && i < spec->p; i++) order[i] = at[i].column;
    if (!at) order = NULL;
    free(at);
    return order;
}

int correlation_kernel(correlation *c, void **memory, const lmm_structure_spec *spec)
{
    const ptrdiff_t p = c->p, count = 1 + p * (p - 1) / 2;
    double *distance = grab(memory, (size_t)count, sizeof(*distance));
    if (!distance || !(c->place = pairs((int)p, memory))) return 1;
    measure(spec, distance);
    for (c->which = 0; strcmp(KERNELS[c->which].name, spec->name) != 0;) c->which++;
    c->n = 1, c->count = (int32_t)count, c->others = NRANGES, c->kind = LMM_LOGARITHM, c->distance = distance;
    c->entries = entries, c->slope = slope, c->curve = curve, c->root = root;
    c->nearest = nearest, c->other = other, c->work = count + p * p + 3 * p;
    if (c->which == 0 && spec->dimension == 1) {
        if (!(c->order = along(spec, memory))) return 1;
        c->root = markov_root;
    }
    return 0;
}
