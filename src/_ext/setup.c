/* From rows to cross-products: elimination order, pattern, storage, A. The only file that allocates. */

#include <stdlib.h>

#include "model.h"
#include "small.h"

#define STRIP 288      /* columns of a strip: a strip x strip tile of S stays in the second-level cache */
#define PADDED(w) ((w) <= 2 ? (w) : ((w) + 3) / 4 * 4) /* rows of a block in sparse.c */
#define SPARSE_COST 6. /* a flop in the sparse kernels costs so many flops of BLAS 3 (measured) */

typedef struct chunk { /* header of every block of memory a model owns */
    struct chunk *next;
    size_t bytes;
} chunk;

typedef struct { /* what only set-up needs */
    const lmm_data *d;
    int32_t **node; /* nfactor x n  node of each row, in elimination order */
    int64_t *order; /* n            rows sorted by the node of one factor */
    int64_t *start; /* nnode+1      where each node's rows begin in order */
    int32_t *stamp; /* nnode        last node that met this one */
    double *rows;   /* n x ncol     whitened rows */
    int32_t ncol;
} builder;

static void *grab(lmm_model *m, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - sizeof(chunk)) / size) return NULL;
    chunk *c = calloc(1, sizeof(chunk) + count * size);
    if (!c) return NULL;
    c->bytes = count * size;
    c->next = m->memory;
    m->memory = c;
    return c + 1;
}

#define GRAB(m, field, count) \
    if (!((field) = grab(m, (size_t)(count), sizeof(*(field))))) return LMM_NOMEM

#define TRY(call)                              \
    do {                                       \
        lmm_status status_ = (call);           \
        if (status_ != LMM_OK) return status_; \
    } while (0)

