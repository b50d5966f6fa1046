/* The trailing matrix as one dense matrix: LAPACK's Cholesky factor and inverse. */

#include <stdlib.h>

#include "base/memory.h"
#include "model/relation.h"
#include "trailing/dense.h"
#include "cholesky/dense.h"
#include "trailing/lines.h"
#include "trailing/tiles.h"

static char lower = 'L', left = 'L', right = 'R', none = 'N', trans = 'T';
static double one = 1, zero = 0, minus = -1;

static lmm_status dense_make(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    GRAB(t, d->S, (ptrdiff_t)lay->s * lay->s);
    GRAB(t, d->L, (ptrdiff_t)lay->s * lay->s);
    d->B = d->L;
    GRAB(t, d->cholesky, cholesky_work(lay->q2));
    t->lde = lay->s;
    t->Se = d->S + lay->q2;
    t->Le = d->L + lay->q2;
    return lay->full ? LMM_OK : make_tiles(d, m);
}

static lmm_status dense_spare(trailing *t, const lmm_model *m)
{
    dense *d = (dense *)t;
    if (t->spared) return LMM_OK;
    GRAB(t, d->B, (ptrdiff_t)m->layout.s * m->layout.s);
    t->spared = 1;
    return LMM_OK;
}

static void dense_free(trailing *t)
{
    free(((dense *)t)->tile);
}

static lmm_status dense_threads(trailing *t, const lmm_model *m, int threads)
{
    (void)m;
    return allocate_tiles((dense *)t, threads);
}

/* The first factor's panels never change: packed once. */
static void dense_begin(trailing *t, const lmm_model *m)
{
    dense *d = (dense *)t;
    if (d->nstrip && m->layout.nelim) pack(d, m, 0);
}

/* S := A over the trailing levels, X and y */
static void dense_load(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    const ptrdiff_t s = lay->s;
    memset(d->S, 0, sizeof(double) * (size_t)(s * s));
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int p = f->p;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const ptrdiff_t c0 = lay->trailcol[e];
            const double *diag = m->sums.A[k].diag + (ptrdiff_t)(e - f->node) * p * p;
            for (int c = 0; c < p; c++) {
                double *S = d->S + (c0 + c) * s;
                const double *from = m->sums.A[k].pan + lay->pan[e] + (ptrdiff_t)c * lay->ld[e];
                for (int r = 0; r < p; r++) S[c0 + r] = diag[r + c * p];
                for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++) {
                    double *to = S + lay->trailcol[lay->row[i]];
                    for (int r = 0; r < lay->width[lay->row[i]]; r++) to[r] = *from++;
                }
                memcpy(S + lay->q2, from, sizeof(double) * (size_t)lay->pb);
            }
        }
    }
    for (int c = 0; c < lay->pb; c++)
        memcpy(d->S + (lay->q2 + c) * s + lay->q2, m->sums.border + c * lay->pb,
               sizeof(double) * (size_t)lay->pb);
}

/* S -= P P' when every level co-occurs with every trailing one: one product */
static void downdate_full(dense *d, const lmm_model *m, const factor *f)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    int s = m->layout.s, q1 = f->nlev * f->p;
    m->blas.syrk(&lower, &none, &s, &q1, &minus, fs->P, &s, &one, d->S, &s);
}

static void dense_downdate(trailing *t, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    if (lay->full)
        downdate_full(d, m, &lay->f[k]);
    else {
        if (k) pack(d, m, k);
        downdate_tiles(d, m, k, m->evaluation.f[k].K, d->S, lay->s);
        downdate_tiles_edge(d, m, k);
    }
}

static void dense_downdate_by(trailing *t, lmm_model *m, int k, const double *K, double *X)
{
    downdate_tiles((dense *)t, m, k, K, X, m->layout.q2);
}

/* The columns of one trailing factor */
INLINE void scale_factor(const int p, dense *d, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const ptrdiff_t s = lay->s;
    const double *T = m->evaluation.f[k].T;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t c0 = lay->trailcol[e], len = s - c0;
        const double *S = d->S + c0 * s + c0;
        mirror(p, d->S + c0 * s + c0, lay->s);
        for (int c = 0; c < p; c++) {
            double *restrict L = d->L + (c0 + c) * s + c0;
            for (ptrdiff_t r = 0; r < len; r++) {
                double v = S[r] * T[c * p];
                for (int x = 1; x < p; x++) v += S[r + x * s] * T[x + c * p];
                L[r] = v;
            }
            scale_rows(m, k, e, L, 1);
            if (!f->relation) L[c] += 1;
        }
    }
}

