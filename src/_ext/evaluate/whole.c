/* The trailing matrix as a whole: what the parameters of the trailing factors and of the eliminated ones come
   to in it (the last of traces.c's formulas). Products with S and with its changes leave zeros out where
   there are many. Where every level of the only eliminated factor has all trailing columns, pairs of levels
   can take the place of the changes. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/chain.h"
#include "evaluate/entries.h"
#include "evaluate/whole.h"
#include "model/relation.h"
#include "trailing/trailing.h"

#define SPARSE 0.05 /* share of entries that are not zero up to which products leave the zeros out */
#define GATHER 10   /* what one of those multiplications costs, in flops of BLAS 3 */

static char left = 'L', lower = 'L', none = 'N', trans = 'T';
static double one = 1, zero = 0;

ptrdiff_t whole_size(const layout *lay)
{
    return 5 * (ptrdiff_t)lay->q2 * lay->q2 + (ptrdiff_t)TOGETHER * lay->q2; /* rows of a solve */
}

whole whole_in(const layout *lay, double *memory)
{
    const ptrdiff_t square = (ptrdiff_t)lay->q2 * lay->q2;
    return (whole){memory, memory + square, memory + 2 * square, memory + 3 * square, memory + 4 * square};
}

/* B by its columns; needs the factor */
static void whole_inverse(lmm_model *m, double *B, double *rows)
{
    const ptrdiff_t q2 = m->layout.q2;
    for (ptrdiff_t first = 0; first < q2; first += TOGETHER) {
        const ptrdiff_t n = q2 - first < TOGETHER ? q2 - first : TOGETHER;
        memset(rows, 0, sizeof(double) * (size_t)(n * q2));
        for (ptrdiff_t i = 0; i < n; i++) rows[i + (first + i) * n] = 1;
        m->trailing->steps->solve(m->trailing, m, (int)n, rows);
        for (ptrdiff_t j = 0; j < q2; j++)
            memcpy(B + first + j * q2, rows + j * n, sizeof(double) * (size_t)n);
    }
    for (ptrdiff_t j = 0; j < q2; j++)
        for (ptrdiff_t i = 0; i < j; i++) B[i + j * q2] = B[j + i * q2] = (B[i + j * q2] + B[j + i * q2]) / 2;
}

void whole_begin(lmm_model *m, const whole *w)
{
    m->trailing->steps->matrix(m->trailing, m, w->S);
    if (!m->trailing->steps->inverse) whole_inverse(m, w->B, w->work);
}

/* The nonzero entries of a symmetric matrix, column by column */
typedef struct {
    ptrdiff_t *ptr;
    int32_t *row;
    double *value;
} nonzeros;

static ptrdiff_t count_nonzeros(ptrdiff_t size, const double *N)
{
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < size; i++) count += N[i] != 0;
    return count;
}

static void take_nonzeros(ptrdiff_t n, const double *N, nonzeros *z)
{
    ptrdiff_t at = 0;
    for (ptrdiff_t j = 0; j < n; j++, N += n) {
        z->ptr[j] = at;
        for (ptrdiff_t i = 0; i < n; i++)
            if (N[i] != 0) {
                z->row[at] = (int32_t)i;
                z->value[at++] = N[i];
            }
    }
    z->ptr[n] = at;
}

/* out = N X; wide: room for four columns, side by side */
CLONES static void sparse_times(ptrdiff_t n, const nonzeros *N, const double *X, double *out, double *wide)
{
    for (ptrdiff_t j = 0; j < n; j += 4, X += 4 * n, out += 4 * n) {
        const int columns = n - j < 4 ? (int)(n - j) : 4;
        for (int c = 0; c < 4; c++)
            for (ptrdiff_t i = 0; i < n; i++) wide[4 * i + c] = c < columns ? X[i + c * n] : 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double sum[4] = {0};
            for (ptrdiff_t z = N->ptr[i]; z < N->ptr[i + 1]; z++)
                for (int c = 0; c < 4; c++) sum[c] += N->value[z] * wide[4 * (ptrdiff_t)N->row[z] + c];
            for (int c = 0; c < columns; c++) out[i + c * n] = sum[c];
        }
    }
}

/* out = N X, N symmetric; all q2 x q2. Where N is mostly zeros these are left out. */
static lmm_status times(lmm_model *m, const double *N, const double *X, double *out)
{
    int q2 = m->layout.q2;
    const ptrdiff_t n = q2, count = count_nonzeros(n * n, N);
    if ((double)count > SPARSE * (double)n * (double)n) {
        m->blas.symm(&left, &lower, &q2, &q2, &one, (double *)N, &q2, (double *)X, &q2, &zero, out, &q2);
        return LMM_OK;
    }
    double *wide = malloc(sizeof(double) * (size_t)(4 * n + count + 1));
    nonzeros z = {.ptr = malloc(sizeof(ptrdiff_t) * (size_t)(n + 1)),
                  .row = malloc(sizeof(int32_t) * (size_t)(count + 1)),
                  .value = wide ? wide + 4 * n : NULL};
    const int whole = z.ptr && z.row && z.value;
    if (whole) {
        take_nonzeros(n, N, &z);
        sparse_times(n, &z, X, out, wide);
    }
    free(z.ptr);
    free(z.row);
    free(wide);
    return whole ? LMM_OK : LMM_NOMEM;
}

