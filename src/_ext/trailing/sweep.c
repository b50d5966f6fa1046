/* Blocks of vectors times S, which is never formed: S x = A_RR x - sum_l A_Rl K_l (A_lR x), one sweep over
   the eliminated levels with each panel in cache. */

#include "trailing/lanes.h"

/* t := A_lR x. w: width of the only trailing factor, 0 if there are several. y: where scatter_level goes
   next, asked for in time (measured: a fifth of the whole) */
INLINE void gather_level(const int p, const int w, const int nv, const lmm_model *m,
                         const trailing_part *part, const double *x, const double *y, vec4 *t)
{
    const layout *lay = &m->layout;
    const ptrdiff_t ld = part->ld;
    const double *a = part->a;
    const int32_t first = lay->f[lay->nelim].node;
    for (int i = 0; i < p * nv; i++) t[i] = (vec4){0};
    for (ptrdiff_t i = part->begin; i < part->end; i++) {
        const int32_t e = lay->row[i], n = w ? w : lay->width[e];
        const vec4 *from = (const vec4 *)x + (ptrdiff_t)(w ? (e - first) * w : lay->trailcol[e]) * nv;
        for (int r = 0; r < n; r++) __builtin_prefetch(y + ((const double *)from - x) + r * 4 * nv, 1);
        for (int r = 0; r < n; r++, a++, from += nv)
            for (int c = 0; c < p; c++)
                for (int v = 0; v < nv; v++) t[c * nv + v] += a[c * ld] * from[v];
    }
}

/* y -= A_Rl t */
INLINE void scatter_level(const int p, const int w, const int nv, const lmm_model *m,
                          const trailing_part *part, const vec4 *t, double *y)
{
    const layout *lay = &m->layout;
    const ptrdiff_t ld = part->ld;
    const double *a = part->a;
    const int32_t first = lay->f[lay->nelim].node;
    for (ptrdiff_t i = part->begin; i < part->end; i++) {
        const int32_t e = lay->row[i], n = w ? w : lay->width[e];
        vec4 *to = (vec4 *)y + (ptrdiff_t)(w ? (e - first) * w : lay->trailcol[e]) * nv;
        for (int r = 0; r < n; r++, a++, to += nv)
            for (int v = 0; v < nv; v++) {
                vec4 s = to[v];
                for (int c = 0; c < p; c++) s -= a[c * ld] * t[c * nv + v];
                to[v] = s;
            }
    }
}

/* t += A_la x_a over the levels a that contain node e of factor k, before which x has their columns */
INLINE void gather_containing(const int p, const int nv, const lmm_model *m, int k, int32_t e,
                              const double *x, vec4 *t)
{
    const layout *lay = &m->layout;
    const ptrdiff_t ld = lay->ld[e], end = lay->ptr[e] + lay->nelim - 1 - k;
    const double *a = m->evaluation.f[k].pan + lay->pan[e];
    for (ptrdiff_t i = lay->ptr[e]; i < end; i++) {
        const vec4 *from = (const vec4 *)x + (ptrdiff_t)lay->trailcol[lay->row[i]] * nv;
        for (int r = 0; r < lay->width[lay->row[i]]; r++, a++, from += nv)
            for (int c = 0; c < p; c++)
                for (int v = 0; v < nv; v++) t[c * nv + v] += a[c * ld] * from[v];
    }
}

/* y -= A_Rl K_l A_lR x, every level of an eliminated factor */
INLINE void eliminated_levels(const int p, const int w, const int nv, const iterative *it, const lmm_model *m,
                              int k, const double *x, double *y, double *small)
{
    vec4 few[12], *t = p * nv <= 6 ? few : (vec4 *)small, *s = t + p * nv;
    const double *K = it->K + it->at[k];
    const factor *f = &m->layout.f[k];
    for (int32_t e = f->node; e < f->node + f->nlev; e++, K += p * p) {
        const trailing_part part = trailing_rows(m, k, e);
        gather_level(p, w, nv, m, &part, x, y, t);
        block_times(p, nv, K, 0, t, s);
        scatter_level(p, w, nv, m, &part, s, y);
    }
}

/* t of a level from its trailing rows alone and, y -= A_Rl K_l t done with these, from every row. With
   z_l = -K_l t, which a level inside this one needs, where x has its columns. */
INLINE void derive_level(const int p, const int w, const lmm_model *m, int k, int32_t e,
                         const trailing_part *part, const double *K, double *x, double *y, vec4 *t, vec4 *s)
{
    const int nv = LANES / 4;
    gather_level(p, w, nv, m, part, x, y, t);
    block_times(p, nv, K, 0, t, s);
    scatter_level(p, w, nv, m, part, s, y);
    gather_containing(p, nv, m, k, e, x, t);
    if (k == 0) return;
    vec4 *z = (vec4 *)x + (ptrdiff_t)m->layout.trailcol[e] * nv;
    block_times(p, nv, K, 0, t, z);
    for (int i = 0; i < p * nv; i++) z[i] = -z[i];
}