/* L += K^-1 (x) I over the columns of a factor */
static void add_precision(dense *d, const lmm_model *m, const factor *f)
{
    const ptrdiff_t s = m->layout.s, p = f->p;
    const relation *r = f->relation;
    double *corner = d->L + m->layout.trailcol[f->node] * (s + 1);
    for (ptrdiff_t j = 0; j < r->q; j++)
        for (ptrdiff_t z = r->ptr[j]; z < r->ptr[j + 1]; z++)
            for (ptrdiff_t c = 0; c < p; c++) corner[r->row[z] * p + c + (j * p + c) * s] += r->x[z];
}

/* L := [Lambda'S Lambda + I, .; S_b Lambda, S_bb], lower; S's diagonal blocks are made symmetric */
CLONES static void scale_trailing(dense *d, lmm_model *m)
{
    const layout *lay = &m->layout;
    const ptrdiff_t s = lay->s;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        BY_WIDTH(lay->f[k].p, scale_factor, d, m, k)
        if (lay->f[k].relation) add_precision(d, m, &lay->f[k]);
    }
    for (int c = 0; c < lay->pb; c++)
        memcpy(d->L + (lay->q2 + c) * s + lay->q2, d->S + (lay->q2 + c) * s + lay->q2,
               sizeof(double) * (size_t)lay->pb);
}

/* The trailing columns alone, then the corner by its rank: of it the last row is updated here. */
static lmm_status factorize_with_corner(dense *d, lmm_model *m)
{
    const layout *lay = &m->layout;
    trailing *t = &d->base;
    int q2 = lay->q2, s = lay->s, pb = lay->pb, row = 1;
    double *last = t->Le + lay->p;
    if (q2) {
        if (cholesky(&m->blas, m->team, q2, d->L, s)) return LMM_NOTPOSDEF;
        m->blas.trsm(&right, &lower, &trans, &none, &pb, &q2, &one, d->L, &s, t->Le, &s);
        m->blas.gemm(&none, &trans, &row, &pb, &q2, &minus, last, &s, t->Le, &s, &one,
                     last + (ptrdiff_t)q2 * s, &s);
    }
    for (ptrdiff_t i = 0; i < q2; i++) m->evaluation.logdetM += 2 * log(d->L[i + i * s]);
    return factorize_corner(t, m);
}

static lmm_status dense_factorize(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    evaluation *ev = &m->evaluation;
    dense *d = (dense *)t;
    const int s = lay->s;
    scale_trailing(d, m);
    if (corner_has_low_rank(t, lay)) return factorize_with_corner(d, m);
    const int failed = cholesky(&m->blas, m->team, s, d->L, s);
    if (failed && failed < s) return LMM_NOTPOSDEF;
    for (ptrdiff_t i = 0; i < s - 1; i++)
        *(i < lay->q2 ? &ev->logdetM : &ev->logdetC) += 2 * log(d->L[i + i * s]);
    const double r = d->L[(ptrdiff_t)s * s - 1];
    ev->r2 = failed ? 0 : r * r;
    return LMM_OK;
}

/* H := edge of L times L^-1 Lambda' */
static void dense_border(trailing *t, lmm_model *m, double *H)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    const ptrdiff_t pb = lay->pb;
    for (ptrdiff_t c = 0; c < lay->q2; c++)
        memcpy(H + c * pb, t->Le + c * t->lde, sizeof(double) * (size_t)pb);
    rows_solve(m, lay->pb, lay->q2, d->L, lay->s, 0, H);
    columns_times_lambda(m, lay->pb, H, 1);
}

static void dense_times(trailing *t, lmm_model *m, int r, double alpha, const double *V, double *W)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    rows_times_symmetric(m, r, lay->q2, alpha, V, d->S, lay->s, W);
}

static void dense_quadratic(trailing *t, lmm_model *m, int r, int p, double *w, double *Q)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    int all = lay->q2 + p;
    rows_solve(m, r, all, d->L, lay->s, 1, w);
    m->blas.gemm(&none, &trans, &r, &r, &all, &minus, w, &r, w, &r, &one, Q, &r);
}

/* D (w x w) += (S_jl T_l) Sinv_jl' for the blocks j of one factor from row `first` to row `last` of S and B;
   D is summed up beside it. Y: w x p, D: w x w doubles */
