/* The trailing matrix by its nonzero blocks. Node j's panel holds the rows of S in its columns: its own, then
   those of every later trailing node that shares a level of an eliminated factor (or rows) with it, or is
   related to it. All columns of a node have one list of rows, so the panels are also a matrix by columns,
   which the supernodal factor reads. */

#include "trailing/sparse.h"

#include <stdlib.h>

#include "base/memory.h"
#include "model/relation.h"
#include "trailing/lines.h"
#include "trailing/nonzeros.h"

#define PRICE 6 /* flops of BLAS 3 that a multiplication of the factor costs, the inverse included */

static double one = 1, minus = -1;
static char lower = 'L', none = 'N', right = 'R', trans = 'T';

double sparse_density(const trailing *t, const lmm_model *m)
{
    const layout *lay = &m->layout;
    const double q2 = lay->q2; /* whole diagonal blocks stand there: a little too much */
    return fmin(1, (2 * (double)((const sparse *)t)->ptr[lay->q2] - q2) / (q2 * q2));
}

double sparse_bytes(const trailing *t, const lmm_model *m)
{
    const layout *lay = &m->layout;
    const sparse *s = (const sparse *)t;
    return 20. * (double)s->ptr[lay->q2] + 8. * (double)s->spotptr[s->first] +
           16. * lay->pb * (lay->q2 + lay->pb) + supernodal_bytes(s->factor);
}

lmm_order sparse_ordered(const trailing *t)
{
    return ((const sparse *)t)->ordered;
}

double sparse_flops(const trailing *t)
{
    return PRICE * supernodal_flops(((const sparse *)t)->factor);
}

static lmm_status sparse_make(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    GRAB(t, s->S, s->ptr[lay->q2] + 1);
    GRAB(t, s->B, s->ptr[lay->q2] + 1);
    GRAB(t, t->Se, (ptrdiff_t)lay->pb * (lay->q2 + lay->pb));
    GRAB(t, t->Le, (ptrdiff_t)lay->pb * (lay->q2 + lay->pb));
    t->lde = lay->pb;
    return supernodal_allocate(s->factor);
}

static lmm_status sparse_threads(trailing *t, const lmm_model *m, int threads)
{
    (void)m;
    return supernodal_set_threads(((sparse *)t)->factor, threads);
}

static lmm_status sparse_spare(trailing *t, const lmm_model *m)
{
    (void)m;
    TRY(supernodal_spare(((sparse *)t)->factor));
    t->spared = 1;
    return LMM_OK;
}

static void sparse_free(trailing *t)
{
    supernodal_free(((sparse *)t)->factor);
}

/* ----------------------------------------------------------------------------------- numbers -- */

static void sparse_load(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    const ptrdiff_t pb = lay->pb;
    memset(s->S, 0, sizeof(double) * (size_t)s->ptr[lay->q2]);
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        const int p = f->p;
        for (int32_t e = f->node; e < f->node + f->nlev; e++) {
            const int32_t j = e - s->first, c0 = column_of(m, s, j);
            const double *diag = m->sums.A[k].diag + (ptrdiff_t)(e - f->node) * p * p;
            for (ptrdiff_t i = s->nptr[j]; i < s->nptr[j + 1]; i++)
                m->scratch.pos[s->first + s->node[i]] = s->place[i];
            for (int c = 0; c < p; c++) {
                double *S = s->S + s->ptr[c0 + c];
                const double *from = m->sums.A[k].pan + lay->pan[e] + (ptrdiff_t)c * lay->ld[e];
                for (int r = 0; r < p; r++) S[r] = diag[r + c * p];
                for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1]; i++)
                    for (int r = 0; r < lay->width[lay->row[i]]; r++)
                        S[m->scratch.pos[lay->row[i]] + r] = *from++;
                memcpy(s->base.Se + (c0 + c) * pb, from, sizeof(double) * (size_t)pb);
            }
        }
    }
    memcpy(s->base.Se + lay->q2 * pb, m->sums.border, sizeof(double) * (size_t)(pb * pb));
}