void lmm_free(lmm_model *m)
{
    if (!m) return;
    for (chunk *c = m->memory, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(m);
}

/* ------------------------------------------------------------------------- elimination order -- */

/* Is every level of a inside one level of b?  parent: scratch, receives that level. */
static int is_nested(const lmm_data *d, int a, int b, int32_t *parent)
{
    const lmm_factor *fa = &d->factor[a], *fb = &d->factor[b];
    if (fa->nlev < fb->nlev || (fa->nlev == fb->nlev && a > b)) return 0;
    for (int32_t l = 0; l < fa->nlev; l++) parent[l] = -1;
    for (int64_t i = 0; i < d->n; i++) {
        int32_t *up = &parent[fa->level[i]];
        if (*up < 0)
            *up = fb->level[i];
        else if (*up != fb->level[i])
            return 0;
    }
    return 1;
}

/* Heaviest chain of nested factors that begins with factor a, in columns. */
static double chain_weight(const lmm_data *d, const uint8_t *nested, int a, int *next)
{
    double best = 0;
    next[a] = -1;
    for (int b = 0; b < d->nfactor; b++) {
        if (b == a || !nested[a * d->nfactor + b]) continue;
        const double w = chain_weight(d, nested, b, next);
        if (w > best) {
            best = w;
            next[a] = b;
        }
    }
    return best + (double)d->factor[a].nlev * d->factor[a].ncol;
}

/* Eliminated factors first (each nested in the next), then the others. order: user's numbers. */
static lmm_status choose_order(lmm_model *m, const lmm_data *d, int32_t *order)
{
    const int K = d->nfactor;
    int32_t most = 1;
    for (int a = 0; a < K; a++)
        if (d->factor[a].nlev > most) most = d->factor[a].nlev;
    uint8_t *nested = calloc((size_t)(K * K), 1), *used = calloc((size_t)K, 1);
    int *next = calloc((size_t)K, sizeof(int));
    int32_t *parent = malloc(sizeof(int32_t) * (size_t)most);
    lmm_status status = LMM_NOMEM;
    if (nested && used && next && parent) {
        double best = -1;
        int first = 0;
        for (int a = 0; a < K; a++)
            for (int b = 0; b < K; b++) nested[a * K + b] = (uint8_t)(a != b && is_nested(d, a, b, parent));
        for (int a = 0; a < K; a++) {
            const double w = chain_weight(d, nested, a, next);
            if (w > best) {
                best = w;
                first = a;
            }
        }
        chain_weight(d, nested, first, next);
        m->nelim = 0;
        for (int a = first; a >= 0; a = next[a]) {
            order[m->nelim++] = a;
            used[a] = 1;
        }
        for (int a = 0, at = m->nelim; a < K; a++)
            if (!used[a]) order[at++] = a;
        status = LMM_OK;
    }
    free(nested), free(used), free(next), free(parent);
    return status;
}

/* ------------------------------------------------------------------------------- coordinates -- */

static lmm_status new_whitening(lmm_model *m, whitening *w, int32_t k)
{
    w->k = k;
    w->constant = -1;
    GRAB(m, w->mean, k + 1);
    GRAB(m, w->B, k * k + 1);
    GRAB(m, w->C, k * k + 1);
    return LMM_OK;
}

/* Whitens each term of a factor by itself; the factor's B and C are block diagonal. */
static lmm_status whiten_factor(lmm_model *m, factor *f, const lmm_data *d, uint8_t *keep, lmm_report *report)
{
    const lmm_factor *u = &d->factor[f->user];
    const int p = f->p;
    whitening t;
    TRY(new_whitening(m, &t, p));
    for (int a = 0, b; a < p; a = b) {
        for (b = a + 1; b < p && f->term[b] == a;) b++;
        t.k = b - a;
        TRY(whiten(&t, d->n, u->z + a, p, 1, d->w, keep));
        for (int j = a; j < b; j++) {
            if (!keep[j - a]) {
                report->factor = f->user;
                report->column = j;
                return LMM_DEPENDENT;
            }
            f->w.mean[j] = t.mean[j - a];
            for (int i = a; i < b; i++) {
                f->w.B[i + j * p] = t.B[i - a + (j - a) * t.k];
                f->w.C[i + j * p] = t.C[i - a + (j - a) * t.k];
            }
        }
    }
    return LMM_OK;
}

/* A^-1 by Gauss-Jordan with partial pivoting; A is p x p, well conditioned by construction. */
static void invert(int p, const double *A, double *X, double *work)
{
    memcpy(work, A, sizeof(double) * (size_t)(p * p));
    memset(X, 0, sizeof(double) * (size_t)(p * p));
    for (int i = 0; i < p; i++) X[i + i * p] = 1;
    for (int c = 0; c < p; c++) {
        int r = c;
        for (int i = c + 1; i < p; i++)
            if (fabs(work[i + c * p]) > fabs(work[r + c * p])) r = i;
        for (int j = 0; j < p && r != c; j++) {
            double t = work[c + j * p];
            work[c + j * p] = work[r + j * p], work[r + j * p] = t;
            t = X[c + j * p];
            X[c + j * p] = X[r + j * p], X[r + j * p] = t;
        }
        const double d = work[c + c * p];
        for (int j = 0; j < p; j++) work[c + j * p] /= d, X[c + j * p] /= d;
        for (int i = 0; i < p; i++) {
            const double e = work[i + c * p];
            if (i == c || e == 0) continue;
            for (int j = 0; j < p; j++)
                work[i + j * p] -= e * work[c + j * p], X[i + j * p] -= e * X[c + j * p];
        }
    }
}

/* Columns, parameters and whitening of one factor. */
static lmm_status new_factor(lmm_model *m, factor *f, const lmm_data *d, int32_t user, uint8_t *keep,
                             lmm_report *report)
{
    const lmm_factor *u = &d->factor[user];
    const int p = u->ncol;
    f->user = user;
    f->p = p;
    f->nlev = u->nlev;
    GRAB(m, f->term, p);
    for (int j = 0; j < p; j++) f->term[j] = j && u->term[j] == u->term[j - 1] ? f->term[j - 1] : j;
    GRAB(m, f->thr, p * (p + 1) / 2);
    GRAB(m, f->thc, p * (p + 1) / 2);
    for (int c = 0; c < p; c++)
        for (int r = c; r < p && f->term[r] == f->term[c]; r++) {
            f->thr[f->nth] = r;
            f->thc[f->nth++] = c;
        }
    GRAB(m, f->perm, f->nlev);
    GRAB(m, f->Tp, p * p);
    GRAB(m, f->T, p * p);
    GRAB(m, f->D, p * p);
    GRAB(m, f->S, p * p);
    GRAB(m, f->Cinv, p * p);
    TRY(new_whitening(m, &f->w, p));
    TRY(whiten_factor(m, f, d, keep, report));
    invert(p, f->w.C, f->Cinv, f->T);
    return LMM_OK;
}

static lmm_status new_fixed(lmm_model *m, const lmm_data *d, uint8_t *keep)
{
    m->pfull = d->p;
    TRY(new_whitening(m, &m->x, d->p));
    GRAB(m, m->keep, d->p + 1);
    GRAB(m, m->b0, d->p + 1);
    if (d->p) TRY(whiten(&m->x, d->n, d->X, 1, d->n, d->w, keep));
    if (m->x.constant >= 0) m->xconstant = d->X[m->x.constant * d->n];
    for (int j = 0; j < d->p; j++)
        if (keep[j]) {
            m->logdetB += log(m->x.B[j + j * d->p]);
            m->keep[m->p++] = j;
        }
    m->pb = m->p + 1;
    GRAB(m, m->beta, m->pb);
    for (int64_t i = 0; d->w && i < d->n; i++) m->sumlogw += log(d->w[i]);
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------- nodes -- */

/* Nodes of an eliminated factor: children of one node of the next factor stand together. */
static lmm_status sort_by_parent(const lmm_data *d, factor *f, const factor *up)
{
    const int32_t *own = d->factor[f->user].level, *other = d->factor[up->user].level;
    int32_t *parent = calloc((size_t)f->nlev, sizeof(int32_t)); /* an unused level: any parent */
    int32_t *count = calloc((size_t)up->nlev + 1, sizeof(int32_t));
    if (!parent || !count) {
        free(parent), free(count);
        return LMM_NOMEM;
    }
    for (int64_t i = 0; i < d->n; i++) parent[own[i]] = up->perm[other[i]] - up->node;
    for (int32_t l = 0; l < f->nlev; l++) count[parent[l] + 1]++;
    for (int32_t a = 0; a < up->nlev; a++) count[a + 1] += count[a];
    for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + count[parent[l]]++;
    free(parent), free(count);
    return LMM_OK;
}

/* Numbers factors' nodes, columns and parameters in elimination order. */
static lmm_status number_nodes(lmm_model *m, const lmm_data *d)
{
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        f->node = m->nnode;
        f->col = m->q;
        f->th = m->ntheta;
        m->nnode += f->nlev;
        m->q += f->nlev * f->p;
        m->ntheta += f->nth;
    }
    for (int k = 0; k < m->nfactor; k++)
        for (int j = 0; j < m->nfactor; j++)
            if (m->f[j].user < m->f[k].user) m->f[k].userth += m->f[j].nth;
    for (int k = m->nfactor - 1; k >= 0; k--) {
        factor *f = &m->f[k];
        for (int32_t l = 0; l < f->nlev; l++) f->perm[l] = f->node + l;
        if (k < m->nelim - 1) TRY(sort_by_parent(d, f, &m->f[k + 1]));
    }
    GRAB(m, m->width, m->nnode);
    GRAB(m, m->nodecol, m->nnode + 1);
    GRAB(m, m->ptr, m->nnode + 1);
    GRAB(m, m->pan, m->nnode + 1);
    GRAB(m, m->ld, m->nnode);
    GRAB(m, m->pos, m->nnode);
    for (int k = 0; k < m->nfactor; k++)
        for (int32_t l = 0; l < m->f[k].nlev; l++) {
            m->width[m->f[k].node + l] = m->f[k].p;
            m->nodecol[m->f[k].node + l] = m->f[k].col + l * m->f[k].p;
        }
    m->nodecol[m->nnode] = m->q;
    return LMM_OK;
}

/* Rows sorted by their node of factor k (stable). */
static void sort_rows(const lmm_model *m, const builder *b, int k)
{
    const int32_t *node = b->node[k];
    const factor *f = &m->f[k];
    int64_t *start = b->start + f->node;
    memset(start, 0, sizeof(int64_t) * ((size_t)f->nlev + 1));
    for (int64_t i = 0; i < b->d->n; i++) start[node[i] - f->node + 1]++;
    for (int32_t l = 0; l < f->nlev; l++) start[l + 1] += start[l];
    for (int64_t i = 0; i < b->d->n; i++) b->order[start[node[i] - f->node]++] = i;
    for (int32_t l = f->nlev; l > 0; l--) start[l] = start[l - 1];
    start[0] = 0;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void sort_list(int32_t *a, ptrdiff_t n)
{
    if (n > 48) {
        qsort(a, (size_t)n, sizeof(int32_t), ascending);
        return;
    }
    for (ptrdiff_t i = 1; i < n; i++) {
        const int32_t v = a[i];
        ptrdiff_t j = i;
        for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
        a[j] = v;
    }
}

/* Which later nodes does node e of factor k meet?  Counts them, or writes them to list. */
static ptrdiff_t meet(const lmm_model *m, const builder *b, int k, int32_t e, int32_t *list)
{
    ptrdiff_t count = 0;
    const int64_t *start = b->start + e;
    for (int64_t r = start[0]; r < start[1]; r++)
        for (int j = k + 1; j < m->nfactor; j++) {
            const int32_t other = b->node[j][b->order[r]];
            if (b->stamp[other] == e) continue;
            b->stamp[other] = e;
            if (list) list[count] = other;
            count++;
        }
    if (list) sort_list(list, count);
    return count;
}

static void clear_stamps(const lmm_model *m, const builder *b)
{
    for (int32_t e = 0; e < m->nnode; e++) b->stamp[e] = -1;
}

/* Length of every node's list (ptr), and the flops of the sparse way for the first factor. */
static double count_lists(lmm_model *m, const builder *b)
{
    double flops = 0;
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        if (k < m->nfactor - 1) sort_rows(m, b, k);
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t len = k < m->nfactor - 1 ? meet(m, b, k, e, NULL) : 0;
            m->ptr[e + 1] = len;
            if (k) continue;
            /* widths differ between factors; the mean width is close enough for a cost */
            const double rows = (double)len * (m->q - f->nlev * f->p) / fmax(1, m->nnode - f->nlev);
            flops += rows * rows * f->p;
        }
    }
    return flops;
}