/* The part of an eliminated factor's levels in the derivatives, after the factors that contain it: with
   t_x = A_l. F x over all rows of the panel, F x continued to the levels a that contain l by -K_a t_a,
     Q_l += w (t_y - t_u) t_u',  R += N_l'(t_y - t_u) t_u'N_l,  N_l = I - K_l A_l
   (symmetric parts), and y, u -= A_Rl K_l A_lR F x */
INLINE void derive_levels(const int p, const int w, const iterative *it, const lmm_model *m, int k, block *b,
                          const double *weight, double *Fy, double *Fu, double *y, double *u, double *small)
{
    const int nv = LANES / 4;
    const factor *f = &m->layout.f[k];
    vec4 few[24], *ty = p * nv <= 6 ? few : (vec4 *)small, *tu = ty + p * nv, *s = tu + p * nv,
                  *z = s + p * nv;
    double *N = (double *)((vec4 *)small + 4 * p * nv), *R = b->R;
    const double *K = it->K + it->at[k];
    for (int j = 0; j < k; j++) R += m->layout.f[j].p * m->layout.f[j].p;
    for (int32_t l = 0; l < f->nlev; l++, K += p * p) {
        double *Q = b->Q + it->at[k] + (ptrdiff_t)l * p * p;
        const trailing_part part = trailing_rows(m, k, f->node + l);
        derive_level(p, w, m, k, f->node + l, &part, K, Fy, y, ty, s);
        derive_level(p, w, m, k, f->node + l, &part, K, Fu, u, tu, s);
        for (int i = 0; i < p * nv; i++) ty[i] -= tu[i];
        mul(p, p, p, 0, K, p, m->evaluation.f[k].diag + (ptrdiff_t)l * p * p, p, N, p);
        for (int i = 0; i < p * p; i++) N[i] = (i % (p + 1) == 0) - N[i];
        block_times(p, nv, N, 1, ty, s);
        block_times(p, nv, N, 1, tu, z);
        for (int c = 0; c < p; c++)
            for (int r = 0; r <= c; r++) {
                double sum = 0;
                for (int v = 0; v < nv; v++) {
                    const vec4 q = ty[r * nv + v] * tu[c * nv + v] + ty[c * nv + v] * tu[r * nv + v];
                    const vec4 n = s[r * nv + v] * z[c * nv + v] + s[c * nv + v] * z[r * nv + v];
                    for (int i = 0; i < 4; i++) {
                        sum += 0.5 * weight[v * 4 + i] * q[i];
                        R[(v * 4 + i) * it->nR + r + c * p] += 0.5 * n[i];
                    }
                }
                Q[r + c * p] = Q[c + r * p] = sum;
            }
    }
}

#define INSTANCE(p, w)                                                                                   \
    CLONES static void eliminated_##p##w(const iterative *it, const lmm_model *m, int k, int nv,         \
                                         const double *x, double *y, double *small)                      \
    {                                                                                                    \
        if (nv == 1)                                                                                     \
            eliminated_levels(p, w, 1, it, m, k, x, y, small);                                           \
        else                                                                                             \
            eliminated_levels(p, w, 2, it, m, k, x, y, small);                                           \
    }                                                                                                    \
    CLONES static void derive_##p##w(const iterative *it, const lmm_model *m, int k, block *b,           \
                                     const double *weight, double *Fy, double *Fu, double *y, double *u, \
                                     double *small)                                                      \
    {                                                                                                    \
        derive_levels(p, w, it, m, k, b, weight, Fy, Fu, y, u, small);                                   \
    }
INSTANCE(1, 0)
INSTANCE(1, 1)
INSTANCE(1, 2)
INSTANCE(2, 0)
INSTANCE(2, 1)
INSTANCE(2, 2)
INSTANCE(3, 0)
INSTANCE(3, 1)
INSTANCE(3, 2)

CLONES static void eliminated_any(const iterative *it, const lmm_model *m, int k, int nv, const double *x,
                                  double *y, double *small)
{
    eliminated_levels(m->layout.f[k].p, 0, nv, it, m, k, x, y, small);
}

CLONES static void derive_any(const iterative *it, const lmm_model *m, int k, block *b, const double *weight,
                              double *Fy, double *Fu, double *y, double *u, double *small)
{
    derive_levels(m->layout.f[k].p, 0, it, m, k, b, weight, Fy, Fu, y, u, small);
}

/* Width of the trailing columns for the instances above */
static int trailing_width(const lmm_model *m)
{
    const layout *lay = &m->layout;
    return lay->nfactor == lay->nelim + 1 && lay->f[lay->nelim].p <= 2 ? lay->f[lay->nelim].p : 0;
}