/* S_JJ -= A_J K A_J' for the levels of factor k */
INLINE void downdate_levels(const int p, sparse *s, lmm_model *m, int k)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    factor_state *fs = &m->evaluation.f[k];
    const ptrdiff_t skip = ancestor_rows(&m->layout, k);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const double *K = fs->K + (ptrdiff_t)(e - f->node) * p * p, *Ai = fs->pan + lay->pan[e] + skip;
        const ptrdiff_t ld = lay->ld[e], *spot = s->spot + s->spotptr[e], end = lay->ptr[e + 1];
        for (ptrdiff_t i = first_trailing(m, k, e); i < end; i++) {
            const int32_t node = lay->row[i] - s->first, wi = lay->width[lay->row[i]],
                          c0 = column_of(m, s, node);
            const ptrdiff_t height = s->ptr[c0 + 1] - s->ptr[c0];
            for (int c = 0; c < wi; c++) {
                const double *Aj = Ai;
                double *coef = m->scratch.tmp;
                for (int x = 0; x < p; x++) {
                    coef[x] = 0;
                    for (int y = 0; y < p; y++) coef[x] += Ai[c + y * ld] * K[y + x * p];
                }
                for (ptrdiff_t j = i; j < end; j++) {
                    double *to = s->S + spot[j - i] + c * height;
                    const int wj = lay->width[lay->row[j]];
                    for (int r = 0; r < wj; r++, Aj++)
                        for (int x = 0; x < p; x++) to[r] -= Aj[x * ld] * coef[x];
                }
            }
            spot += end - i;
            Ai += wi;
        }
    }
}

CLONES static void sparse_downdate(trailing *t, lmm_model *m, int k)
{
    sparse *s = (sparse *)t;
    BY_WIDTH(m->layout.f[k].p, downdate_levels, s, m, k)
    downdate_edge(t, m, k);
}

/* to := T_i' from T_j (how 0) or T_i from T_j' (how 1) for every block; from and to may be one */
CLONES static void scale_blocks(const sparse *s, lmm_model *m, const double *from, double *to, int how)
{
    const layout *lay = &m->layout;
    double *half = m->scratch.tmp;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *fj = &lay->f[k];
        factor_state *sj = &m->evaluation.f[k];
        for (int32_t j = fj->node - s->first; j < fj->node - s->first + fj->nlev; j++) {
            const ptrdiff_t h = height_of(m, s, j), start = s->ptr[column_of(m, s, j)];
            int g = k;
            for (ptrdiff_t l = s->nptr[j]; l < s->nptr[j + 1]; l++) {
                while (s->node[l] + s->first >= lay->f[g].node + lay->f[g].nlev) g++;
                const factor *fi = &lay->f[g];
                factor_state *si = &m->evaluation.f[g];
                const double *A = from + start + s->place[l];
                double *X = to + start + s->place[l];
                const int p = fj->p, w = fi->p;
                if (p == 1 && w == 1) {
                    *X = *A * si->T[0] * sj->T[0];
                } else if (how == 0) {
                    mul(w, p, p, 0, A, (int)h, sj->T, p, half, w);
                    tmul(w, p, w, 0, si->T, w, half, w, X, (int)h);
                } else {
                    mult(w, p, p, 0, A, (int)h, sj->T, p, half, w);
                    mul(w, p, w, 0, si->T, w, half, w, X, (int)h);
                }
            }
        }
    }
}

/* The whole diagonal blocks of S from their lower triangles. */
static void mirror_diagonal(const lmm_model *m, const sparse *s)
{
    for (int32_t j = 0; j < s->nnode; j++)
        mirror(width_of(m, s, j), s->S + s->ptr[column_of(m, s, j)], (int)height_of(m, s, j));
}

/* B += I, or K^-1 (x) I where levels are related, over the columns of a factor */
static void add_prior_precision(const lmm_model *m, const sparse *s, const factor *f)
{
    const relation *r = f->relation;
    const int p = f->p;
    for (int32_t j = 0; j < f->nlev; j++) {
        const int32_t node = f->node + j - s->first, c0 = column_of(m, s, node);
        if (!r) {
            for (int c = 0; c < p; c++) s->B[s->ptr[c0 + c] + c] += 1;
            continue;
        }
        ptrdiff_t at = s->nptr[node];
        for (ptrdiff_t z = r->ptr[j]; z < r->ptr[j + 1]; z++) {
            while (s->node[at] + s->first < f->node + r->row[z]) at++;
            for (int c = 0; c < p; c++) s->B[s->ptr[c0 + c] + s->place[at] + c] += r->x[z];
        }
    }
}