INLINE void gradient_blocks(const int w, const int p, const double *S, const double *B, int s,
                            ptrdiff_t first, ptrdiff_t last, const double *T, double *Y, double *D,
                            double *to)
{
    for (int i = 0; i < w * w; i++) D[i] = 0;
    for (ptrdiff_t r = first; r < last; r += w) {
        mul(w, p, p, 0, S + r, s, T, p, Y, w);
        mult(w, w, p, 1, Y, w, B + r, s, D, w);
    }
    for (int i = 0; i < w * w; i++) to[i] += D[i];
}

/* The same for every trailing block j below level l of factor k */
INLINE void gradient_below(const int p, const dense *d, lmm_model *m, int k, int32_t e)
{
    const layout *lay = &m->layout;
    const ptrdiff_t s = lay->s, c0 = lay->trailcol[e];
    const double *S = d->S + c0 * s, *B = d->B + c0 * s, *T = m->evaluation.f[k].T;
    for (int j = k; j < lay->nfactor; j++) {
        const factor *other = &lay->f[j];
        double *D = m->evaluation.f[j].D, Y[16], sum[16];
        const int w = other->p;
        const ptrdiff_t first = j == k ? c0 + p : lay->trailcol[other->node];
        const ptrdiff_t last = lay->trailcol[other->node] + (ptrdiff_t)other->nlev * w;
        if (w == 1 && p == 1)
            *D += *T * dot(last - first, S + first, B + first);
        else if (w == p && p <= 4)
            gradient_blocks(p, p, S, B, lay->s, first, last, T, Y, sum, D);
        else
            gradient_blocks(w, p, S, B, lay->s, first, last, T, m->scratch.tmp, m->scratch.tmp + w * p, D);
    }
}

/* X (n x p) = X T'. x: p doubles */
INLINE void times_transpose(int p, const double *T, ptrdiff_t n, double *X, ptrdiff_t ldx, double *x)
{
    if (p == 1) {
        for (ptrdiff_t r = 0; r < n; r++) X[r] *= *T;
        return;
    }
    for (ptrdiff_t r = 0; r < n; r++) {
        for (int c = 0; c < p; c++) x[c] = X[r + c * ldx];
        for (int c = 0; c < p; c++) {
            double v = 0;
            for (int k = 0; k < p; k++) v += x[k] * T[c + k * p];
            X[r + c * ldx] = v;
        }
    }
}

/* The columns of one trailing factor: B in place of M^-1 */
INLINE void invert_factor(const int p, dense *d, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    const ptrdiff_t s = lay->s;
    double few[4];
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t c0 = lay->trailcol[e], len = lay->q2 - c0;
        double *B = d->B + c0 * s + c0, *S = d->S + c0 * s + c0;
        mirror(p, B, lay->s);
        gradient_below(p, d, m, k, e);
        for (int c = 0; c < p; c++) {
            scale_rows(m, k, e, B + c * s, 0);
            for (int r = 0; r < p; r++) fs->D[r + c * p] += dot(len, S + r * s, B + c * s);
        }
        times_transpose(p, fs->T, len, B, s, p <= 4 ? few : m->scratch.tmp);
        for (int c = 0; c < p; c++)
            memcpy(fs->B + ((ptrdiff_t)(e - f->node) * p + c) * p, B + c * s, sizeof(double) * (size_t)p);
    }
}

/* Trailing part of B in place of M^-1, and D += blocks of S Lambda M^-1 */
CLONES static void invert_dense(dense *d, lmm_model *m)
{
    const layout *lay = &m->layout;
    if (d->B != d->L) memcpy(d->B, d->L, sizeof(double) * (size_t)lay->s * (size_t)lay->q2);
    cholesky_invert(&m->blas, m->team, lay->q2, d->B, lay->s, d->cholesky);
    for (int k = lay->nelim; k < lay->nfactor; k++) BY_WIDTH(lay->f[k].p, invert_factor, d, m, k)
}