/* Dense off-diagonal block (one factor eliminated by BLAS) or lists: whichever costs less. */
static void choose_storage(lmm_model *m, double sparse)
{
    const double q1 = (double)m->f[0].nlev * m->f[0].p, rest = m->q - q1;
    double trailing = 0;
    for (int k = m->nelim; k < m->nfactor; k++) trailing += (double)m->f[k].nlev * m->f[k].p;
    const double dense = q1 * rest * rest + rest * rest * rest;
    sparse = SPARSE_COST * sparse + trailing * trailing * trailing;
    m->full = dense <= sparse || m->nfactor == 1;
    if (m->full) m->nelim = 1;
    m->q1 = (int32_t)q1;
    m->q2 = 0;
    for (int k = m->nelim; k < m->nfactor; k++) m->q2 += m->f[k].nlev * m->f[k].p;
    m->s = m->q2 + m->pb;
    if (m->full)
        for (int32_t e = 0; e < m->f[0].nlev; e++) m->ptr[e + 1] = 0;
}

/* Writes the lists; then rows and place of every panel. Sizes of the panels go to size[factor]. */
static lmm_status make_lists(lmm_model *m, const builder *b, ptrdiff_t *size)
{
    for (int32_t e = 0; e < m->nnode; e++) m->ptr[e + 1] += m->ptr[e];
    GRAB(m, m->row, m->ptr[m->nnode] + 1);
    clear_stamps(m, b);
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const int listed = k < m->nfactor - 1 && !(m->full && k == 0);
        size[k] = 0;
        if (listed) sort_rows(m, b, k);
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            if (listed) meet(m, b, k, e, m->row + m->ptr[e]);
            m->ld[e] = m->pb + (m->full && k == 0 ? m->q2 : 0);
            for (ptrdiff_t i = m->ptr[e]; i < m->ptr[e + 1]; i++) m->ld[e] += m->width[m->row[i]];
            m->pan[e] = size[k];
            size[k] += (ptrdiff_t)m->ld[e] * f->p;
        }
    }
    return LMM_OK;
}

