/* The two hot loops of sparse crossing, over tiles of the trailing matrix that stay in cache:

     downdate:  X_JJ -= A_Jl K_l A_lJ       for every eliminated level l, J its columns
     gather:    Q_l   = A_lJ B_JJ A_Jl      B = (Lambda M^-1 Lambda') over the trailing columns

   Trailing columns are cut into strips, the panels are stored strip by strip (pack), and a tile is one
   strip of rows times one of columns: two sequential streams of small blocks and a buffer near the core.
   Larger tiles mean fewer passes over the panels and longer loops, smaller ones a nearer cache. What a level
   does in a tile: kernels.h. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "trailing/kernels.h"
#include "trailing/tiles.h"

#define STRIP 224 /* columns of a strip, at most: a tile is 400 kB */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define EDGE 32 /* rows of X and y that are summed up together, at most */

typedef struct { /* one strip times another, for levels of one eliminated factor      */
    const dense *d;
    const lmm_model *m;
    const factor *f;
    const packed *packed;   /* its panels                                                        */
    int32_t first, last;    /* the levels                                                        */
    int32_t r, c, wr, wc;   /* strips of rows and columns, and the widths of their blocks        */
    int32_t nr, nc;         /* blocks of a column and of a row                                   */
    ptrdiff_t height;       /* doubles between columns of blocks                                 */
    const double *K;        /* downdate: K of the levels                                         */
    double *Q;              /* gather: their Q                                                   */
    double *buffer, *small; /* the worker's: a tile, and room for one block                      */
} tile;

INLINE blocks blocks_of(const tile *t, int32_t strip, int w, int32_t l)
{
    const packed *P = t->packed;
    const ptrdiff_t *ptr = P->ptr + strip * ((ptrdiff_t)t->f->nlev + 1);
    return (blocks){P->value + P->start[strip] + (ptr[l] - *ptr) * t->f->p * w, P->place + ptr[l],
                    ptr[l + 1] - ptr[l]};
}

/* Calls one of the two for every level that has blocks in both strips. */
INLINE void each_level(const int p, const int wr, const int wc, const int constant, const tile *t, int gather)
{
    const int diagonal = t->r == t->c;
    for (int32_t l = t->first; l < t->last; l++) {
        const blocks R = blocks_of(t, t->r, wr, l), C = blocks_of(t, t->c, wc, l);
        const ptrdiff_t block = (ptrdiff_t)l * p * p;
        if (!R.n || !C.n) continue;
        if (gather)
            gather_level(p, wr, wc, constant, R, C, diagonal, t->buffer, t->height, t->Q + block, t->small);
        else
            downdate_level(p, wr, wc, constant, R, C, t->K + block, diagonal, t->buffer, t->height, t->small);
    }
}