/* Q_l = |L^-1 Lambda' A_Jl|^2 when every level co-occurs with every trailing one; needs L before inversion */
CLONES static void gather_full(const dense *d, lmm_model *m, const factor *f)
{
    const layout *lay = &m->layout;
    factor_state *fs = &m->evaluation.f[f->k];
    int q1 = lay->q1, q2 = lay->q2, s = lay->s, p = f->p;
    const ptrdiff_t pp = (ptrdiff_t)p * p;
    memset(fs->Q, 0, sizeof(double) * (size_t)(f->nlev * pp));
    if (!q2) return;
    for (ptrdiff_t c = 0; c < q1; c++) {
        double *to = fs->P + c * s;
        memcpy(to, fs->pan + c * s, sizeof(double) * (size_t)q2);
        for (int k = 1; k < lay->nfactor; k++) {
            const factor *t = &lay->f[k];
            factor_state *ts = &m->evaluation.f[k];
            for (int32_t l = 0; l < t->nlev; l++, to += t->p) {
                tmul(t->p, 1, t->p, 0, ts->T, t->p, to, t->p, m->scratch.tmp, t->p);
                memcpy(to, m->scratch.tmp, sizeof(double) * (size_t)t->p);
            }
        }
    }
    m->blas.trsm(&left, &lower, &none, &none, &q2, &q1, &one, d->L, &s, fs->P, &s);
    for (int32_t l = 0; l < f->nlev; l++) {
        double *Q = fs->Q + l * pp;
        if (p == 1)
            *Q = dot(q2, fs->P + (ptrdiff_t)l * s, fs->P + (ptrdiff_t)l * s);
        else
            m->blas.syrk(&lower, &trans, &p, &q2, &one, fs->P + (ptrdiff_t)l * p * s, &s, &zero, Q, &p);
        mirror(p, Q, p);
    }
}

static void dense_invert(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    dense *d = (dense *)t;
    if (lay->full) gather_full(d, m, &lay->f[0]);
    if (lay->q2) invert_dense(d, m);
}

static void dense_gather(trailing *t, lmm_model *m)
{
    dense *d = (dense *)t;
    gather_tiles(d, m, 0);
}

/* V += B_RR A_Rl for all levels at once, when every level has all trailing columns */
static void product_full(const dense *d, lmm_model *m, const double *A, double *V)
{
    int s = m->layout.s, q1 = m->layout.q1, q2 = m->layout.q2;
    m->blas.symm(&left, &lower, &q2, &q1, &one, d->B, &s, (double *)A, &s, &one, V, &s);
}

/* V += B_JJ A_J of one level with one column. Rows of B go four at a time, whose sums do not wait for each
   other; each sum has its terms in the order that one row at a time would give. */
INLINE void product_column(const double *B, ptrdiff_t s, int rows, const int32_t *J, const double *A,
                           double *V)
{
    int i = 0;
    for (; i + 4 <= rows; i += 4) {
        const double *b[4], *a = A + i;
        double sum[4] = {0}, *v = V + i;
        for (int x = 0; x < 4; x++) {
            b[x] = B + J[i + x] * s;
            sum[x] += b[x][J[i + x]] * a[x]; /* alone: no product may be fused with the next one */
            for (int y = x + 1; y < 4; y++) {
                v[y] += b[x][J[i + y]] * a[x];
                sum[x] += b[x][J[i + y]] * a[y];
            }
        }
        const double a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
        double s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
        for (int j = i + 4; j < rows; j++) {
            const double b0 = b[0][J[j]], b1 = b[1][J[j]], b2 = b[2][J[j]], b3 = b[3][J[j]];
            double here = V[j];
            here += b0 * a0, here += b1 * a1, here += b2 * a2, here += b3 * a3;
            V[j] = here;
            s0 += b0 * A[j], s1 += b1 * A[j], s2 += b2 * A[j], s3 += b3 * A[j];
        }
        v[0] += s0, v[1] += s1, v[2] += s2, v[3] += s3;
    }
    for (; i < rows; i++) {
        const double *b = B + J[i] * s, a = A[i];
        double sum = b[J[i]] * a;
        for (int j = i + 1; j < rows; j++) {
            V[j] += b[J[j]] * a;
            sum += b[J[j]] * A[j];
        }
        V[i] += sum;
    }
}

/* V += B_JJ A_J of one level: rows J in place, as many as there are; B's lower triangle, ascending J */
INLINE void product_level(const int p, const double *B, ptrdiff_t s, int rows, const int32_t *J,
                          const double *A, double *V, ptrdiff_t ld)
{
    if (p == 1) {
        product_column(B, s, rows, J, A, V);
        return;
    }
    for (int i = 0; i < rows; i++) {
        const double *column = B + J[i] * s;
        double sum[4], *own = p <= 4 ? sum : NULL;
        for (int x = 0; own && x < p; x++) own[x] = column[J[i]] * A[i + x * ld];
        for (int x = 0; !own && x < p; x++) V[i + x * ld] += column[J[i]] * A[i + x * ld];
        for (int j = i + 1; j < rows; j++) {
            const double b = column[J[j]];
            for (int x = 0; x < p; x++) {
                V[j + x * ld] += b * A[i + x * ld];
                *(own ? own + x : V + i + x * ld) += b * A[j + x * ld];
            }
        }
        for (int x = 0; own && x < p; x++) V[i + x * ld] += own[x];
    }
}