/* Room for the eliminated factors' panels in strips, and for one tile. */
static lmm_status make_blocks(lmm_model *m)
{
    ptrdiff_t largest = 0;
    for (int32_t s = 0; s < m->nstrip; s++) {
        const ptrdiff_t w = m->width[m->strip[s]], n = m->strip[s + 1] - m->strip[s];
        if (n * PADDED(w) > largest) largest = n * PADDED(w);
    }
    GRAB(m, m->tile, largest * largest + 4);
    for (int k = 0; k < m->nelim && m->nstrip; k++) {
        factor *f = &m->f[k];
        ptrdiff_t blocks = 0, values = 0;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (ptrdiff_t i = m->ptr[e] + (m->nelim - 1 - k); i < m->ptr[e + 1]; i++, blocks++)
                values += (ptrdiff_t)PADDED(m->width[m->row[i]]) * f->p;
        GRAB(m, f->block, values + 4);
        GRAB(m, f->blocknode, blocks + 1);
        GRAB(m, f->blockptr, m->nstrip * ((ptrdiff_t)f->nlev + 1));
        GRAB(m, f->blockstart, m->nstrip);
        GRAB(m, f->listat, f->nlev);
        GRAB(m, f->rowat, f->nlev);
    }
    return LMM_OK;
}

