/* The two hot loops of sparse crossing, over tiles of the trailing matrix that stay in cache:

     downdate:  S_JJ -= A_Jl K_l A_lJ       for every eliminated level l, J the columns it meets
     gather:    Q_l   = A_lJ B_JJ A_Jl      B = (Lambda M^-1 Lambda') over the trailing columns

   Trailing columns are cut into strips, the panels are stored strip by strip (pack), and a tile is one
   strip of rows times one of columns: two sequential streams of small blocks and a buffer in the
   second-level cache. Blocks of three or more rows are padded to whole vectors of four. */

#include "model/model.h"
#include "base/small.h"

#include <stdlib.h>

typedef double vec4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef double vec2 __attribute__((vector_size(16), aligned(8), may_alias));

/* rows that a block of w rows takes when it is padded */
INLINE int lanes(const int w)
{
    return w <= 2 ? w : (w + 3) / 4 * 4;
}

typedef struct { /* one strip times another, for levels of one eliminated factor      */
    lmm_model *m;
    factor *f;
    int32_t first, last;    /* the levels                                                        */
    int32_t r, c, wr, wc;   /* strips of rows and columns, and the widths of their blocks        */
    ptrdiff_t ld;           /* rows of the buffer                                                */
    double *buffer, *small; /* the worker's: a tile, and room for one block                      */
} tile;

/* y += a x for one padded block */
INLINE void add_block(const int n, double *y, const double *x, double a)
{
    if (n == 1)
        *y += a * *x;
    else if (n == 2)
        *(vec2 *)y += a * *(const vec2 *)x;
    else
        for (int i = 0; i < n; i += 4) *(vec4 *)(y + i) += a * *(const vec4 *)(x + i);
}

/* buffer_rc += A_r K A_c' for the blocks of one level in one tile */
INLINE void downdate_level(const int p, const int wr, const int wc, const double *R, const int32_t *rows,
                           ptrdiff_t nr, const double *C, const int32_t *cols, ptrdiff_t nc, const double *K,
                           int same, double *buffer, ptrdiff_t ld, double *coef)
{
    const int lr = lanes(wr), lc = lanes(wc);
    for (ptrdiff_t b = 0; b < nc; b++, C += p * lc) {
        double *to = buffer + cols[b] * wc * ld;
        for (int c = 0; c < wc; c++)
            for (int x = 0; x < p; x++) {
                coef[x + c * p] = 0;
                for (int y = 0; y < p; y++) coef[x + c * p] += C[c + y * lc] * K[y + x * p];
            }
        for (ptrdiff_t a = same ? b : 0; a < nr; a++)
            for (int c = 0; c < wc; c++)
                for (int x = 0; x < p; x++)
                    add_block(lr, to + rows[a] * lr + c * ld, R + (a * p + x) * lr, coef[x + c * p]);
    }
}

/* t (p x wc) += A_R'B_Rc: partial sums, one vector each, do not wait for each other */
INLINE void gather_column(const int p, const int wr, const int wc, const double *R, const int32_t *rows,
                          ptrdiff_t nr, const double *B, ptrdiff_t ld, double *t)
{
    const int lr = lanes(wr);
    if (lr == 4 && p <= 3 && wc <= 4) {
        vec4 sums[12] = {0};
        for (ptrdiff_t a = 0; a < nr; a++)
            for (int c = 0; c < wc; c++) {
                const vec4 b = *(const vec4 *)(B + rows[a] * lr + c * ld);
                for (int x = 0; x < p; x++) sums[x + c * p] += b * *(const vec4 *)(R + (a * p + x) * lr);
            }
        for (int i = 0; i < p * wc; i++) t[i] += (sums[i][0] + sums[i][1]) + (sums[i][2] + sums[i][3]);
    } else if (lr == 1 && p == 1 && wc == 1) {
        double sums[4] = {0};
        ptrdiff_t a = 0;
        for (; a + 4 <= nr; a += 4)
            for (int u = 0; u < 4; u++) sums[u] += R[a + u] * B[rows[a + u]];
        for (; a < nr; a++) sums[0] += R[a] * B[rows[a]];
        *t += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    } else
        for (ptrdiff_t a = 0; a < nr; a++)
            for (int c = 0; c < wc; c++)
                for (int x = 0; x < p; x++) {
                    const double *b = B + rows[a] * lr + c * ld, *r = R + (a * p + x) * lr;
                    double sum = 0;
                    for (int i = 0; i < wr; i++) sum += b[i] * r[i];
                    t[x + c * p] += sum;
                }
}

