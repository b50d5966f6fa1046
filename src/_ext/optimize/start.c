/* MINQUE(0) (Rao 1971; Searle, Casella & McCulloch 1992, ch. 11): variances from the quadratic forms
   y'M V_e M y, M the projection off X, which are set equal to their expectations at V = I. All factors and
   sigma^2 together:

     [Tr t; t' n-p] [v; s2] = [a; y'My],   Tr_ef = tr(M V_e M V_f),  t_e = tr(M V_e),  a_e = y'M V_e M y

   V_e = Z (I x E_e) Z'. With R = Z'MZ = A - B B', B = Z'Q, Q an orthonormal basis of X, Tr_ef is a sum over
   pairs of levels of products of R's entries. A is zero for most pairs, and what B B' adds over all pairs has
   rank one for each pair of columns of B. Not where levels are related: K would stand between the levels of
   every pair. */

#include "optimize/start.h"

#include "evaluate/evaluate.h"
#include "base/memory.h"
#include "base/small.h"

#define RIDGE 1e-8    /* of the moment equations, their diagonal being 1 */
#define ABSORBED 1e-9 /* share of Tr_ee that X leaves at least where moments say something of e */
#define RESIDUAL 0.01 /* least share of y'My that is left to sigma^2 */

static char lower = 'L', none = 'N';
static double one = 1, minus = -1;

typedef struct {
    lmm_model *m;
    ptrdiff_t N;   /* ntheta + 1                                              */
    double *Tr;    /* N x N  lower; then its Cholesky factor, of unit diagonal before */
    double *scale; /* N      what makes the diagonal one; 0: left out         */
    double *rhs;   /* N                                                       */
    double *edge;  /* pb x q columns [B_c'; z_c'My]                           */
    double *K;     /* products of pairs of entries of one pair of terms       */
    double *R, *D; /* BATCH blocks R, and B B' alone                          */
    int count;     /* blocks in them                                          */
    double yy;     /* y'My                                                    */
} moments;

ptrdiff_t start_work(const layout *lay)
{
    const ptrdiff_t N = moving(lay) + 1;
    ptrdiff_t k = 1;
    if (lay->moves) return 0; /* its fits begin elsewhere */
    for (term t = {0}; next_term(lay, &t);)
        if (t.k > k) k = t.k;
    return 2 * N * N + 2 * N + 2 * BATCH * k * k;
}

/* ------------------------------------------------------------------------------------------- the edge -- */

/* [B_c'; z_c'My] of every random column, and y'My. X is whitened: its columns are orthogonal. */
static lmm_status project_edge(moments *mo)
{
    const lmm_model *m = mo->m;
    const layout *lay = &m->layout;
    const int pb = lay->pb, p = lay->p;
    const double *XX = m->sums.border;
    mo->yy = XX[p + p * pb];
    for (int i = 0; i < p; i++) {
        if (!(XX[i + i * pb] > 0)) return LMM_NOTPOSDEF;
        mo->yy -= XX[p + i * pb] * XX[p + i * pb] / XX[i + i * pb];
    }
    if (!(mo->yy > 0)) return LMM_NOTPOSDEF;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int32_t e = f->node; e < f->node + f->nlev; e++)
            for (int c = 0; c < f->p; c++) {
                const double *z = m->sums.A[k].pan + lay->pan[e] + (c + 1) * (ptrdiff_t)lay->ld[e] - pb;
                double *b = mo->edge + (ptrdiff_t)(lay->nodecol[e] + c) * pb;
                b[p] = z[p];
                for (int i = 0; i < p; i++) {
                    b[i] = z[i] / sqrt(XX[i + i * pb]);
                    b[p] -= z[i] * XX[p + i * pb] / XX[i + i * pb];
                }
            }
    }
    return LMM_OK;
}

/* ------------------------------------------------------------------------------------- pairs of terms -- */

