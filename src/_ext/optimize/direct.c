/* With S = df/dSigma of each term, g = Z'P y and v_i = dSigma_i g level by level:

     slope_i = tr(S dSigma_i),   A_ij = nu v_i'Z'PZ v_j / r^2 - nu a_i a_j / r^4 + tr(S d2Sigma_ij),  a_i =
   v_i'g

   the average information (Gilmour, Thompson & Cullis 1995) and the bend of Sigma. Of terms without a
   structure the parameters are entries of T. */

#include "optimize/direct.h"

#include "base/large.h"
#include "base/memory.h"
#include "evaluate/evaluate.h"
#include "evaluate/readings.h"

lmm_status direct_open(direct *d, const surface *s, const lmm_model *m, void **memory)
{
    ptrdiff_t effects = 1;
    for (int i = 0; i < s->nterm; i++) {
        const ptrdiff_t own = (ptrdiff_t)s->piece[i].t.k * s->piece[i].t.f->nlev;
        if (own > effects) effects = own;
    }
    d->given = grab(memory, (size_t)(s->nphi * (ptrdiff_t)m->layout.q + 1), sizeof(double));
    d->G = grab(memory, (size_t)(3 * effects), sizeof(double));
    d->a = grab(memory, (size_t)s->nphi + 1, sizeof(double));
    return d->given && d->G && d->a ? LMM_OK : LMM_NOMEM;
}

/* G (k x m) := g of a piece's effects */
static void gather_effects(const lmm_model *m, const piece *p, double *G)
{
    const layout *lay = &m->layout;
    const factor *f = p->t.f;
    for (int32_t l = 0; l < f->nlev; l++)
        for (int c = 0; c < p->t.k; c++)
            *G++ = m->evaluation
                       .Y[(f->col + (ptrdiff_t)l * f->p + p->t.first + c) * (ptrdiff_t)lay->pb + lay->p];
}

/* Row i of the directions := V (k x m), the effects of a piece. Returns V'g. */
static double place_direction(const lmm_model *m, const direct *d, ptrdiff_t Q, const piece *p, ptrdiff_t i,
                              const double *V)
{
    const layout *lay = &m->layout;
    const factor *f = p->t.f;
    double sum = 0;
    for (int32_t l = 0; l < f->nlev; l++)
        for (int c = 0; c < p->t.k; c++, V++) {
            const ptrdiff_t at = f->col + (ptrdiff_t)l * f->p + p->t.first + c;
            d->given[i + at * Q] = *V;
            sum += *V * m->evaluation.Y[at * lay->pb + lay->p];
        }
    return sum;
}

/* W dSigma_i W'g, W = C^-1; dSigma: the structure's, at phi */
static void structured_directions(const direct *d, const surface *s, const lmm_model *m, const piece *p)
{
    const int k = p->t.k, ld = p->t.f->p, levels = p->t.f->nlev;
    const ptrdiff_t size = (ptrdiff_t)k * levels;
    const double *W = p->t.f->Cinv + p->t.first * (ld + 1);
    double *G = d->G, *U = G + size, *V = U + size;
    gather_effects(m, p, G);
    product(&m->blas, 'T', 'N', k, levels, k, 0, W, ld, G, k, U, k);
    for (int i = 0; i < p->count; i++) {
        product(&m->blas, 'N', 'N', k, levels, k, 0, s->dSigma + (ptrdiff_t)i * k * k, k, U, k, V, k);
        product(&m->blas, 'N', 'N', k, levels, k, 0, W, ld, V, k, G, k);
        d->a[p->first + i] = place_direction(m, d, s->nphi, p, p->first + i, G);
    }
}

/* The same of an entry (r, c) of T in the user's coordinates: W_r (T_c'g) + T_c (W_r'g) */
static void entry_directions(const direct *d, const surface *s, const lmm_model *m, const piece *p)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *W = p->t.f->Cinv + p->t.first * (ld + 1),
                 *T = m->evaluation.f[p->t.f->k].T + p->t.first * (ld + 1);
    double *G = d->G, *V = G + (ptrdiff_t)k * p->t.f->nlev;
    gather_effects(m, p, G);
    for (int c = 0, i = p->first; c < k; c++)
        for (int r = c; r < k; r++, i++) {
            for (int32_t l = 0; l < p->t.f->nlev; l++) {
                const double *g = G + (ptrdiff_t)l * k;
                const double along = dot(k, T + c * ld, g), across = dot(k, W + r * ld, g);
                for (int e = 0; e < k; e++)
                    V[e + (ptrdiff_t)l * k] = W[e + r * ld] * along + T[e + c * ld] * across;
            }
            d->a[i] = place_direction(m, d, s->nphi, p, i, V);
        }
}

/* The structure's dSigma and, with the S of an evaluation in the user's coordinates, slope and bend */
static void structured_slope(const surface *s, const lmm_model *m, const piece *p, const double *phi,
                             double *slope, double *A)
{
    const int k = p->t.k, n = p->count;
    double *S = s->scratch + p->of->work, *own = s->dSigma;
    surface_slope(m, p, S, S + k * k);
    p->of->map(p->of, phi + p->first, s->root, s->dSigma, s->scratch);
    for (int i = 0; i < n; i++)
        slope[p->first + i] = dot((ptrdiff_t)k * k, S, s->dSigma + (ptrdiff_t)i * k * k);
    memset(own, 0, sizeof(double) * (size_t)(n * n));
    p->of->bend(p->of, phi + p->first, S, own, s->scratch);
    for (int b = 0; b < n; b++)
        for (int a = 0; a < n; a++) A[p->first + a + (ptrdiff_t)(p->first + b) * s->nphi] += own[a + b * n];
}

static void entry_slope(const surface *s, const lmm_model *m, const piece *p, double *slope, double *A)
{
    const int k = p->t.k, ld = p->t.f->p;
    const double *D = m->evaluation.f[p->t.f->k].D + p->t.first * (ld + 1);
    const ptrdiff_t Q = s->nphi;
    double *S = s->scratch, *corner = A + p->first * (Q + 1);
    surface_slope(m, p, S, S + k * k);
    for (int c = 0; c < k; c++)
        for (int r = c; r < k; r++) {
            slope[p->first + packed_place(k, r, c)] = D[r + c * ld];
            for (int e = c; e < k; e++)
                corner[packed_place(k, r, c) + Q * packed_place(k, e, c)] += 2 * S[r + e * k];
        }
}

void direct_derivatives(const direct *d, const surface *s, lmm_model *m, int reml, const double *phi,
                        double *slope, double *A)
{
    const ptrdiff_t Q = s->nphi;
    const double nu = degrees(m, reml), r2 = m->evaluation.r2;
    deepen(m, BORDERED);
    memset(d->given, 0, sizeof(double) * (size_t)(Q * m->layout.q));
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        if (p->of) {
            p->of->map(p->of, phi + p->first, s->root, s->dSigma, s->scratch);
            structured_directions(d, s, m, p);
        } else
            entry_directions(d, s, m, p);
    }
    const double *forms = given_forms(m, (int)Q, d->given);
    for (ptrdiff_t j = 0; j < Q; j++)
        for (ptrdiff_t i = 0; i < Q; i++)
            A[i + j * Q] =
                nu / r2 * (forms[i + j * Q] + forms[j + i * Q]) / 2 - nu / (r2 * r2) * d->a[i] * d->a[j];
    differentiate(m, reml, nu);
    for (int i = 0; i < s->nterm; i++) {
        const piece *p = &s->piece[i];
        if (p->of)
            structured_slope(s, m, p, phi, slope, A);
        else
            entry_slope(s, m, p, slope, A);
    }
}