void eliminated(const iterative *it, const lmm_model *m, int nv, const double *x, double *y, double *small)
{
    const layout *lay = &m->layout;
    static void (*const known[3][3])(const iterative *, const lmm_model *, int, int, const double *, double *,
                                     double *) = {{eliminated_10, eliminated_11, eliminated_12},
                                                  {eliminated_20, eliminated_21, eliminated_22},
                                                  {eliminated_30, eliminated_31, eliminated_32}};
    for (int k = 0; k < lay->nelim; k++)
        if (lay->f[k].p <= 3)
            known[lay->f[k].p - 1][trailing_width(m)](it, m, k, nv, x, y, small);
        else
            eliminated_any(it, m, k, nv, x, y, small);
}

void derive(const iterative *it, const lmm_model *m, block *b, const double *weight, double *Fy, double *Fu,
            double *y, double *u, double *small)
{
    const layout *lay = &m->layout;
    static void (*const known[3][3])(const iterative *, const lmm_model *, int, block *, const double *,
                                     double *, double *, double *, double *,
                                     double *) = {{derive_10, derive_11, derive_12},
                                                  {derive_20, derive_21, derive_22},
                                                  {derive_30, derive_31, derive_32}};
    for (int k = lay->nelim - 1; k >= 0; k--)
        if (lay->f[k].p <= 3)
            known[lay->f[k].p - 1][trailing_width(m)](it, m, k, b, weight, Fy, Fu, y, u, small);
        else
            derive_any(it, m, k, b, weight, Fy, Fu, y, u, small);
}

/* y := A_RR x over one trailing factor and the co-occurring later levels (y of later factors: += ) */
INLINE void trailing_levels(const int p, const int nv, const lmm_model *m, int k, const double *x, double *y)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    for (int32_t l = 0; l < f->nlev; l++) {
        const ptrdiff_t e = f->node + l, ld = lay->ld[e];
        const vec4 *xe = (const vec4 *)x + (ptrdiff_t)lay->trailcol[e] * nv;
        vec4 *ye = (vec4 *)y + (ptrdiff_t)lay->trailcol[e] * nv;
        const double *D = m->sums.A[k].diag + (ptrdiff_t)l * p * p, *a = m->sums.A[k].pan + lay->pan[e];
        for (int i = 0; i < p; i++)
            for (int j = 0; j < p; j++)
                for (int v = 0; v < nv; v++) ye[i * nv + v] += D[i + j * p] * xe[j * nv + v];
        for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
            const ptrdiff_t o = (ptrdiff_t)lay->trailcol[lay->row[i]] * nv;
            const vec4 *xo = (const vec4 *)x + o;
            vec4 *yo = (vec4 *)y + o;
            for (int r = 0; r < lay->width[lay->row[i]]; r++, a++)
                for (int c = 0; c < p; c++)
                    for (int v = 0; v < nv; v++) {
                        ye[c * nv + v] += a[c * ld] * xo[r * nv + v];
                        yo[r * nv + v] += a[c * ld] * xe[c * nv + v];
                    }
        }
    }
}

#define TRAILING_4(p, m, k, x, y) trailing_levels(p, 1, m, k, x, y)
#define TRAILING_8(p, m, k, x, y) trailing_levels(p, 2, m, k, x, y)

/* y := A_RR x */
CLONES void trailing_times(const lmm_model *m, int nv, const double *x, double *y)
{
    const layout *lay = &m->layout;
    memset(y, 0, sizeof(double) * (size_t)lay->q2 * 4 * (size_t)nv);
    for (int k = lay->nelim; k < lay->nfactor; k++)
        if (nv == 1)
            BY_WIDTH(lay->f[k].p, TRAILING_4, m, k, x, y)
        else
            BY_WIDTH(lay->f[k].p, TRAILING_8, m, k, x, y)
}

INLINE void blocks_levels(const int p, const int nv, ptrdiff_t levels, const double *B, int transposed,
                          const double *x, double *y)
{
    for (ptrdiff_t l = 0; l < levels; l++)
        block_times(p, nv, B + l * p * p, transposed, (const vec4 *)x + l * p * nv, (vec4 *)y + l * p * nv);
}

#define BLOCKS_4(p, n, B, t, x, y) blocks_levels(p, 1, n, B, t, x, y)
#define BLOCKS_8(p, n, B, t, x, y) blocks_levels(p, 2, n, B, t, x, y)

/* y := B x or B'x for block diagonal B over the trailing levels; y is not x */
CLONES void blocks_times(const iterative *it, const lmm_model *m, int nv, const double *B, int transposed,
                         const double *x, double *y)
{
    const layout *lay = &m->layout;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const ptrdiff_t at = (ptrdiff_t)lay->trailcol[lay->f[k].node] * 4 * nv, n = lay->f[k].nlev;
        if (nv == 1)
            BY_WIDTH(lay->f[k].p, BLOCKS_4, n, B + it->at[k], transposed, x + at, y + at)
        else
            BY_WIDTH(lay->f[k].p, BLOCKS_8, n, B + it->at[k], transposed, x + at, y + at)
    }
}