/* The same for every level of an eliminated factor with lists. The trailing rows of a panel are listed in the
   model's scratch. */
INLINE void product_levels(const int p, const dense *d, lmm_model *m, int k, const double *from,
                           double *panels)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const ptrdiff_t skip = ancestor_rows(lay, k);
    int32_t *J = (int32_t *)m->scratch.tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        int rows = 0;
        for (ptrdiff_t i = lay->ptr[e] + (lay->nelim - 1 - k); i < lay->ptr[e + 1]; i++)
            for (int c = 0; c < lay->width[lay->row[i]]; c++) J[rows++] = lay->trailcol[lay->row[i]] + c;
        product_level(p, d->B, lay->s, rows, J, from + lay->pan[e] + skip, panels + lay->pan[e] + skip,
                      lay->ld[e]);
    }
}

CLONES static void product_lists(const dense *d, lmm_model *m, int k, const double *from, double *panels)
{
    BY_WIDTH(m->layout.f[k].p, product_levels, d, m, k, from, panels)
}

static void dense_product(trailing *t, lmm_model *m, int k, const double *A, double *V)
{
    const dense *d = (const dense *)t;
    if (m->layout.full)
        product_full(d, m, A, V);
    else
        product_lists(d, m, k, A, V);
}

/* to (q2 x q2, both triangles) := the lower triangle of the first q2 columns of from */
static void copy_symmetric(const layout *lay, const double *from, double *to)
{
    const ptrdiff_t q2 = lay->q2, s = lay->s;
    for (ptrdiff_t c = 0; c < q2; c++)
        memcpy(to + c * q2 + c, from + c * s + c, sizeof(double) * (size_t)(q2 - c));
    mirror(lay->q2, to, lay->q2);
}

static void dense_matrix(const trailing *t, const lmm_model *m, double *S)
{
    copy_symmetric(&m->layout, ((const dense *)t)->S, S);
}

static void dense_inverse(const trailing *t, const lmm_model *m, double *B)
{
    copy_symmetric(&m->layout, ((const dense *)t)->B, B);
}

static void dense_solve(trailing *t, lmm_model *m, int r, double *X)
{
    const dense *d = (const dense *)t;
    const int q2 = m->layout.q2, s = m->layout.s;
    columns_times_lambda(m, r, X, 0);
    rows_solve(m, r, q2, d->L, s, 1, X);
    rows_solve(m, r, q2, d->L, s, 0, X);
    columns_times_lambda(m, r, X, 1);
}

static int dense_covariance(const trailing *t, const lmm_model *m, int32_t i, int32_t j, double *B)
{
    const layout *lay = &m->layout;
    const double *from = ((const dense *)t)->B + lay->trailcol[j] + (ptrdiff_t)lay->trailcol[i] * lay->s;
    for (int c = 0; c < lay->width[i]; c++, from += lay->s)
        for (int r = 0; r < lay->width[j]; r++) *B++ = from[r];
    return 1;
}

static const trailing_steps DENSE = {.make = dense_make,
                                     .free = dense_free,
                                     .threads = dense_threads,
                                     .spare = dense_spare,
                                     .begin = dense_begin,
                                     .load = dense_load,
                                     .downdate = dense_downdate,
                                     .downdate_by = dense_downdate_by,
                                     .factorize = dense_factorize,
                                     .border = dense_border,
                                     .times = dense_times,
                                     .quadratic = dense_quadratic,
                                     .invert = dense_invert,
                                     .gather = dense_gather,
                                     .product = dense_product,
                                     .matrix = dense_matrix,
                                     .inverse = dense_inverse,
                                     .solve = dense_solve,
                                     .covariance = dense_covariance};

trailing *dense_new(void)
{
    dense *d = calloc(1, sizeof(*d));
    if (!d) return NULL;
    d->base.steps = &DENSE;
    d->base.exact = 1;
    return &d->base;
}