/* Factor of M; edge of the factor by a forward solve, its columns in the order of elimination */
static lmm_status sparse_factorize(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    const ptrdiff_t pb = lay->pb;
    int ipb = lay->pb, q2 = lay->q2;
    double logdet;
    mirror_diagonal(m, s);
    scale_blocks(s, m, s->S, s->B, 0);
    for (int k = lay->nelim; k < lay->nfactor; k++) add_prior_precision(m, s, &lay->f[k]);
    if (supernodal_factor(s->factor, m->team, s->B, &logdet)) return LMM_NOTPOSDEF;
    m->evaluation.logdetM += logdet;
    memcpy(s->base.Le, s->base.Se, sizeof(double) * (size_t)(pb * (lay->q2 + pb)));
    columns_times_lambda(m, ipb, s->base.Le, 0);
    supernodal_solve(s->factor, m->team, ipb, s->base.Le, 1);
    m->blas.syrk(&lower, &none, &ipb, &q2, &minus, s->base.Le, &ipb, &one, s->base.Le + lay->q2 * pb, &ipb);
    return factorize_corner(t, m);
}

static void sparse_solve(trailing *t, lmm_model *m, int r, double *X)
{
    columns_times_lambda(m, r, X, 0);
    supernodal_solve(((sparse *)t)->factor, m->team, r, X, 3);
    columns_times_lambda(m, r, X, 1);
}

static void sparse_border(trailing *t, lmm_model *m, double *H)
{
    memcpy(H, t->Se, sizeof(double) * (size_t)m->layout.pb * (size_t)m->layout.q2);
    sparse_solve(t, m, m->layout.pb, H);
}

INLINE void times_columns(const int r, const sparse *s, const lmm_model *m, double alpha, const double *V,
                          double *W)
{
    double scaled[8], sum[8];
    for (int32_t j = 0; j < s->nnode; j++) {
        const int32_t c0 = column_of(m, s, j), p = width_of(m, s, j);
        for (int32_t c = c0; c < c0 + p; c++) {
            const double *S = s->S + s->ptr[c];
            const int32_t *row = s->row + s->ptr[c];
            const ptrdiff_t n = s->ptr[c + 1] - s->ptr[c];
            for (int t = 0; t < r; t++) {
                scaled[t] = alpha * V[t + (ptrdiff_t)c * r];
                sum[t] = 0;
            }
            for (ptrdiff_t i = 0; i < p; i++) /* the diagonal block is whole */
                for (int t = 0; t < r; t++) sum[t] += S[i] * V[t + (ptrdiff_t)row[i] * r];
            for (ptrdiff_t i = p; i < n; i++)
                for (int t = 0; t < r; t++) {
                    sum[t] += S[i] * V[t + (ptrdiff_t)row[i] * r];
                    W[t + (ptrdiff_t)row[i] * r] += S[i] * scaled[t];
                }
            for (int t = 0; t < r; t++) W[t + (ptrdiff_t)c * r] += alpha * sum[t];
        }
    }
}

/* As above for any number of rows. */
static void times_many(const sparse *s, const lmm_model *m, int r, double alpha, const double *V, double *W)
{
    for (int32_t j = 0; j < s->nnode; j++) {
        const int32_t c0 = column_of(m, s, j), p = width_of(m, s, j);
        for (int32_t c = c0; c < c0 + p; c++)
            for (ptrdiff_t i = s->ptr[c]; i < s->ptr[c + 1]; i++) {
                const double v = alpha * s->S[i];
                const double *here = V + (ptrdiff_t)c * r, *other = V + (ptrdiff_t)s->row[i] * r;
                double *to = W + (ptrdiff_t)c * r, *below = W + (ptrdiff_t)s->row[i] * r;
                for (int t = 0; t < r; t++) to[t] += v * other[t];
                for (int t = 0; t < r && i >= s->ptr[c] + p; t++) below[t] += v * here[t];
            }
    }
}