/* Trailing columns in strips of about STRIP columns of one factor, and where they cut each list. */
static lmm_status make_strips(lmm_model *m)
{
    int32_t count = 0;
    for (int k = m->nelim; k < m->nfactor; k++) {
        const int32_t per = STRIP / m->f[k].p > 0 ? STRIP / m->f[k].p : 1;
        count += (m->f[k].nlev + per - 1) / per;
    }
    GRAB(m, m->strip, count + 1);
    for (int k = m->nelim; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        const int32_t per = STRIP / f->p > 0 ? STRIP / f->p : 1;
        for (int32_t e = 0; e < f->nlev; e += per) m->strip[m->nstrip++] = f->node + e;
    }
    m->strip[m->nstrip] = m->nnode;
    GRAB(m, m->trailcol, m->nnode);
    for (int32_t e = 0; e < m->nnode; e++) m->trailcol[e] = m->nodecol[e] - (m->q - m->q2);
    if (m->full) return LMM_OK;
    return make_blocks(m);
}

/* --------------------------------------------------------------------------- cross-products -- */

/* The blocks of A in the columns of node e. */
CLONES static void accumulate_node(lmm_model *m, const builder *b, int k, int32_t e)
{
    const factor *f = &m->f[k];
    const int p = f->p, c0 = (int)(b->ncol - m->pb), pb = m->pb;
    const ptrdiff_t ld = m->ld[e];
    double *diag = f->adiag + (ptrdiff_t)(e - f->node) * p * p, *pan = f->apan + m->pan[e];
    int at = 0;
    for (int j = 0; j < k; j++) at += m->f[j].p;
    for (ptrdiff_t i = m->ptr[e], row = 0; i < m->ptr[e + 1]; row += m->width[m->row[i++]])
        m->pos[m->row[i]] = (int32_t)row;
    for (int64_t r = b->start[e]; r < b->start[e + 1]; r++) {
        const int64_t i = b->order[r];
        const double *v = b->rows + i * b->ncol, *z = v + at, *other = z + p;
        for (int c = 0; c < p; c++)
            for (int a = 0; a < p; a++) diag[a + c * p] += z[a] * z[c];
        for (int j = k + 1; j < m->nfactor; other += m->f[j++].p) {
            const int32_t o = b->node[j][i];
            double *to = pan + (m->full && k == 0 ? m->nodecol[o] - m->q1 : m->pos[o]);
            for (int c = 0; c < p; c++)
                for (int a = 0; a < m->f[j].p; a++) to[a + c * ld] += other[a] * z[c];
        }
        for (int c = 0; c < p; c++)
            for (int a = 0; a < pb; a++) pan[ld - pb + a + c * ld] += v[c0 + a] * z[c];
    }
}