/* Place of R_ab among the entries that are kept of a pair of terms: lower triangle where they are the same */
static ptrdiff_t entry_place(const term *s, const term *t, int a, int b)
{
    if (s->th != t->th) return a + (ptrdiff_t)b * s->k;
    return packed_place(s->k, a > b ? a : b, a > b ? b : a);
}

static ptrdiff_t entries(const term *s, const term *t)
{
    return s->th == t->th ? s->nth : (ptrdiff_t)s->k * t->k;
}

/* K += sum over the batch of vec R vec R' - vec D vec D' */
static void flush(moments *mo, int n)
{
    int count = mo->count;
    if (!count) return;
    mo->m->blas.syrk(&lower, &none, &n, &count, &one, mo->R, &n, &one, mo->K, &n);
    if (mo->m->layout.p) mo->m->blas.syrk(&lower, &none, &n, &count, &minus, mo->D, &n, &one, mo->K, &n);
    mo->count = 0;
}

/* One block: A with strides row and column, at column ca and cb of the random effects */
static void add_block(moments *mo, const term *s, const term *t, const double *A, ptrdiff_t sa, ptrdiff_t sb,
                      ptrdiff_t ca, ptrdiff_t cb)
{
    const int p = mo->m->layout.p, pb = mo->m->layout.pb, same = s->th == t->th;
    const int n = (int)entries(s, t);
    double *R = mo->R + (ptrdiff_t)mo->count * n, *D = mo->D + (ptrdiff_t)mo->count * n;
    for (int b = 0; b < t->k; b++)
        for (int a = same ? b : 0; a < s->k; a++) {
            const ptrdiff_t at = entry_place(s, t, a, b);
            const double *x = mo->edge + (ca + a) * pb, *y = mo->edge + (cb + b) * pb;
            double v = 0;
            for (int i = 0; i < p; i++) v += x[i] * y[i];
            D[at] = -v;
            R[at] = A[a * sa + b * sb] - v;
        }
    if (++mo->count == BATCH) flush(mo, n);
}

/* K_(a,b),(c,d) */
static double product(const moments *mo, const term *s, const term *t, int a, int b, int c, int d)
{
    const ptrdiff_t n = entries(s, t), i = entry_place(s, t, a, b), j = entry_place(s, t, c, d);
    return i > j ? mo->K[i + j * n] : mo->K[j + i * n];
}

/* Tr of the parameters of two terms, from K */
static void read_products(moments *mo, const term *s, const term *t)
{
    for (int c = 0; c < s->k; c++)
        for (int r = c; r < s->k; r++)
            for (int d = 0; d < t->k; d++)
                for (int u = d; u < t->k; u++) { /* e = (r, c), f = (u, d) */
                    double v = product(mo, s, t, r, d, c, u);
                    if (u != d) v += product(mo, s, t, r, u, c, d);
                    if (r != c) {
                        v += product(mo, s, t, c, d, r, u);
                        if (u != d) v += product(mo, s, t, c, u, r, d);
                    }
                    mo->Tr[t->th + packed_place(t->k, u, d) + mo->N * (s->th + packed_place(s->k, r, c))] +=
                        v;
                }
}

/* Pairs of levels of two factors that occur together */
static void pairs_of_factors(moments *mo, const term *s, const term *t)
{
    const lmm_model *m = mo->m;
    const layout *lay = &m->layout;
    const factor *f = s->f, *g = t->f;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const double *pan = m->sums.A[f->k].pan + lay->pan[e] + (ptrdiff_t)s->first * lay->ld[e] + t->first;
        const ptrdiff_t ld = lay->ld[e], ca = lay->nodecol[e] + s->first;
        if (lay->full && f->k < lay->nelim) {
            for (int32_t x = g->node; x < g->node + g->nlev; x++)
                add_block(mo, s, t, pan + lay->trailcol[x], ld, 1, ca, lay->nodecol[x] + t->first);
            continue;
        }
        for (ptrdiff_t i = lay->ptr[e]; i < lay->ptr[e + 1] && lay->row[i] < g->node + g->nlev; i++) {
            const int32_t x = lay->row[i];
            if (x >= g->node) add_block(mo, s, t, pan, ld, 1, ca, lay->nodecol[x] + t->first);
            pan += lay->width[x];
        }
    }
}

