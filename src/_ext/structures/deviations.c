/* Standard deviations times correlations: Sigma = D R(x) D, D = diag(sd), or sd alone for all columns. phi
   are the standard deviations, then x. */

#include "structures/correlation.h"

#define ROUNDING 1e-16 /* of the largest variance, whatever units columns have: zero */

typedef struct { /* scratch */
    double *sd, *r, *dr, *weight, *rest;
} room;

static room room_of(const structure *s, double *work)
{
    const ptrdiff_t p = s->c.p, count = s->c.count;
    double *r = work + p;
    return (room){work, r, r + count, r + 2 * count, r + 3 * count};
}

void deviations_of(const structure *s, const double *phi, double *sd)
{
    for (int i = 0; i < s->c.p; i++) sd[i] = phi[s->common ? 0 : i];
}

static const double *angles_of(const structure *s, const double *phi)
{
    return phi + (s->common ? 1 : s->c.p);
}

/* Sigma with other entries: of R, or of its derivatives */
static void assemble(const structure *s, const double *sd, const double *r, double *Sigma)
{
    const ptrdiff_t p = s->c.p;
    const int32_t *place = s->c.place;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) Sigma[i + j * p] = sd[i] * sd[j] * r[place[i + j * p]];
}

static void derivative(const structure *s, const double *sd, const double *r, int k, double *dSigma)
{
    const ptrdiff_t p = s->c.p;
    const int32_t *place = s->c.place;
    if (s->common) {
        for (ptrdiff_t i = 0; i < p * p; i++) dSigma[i] = 2 * sd[0] * r[place[i]];
        return;
    }
    memset(dSigma, 0, sizeof(double) * (size_t)(p * p));
    for (ptrdiff_t i = 0; i < p; i++) dSigma[i + k * p] = dSigma[k + i * p] = sd[i] * r[place[i + k * p]];
    dSigma[k + k * p] *= 2;
}

static int map(const lmm_structure *face, const double *phi, double *root, double *dSigma, double *work)
{
    const structure *s = whole(face);
    const room at = room_of(s, work);
    const ptrdiff_t p = s->c.p;
    const double *x = angles_of(s, phi);
    deviations_of(s, phi, at.sd);
    if (s->c.root(&s->c, x, root, at.rest)) return 1;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) root[i + j * p] *= at.sd[i];
    if (!dSigma) return 0;
    s->c.entries(&s->c, x, at.r, at.rest);
    for (int k = 0; k < x - phi; k++) derivative(s, at.sd, at.r, k, dSigma + k * p * p);
    for (int i = 0; i < s->c.n; i++) {
        s->c.slope(&s->c, x, i, at.dr, at.rest);
        assemble(s, at.sd, at.dr, dSigma + (x - phi + i) * p * p);
    }
    return 0;
}

/* of the standard deviations: tr(S d2Sigma) = 2 S_ij r_ij */
static void bend_deviations(const structure *s, const double *S, const double *r, double *H)
{
    const ptrdiff_t p = s->c.p;
    double sum = 0;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) {
            const double h = 2 * S[i + j * p] * r[s->c.place[i + j * p]];
            if (s->common)
                sum += h;
            else
                H[i + j * s->face.nphi] += h;
        }
    if (s->common) H[0] += sum;
}

/* of the standard deviations and one x: a is its place in phi */
static void bend_mixed(const structure *s, const double *S, const double *sd, const double *dr, ptrdiff_t a,
                       double *H)
{
    const ptrdiff_t p = s->c.p, n = s->face.nphi;
    for (ptrdiff_t j = 0; j < p; j++) {
        double sum = 0;
        for (ptrdiff_t i = 0; i < p; i++) sum += S[i + j * p] * sd[i] * dr[s->c.place[i + j * p]];
        const ptrdiff_t k = s->common ? 0 : j;
        H[k + a * n] += 2 * sum;
        H[a + k * n] += 2 * sum;
    }
}