static void accumulate(lmm_model *m, builder *b)
{
    char lower = 'L', none = 'N';
    int pb = m->pb, n, ncol = b->ncol;
    double one = 1;
    for (int k = 0; k < m->nfactor; k++) {
        sort_rows(m, b, k);
        for (int32_t e = m->f[k].node; e < m->f[k].node + m->f[k].nlev; e++) accumulate_node(m, b, k, e);
    }
    for (int64_t i = 0; i < b->d->n; i += n) { /* in pieces: int row counts, better rounding */
        n = b->d->n - i < 4096 ? (int)(b->d->n - i) : 4096;
        m->blas.syrk(&lower, &none, &pb, &n, &one, b->rows + i * ncol + (ncol - pb), &ncol, &one, m->border,
                     &pb);
    }
}

static lmm_status make_rows(lmm_model *m, builder *b)
{
    const int64_t n = b->d->n;
    double *y = malloc(sizeof(double) * (size_t)n);
    if (!y) return LMM_NOMEM;
    const lmm_status status = center_response(m, b->d, y);
    for (int64_t i = 0; i < n && status == LMM_OK; i++) {
        whitened_row(m, b->d, i, b->rows + i * b->ncol);
        b->rows[(i + 1) * b->ncol - 1] = y[i];
    }
    free(y);
    return status;
}

/* ------------------------------------------------------------------------------------ memory -- */

/* Everything an evaluation writes to. */
static lmm_status make_workspace(lmm_model *m, const ptrdiff_t *size)
{
    int32_t pmax = 1, ldmax = m->pb;
    for (int k = 0; k < m->nfactor; k++) {
        factor *f = &m->f[k];
        const ptrdiff_t blocks = (ptrdiff_t)f->nlev * f->p * f->p;
        if (f->p > pmax) pmax = f->p;
        f->diag = f->adiag;
        f->pan = f->apan;
        GRAB(m, f->Q, blocks);
        if (k >= m->nelim) continue;
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            if (m->ld[e] > ldmax) ldmax = m->ld[e];
        GRAB(m, f->L, blocks);
        if (m->full || m->nelim > 1) GRAB(m, f->P, size[k] + 1);
        if (k == 0) continue;
        GRAB(m, f->diag, blocks);
        GRAB(m, f->pan, size[k] + 1);
    }
    const ptrdiff_t wide = m->pb > m->ntheta ? m->pb : m->ntheta;
    GRAB(m, m->S, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->L, (ptrdiff_t)m->s * m->s);
    GRAB(m, m->H, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->Y, (ptrdiff_t)m->pb * m->q + 1);
    GRAB(m, m->V, (ptrdiff_t)m->ntheta * (m->q - m->q1 + m->pb));
    m->nwork = (ptrdiff_t)m->ntheta * (2 * m->q2 + m->ntheta) + 4 * BATCH * pmax * wide;
    GRAB(m, m->work, m->nwork);
    GRAB(m, m->tmp, 12 * pmax * pmax + 6 * pmax * wide + 2 * (ptrdiff_t)ldmax * pmax + 3 * m->pfull + 8);
    GRAB(m, m->newton, newton_workspace(m->ntheta) + 6 * (ptrdiff_t)m->ntheta);
    return LMM_OK;
}