/* Q += half of A_r' B_rc A_c (its symmetric part counts the other half) for one level in one tile */
INLINE void gather_level(const int p, const int wr, const int wc, const double *R, const int32_t *rows,
                         ptrdiff_t nr, const double *C, const int32_t *cols, ptrdiff_t nc,
                         const double *buffer, ptrdiff_t ld, int same, double *Q, double *t)
{
    const int lr = lanes(wr), lc = lanes(wc);
    for (ptrdiff_t b = 0; b < nc; b++, C += p * lc) {
        const double *B = buffer + cols[b] * wc * ld;
        for (int i = 0; i < p * wc; i++) t[i] = 0;
        const ptrdiff_t from = same ? b + 1 : 0;
        gather_column(p, wr, wc, R + from * p * lr, rows + from, nr - from, B, ld, t);
        if (same) /* the diagonal block is whole: its halves are each other's transposes */
            for (int c = 0; c < wc; c++)
                for (int x = 0; x < p; x++)
                    for (int r = 0; r < wc; r++)
                        t[x + c * p] += 0.5 * B[cols[b] * lr + r + c * ld] * C[r + x * lc];
        for (int c = 0; c < wc; c++)
            for (int x = 0; x < p; x++)
                for (int y = 0; y < p; y++) Q[y + x * p] += t[y + c * p] * C[c + x * lc];
    }
}

/* Calls one of the two for every level that has blocks in both strips. */
INLINE void each_level(const int p, const int wr, const int wc, const tile *t, int gather)
{
    const factor *f = t->f;
    const ptrdiff_t per = (ptrdiff_t)f->nlev + 1, *pr = f->blockptr + t->r * per,
                    *pc = f->blockptr + t->c * per;
    const double *R = f->block + f->blockstart[t->r], *C = f->block + f->blockstart[t->c];
    const int32_t *rows = f->blocknode, lr = lanes(wr), lc = lanes(wc);
    double local[12], *small = p <= 3 && wc <= 4 ? local : t->small;
    for (int32_t l = t->first; l < t->last; l++) {
        const ptrdiff_t nr = pr[l + 1] - pr[l], nc = pc[l + 1] - pc[l];
        if (!nr || !nc) continue;
        const double *r = R + (pr[l] - *pr) * p * lr, *c = C + (pc[l] - *pc) * p * lc;
        double *Q = f->Q + (ptrdiff_t)l * p * p;
        if (gather)
            gather_level(p, wr, wc, r, rows + pr[l], nr, c, rows + pc[l], nc, t->buffer, t->ld, t->r == t->c,
                         Q, small);
        else
            downdate_level(p, wr, wc, r, rows + pr[l], nr, c, rows + pc[l], nc, Q, t->r == t->c, t->buffer,
                           t->ld, small);
    }
}

/* Instances with constant widths: a few columns on either side, else the general loop. */
#define INSTANCE(p, w)                                          \
    CLONES static void levels_##p##w(const tile *t, int gather) \
    {                                                           \
        if (gather)                                             \
            each_level(p, w, w, t, 1);                          \
        else                                                    \
            each_level(p, w, w, t, 0);                          \
    }
INSTANCE(1, 1)
INSTANCE(1, 2)
INSTANCE(1, 3)
INSTANCE(1, 4)
INSTANCE(2, 1)
INSTANCE(2, 2)
INSTANCE(2, 3)
INSTANCE(2, 4)
INSTANCE(3, 1)
INSTANCE(3, 2)
INSTANCE(3, 3)
INSTANCE(3, 4)

CLONES static void levels_any(const tile *t, int gather)
{
    each_level(t->f->p, t->wr, t->wc, t, gather);
}