static void bend(const lmm_structure *face, const double *phi, const double *S, double *H, double *work)
{
    const structure *s = whole(face);
    const room at = room_of(s, work);
    const ptrdiff_t p = s->c.p, n = face->nphi;
    const double *x = angles_of(s, phi);
    const ptrdiff_t first = x - phi;
    deviations_of(s, phi, at.sd);
    s->c.entries(&s->c, x, at.r, at.rest);
    bend_deviations(s, S, at.r, H);
    if (!s->c.n) return;
    for (int i = 0; i < s->c.n; i++) {
        s->c.slope(&s->c, x, i, at.dr, at.rest);
        bend_mixed(s, S, at.sd, at.dr, first + i, H);
    }
    memset(at.weight, 0, sizeof(double) * (size_t)s->c.count);
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++)
            at.weight[s->c.place[i + j * p]] += at.sd[i] * at.sd[j] * S[i + j * p];
    s->c.curve(&s->c, x, at.weight, H + first * (n + 1), (int)n, at.rest);
}

/* Means of the correlations that share an entry; columns without variance have none. */
static void mean_entries(const structure *s, const double *Sigma, double *r, double *number)
{
    const ptrdiff_t p = s->c.p;
    memset(r, 0, sizeof(double) * (size_t)s->c.count);
    memset(number, 0, sizeof(double) * (size_t)s->c.count);
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i < p; i++) {
            const double product = Sigma[i + i * p] * Sigma[j + j * p];
            if (!(Sigma[i + i * p] > 0 && product > 0)) continue;
            r[s->c.place[i + j * p]] += Sigma[i + j * p] / sqrt(product);
            number[s->c.place[i + j * p]] += 1;
        }
    for (ptrdiff_t k = 0; k < s->c.count; k++)
        if (number[k] > 0) r[k] /= number[k];
}

void start_deviations(int p, const double *Sigma, double *sd)
{
    double most = 0, least = INFINITY;
    for (ptrdiff_t i = 0; i < p; i++) most = fmax(most, Sigma[i + i * p]);
    for (ptrdiff_t i = 0; i < p; i++)
        if (Sigma[i + i * p] > ROUNDING * most) least = fmin(least, Sigma[i + i * p]);
    least = LEAST_DEVIATION * (most > 0 ? sqrt(least) : 1);
    for (ptrdiff_t i = 0; i < p; i++)
        sd[i] = Sigma[i + i * p] > ROUNDING * most ? sqrt(Sigma[i + i * p]) : least;
}

static void nearest(const lmm_structure *face, const double *Sigma, double *phi, double *work)
{
    const structure *s = whole(face);
    const room at = room_of(s, work);
    const ptrdiff_t p = s->c.p;
    double sum = 0;
    for (ptrdiff_t i = 0; i < p; i++) sum += fmax(Sigma[i + i * p], 0);
    start_deviations((int)p, Sigma, at.sd);
    if (s->common)
        phi[0] = sum > 0 ? sqrt(sum / (double)p) : at.sd[0];
    else
        memcpy(phi, at.sd, sizeof(double) * (size_t)p);
    if (!s->c.n) return;
    mean_entries(s, Sigma, at.r, at.weight);
    s->c.nearest(&s->c, at.r, phi + (s->common ? 1 : p), at.rest);
}

void structure_of_deviations(structure *s)
{
    const ptrdiff_t p = s->c.p;
    s->face.nphi = (s->common ? 1 : s->c.p) + s->c.n;
    s->face.nbound = s->common || !s->c.n ? 0 : s->c.p;
    s->face.map = map, s->face.bend = bend, s->face.nearest = nearest, s->face.trial = deviations_trial;
    s->face.work = 4 * p + 4 * (ptrdiff_t)s->c.count + 2 * (ptrdiff_t)s->face.nphi + s->c.work;
}
