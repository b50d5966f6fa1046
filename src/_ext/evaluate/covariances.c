/* Blocks of B = Lambda M^-1 Lambda' where levels co-occur: covariances of the random effects given y,
   over sigma^2. The inverse (gradient.c) has those of the trailing levels, pairs of one factor among them,
   and of the coarser eliminated factors; for the first factor

     B_Rl = -B_RR A_Rl K_l  */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

/* ------------------------------------------------------------------- the first factor's covariances -- */

/* V_R := -V_R K_l for every level, V: laid out as the panels */
INLINE void times_inverse(const int p, lmm_model *m, const factor *f, double *V)
{
    const layout *lay = &m->layout;
    const factor_state *fs = &m->evaluation.f[f->k];
    double *U = m->scratch.tmp, *K = U + p * p, *rows = K + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->node + l, ld = lay->ld[e];
        double *to = V + lay->pan[e];
        scaled_factor(p, fs->T, fs->L + (ptrdiff_t)l * p * p, U);
        mult(p, p, p, 0, U, p, U, p, K, p);
        for (int32_t r = 0; r < ld - lay->pb; r++) {
            for (int c = 0; c < p; c++) rows[c] = -to[r + (ptrdiff_t)c * ld];
            for (int c = 0; c < p; c++) {
                double v = 0;
                for (int x = 0; x < p; x++) v += rows[x] * K[x + c * p];
                to[r + (ptrdiff_t)c * ld] = v;
            }
        }
    }
}