/* A level with itself */
static void levels_of_factor(moments *mo, const term *s, const term *t)
{
    const layout *lay = &mo->m->layout;
    const factor *f = s->f;
    const double *A = mo->m->sums.A[f->k].diag + s->first + t->first * f->p;
    for (int32_t e = f->node; e < f->node + f->nlev; e++, A += f->p * f->p)
        add_block(mo, s, t, A, 1, f->p, lay->nodecol[e] + s->first, lay->nodecol[e] + t->first);
}

static void pairs_of_levels(moments *mo)
{
    const layout *lay = &mo->m->layout;
    for (term s = {0}; next_term(lay, &s);)
        for (term t = s;;) {
            const ptrdiff_t n = entries(&s, &t);
            memset(mo->K, 0, sizeof(double) * (size_t)(n * n));
            if (s.f == t.f)
                levels_of_factor(mo, &s, &t);
            else
                pairs_of_factors(mo, &s, &t);
            flush(mo, (int)n);
            read_products(mo, &s, &t);
            if (!next_term(lay, &t)) break;
        }
}

/* ----------------------------------------------------------------------------------------- equations -- */

/* trace += tr(M V_e) without its part of X */
static void traces_of_terms(const moments *mo, double *trace)
{
    const layout *lay = &mo->m->layout;
    for (term t = {0}; next_term(lay, &t);) {
        const double *A = mo->m->sums.A[t.f->k].diag + t.first * (t.f->p + 1);
        double *to = trace + t.th;
        for (int32_t e = t.f->node; e < t.f->node + t.f->nlev; e++, A += t.f->p * t.f->p)
            for (int c = 0, i = 0; c < t.k; c++)
                for (int r = c; r < t.k; r++, i++) to[i] += (r == c ? 1 : 2) * A[r + c * t.f->p];
    }
}

/* y'M V_e M y, and y'My */
static void right_sides(moments *mo)
{
    const layout *lay = &mo->m->layout;
    memset(mo->rhs, 0, sizeof(double) * (size_t)mo->N);
    for (term t = {0}; next_term(lay, &t);) {
        double *a = mo->rhs + t.th;
        for (int32_t e = t.f->node; e < t.f->node + t.f->nlev; e++) {
            const double *g = mo->edge + (ptrdiff_t)(lay->nodecol[e] + t.first) * lay->pb + lay->p;
            for (int c = 0, i = 0; c < t.k; c++)
                for (int r = c; r < t.k; r++, i++) a[i] += (r == c ? 1 : 2) * g[r * lay->pb] * g[c * lay->pb];
        }
    }
    mo->rhs[mo->N - 1] = mo->yy;
}

/* What X has taken up is left out: its Tr_ee is rounding beside what it would be without X, at least n^2 over
   the number of levels. */
static void leave_out_absorbed(const moments *mo, double *scale)
{
    const layout *lay = &mo->m->layout;
    const double n = (double)lay->n;
    for (term t = {0}; next_term(lay, &t);)
        for (int i = t.th; i < t.th + t.nth; i++)
            if (mo->Tr[i + i * mo->N] < ABSORBED * n * n / t.f->nlev) scale[i] = 0;
}

