/* The two hot loops of sparse crossing, over tiles of the trailing matrix that stay in cache:

     downdate:  X_JJ -= A_Jl K_l A_lJ       for every eliminated level l, J its columns
     gather:    Q_l   = A_lJ B_JJ A_Jl      B = (Lambda M^-1 Lambda') over the trailing columns

   Trailing columns are cut into strips, the panels are stored strip by strip (pack), and a tile is one
   strip of rows times one of columns: two sequential streams of small blocks and a buffer in the
   second-level cache. Blocks of three or more rows are padded to whole vectors of four. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "trailing/tiles.h"

#define STRIP 288 /* columns of a strip: a strip x strip tile of S stays in the second-level cache */

typedef double vec4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef double vec2 __attribute__((vector_size(16), aligned(8), may_alias));

/* rows that a block of w rows takes when it is padded */
INLINE int lanes(const int w)
{
    return w <= 2 ? w : (w + 3) / 4 * 4;
}

typedef struct { /* one strip times another, for levels of one eliminated factor      */
    const dense *d;
    const lmm_model *m;
    const factor *f;
    const packed *packed;   /* its panels                                                        */
    int32_t first, last;    /* the levels                                                        */
    int32_t r, c, wr, wc;   /* strips of rows and columns, and the widths of their blocks        */
    ptrdiff_t ld;           /* rows of the buffer                                                */
    const double *K;        /* downdate: K of the levels                                         */
    double *Q;              /* gather: their Q                                                   */
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
    const packed *P = t->packed;
    const ptrdiff_t per = (ptrdiff_t)f->nlev + 1, *pr = P->ptr + t->r * per, *pc = P->ptr + t->c * per;
    const double *R = P->value + P->start[t->r], *C = P->value + P->start[t->c];
    const int32_t *rows = P->node, lr = lanes(wr), lc = lanes(wc);
    double local[12], *small = p <= 3 && wc <= 4 ? local : t->small;
    for (int32_t l = t->first; l < t->last; l++) {
        const ptrdiff_t nr = pr[l + 1] - pr[l], nc = pc[l + 1] - pc[l];
        if (!nr || !nc) continue;
        const double *r = R + (pr[l] - *pr) * p * lr, *c = C + (pc[l] - *pc) * p * lc;
        const ptrdiff_t block = (ptrdiff_t)l * p * p;
        if (gather)
            gather_level(p, wr, wc, r, rows + pr[l], nr, c, rows + pc[l], nc, t->buffer, t->ld, t->r == t->c,
                         t->Q + block, small);
        else
            downdate_level(p, wr, wc, r, rows + pr[l], nr, c, rows + pc[l], nc, t->K + block, t->r == t->c,
                           t->buffer, t->ld, small);
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
CLONES static void move_tile(const tile *t, double *X, ptrdiff_t s, int load)
{
    const dense *d = t->d;
    const lmm_model *m = t->m;
    const layout *lay = &m->layout;
    const ptrdiff_t r0 = lay->trailcol[d->strip[t->r]], c0 = lay->trailcol[d->strip[t->c]];
    const int lr = lanes(t->wr);
    const int32_t blocks = d->strip[t->r + 1] - d->strip[t->r],
                  columns = (d->strip[t->c + 1] - d->strip[t->c]) * t->wc;
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
static tile make_tile(const dense *d, const lmm_model *m, int k, int32_t r, int32_t c, int worker)
{
    const layout *lay = &m->layout;
    tile t = {.d = d,
              .m = m,
              .f = &lay->f[k],
              .packed = &d->packed[k],
              .Q = m->evaluation.f[k].Q,
              .last = lay->f[k].nlev,
              .r = r,
              .c = c};
    t.wr = lay->width[d->strip[r]];
    t.wc = lay->width[d->strip[c]];
    t.ld = (ptrdiff_t)(d->strip[r + 1] - d->strip[r]) * lanes(t.wr);
    t.buffer = d->tile + worker * d->ntile;
    t.small = t.buffer + d->largest_tile;
    return t;
}

/* Copies the trailing rows of factor k's panels into its strips of blocks. */
void pack(dense *d, const lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const factor_state *fs = &m->evaluation.f[k];
    packed *P = &d->packed[k];
    const int p = f->p;
    const ptrdiff_t skip = ancestor_rows(&m->layout, k);
    ptrdiff_t *at = P->ptr, next = 0;
    double *to = P->value;
    for (int32_t s = 0; s < d->nstrip; s++) {
        const int w = lay->width[d->strip[s]], l = lanes(w);
        P->start[s] = to - P->value;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            ptrdiff_t i = lay->ptr[e] + P->listat[e - f->node], row = P->rowat[e - f->node];
            if (s == 0) {
                i = lay->ptr[e] + (lay->nelim - 1 - k);
                row = skip;
            }
            *at++ = next;
            for (; i < lay->ptr[e + 1] && lay->row[i] < d->strip[s + 1]; i++, row += w, next++) {
                P->node[next] = lay->row[i] - d->strip[s];
                for (int x = 0; x < p; x++, to += l)
                    for (int r = 0; r < l; r++)
                        to[r] = r < w ? fs->pan[lay->pan[e] + row + r + (ptrdiff_t)x * lay->ld[e]] : 0;
            }
            P->listat[e - f->node] = (int32_t)(i - lay->ptr[e]);
            P->rowat[e - f->node] = (int32_t)row;
        }
        *at++ = next;
    }
}

typedef struct {
    dense *d;
    lmm_model *m;
    int k;
    const double *K; /* downdate only: of X, lines ldx apart */
    double *X;
    ptrdiff_t ldx;
} work;

/* The i-th tile of the lower triangle, by columns. */
static void downdate_tile(void *arg, int64_t i, int worker)
{
    const work *w = arg;
    dense *d = w->d;
    lmm_model *m = w->m;
    int32_t c = 0, r;
    for (; i >= d->nstrip - c; c++) i -= d->nstrip - c;
    r = c + (int32_t)i;
    tile t = make_tile(d, m, w->k, r, c, worker);
    t.K = w->K;
    memset(t.buffer, 0, sizeof(double) * (size_t)(t.ld * t.wc * (d->strip[c + 1] - d->strip[c])));
    all_levels(&t, 0);
    move_tile(&t, w->X, w->ldx, 0);
}

void downdate_tiles(dense *d, lmm_model *m, int k, const double *K, double *X, ptrdiff_t ldx)
{
    work w = {d, m, k, K, X, ldx};
    team_run(m->team, (int64_t)d->nstrip * (d->nstrip + 1) / 2, downdate_tile, &w);
}

/* All tiles for a share of the levels: each level's sums go over the tiles in one order, whatever the shares.
 */
static void gather_share(void *arg, int64_t i, int worker)
{
    const work *w = arg;
    dense *d = w->d;
    lmm_model *m = w->m;
    const int64_t levels = m->layout.f[w->k].nlev, shares = team_size(m->team);
    for (int32_t c = 0; c < d->nstrip; c++)
        for (int32_t r = c; r < d->nstrip; r++) {
            tile t = make_tile(d, m, w->k, r, c, worker);
            t.first = (int32_t)(levels * i / shares);
            t.last = (int32_t)(levels * (i + 1) / shares);
            move_tile(&t, d->L, m->layout.s, 1);
            all_levels(&t, 1);
        }
}

/* Q_l of factor k from the trailing part of the selected inverse (L), whole diagonal blocks */
void gather_tiles(dense *d, lmm_model *m, int k)
{
    const factor *f = &m->layout.f[k];
    factor_state *fs = &m->evaluation.f[k];
    const int p = f->p;
    work w = {.d = d, .m = m, .k = k};
    memset(fs->Q, 0, sizeof(double) * (size_t)f->nlev * (size_t)(p * p));
    team_run(m->team, team_size(m->team), gather_share, &w);
    for (int32_t l = 0; l < f->nlev; l++) {
        double *Q = fs->Q + (ptrdiff_t)l * p * p;
        for (int j = 0; j < p; j++)
            for (int i = j; i < p; i++) Q[i + j * p] = Q[j + i * p] = Q[i + j * p] + Q[j + i * p];
    }
}

/* Buffers for so many workers; they do not shrink. LMM_NOMEM: as before. */
lmm_status allocate_tiles(dense *d, int workers)
{
    if (!d->nstrip || workers <= d->workers) return LMM_OK;
    double *more = malloc(sizeof(double) * (size_t)(d->ntile * workers));
    if (!more) return LMM_NOMEM;
    free(d->tile);
    d->tile = more;
    d->workers = workers;
    return LMM_OK;
}

/* Room for the panels of factor k in strips. */
static lmm_status make_packed(dense *d, const lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    packed *P = &d->packed[k];
    ptrdiff_t blocks = 0, values = 0;
    for (int32_t e = f->node; e < f->node + f->nlev; e++)
        for (ptrdiff_t i = lay->ptr[e] + (lay->nelim - 1 - k); i < lay->ptr[e + 1]; i++, blocks++)
            values += (ptrdiff_t)lanes(lay->width[lay->row[i]]) * f->p;
    GRAB(&d->base, P->value, values + 4);
    GRAB(&d->base, P->node, blocks + 1);
    GRAB(&d->base, P->ptr, d->nstrip * ((ptrdiff_t)f->nlev + 1));
    GRAB(&d->base, P->start, d->nstrip);
    GRAB(&d->base, P->listat, f->nlev);
    GRAB(&d->base, P->rowat, f->nlev);
    return LMM_OK;
}

/* Room for the eliminated factors' panels in strips, and for one tile. */
static lmm_status make_blocks(dense *d, const lmm_model *m)
{
    const layout *lay = &m->layout;
    ptrdiff_t largest = 0, widest = 1;
    for (int32_t s = 0; s < d->nstrip; s++) {
        const ptrdiff_t w = lay->width[d->strip[s]], n = d->strip[s + 1] - d->strip[s];
        if (n * lanes((int)w) > largest) largest = n * lanes((int)w);
        if (w > widest) widest = w;
    }
    d->largest_tile = largest * largest + 4;
    for (int k = 0; k < lay->nelim; k++)
        if (lay->f[k].p * widest > d->ntile) d->ntile = lay->f[k].p * widest;
    d->ntile += d->largest_tile + 8; /* workers' buffers do not share a cache line */
    TRY(allocate_tiles(d, 1));
    GRAB(&d->base, d->packed, lay->nelim);
    for (int k = 0; k < lay->nelim && d->nstrip; k++) TRY(make_packed(d, m, k));
    return LMM_OK;
}

INLINE int32_t levels_of_strip(const factor *f)
{
    return STRIP / f->p > 0 ? STRIP / f->p : 1;
}

/* Strips of about STRIP trailing columns of one factor, and room for what stands in them. */
lmm_status make_tiles(dense *d, const lmm_model *m)
{
    const layout *lay = &m->layout;
    int32_t count = 0;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const int32_t per = levels_of_strip(&lay->f[k]);
        count += (lay->f[k].nlev + per - 1) / per;
    }
    GRAB(&d->base, d->strip, count + 1);
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = 0; e < f->nlev; e += levels_of_strip(f)) d->strip[d->nstrip++] = f->node + e;
    }
    d->strip[d->nstrip] = lay->nnode;
    return make_blocks(d, m);
}