static void all_levels(const tile *t, int gather)
{
    static void (*const known[3][4])(const tile *, int) = {{levels_11, levels_12, levels_13, levels_14},
                                                           {levels_21, levels_22, levels_23, levels_24},
                                                           {levels_31, levels_32, levels_33, levels_34}};
    const int p = t->f->p, w = t->wr;
    if (w == t->wc && p <= 3 && w <= 4)
        known[p - 1][w - 1](t, gather);
    else
        levels_any(t, gather);
}

/* buffer := tile of X (load), or X -= buffer */
CLONES static void move_tile(const tile *t, double *X, int load)
{
    const lmm_model *m = t->m;
    const ptrdiff_t s = m->s, r0 = m->trailcol[m->strip[t->r]], c0 = m->trailcol[m->strip[t->c]];
    const int lr = lanes(t->wr);
    const int32_t blocks = m->strip[t->r + 1] - m->strip[t->r],
                  columns = (m->strip[t->c + 1] - m->strip[t->c]) * t->wc;
    for (int32_t c = 0; c < columns; c++) {
        double *x = X + (c0 + c) * s + r0, *b = t->buffer + c * t->ld;
        for (int32_t a = 0; a < blocks; a++, x += t->wr, b += lr)
            for (int r = 0; r < lr; r++) {
                if (load)
                    b[r] = r < t->wr ? x[r] : 0;
                else if (r < t->wr)
                    x[r] -= b[r];
            }
    }
}

/* The tile of strips r and c for factor k and all its levels, with the buffer of a worker. */
static tile make_tile(lmm_model *m, int k, int32_t r, int32_t c, int worker)
{
    tile t = {.m = m, .f = &m->f[k], .last = m->f[k].nlev, .r = r, .c = c};
    t.wr = m->width[m->strip[r]];
    t.wc = m->width[m->strip[c]];
    t.ld = (ptrdiff_t)(m->strip[r + 1] - m->strip[r]) * lanes(t.wr);
    t.buffer = m->tile + worker * m->ntile;
    t.small = t.buffer + m->largest_tile;
    return t;
}

/* S_bJ -= A_b K A_J', S_bb -= A_b K A_b' for the rows of X and y */
INLINE void border_levels(const int p, lmm_model *m, int k)
{
    const factor *f = &m->f[k];
    const ptrdiff_t s = m->lde, pb = m->pb;
    double *corner = m->Se + m->q2 * s, *BK = m->tmp; /* p x pb: column r is row r of A_b K */
    const ptrdiff_t skip = ancestor_rows(m, k);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const double *A = f->pan + m->pan[e], *Ab = A + ld - pb;
        mult(p, (int)pb, p, 0, f->Q + (ptrdiff_t)(e - f->node) * p * p, p, Ab, (int)ld, BK, p);
        const double *Ar = A + skip;
        for (ptrdiff_t i = m->ptr[e] + (m->nelim - 1 - k); i < m->ptr[e + 1]; i++)
            for (int c = 0; c < m->width[m->row[i]]; c++, Ar++) {
                double *to = m->Se + (ptrdiff_t)(m->trailcol[m->row[i]] + c) * s;
                for (ptrdiff_t r = 0; r < pb; r++) {
                    double v = 0;
                    for (int x = 0; x < p; x++) v += BK[x + r * p] * Ar[x * ld];
                    to[r] -= v;
                }
            }
        for (ptrdiff_t c = 0; c < pb; c++)
            for (ptrdiff_t r = c; r < pb; r++)
                for (int x = 0; x < p; x++) corner[r + c * s] -= BK[x + r * p] * Ab[c + x * ld];
    }
}

/* The edge of S -= A_b K_l A_lR: rows of X and y */
CLONES void downdate_edge(lmm_model *m, int k)
{
    BY_WIDTH(m->f[k].p, border_levels, m, k)
}