CLONES static void sparse_times(trailing *t, lmm_model *m, int r, double alpha, const double *V, double *W)
{
    sparse *s = (sparse *)t;
    if (r > FEW) {
        times_many(s, m, r, alpha, V, W);
        return;
    }
    BY_WIDTH(r, times_columns, s, m, alpha, V, W)
}

static void sparse_quadratic(trailing *t, lmm_model *m, int r, int p, double *w, double *Q)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    int n = r, q2 = lay->q2, pb = lay->pb, all = q2 + p;
    double *wX = w + (ptrdiff_t)r * q2;
    supernodal_solve(s->factor, m->team, n, w, 1);
    if (p) {
        m->blas.gemm(&none, &trans, &n, &p, &q2, &minus, w, &n, s->base.Le, &pb, &one, wX, &n);
        m->blas.trsm(&right, &lower, &trans, &none, &n, &p, &one, s->base.Le + (ptrdiff_t)q2 * pb, &pb, wX,
                     &n);
    }
    m->blas.gemm(&none, &trans, &n, &n, &all, &minus, w, &n, w, &n, &one, Q, &n);
}

/* D_j += S_jR Lambda Minv_Rj over the pattern */
CLONES static void add_gradient(const sparse *s, lmm_model *m)
{
    const layout *lay = &m->layout;
    double *Y = m->scratch.tmp;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *fj = &lay->f[k];
        factor_state *sj = &m->evaluation.f[k];
        const int p = fj->p;
        for (int32_t j = fj->node - s->first; j < fj->node - s->first + fj->nlev; j++) {
            const int h = (int)height_of(m, s, j);
            const ptrdiff_t start = s->ptr[column_of(m, s, j)];
            int g = k;
            for (ptrdiff_t l = s->nptr[j]; l < s->nptr[j + 1]; l++) {
                while (s->node[l] + s->first >= lay->f[g].node + lay->f[g].nlev) g++;
                const factor *fi = &lay->f[g];
                factor_state *si = &m->evaluation.f[g];
                const int w = fi->p;
                const double *S = s->S + start + s->place[l], *B = s->B + start + s->place[l];
                tmul(p, w, w, 0, S, h, si->T, w, Y, p); /* S_ij' T_i */
                mul(p, p, w, 1, Y, p, B, h, sj->D, p);
                if (l == s->nptr[j]) continue;
                mul(w, p, p, 0, S, h, sj->T, p, Y, w); /* S_ij T_j */
                mult(w, w, p, 1, Y, w, B, h, si->D, w);
            }
        }
    }
}

static void sparse_invert(trailing *t, lmm_model *m)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    supernodal_invert(s->factor, m->team, s->B);
    add_gradient(s, m);
    scale_blocks(s, m, s->B, s->B, 1);
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const int p = f->p;
        for (int32_t l = 0; l < f->nlev; l++) {
            const int32_t j = f->node + l - s->first;
            const double *B = s->B + s->ptr[column_of(m, s, j)];
            for (int c = 0; c < p; c++)
                for (int r = 0; r < p; r++)
                    fs->B[((ptrdiff_t)l * p + c) * p + r] = B[r + c * height_of(m, s, j)];
        }
    }
}

/* V (rows of J, columns x; leading dimension ld) += B_JJ A_J for one level */
INLINE void product_level(const int p, const sparse *s, const lmm_model *m, int k, int32_t e, const double *A,
                          double *V, ptrdiff_t ldv)
{
    const layout *lay = &m->layout;
    const ptrdiff_t ld = lay->ld[e], *spot = s->spot + s->spotptr[e], end = lay->ptr[e + 1];
    const double *Ai = A;
    double *Vi = V;
    for (ptrdiff_t i = first_trailing(m, k, e); i < end; i++) {
        const int32_t node = lay->row[i] - s->first, wi = lay->width[lay->row[i]];
        const ptrdiff_t h = height_of(m, s, node);
        const double *Aj = Ai;
        double *Vj = Vi;
        for (ptrdiff_t j = i; j < end; j++) {
            const double *B = s->B + spot[j - i];
            const int wj = lay->width[lay->row[j]];
            for (int x = 0; x < p; x++)
                for (int c = 0; c < wi; c++)
                    for (int r = 0; r < wj; r++) {
                        Vj[r + x * ldv] += B[r + c * h] * Ai[c + x * ld];
                        if (j > i) Vi[c + x * ldv] += B[r + c * h] * Aj[r + x * ld];
                    }
            Aj += wj;
            Vj += wj;
        }
        spot += end - i;
        Ai += wi;
        Vi += wi;
    }
}

