/* Blocks of B = Lambda M^-1 Lambda': covariances of the random effects given y, over sigma^2. The inverse
   (gradient.c) has those of the trailing levels, pairs of one factor among them, and of the coarser
   eliminated factors; for the first factor, and for any later level x that a level l never occurs with,

     B_Rl = -B_RR A_Rl K_l,   B_xl = -B_xR A_Rl K_l

   as long as B_xR is known: always where the trailing matrix is dense. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/readings.h"
#include "trailing/trailing.h"

#define FEW_OF 4 /* fewer pairs than one in so many of the first factor's are found one by one */

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
CLONES lmm_status complete_first(lmm_model *m)
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
    if (lay->full || !lay->generalized) /* else so is the trailing ones' (gradient.c) */
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

static int pair_block(const lmm_model *m, int k, int32_t i, int c, int32_t j, double *B, double *room);

/* acc (w_x x w_i) += B_xr A_ri for the row A of a panel that belongs to node r of factor g; x: of factor c */
static int add_row(const lmm_model *m, int g, int32_t r, int c, int32_t x, int width, const double *A,
                   ptrdiff_t ld, double *acc, double *room)
{
    const int wr = m->layout.f[g].p, wx = m->layout.f[c].p;
    double *B = room;
    if (r == x)
        mul(wx, width, wx, 1, m->evaluation.f[c].B + (ptrdiff_t)(x - m->layout.f[c].node) * wx * wx, wx, A,
            ld, acc, wx);
    else if (r < x) {
        if (!pair_block(m, g, r, c, x, B, room + wr * wx)) return 0;
        mul(wx, width, wr, 1, B, wx, A, ld, acc, wx);
    } else {
        if (!pair_block(m, c, x, g, r, B, room + wr * wx)) return 0;
        tmul(wx, width, wr, 1, B, wr, A, ld, acc, wx);
    }
    return 1;
}

/* B_xi = -B_xR A_Ri K_i of node i of the eliminated factor k and a later node x of factor c, wherever B_xR is
   known */
static int swept_block(const lmm_model *m, int k, int32_t i, int c, int32_t x, double *B, double *room)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const factor_state *fs = &m->evaluation.f[k];
    const int p = f->p, wx = lay->f[c].p;
    const int32_t trailing = lay->nelim < lay->nfactor ? lay->f[lay->nelim].node : lay->nnode;
    const ptrdiff_t count = lay->full ? lay->nnode - trailing : lay->ptr[i + 1] - lay->ptr[i];
    const double *A = fs->pan + lay->pan[i];
    double *acc = room, *U = acc + p * wx, *K = U + p * p;
    memset(acc, 0, sizeof(double) * (size_t)(p * wx));
    int g = k + 1;
    for (ptrdiff_t at = 0; at < count; at++) {
        const int32_t r = lay->full ? trailing + (int32_t)at : lay->row[lay->ptr[i] + at];
        while (r >= lay->f[g].node + lay->f[g].nlev) g++;
        if (!add_row(m, g, r, c, x, p, A, lay->ld[i], acc, K + p * p)) return 0;
        A += lay->f[g].p;
    }
    scaled_factor(p, fs->T, fs->L + (ptrdiff_t)(i - f->node) * p * p, U);
    mult(p, p, p, 0, U, p, U, p, K, p);
    mul(wx, p, p, 0, acc, wx, K, p, B, wx);
    for (int y = 0; y < p * wx; y++) B[y] = -B[y];
    return 1;
}

/* Doubles of room that it takes: each step leads to later factors, on one side or the other */
static size_t swept_room(const layout *lay)
{
    size_t widest = 1;
    for (int k = 0; k < lay->nfactor; k++)
        if ((size_t)lay->f[k].p > widest) widest = (size_t)lay->f[k].p;
    return (2 * (size_t)lay->nelim + 1) * 4 * widest * widest;
}