/* Copies the trailing rows of factor k's panels into its strips of blocks. */
void pack(lmm_model *m, int k)
{
    factor *f = &m->f[k];
    const int p = f->p;
    const ptrdiff_t skip = ancestor_rows(m, k);
    ptrdiff_t *at = f->blockptr, next = 0;
    double *to = f->block;
    for (int32_t s = 0; s < m->nstrip; s++) {
        const int w = m->width[m->strip[s]], l = lanes(w);
        f->blockstart[s] = to - f->block;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            ptrdiff_t i = m->ptr[e] + f->listat[e - f->node], row = f->rowat[e - f->node];
            if (s == 0) {
                i = m->ptr[e] + (m->nelim - 1 - k);
                row = skip;
            }
            *at++ = next;
            for (; i < m->ptr[e + 1] && m->row[i] < m->strip[s + 1]; i++, row += w, next++) {
                f->blocknode[next] = m->row[i] - m->strip[s];
                for (int x = 0; x < p; x++, to += l)
                    for (int r = 0; r < l; r++)
                        to[r] = r < w ? f->pan[m->pan[e] + row + r + (ptrdiff_t)x * m->ld[e]] : 0;
            }
            f->listat[e - f->node] = (int32_t)(i - m->ptr[e]);
            f->rowat[e - f->node] = (int32_t)row;
        }
        *at++ = next;
    }
}

typedef struct {
    lmm_model *m;
    int k;
} work;

/* The i-th tile of the lower triangle, by columns. */
static void downdate_tile(void *arg, int64_t i, int worker)
{
    const work *w = arg;
    lmm_model *m = w->m;
    int32_t c = 0, r;
    for (; i >= m->nstrip - c; c++) i -= m->nstrip - c;
    r = c + (int32_t)i;
    const tile t = make_tile(m, w->k, r, c, worker);
    memset(t.buffer, 0, sizeof(double) * (size_t)(t.ld * t.wc * (m->strip[c + 1] - m->strip[c])));
    all_levels(&t, 0);
    move_tile(&t, m->S, 0);
}

/* S -= A_Jl K_l A_lJ over factor k, K_l in f->Q */
void downdate_tiles(lmm_model *m, int k)
{
    work w = {m, k};
    if (k) pack(m, k);
    team_run(m->team, (int64_t)m->nstrip * (m->nstrip + 1) / 2, downdate_tile, &w);
    downdate_edge(m, k);
}

/* All tiles for a share of the levels: each level's sums go over the tiles in one order, whatever the shares.
 */
static void gather_share(void *arg, int64_t i, int worker)
{
    const work *w = arg;
    lmm_model *m = w->m;
    const int64_t levels = m->f[w->k].nlev, shares = team_size(m->team);
    for (int32_t c = 0; c < m->nstrip; c++)
        for (int32_t r = c; r < m->nstrip; r++) {
            tile t = make_tile(m, w->k, r, c, worker);
            t.first = (int32_t)(levels * i / shares);
            t.last = (int32_t)(levels * (i + 1) / shares);
            move_tile(&t, m->L, 1);
            all_levels(&t, 1);
        }
}

/* Q_l of factor k from the trailing part of the selected inverse (m->L), whole diagonal blocks */
void gather_tiles(lmm_model *m, int k)
{
    factor *f = &m->f[k];
    const int p = f->p;
    work w = {m, k};
    memset(f->Q, 0, sizeof(double) * (size_t)f->nlev * (size_t)(p * p));
    team_run(m->team, team_size(m->team), gather_share, &w);
    for (int32_t l = 0; l < f->nlev; l++) {
        double *Q = f->Q + (ptrdiff_t)l * p * p;
        for (int j = 0; j < p; j++)
            for (int i = j; i < p; i++) Q[i + j * p] = Q[j + i * p] = Q[i + j * p] + Q[j + i * p];
    }
}

/* Buffers for so many workers; they do not shrink. LMM_NOMEM: as before. */
lmm_status allocate_tiles(lmm_model *m, int workers)
{
    if (!m->nstrip || workers <= m->tiles) return LMM_OK;
    double *more = malloc(sizeof(double) * (size_t)(m->ntile * workers));
    if (!more) return LMM_NOMEM;
    free(m->tile);
    m->tile = more;
    m->tiles = workers;
    return LMM_OK;
}