INLINE void gather_levels(const int p, const sparse *s, lmm_model *m)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    factor_state *fs = &m->evaluation.f[0];
    const ptrdiff_t skip = ancestor_rows(&m->layout, 0);
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const int rows = lay->ptr[e] < lay->ptr[e + 1] ? (int)(lay->ld[e] - lay->pb - skip) : 0;
        const double *A = fs->pan + lay->pan[e] + skip;
        double *Q = fs->Q + (ptrdiff_t)(e - f->node) * p * p, *V = m->scratch.tmp;
        memset(V, 0, sizeof(double) * (size_t)rows * (size_t)p);
        product_level(p, s, m, 0, e, A, V, rows);
        tmul(p, p, rows, 0, A, lay->ld[e], V, rows, Q, p);
        symmetrize(p, Q);
    }
}

CLONES static void sparse_gather(trailing *t, lmm_model *m)
{
    const sparse *s = (const sparse *)t;
    BY_WIDTH(m->layout.f[0].p, gather_levels, s, m)
}

CLONES static void sparse_product(trailing *t, lmm_model *m, int k, const double *A, double *panels)
{
    const layout *lay = &m->layout;
    sparse *s = (sparse *)t;
    const factor *f = &lay->f[k];
    const ptrdiff_t skip = ancestor_rows(&m->layout, k);
    for (int32_t e = f->node; e < f->node + f->nlev; e++)
        product_level(f->p, s, m, k, e, A + lay->pan[e] + skip, panels + lay->pan[e] + skip, lay->ld[e]);
}

static void sparse_matrix(const trailing *t, const lmm_model *m, double *S)
{
    const sparse *s = (const sparse *)t;
    const ptrdiff_t q2 = m->layout.q2;
    memset(S, 0, sizeof(double) * (size_t)(q2 * q2));
    for (ptrdiff_t c = 0; c < q2; c++)
        for (ptrdiff_t i = s->ptr[c]; i < s->ptr[c + 1]; i++)
            S[s->row[i] + c * q2] = S[c + s->row[i] * q2] = s->S[i];
}

static int sparse_covariance(const trailing *t, const lmm_model *m, int32_t i, int32_t j, double *B)
{
    const sparse *s = (const sparse *)t;
    const int32_t column = i - s->first, row = j - s->first;
    ptrdiff_t low = s->nptr[column], high = s->nptr[column + 1];
    while (high - low > 1) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (s->node[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    if (s->node[low] != row) return 0;
    const double *from = s->B + s->ptr[column_of(m, s, column)] + s->place[low];
    for (int c = 0; c < width_of(m, s, column); c++, from += height_of(m, s, column))
        for (int r = 0; r < width_of(m, s, row); r++) *B++ = from[r];
    return 1;
}

static const trailing_steps SPARSE = {.make = sparse_make,
                                      .free = sparse_free,
                                      .threads = sparse_threads,
                                      .spare = sparse_spare,
                                      .load = sparse_load,
                                      .downdate = sparse_downdate,
                                      .factorize = sparse_factorize,
                                      .border = sparse_border,
                                      .times = sparse_times,
                                      .quadratic = sparse_quadratic,
                                      .invert = sparse_invert,
                                      .gather = sparse_gather,
                                      .product = sparse_product,
                                      .density = sparse_density,
                                      .matrix = sparse_matrix,
                                      .solve = sparse_solve,
                                      .covariance = sparse_covariance};

lmm_status sparse_analyse(trailing **out, lmm_model *m, const lmm_options *options)
{
    sparse *s = calloc(1, sizeof(*s));
    *out = (trailing *)s;
    if (!s) return LMM_NOMEM;
    s->base.steps = &SPARSE;
    s->base.exact = 1;
    return find_nonzeros(m, s, options);
}