/* Instances with constant widths: a few columns on either side, else the general loop. */
#define INSTANCE(p, w)                                          \
    CLONES static void levels_##p##w(const tile *t, int gather) \
    {                                                           \
        if (gather)                                             \
            each_level(p, w, w, 1, t, 1);                       \
        else                                                    \
            each_level(p, w, w, 1, t, 0);                       \
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
    each_level(t->f->p, t->wr, t->wc, 0, t, gather);
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

/* X -= buffer, on the diagonal its lower blocks */
CLONES static void subtract_tile(const tile *t, double *X, ptrdiff_t ldx)
{
    const int wr = t->wr, wc = t->wc, lr = lanes(wr);
    for (int32_t b = 0; b < t->nc; b++) {
        const int32_t from = t->r == t->c ? b : 0;
        for (int c = 0; c < wc; c++) {
            double *x = X + (ptrdiff_t)(b * wc + c) * ldx;
            const double *block = t->buffer + b * t->height + c * lr;
            for (int32_t a = from; a < t->nr; a++)
                for (int i = 0; i < wr; i++) x[a * wr + i] -= block[(ptrdiff_t)a * lr * wc + i];
        }
    }
}

/* buffer := X; on the diagonal half the blocks there, zero above them */
CLONES static void load_tile(const tile *t, const double *X, ptrdiff_t ldx)
{
    const int wr = t->wr, wc = t->wc, lr = lanes(wr), diagonal = t->r == t->c;
    for (int32_t b = 0; b < t->nc; b++) {
        const int32_t from = diagonal ? b : 0;
        double *column = t->buffer + b * t->height;
        memset(column, 0, sizeof(double) * (size_t)(from * lr * wc));
        for (int c = 0; c < wc; c++) {
            const double *x = X + (ptrdiff_t)(b * wc + c) * ldx;
            for (int32_t a = from; a < t->nr; a++) {
                double *block = column + (ptrdiff_t)(a * wc + c) * lr;
                for (int i = 0; i < lr; i++) block[i] = i < wr ? x[a * wr + i] : 0;
            }
        }
        for (int i = 0; diagonal && i < lr * wc; i++) column[(ptrdiff_t)b * lr * wc + i] /= 2;
    }
}

/* Where the tile's first entry is in a matrix over the trailing columns */
INLINE ptrdiff_t corner(const tile *t, ptrdiff_t ldx)
{
    const int32_t *column = t->m->layout.trailcol;
    return column[t->d->strip[t->r]] + column[t->d->strip[t->c]] * ldx;
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
    t.nr = d->strip[r + 1] - d->strip[r];
    t.nc = d->strip[c + 1] - d->strip[c];
    t.height = (ptrdiff_t)t.nr * lanes(t.wr) * t.wc;
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
        const int w = lay->width[d->strip[s]];
        P->start[s] = to - P->value;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            ptrdiff_t i = lay->ptr[e] + P->listat[e - f->node], row = P->rowat[e - f->node];
            if (s == 0) {
                i = lay->ptr[e] + (lay->nelim - 1 - k);
                row = skip;
            }
            *at++ = next;
            for (; i < lay->ptr[e + 1] && lay->row[i] < d->strip[s + 1]; i++, row += w, next++) {
                P->place[next] = (uint16_t)(lay->row[i] - d->strip[s]);
                for (int x = 0; x < p; x++)
                    for (int r = 0; r < w; r++)
                        *to++ = fs->pan[lay->pan[e] + row + r + (ptrdiff_t)x * lay->ld[e]];
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
    memset(t.buffer, 0, sizeof(double) * (size_t)(t.height * t.nc));
    all_levels(&t, 0);
    subtract_tile(&t, w->X + corner(&t, w->ldx), w->ldx);
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
            load_tile(&t, d->B + corner(&t, m->layout.s), m->layout.s);
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

/* n numbers, zeros behind them */
INLINE vec4 some4(const double *x, ptrdiff_t n)
{
    return n >= 4   ? load4(x)
           : n == 3 ? (vec4){x[0], x[1], x[2], 0}
           : n == 2 ? (vec4){x[0], x[1], 0, 0}
                    : (vec4){x[0], 0, 0, 0};
}

/* E -= A_b K_l A_lR for 4 v rows b of X and y from `first` on, those that there are; E's columns are 4 v long
 */
INLINE void edge_levels(const int p, const int v, const int constant, const work *w, ptrdiff_t first)
{
    const lmm_model *m = w->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[w->k];
    const ptrdiff_t skip = ancestor_rows(lay, w->k), n = MIN(lay->pb - first, 4 * v);
    vec4 local[8], *BK = constant ? local : (vec4 *)m->scratch.tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = lay->ld[e];
        const double *A = m->evaluation.f[w->k].pan + lay->pan[e] + skip,
                     *Ab = A - skip + ld - lay->pb + first, *K = w->K + (ptrdiff_t)(e - f->node) * p * p;
        for (int x = 0; x < p; x++)
            for (int j = 0; j < v; j++) {
                vec4 sum = {0};
                for (int y = 0; y < p; y++) sum += some4(Ab + 4 * j + y * ld, n - 4 * j) * K[y + x * p];
                BK[x * v + j] = sum;
            }
        for (ptrdiff_t i = lay->ptr[e] + (lay->nelim - 1 - w->k); i < lay->ptr[e + 1]; i++) {
            vec4 *to = (vec4 *)w->X + lay->trailcol[lay->row[i]] * (ptrdiff_t)v;
            for (int c = 0; c < lay->width[lay->row[i]]; c++, A++, to += v)
                for (int j = 0; j < v; j++) {
                    vec4 sum = to[j];
                    for (int x = 0; x < p; x++) sum -= BK[x * v + j] * A[x * ld];
                    to[j] = sum;
                }
        }
        for (ptrdiff_t c = 0; c < first + n; c++)
            for (ptrdiff_t r = c < first ? 0 : c - first; r < n; r++)
                for (int x = 0; x < p; x++)
                    w->X[(lay->q2 + c) * 4 * v + r] -= BK[x * v + r / 4][r % 4] * A[c + x * ld];
    }
}

#define EDGE_LEVELS(p, v, w, first) edge_levels(p, v, p <= 4 && v <= 2, w, first)

/* S's rows of X and y -= A_b K_l A_lR. They are far apart in S, so that they are summed up beside it, some at
   a time. */
CLONES void downdate_tiles_edge(dense *d, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const int p = lay->f[k].p;
    const work w = {.d = d, .m = m, .k = k, .K = m->evaluation.f[k].K, .X = d->edge};
    for (int first = 0; first < lay->pb; first += EDGE) {
        const int rows = MIN(lay->pb - first, EDGE), v = (rows + 3) / 4;
        memset(d->edge, 0, sizeof(double) * 4 * (size_t)v * (size_t)lay->s);
        if (v == 1)
            BY_WIDTH(p, EDGE_LEVELS, 1, &w, first)
        else if (v == 2)
            BY_WIDTH(p, EDGE_LEVELS, 2, &w, first)
        else
            edge_levels(p, v, 0, &w, first);
        for (ptrdiff_t c = 0; c < lay->s; c++)
            for (int r = 0; r < rows; r++) d->S[lay->q2 + first + r + c * lay->s] += d->edge[r + c * 4 * v];
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
            values += (ptrdiff_t)lay->width[lay->row[i]] * f->p;
    GRAB(&d->base, P->value, values + 4);
    GRAB(&d->base, P->place, blocks + 1);
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
    GRAB(&d->base, d->edge, MIN(lay->pb + 3, EDGE) * (ptrdiff_t)lay->s);
    GRAB(&d->base, d->packed, lay->nelim);
    for (int k = 0; k < lay->nelim && d->nstrip; k++) TRY(make_packed(d, m, k));
    return LMM_OK;
}

/* How many strips the levels of a factor are cut into */
INLINE int32_t strips_of(const factor *f)
{
    const int32_t most = STRIP / f->p > 0 ? STRIP / f->p : 1;
    return (f->nlev + most - 1) / most;
}

/* Strips of nearly equal length, each of one factor's trailing columns, and room for what stands in them. */
lmm_status make_tiles(dense *d, const lmm_model *m)
{
    const layout *lay = &m->layout;
    int32_t count = 0;
    for (int k = lay->nelim; k < lay->nfactor; k++) count += strips_of(&lay->f[k]);
    GRAB(&d->base, d->strip, count + 1);
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int64_t strips = strips_of(f);
        for (int64_t i = 0; i < strips; i++)
            d->strip[d->nstrip++] = f->node + (int32_t)(f->nlev * i / strips);
    }
    d->strip[d->nstrip] = lay->nnode;
    return make_blocks(d, m);
}
