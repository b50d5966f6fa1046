/* Compound symmetry: R = a^2 (I - J/p) + b^2 J/p, J = 1 1'. Contrasts have a, the mean has b. */

#include "base/memory.h"
#include "structures/correlation.h"

/* rho = 1 - p/(p-1) cos^2 x: -1/(p-1) at x = 0, 1 at pi/2 */
static double scale_of(const correlation *c)
{
    return c->p / (c->p - 1.0);
}

static void entries(const correlation *c, const double *x, double *r, double *work)
{
    (void)work;
    r[0] = 1, r[1] = 1 - scale_of(c) * cos(*x) * cos(*x);
}

static void slope(const correlation *c, const double *x, int i, double *dr, double *work)
{
    (void)i, (void)work;
    dr[0] = 0, dr[1] = scale_of(c) * sin(2 * *x);
}

static void curve(const correlation *c, const double *x, const double *weight, double *H, int ld,
                  double *work)
{
    (void)ld, (void)work;
    *H += weight[1] * scale_of(c) * 2 * cos(2 * *x);
}

/* A := a (I - J/p) + b J/p */
static void compound(int p, double a, double b, double *A)
{
    for (int i = 0; i < p * p; i++) A[i] = (b - a) / p;
    for (int i = 0; i < p; i++) A[i + i * p] += a;
}

/* The root is in the columns of Helmert's matrix, which are orthogonal: b times the mean's, a times those of
   contrasts. One that is small keeps its digits beside the other. */
static void compound_root(int p, double a, double b, double *root)
{
    memset(root, 0, sizeof(double) * (size_t)p * (size_t)p);
    for (int i = 0; i < p; i++) root[i] = b / sqrt(p);
    for (int k = 1; k < p; k++) {
        double *column = root + (ptrdiff_t)k * p, each = a / sqrt(k * (k + 1.0));
        for (int i = 0; i < k; i++) column[i] = each;
        column[k] = -k * each;
    }
}

static int root(const correlation *c, const double *x, double *L, double *work)
{
    (void)work;
    compound_root(c->p, sqrt(scale_of(c)) * cos(*x), sqrt(c->p) * sin(*x), L);
    return 0;
}

static void nearest(const correlation *c, const double *r, double *x, double *work)
{
    (void)work;
    const double least = 0.05, eigen = fmin(fmax((1 - r[1]) / scale_of(c), least), 1 - least);
    *x = acos(sqrt(eigen));
}

static void other(const correlation *c, const double *x, int which, double share, double *to, double *work)
{
    (void)work;
    const double there = HALF_PI * (which + 0.5) / c->others;
    *to = *x + share * (there - *x);
}

static int32_t *diagonal_or_not(ptrdiff_t p, void **memory)
{
    int32_t *place = grab(memory, (size_t)(p * p), sizeof(*place));
    for (ptrdiff_t i = 0; place && i < p * p; i++) place[i] = i % (p + 1) != 0;
    return place;
}

int correlation_compound(correlation *c, void **memory)
{
    if (!(c->place = diagonal_or_not(c->p, memory))) return 1;
    c->n = 1, c->count = 2, c->others = 16, c->kind = LMM_ANGLE;
    c->entries = entries, c->slope = slope, c->curve = curve, c->root = root;
    c->nearest = nearest, c->other = other;
    return 0;
}

/* ---- no correlations --------------------------------------------------------------------------------------
 */

static void unit_entries(const correlation *c, const double *x, double *r, double *work)
{
    (void)c, (void)x, (void)work;
    r[0] = 1, r[1] = 0;
}

static int unit_root(const correlation *c, const double *x, double *L, double *work)
{
    (void)x, (void)work;
    compound(c->p, 1, 1, L);
    return 0;
}

int correlation_none(correlation *c, void **memory)
{
    if (!(c->place = diagonal_or_not(c->p, memory))) return 1;
    c->count = 2, c->entries = unit_entries, c->root = unit_root;
    return 0;
}

/* ---- homcs: phi = (a, b) ------------------------------------------------------------------------------ */

static int map(const lmm_structure *s, const double *phi, double *L, double *dSigma, double *work)
{
    (void)work;
    const int p = s->p;
    compound_root(p, phi[0], phi[1], L);
    if (!dSigma) return 0;
    compound(p, 2 * phi[0], 0, dSigma);
    compound(p, 0, 2 * phi[1], dSigma + p * p);
    return 0;
}

/* tr(S (I - J/p)) and tr(S J/p) */
static void parts(int p, const double *S, double *part)
{
    double trace = 0, sum = 0;
    for (int i = 0; i < p; i++) trace += S[i + i * p];
    for (int i = 0; i < p * p; i++) sum += S[i];
    part[0] = trace - sum / p, part[1] = sum / p;
}

static void bend(const lmm_structure *s, const double *phi, const double *S, double *H, double *work)
{
    (void)phi, (void)work;
    double part[2];
    parts(s->p, S, part);
    H[0] += 2 * part[0], H[3] += 2 * part[1];
}

static void nearest_both(const lmm_structure *s, const double *Sigma, double *phi, double *work)
{
    (void)work;
    double part[2];
    parts(s->p, Sigma, part);
    part[0] = sqrt(fmax(part[0] / (s->p - 1), 0)), part[1] = sqrt(fmax(part[1], 0));
    const double most = fmax(part[0], part[1]), least = LEAST_DEVIATION * (most > 0 ? most : 1);
    for (int i = 0; i < 2; i++) phi[i] = fmax(part[i], least);
}

static int trial(const lmm_structure *s, const double *phi, const double *S, const double *unit, int which,
                 double *to, double *work)
{
    (void)work;
    double part[2];
    parts(s->p, S, part);
    for (int i = 0; i < 2; i++)
        if (phi[i] == 0 && part[i] < 0 && (which -= SIZES) < 0) {
            memcpy(to, phi, sizeof(double) * 2);
            to[i] = DEVIATIONS[which + SIZES] * least_unit(unit, s->p);
            return 1;
        }
    return 0;
}

void structure_of_compound(structure *s)
{
    s->face.nphi = 2;
    s->face.map = map, s->face.bend = bend, s->face.nearest = nearest_both, s->face.trial = trial;
}