/* U = I - B S, M = S U */
static lmm_status whole_products(lmm_model *m, const whole *w)
{
    const ptrdiff_t n = m->layout.q2;
    TRY(times(m, w->S, w->B, w->work));
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t i = 0; i < n; i++) w->U[i + j * n] = (i == j) - w->work[j + i * n];
    return times(m, w->S, w->U, w->M);
}

/* Columns of a factor with related levels, all rows of X, by L over its levels: X (I, L (x) I) */
static void relate_columns(const lmm_model *m, const factor *f, double *X)
{
    const ptrdiff_t q2 = m->layout.q2;
    times_root(f->relation, (int)q2 * f->p, X + q2 * m->layout.trailcol[f->node]);
}

/* U := U L, M := L'M L over all trailing columns, K = L L': what sums over levels take of related ones */
static void relate_products(const lmm_model *m, const whole *w)
{
    const layout *lay = &m->layout;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        if (!lay->f[k].relation) continue;
        relate_columns(m, &lay->f[k], w->U);
        relate_columns(m, &lay->f[k], w->M);
        transpose(lay->q2, w->M);
        relate_columns(m, &lay->f[k], w->M);
    }
}

/* sum over levels of <E_t, diagonal block of A'B> for the parameters of trailing factor f; A, B: q2 x q2 */
static void diagonal_traces(const layout *lay, const factor *f, const double *A, const double *B, double *out,
                            ptrdiff_t stride)
{
    const ptrdiff_t n = lay->q2;
    for (int t = 0; t < f->nth; t++) {
        const places e = entry(f, t);
        const ptrdiff_t first = lay->trailcol[f->node];
        double sum = 0;
        for (int i = 0; i < e.count; i++)
            for (ptrdiff_t l = 0, c = first; l < f->nlev; l++, c += f->p)
                sum += dot(n, A + (c + e.x[i]) * n, B + (c + e.y[i]) * n);
        out[(f->th + t) * stride] += sum;
    }
}

/* <E_r, M E_s M'> summed over the blocks of M, levels of f by levels of g; ld: between its columns */
static void block_pairs(lmm_model *m, const factor *f, const factor *g, const double *M, ptrdiff_t ld,
                        double *plane, double *pairs)
{
    const ptrdiff_t N = m->layout.ntheta;
    int size = f->p * g->p, count = g->nlev;
    double *C = plane + (ptrdiff_t)size * count;
    memset(C, 0, sizeof(double) * (size_t)size * (size_t)size);
    for (int32_t l = 0; l < f->nlev; l++) {
        const double *from = M + (ptrdiff_t)l * f->p;
        double *to = plane;
        for (ptrdiff_t c = 0; c < (ptrdiff_t)g->nlev * g->p; c++, from += ld)
            for (int x = 0; x < f->p; x++) *to++ = from[x];
        m->blas.syrk(&lower, &none, &size, &count, &one, plane, &size, &one, C, &size);
    }
    mirror(size, C, size);
    for (int r = 0; r < f->nth; r++)
        for (int s = 0; s < g->nth; s++) pairs[f->th + r + N * (g->th + s)] += contract(f, r, g, s, C);
}

/* Room for the blocks of one line of levels of f, and their sums */
static ptrdiff_t plane_size(const factor *f, const factor *g)
{
    const ptrdiff_t size = (ptrdiff_t)f->p * g->p;
    return size * (g->nlev + size);
}

/* Trailing parameters with one another, and tr V^-1 G of them */
static lmm_status trailing_sums(lmm_model *m, const whole *w, double *single, double *pairs)
{
    const layout *lay = &m->layout;
    ptrdiff_t most = 1;
    for (int k = lay->nelim; k < lay->nfactor; k++)
        for (int j = lay->nelim; j <= k; j++)
            if (plane_size(&lay->f[k], &lay->f[j]) > most) most = plane_size(&lay->f[k], &lay->f[j]);
    double *plane = malloc(sizeof(double) * (size_t)most);
    if (!plane) return LMM_NOMEM;
    for (int k = lay->nelim; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        for (int t = 0; t < f->nth; t++) {
            const places e = entry(f, t);
            for (int i = 0; i < e.count; i++)
                for (ptrdiff_t l = 0, c = lay->trailcol[f->node]; l < f->nlev; l++, c += f->p)
                    single[f->th + t] += w->M[c + e.x[i] + (c + e.y[i]) * lay->q2];
        }
        for (int j = lay->nelim; j <= k; j++) {
            const factor *g = &lay->f[j];
            const double *M = w->M + lay->trailcol[f->node] + (ptrdiff_t)lay->q2 * lay->trailcol[g->node];
            block_pairs(m, f, g, M, lay->q2, plane, pairs);
        }
    }
    free(plane);
    return LMM_OK;
}