/* Tr to its Cholesky factor, after unit diagonal and ridge */
static int factor_moments(moments *mo)
{
    const ptrdiff_t N = mo->N;
    double *scale = mo->scale;
    int n = (int)N, info;
    for (ptrdiff_t i = 0; i < N; i++) scale[i] = 1 / sqrt(fmax(mo->Tr[i + i * N], 1e-300));
    leave_out_absorbed(mo, scale);
    for (ptrdiff_t j = 0; j < N; j++) {
        for (ptrdiff_t i = j; i < N; i++) mo->Tr[i + j * N] *= scale[i] * scale[j];
        mo->Tr[j + j * N] = 1 + RIDGE;
    }
    mo->m->blas.potrf(&lower, &n, mo->Tr, &n, &info);
    return info;
}

/* All of the equations that does not depend on y. Nonzero: they have no solution. */
static int make_equations(moments *mo)
{
    lmm_model *m = mo->m;
    const ptrdiff_t N = mo->N;
    double *trace = mo->rhs; /* before there are right-hand sides */
    memset(mo->Tr, 0, sizeof(double) * (size_t)(N * N));
    memset(trace, 0, sizeof(double) * (size_t)N);
    pairs_of_levels(mo);
    traces_of_terms(mo, trace);
    add_edge_squares(m, mo->edge, mo->Tr, (int)N, mo->K);
    for (ptrdiff_t i = 0; i < N - 1; i++) mo->Tr[N - 1 + i * N] = trace[i] - mo->K[i];
    mo->Tr[N * N - 1] = degrees(m, 1);
    return factor_moments(mo);
}

/* The same, known from another response or kept for others */
static int find_equations(moments *mo)
{
    equations *kept = &mo->m->equations;
    const size_t N = (size_t)mo->N;
    if (kept->known) {
        memcpy(mo->Tr, kept->values, sizeof(double) * (N * N + N));
        return 0;
    }
    if (make_equations(mo)) return 1;
    if (kept->values) memcpy(kept->values, mo->Tr, sizeof(double) * (N * N + N));
    kept->known = kept->values != NULL;
    return 0;
}

/* rhs := Tr^-1 rhs */
static void solve_moments(moments *mo)
{
    const ptrdiff_t N = mo->N;
    const double *scale = mo->scale;
    for (ptrdiff_t i = 0; i < N; i++) mo->rhs[i] *= scale[i];
    for (ptrdiff_t i = 0; i < N; i++) {
        for (ptrdiff_t j = 0; j < i; j++) mo->rhs[i] -= mo->Tr[i + j * N] * mo->rhs[j];
        mo->rhs[i] /= mo->Tr[i + i * N];
    }
    for (ptrdiff_t i = N - 1; i >= 0; i--) {
        for (ptrdiff_t j = i + 1; j < N; j++) mo->rhs[i] -= mo->Tr[j + i * N] * mo->rhs[j];
        mo->rhs[i] /= mo->Tr[i + i * N];
    }
    for (ptrdiff_t i = 0; i < N; i++) mo->rhs[i] *= scale[i];
}

lmm_status moment_estimates(lmm_model *m, double *sigma, double *work)
{
    const layout *lay = &m->layout;
    const ptrdiff_t N = lay->ntheta + 1;
    moments mo = {.m = m, .N = N, .Tr = work, .edge = m->evaluation.Y};
    mo.scale = mo.Tr + N * N, mo.rhs = mo.scale + N, mo.K = mo.rhs + N, mo.R = mo.K + N * N;
    mo.D = mo.R + (work + start_work(lay) - mo.R) / 2;
    for (int k = 0; k < lay->nfactor; k++)
        if (is_coupled(&lay->f[k])) return LMM_UNAVAILABLE;
    m->evaluation.at.state = NOWHERE;
    TRY(project_edge(&mo));
    if (find_equations(&mo)) return LMM_NOTPOSDEF;
    right_sides(&mo);
    solve_moments(&mo);
    const double residual = fmax(mo.rhs[N - 1], RESIDUAL * mo.yy / degrees(m, 1));
    for (ptrdiff_t i = 0; i < N - 1; i++) sigma[i] = mo.rhs[i] / residual;
    sigma[N - 1] = mo.yy / ((double)lay->n * residual);
    return LMM_OK;
}