/* B_ji (w_j x w_i) of the nodes i of factor k and j of factor c, i < j */
static int pair_block(const lmm_model *m, int k, int32_t i, int c, int32_t j, double *B, double *room)
{
    const layout *lay = &m->layout;
    const evaluation *ev = &m->evaluation;
    if (k >= lay->nelim) return m->trailing->steps->covariance(m->trailing, m, i, j, B);
    const int is_kept = k || ev->at.complete;
    const ptrdiff_t row = is_kept && c > k ? panel_row(m, k, i, c, j) : -1, ld = lay->ld[i];
    if (row < 0) return swept_block(m, k, i, c, j, B, room);
    const double *from = (k ? ev->f[k].P : ev->first) + lay->pan[i] + row;
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
                      int *transposed, double *B, double *room)
{
    *transposed = ea < ec; /* nodes go by factor */
    if (ea == ec)
        memcpy(B, m->evaluation.f[a->k].B + (ptrdiff_t)(ea - a->node) * a->p * a->p,
               sizeof(double) * (size_t)(a->p * a->p));
    if (ea == ec || (a == c && a->k < m->layout.nelim)) return ea == ec;
    return ea < ec ? pair_block(m, a->k, ea, c->k, ec, B, room) : pair_block(m, c->k, ec, a->k, ea, B, room);
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
    double *room = B + a->p * c->p;
    if (!node_block(m, a, c, a->perm[la], c->perm[lc], &transposed, B, room))
        for (int i = 0; i < a->p * c->p; i++) out[i] = NAN;
    else if (whitened)
        block_to_rows(a, c, B, transposed, out);
    else
        block_to_user(m, a, c, B, transposed, out);
}

/* Pairs of a level of the first factor and a later one that co-occur */
static int64_t first_pairs(const layout *lay)
{
    const factor *f = &lay->f[0];
    if (lay->full) return (int64_t)f->nlev * (lay->nnode - f->nlev);
    return lay->ptr[f->node + f->nlev] - lay->ptr[f->node];
}

/* The pairs by their later node, whose rows of the inverse then stay at hand; NULL: no memory */
static int64_t *by_later_node(const factor *a, const factor *c, int64_t count, const int32_t *la,
                              const int32_t *lc)
{
    const int is_a = a->k > c->k;
    const factor *later = is_a ? a : c;
    const int32_t *level = is_a ? la : lc;
    int64_t *order = malloc(sizeof(*order) * (size_t)(count + later->nlev + 1)), *next = order + count;
    if (!order) return NULL;
    memset(next, 0, sizeof(*next) * (size_t)(later->nlev + 1));
    for (int64_t i = 0; i < count; i++) next[later->perm[level[i]] - later->node + 1]++;
    for (int32_t l = 0; l < later->nlev; l++) next[l + 1] += next[l];
    for (int64_t i = 0; i < count; i++) order[next[later->perm[level[i]] - later->node]++] = i;
    return order;
}

lmm_status lmm_covariances(lmm_model *m, int a, int c, int whitened, int64_t count, const int32_t *la,
                           const int32_t *lc, double *B)
{
    const factor *fa = factor_of_user(m, a), *fc = factor_of_user(m, c);
    const ptrdiff_t size = (ptrdiff_t)fa->p * fc->p;
    if (!m->trailing->exact) return LMM_UNAVAILABLE;
    TRY(bring(m, EXACT, INVERTED, 0));
    if (a != c && m->layout.nelim && (!fa->k || !fc->k) && count * FEW_OF >= first_pairs(&m->layout))
        TRY(complete_first(m));
    double *block = malloc(sizeof(double) * ((size_t)size + swept_room(&m->layout)));
    int64_t *order = by_later_node(fa, fc, count, la, lc);
    for (int64_t j = 0; block && order && j < count; j++) {
        const int64_t i = order[j];
        user_block(m, fa, fc, la[i], lc[i], whitened, block, B + i * size);
    }
    const lmm_status status = block && order ? LMM_OK : LMM_NOMEM;
    free(block);
    free(order);
    return status;
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