/* What make_workspace and the panels will take, in bytes. */
static double predicted_bytes(const lmm_model *m, const ptrdiff_t *size)
{
    double doubles = 2. * m->s * m->s + 2. * m->pb * m->q + (double)m->ntheta * (m->q + m->q2 + m->pb);
    for (int k = 0; k < m->nfactor; k++)
        doubles += (double)size[k] * (k == 0         ? 2
                                      : k < m->nelim ? 3
                                                     : 1) +
                   3. * m->f[k].nlev * m->f[k].p * m->f[k].p;
    return 8 * doubles + 4. * (double)m->ptr[m->nnode] + 24. * m->nnode;
}

static lmm_status new_builder(const lmm_model *m, builder *b)
{
    const size_t n = (size_t)b->d->n;
    b->node = calloc((size_t)m->nfactor, sizeof(*b->node));
    b->order = malloc(sizeof(int64_t) * n);
    b->start = malloc(sizeof(int64_t) * ((size_t)m->nnode + 1));
    b->stamp = malloc(sizeof(int32_t) * (size_t)m->nnode);
    if (!b->node || !b->order || !b->start || !b->stamp) return LMM_NOMEM;
    b->ncol = m->pb;
    for (int k = 0; k < m->nfactor; k++) {
        const factor *f = &m->f[k];
        b->ncol += f->p;
        if (!(b->node[k] = malloc(sizeof(int32_t) * n))) return LMM_NOMEM;
        for (size_t i = 0; i < n; i++) b->node[k][i] = f->perm[b->d->factor[f->user].level[i]];
    }
    return LMM_OK;
}

static void free_builder(const lmm_model *m, builder *b)
{
    for (int k = 0; b->node && k < m->nfactor; k++) free(b->node[k]);
    free(b->node), free(b->order), free(b->start), free(b->stamp), free(b->rows);
}

/* Pattern, storage and values of A. */
static lmm_status make_cross_products(lmm_model *m, builder *b, double limit, lmm_report *report)
{
    ptrdiff_t *size;
    TRY(new_builder(m, b));
    GRAB(m, size, m->nfactor);
    choose_storage(m, count_lists(m, b));
    TRY(make_lists(m, b, size));
    report->bytes = predicted_bytes(m, size) + 8. * (double)b->d->n * b->ncol;
    report->rank = m->p;
    report->eliminated = m->nelim;
    report->order = m->q2;
    report->full = m->full;
    if (report->bytes > limit) return LMM_NOMEM;
    TRY(make_strips(m));
    for (int k = 0; k < m->nfactor; k++) {
        GRAB(m, m->f[k].adiag, (ptrdiff_t)m->f[k].nlev * m->f[k].p * m->f[k].p);
        GRAB(m, m->f[k].apan, size[k] + 1);
    }
    GRAB(m, m->border, m->pb * m->pb);
    TRY(make_workspace(m, size));
    if (!(b->rows = malloc(sizeof(double) * (size_t)b->d->n * (size_t)b->ncol))) return LMM_NOMEM;
    TRY(make_rows(m, b));
    accumulate(m, b);
    if (!m->full && m->nstrip) pack(m, 0);
    return LMM_OK;
}

static lmm_status build(lmm_model *m, const lmm_data *d, double limit, uint8_t *keep, lmm_report *report)
{
    int32_t *order;
    uint8_t *flags;
    int32_t widest = 1;
    for (int a = 0; a < d->nfactor; a++)
        if (d->factor[a].ncol > widest) widest = d->factor[a].ncol;
    GRAB(m, order, d->nfactor);
    GRAB(m, flags, widest);
    GRAB(m, m->f, d->nfactor);
    TRY(choose_order(m, d, order));
    for (int k = 0; k < m->nfactor; k++) TRY(new_factor(m, &m->f[k], d, order[k], flags, report));
    TRY(new_fixed(m, d, keep));
    TRY(number_nodes(m, d));
    builder b = {.d = d};
    const lmm_status status = make_cross_products(m, &b, limit, report);
    free_builder(m, &b);
    return status;
}