int has_level_pairs(const layout *lay)
{
    const double q1 = lay->q1, q2 = lay->q2, p = lay->f[0].p;
    return lay->full && q1 * q1 * (q2 + p * p) + 2 * q1 * q2 * q2 < 2 * lay->f[0].nth * q2 * q2 * q2;
}

static double level_pairs_flops(const layout *lay)
{
    const double q1 = lay->q1, q2 = lay->q2, p = lay->f[0].p;
    return 2 * q1 * q1 * (q2 + p * p) + 4 * q1 * q2 * q2;
}

/* Parameters of the eliminated factor in the trailing matrix, where every level has all its columns: with
   F = A_Rl N_l side by side, N_r = F (I x E_r) F', by blocks of F'B F and U'F */
static lmm_status level_pairs(lmm_model *m, const whole *w, double *pairs)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[0];
    int q1 = lay->q1, q2 = lay->q2;
    const ptrdiff_t p = f->p, rows = q2, all = rows * q1;
    ptrdiff_t plane = plane_size(f, f);
    for (int k = 1; k < lay->nfactor; k++)
        if (plane_size(&lay->f[k], f) > plane) plane = plane_size(&lay->f[k], f);
    double *F = malloc(sizeof(double) * (size_t)(2 * all + (ptrdiff_t)q1 * q1 + 2 * p * p + plane));
    if (!F) return LMM_NOMEM;
    double *G = F + all, *H = G + all, *K = H + (ptrdiff_t)q1 * q1, *N = K + p * p, *work = N + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const double *A = m->evaluation.f[0].pan + lay->pan[f->node + l];
        level_matrices(m, f, l, K, N);
        mul(q2, (int)p, (int)p, 0, A, lay->ld[f->node + l], N, (int)p, F + l * p * rows, q2);
    }
    m->blas.symm(&left, &lower, &q2, &q1, &one, w->B, &q2, F, &q2, &zero, G, &q2);
    m->blas.gemm(&trans, &none, &q1, &q1, &q2, &one, F, &q2, G, &q2, &zero, H, &q1);
    block_pairs(m, f, f, H, q1, work, pairs);
    m->blas.gemm(&trans, &none, &q2, &q1, &q2, &one, w->U, &q2, F, &q2, &zero, G, &q2);
    for (int k = 1; k < lay->nfactor; k++)
        block_pairs(m, &lay->f[k], f, G + lay->trailcol[lay->f[k].node], rows, work, pairs);
    free(F);
    return LMM_OK;
}

/* Parameters of eliminated factors in the trailing matrix: N_r becomes N_r B */
static lmm_status eliminated_in_trailing(const changes *ch, const whole *w, double *pairs)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    const ptrdiff_t n = lay->q2, N = lay->ntheta;
    for (int r = 0; r < ch->count; r++) {
        TRY(times(m, ch->N[r], w->U, w->work));
        for (int k = lay->nelim; k < lay->nfactor; k++)
            diagonal_traces(lay, &lay->f[k], w->U, w->work, pairs + r * N, 1);
        TRY(times(m, ch->N[r], w->B, w->work));
        memcpy(ch->N[r], w->work, sizeof(double) * (size_t)(n * n));
    }
    for (int r = 0; r < ch->count; r++) {
        for (ptrdiff_t j = 0; j < n; j++)
            for (ptrdiff_t i = 0; i < n; i++) w->work[j + i * n] = ch->N[r][i + j * n];
        for (int s = 0; s <= r; s++) pairs[r + N * s] += dot(n * n, w->work, ch->N[s]);
    }
    return LMM_OK;
}

lmm_status whole_traces(lmm_model *m, const changes *ch, whole *w, double *single, double *pairs)
{
    if (m->trailing->steps->inverse) m->trailing->steps->inverse(m->trailing, m, w->B);
    TRY(whole_products(m, w));
    relate_products(m, w);
    TRY(has_level_pairs(&m->layout) ? level_pairs(m, w, pairs) : eliminated_in_trailing(ch, w, pairs));
    return trailing_sums(m, w, single, pairs);
}

double whole_flops(const lmm_model *m)
{
    const layout *lay = &m->layout;
    const int levels = has_level_pairs(lay);
    const double cube = (double)lay->q2 * lay->q2 * lay->q2, changed = levels ? 0 : changes_count(lay);
    const double share = m->trailing->steps->density ? m->trailing->steps->density(m->trailing, m) : 1;
    const double product = (share > SPARSE ? 2 : 2 * share * GATHER) * cube;
    const double inverse = m->trailing->steps->inverse ? 0 : 2 * cube;
    return (2 + 2 * changed) * product + (levels ? level_pairs_flops(lay) : changes_flops(m)) + inverse;
}