/* first := B_Rl of the first factor, laid out as its panels */
CLONES static lmm_status complete_first(lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    const factor *f = &lay->f[0];
    const factor_state *fs = &ev->f[0];
    const int32_t last = f->node + f->nlev - 1;
    const ptrdiff_t size = lay->pan[last] + (ptrdiff_t)lay->ld[last] * f->p;
    if (ev->at.complete) return LMM_OK;
    if (!ev->first) {
        if (fs->P)
            ev->first = fs->P;
        else
            GRAB(m, ev->first, size);
    }
    if (lay->full || ev->first != fs->P) /* else the coarser eliminated factors' part is there */
        memset(ev->first, 0, sizeof(double) * (size_t)size);
    m->trailing->steps->product(m->trailing, m, 0, fs->pan, ev->first);
    BY_WIDTH(f->p, times_inverse, m, f, ev->first)
    ev->at.complete = 1;
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------------- blocks -- */

/* First node of e's list that is not below x */
static ptrdiff_t find(const lmm_model *m, int32_t e, int32_t x)
{
    const layout *lay = &m->layout;
    ptrdiff_t low = lay->ptr[e], high = lay->ptr[e + 1];
    while (low < high) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (lay->row[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Row of the panel of node e where node j of factor c begins; -1: they do not occur together */
static ptrdiff_t panel_row(const lmm_model *m, int k, int32_t e, int c, int32_t j)
{
    const layout *lay = &m->layout;
    if (lay->full && k == 0) return lay->trailcol[j];
    const ptrdiff_t at = find(m, e, j);
    ptrdiff_t row = 0;
    if (at == lay->ptr[e + 1] || lay->row[at] != j) return -1;
    for (ptrdiff_t i = lay->ptr[e], next; i < at; i = next) { /* one factor after the other */
        const int w = lay->width[lay->row[i]];
        int g = k + 1;
        while (lay->row[i] >= lay->f[g].node + lay->f[g].nlev) g++;
        next = g == c ? at : find(m, e, lay->f[g].node + lay->f[g].nlev);
        row += (next - i) * w;
    }
    return row;
}

/* B_ji (w_j x w_i) of the nodes i of factor k and j of factor c, k < c */
static int pair_block(const lmm_model *m, int k, int32_t i, int c, int32_t j, double *B)
{
    const layout *lay = &m->layout;
    if (k >= lay->nelim) return m->trailing->steps->covariance(m->trailing, m, i, j, B);
    const ptrdiff_t row = panel_row(m, k, i, c, j), ld = lay->ld[i];
    if (row < 0) return 0;
    const double *from = (k ? m->evaluation.f[k].P : m->evaluation.first) + lay->pan[i] + row;
    for (int x = 0; x < lay->f[k].p; x++)
        for (int r = 0; r < lay->f[c].p; r++) *B++ = from[r + x * ld];
    return 1;
}

/* out (row-major) := C_a B C_c', B: p_a x p_c or, transposed, p_c x p_a */
static void block_to_user(lmm_model *m, const factor *a, const factor *c, const double *B, int transposed,
                          double *out)
{
    double *half = m->scratch.tmp; /* B'C_a', p_c x p_a */
    if (transposed)
        mult(c->p, a->p, a->p, 0, B, c->p, a->w.C, a->p, half, c->p);
    else {
        for (int i = 0; i < a->p; i++)
            for (int j = 0; j < c->p; j++) {
                double v = 0;
                for (int x = 0; x < a->p; x++) v += a->w.C[i + x * a->p] * B[x + j * a->p];
                half[j + i * c->p] = v;
            }
    }
    mul(c->p, a->p, c->p, 0, c->w.C, c->p, half, c->p, out, c->p);
}

/* The block of levels ea of a and ec of c: B_ac, or B_ca if transposed; 0: not known */
static int node_block(const lmm_model *m, const factor *a, const factor *c, int32_t ea, int32_t ec,
                      int *transposed, double *B)
{
    *transposed = ea < ec; /* nodes go by factor */
    if (ea == ec)
        memcpy(B, m->evaluation.f[a->k].B + (ptrdiff_t)(ea - a->node) * a->p * a->p,
               sizeof(double) * (size_t)(a->p * a->p));
    if (ea == ec || (a == c && a->k < m->layout.nelim)) return ea == ec;
    return ea < ec ? pair_block(m, a->k, ea, c->k, ec, B) : pair_block(m, c->k, ec, a->k, ea, B);
}

/* out (p_a x p_c, row-major) := B as it is */
static void block_to_rows(const factor *a, const factor *c, const double *B, int transposed, double *out)
{
    for (int i = 0; i < a->p; i++)
        for (int j = 0; j < c->p; j++) *out++ = transposed ? B[j + i * c->p] : B[i + j * a->p];
}

/* The block of one pair of levels of the user's, or nan */
static void user_block(lmm_model *m, const factor *a, const factor *c, int32_t la, int32_t lc, int whitened,
                       double *B, double *out)
{
    int transposed;
    if (!node_block(m, a, c, a->perm[la], c->perm[lc], &transposed, B))
        for (int i = 0; i < a->p * c->p; i++) out[i] = NAN;
    else if (whitened)
        block_to_rows(a, c, B, transposed, out);
    else
        block_to_user(m, a, c, B, transposed, out);
}

lmm_status lmm_covariances(lmm_model *m, int a, int c, int whitened, int64_t count, const int32_t *la,
                           const int32_t *lc, double *B)
{
    const factor *fa = factor_of_user(m, a), *fc = factor_of_user(m, c);
    if (!m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, INVERTED, 0));
    if (a != c && (!fa->k || !fc->k)) TRY(complete_first(m));
    double *block = malloc(sizeof(double) * (size_t)(fa->p * fc->p));
    if (!block) return LMM_NOMEM;
    for (int64_t i = 0; i < count; i++, B += fa->p * fc->p)
        user_block(m, fa, fc, la[i], lc[i], whitened, block, B);
    free(block);
    return LMM_OK;
}

/* -------------------------------------------------------------------------------------------- pairs -- */

/* The user's level of each node of f */
static int32_t *levels_of(const factor *f)
{
    int32_t *level = malloc(sizeof(*level) * (size_t)f->nlev);
    for (int32_t l = 0; level && l < f->nlev; l++) level[f->perm[l] - f->node] = l;
    return level;
}

/* Pairs of the factor first, which comes earlier, and then */
static int64_t list_pairs(const lmm_model *m, const factor *first, const factor *then, const int32_t *level,
                          int32_t *lf, int32_t *lt)
{
    const layout *lay = &m->layout;
    const int all = lay->full && !first->k;
    int64_t count = 0;
    for (int32_t l = 0; l < first->nlev; l++) {
        const int32_t e = first->perm[l];
        const ptrdiff_t from = all ? 0 : find(m, e, then->node);
        const ptrdiff_t to = all ? then->nlev : find(m, e, then->node + then->nlev);
        for (ptrdiff_t i = from; lf && i < to; i++) {
            lf[count + i - from] = l;
            lt[count + i - from] = level[all ? i : lay->row[i] - then->node];
        }
        count += to - from;
    }
    return count;
}

lmm_status lmm_pairs_of_levels(const lmm_model *m, int a, int c, int64_t *count, int32_t *la, int32_t *lc)
{
    const factor *fa = factor_of_user(m, a), *fc = factor_of_user(m, c);
    *count = fa->nlev;
    if (a == c) {
        for (int32_t l = 0; la && l < fa->nlev; l++) la[l] = lc[l] = l;
        return LMM_OK;
    }
    int32_t *level = levels_of(fa < fc ? fc : fa);
    if (!level) return LMM_NOMEM;
    *count = fa < fc ? list_pairs(m, fa, fc, level, la, lc) : list_pairs(m, fc, fa, level, lc, la);
    free(level);
    return LMM_OK;
}