lmm_status lmm_setup(lmm_model **out, const lmm_data *d, const lmm_blas *blas, double limit, uint8_t *keep,
                     lmm_report *report)
{
    lmm_model *m = calloc(1, sizeof(lmm_model));
    *out = NULL;
    memset(report, 0, sizeof(*report));
    if (!m) return LMM_NOMEM;
    m->blas = *blas;
    m->n = d->n;
    m->nfactor = d->nfactor;
    const lmm_status status = build(m, d, limit, keep, report);
    if (status == LMM_OK)
        *out = m;
    else
        lmm_free(m);
    return status;
}

int32_t lmm_ntheta(const lmm_model *m)
{
    return m->ntheta;
}

/* ---------------------------------------------------------------------------------- response -- */

/* Z'W y of one factor: sums over rows of centred columns, then whitened level by level. */
static void response_factor(lmm_model *m, factor *f, const lmm_data *d, const double *y)
{
    const lmm_factor *u = &d->factor[f->user];
    const int p = f->p;
    double *sum = m->tmp;
    for (int32_t l = 0; l < f->nlev; l++) {
        double *to = f->apan + m->pan[f->node + l] + m->ld[f->node + l] - 1;
        for (int c = 0; c < p; c++) to[(ptrdiff_t)c * m->ld[f->node + l]] = 0;
    }
    for (int64_t i = 0; i < d->n; i++) {
        const int32_t e = f->perm[u->level[i]];
        const double v = y[i] * (d->w ? sqrt(d->w[i]) : 1);
        double *to = f->apan + m->pan[e] + m->ld[e] - 1;
        for (int c = 0; c < p; c++) to[(ptrdiff_t)c * m->ld[e]] += (u->z[i * p + c] - f->w.mean[c]) * v;
    }
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        double *to = f->apan + m->pan[e] + m->ld[e] - 1;
        for (int c = 0; c < p; c++) sum[c] = to[(ptrdiff_t)c * m->ld[e]];
        for (int j = 0; j < p; j++) {
            double s = 0;
            for (int l = f->term[j]; l <= j; l++) s += f->w.B[l + j * p] * sum[l];
            to[(ptrdiff_t)j * m->ld[e]] = s;
        }
    }
}

/* X'W y and y'W y */
static void response_border(lmm_model *m, const lmm_data *d, const double *y)
{
    double *sum = m->tmp, *last = m->border + m->p, yy = 0;
    for (int l = 0; l < m->pfull; l++) {
        const double *x = d->X + l * d->n, mean = m->x.mean[l];
        sum[l] = 0;
        for (int64_t i = 0; i < d->n; i++) sum[l] += (x[i] - mean) * y[i] * (d->w ? sqrt(d->w[i]) : 1);
    }
    for (int a = 0; a < m->p; a++) {
        last[a * m->pb] = 0;
        for (int l = 0; l <= m->keep[a]; l++) last[a * m->pb] += m->x.B[l + m->keep[a] * m->pfull] * sum[l];
    }
    for (int64_t i = 0; i < d->n; i++) yy += y[i] * y[i];
    last[m->p * m->pb] = yy;
}

lmm_status lmm_response(lmm_model *m, const lmm_data *d)
{
    double *y = malloc(sizeof(double) * (size_t)d->n);
    if (!y) return LMM_NOMEM;
    const lmm_status status = center_response(m, d, y);
    if (status == LMM_OK) {
        for (int k = 0; k < m->nfactor; k++) response_factor(m, &m->f[k], d, y);
        response_border(m, d, y);
    }
    free(y);
    return status;
}
