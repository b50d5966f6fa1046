/* Related levels: K^-1 and its Cholesky factor, products with K and its root. */

#include "model/relation.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/small.h"

/* The symbolic factor, in the best order at hand */
static lmm_status analyse(relation *r, void **memory, const lmm_blas *blas)
{
    static const lmm_options none = {0};
    int32_t *weight = grab(memory, (size_t)r->q, sizeof(*weight));
    lmm_order found;
    if (!weight) return LMM_NOMEM;
    for (int32_t i = 0; i < r->q; i++) weight[i] = 1;
    const pattern levels = {r->q, r->ptr, r->row, weight};
    return supernodal_choose(&r->factor, &found, &levels, &levels, blas, &none);
}

/* Copies of arrays by columns, or rows, of which the first has q + 1 places. Nonzero: there is no memory. */
static int copy_sparse(void **memory, int32_t q, const ptrdiff_t *ptr, const int32_t *index, const double *x,
                       ptrdiff_t **toptr, int32_t **toindex, double **tox)
{
    const size_t places = (size_t)q + 1, count = (size_t)ptr[q];
    *toptr = grab(memory, places, sizeof(**toptr));
    *toindex = grab(memory, count, sizeof(**toindex));
    *tox = grab(memory, count, sizeof(**tox));
    if (!*toptr || !*toindex || !*tox) return 1;
    memcpy(*toptr, ptr, sizeof(*ptr) * places);
    memcpy(*toindex, index, sizeof(*index) * count);
    memcpy(*tox, x, sizeof(*x) * count);
    return 0;
}

/* log|K| = -2 sum log g_ii; not positive: LMM_NOTPOSDEF */
static lmm_status take_root(relation *r, void **memory, const lmm_precision *given)
{
    if (copy_sparse(memory, r->q, given->rootptr, given->rootcol, given->rootx, &r->rootptr, &r->rootcol,
                    &r->rootx))
        return LMM_NOMEM;
    for (int32_t i = 0; i < r->q; i++) {
        const double d = r->rootx[r->rootptr[i + 1] - 1];
        if (!(d > 0)) return LMM_NOTPOSDEF;
        r->logdet -= 2 * log(d);
    }
    return LMM_OK;
}

lmm_status relation_new(void **memory, int32_t q, const lmm_precision *given, const lmm_blas *blas,
                        int numbers, relation **out)
{
    double logdet;
    relation *r = *out = grab(memory, 1, sizeof(*r));
    if (!r) return LMM_NOMEM;
    r->q = q;
    if (copy_sparse(memory, q, given->ptr, given->row, given->x, &r->ptr, &r->row, &r->x)) return LMM_NOMEM;
    if (given->rootptr) return take_root(r, memory, given);
    TRY(analyse(r, memory, blas));
    if (!numbers) return LMM_OK;
    TRY(supernodal_allocate(r->factor));
    if (supernodal_factor(r->factor, NULL, r->x, &logdet)) return LMM_NOTPOSDEF;
    r->logdet = -logdet;
    return LMM_OK;
}

void relation_free(relation *r)
{
    if (r && r->factor) supernodal_free(r->factor);
}

lmm_status relate_factor(lmm_model *m, factor *f, const lmm_precision *given, int numbers)
{
    TRY(relation_new(&m->memory, f->nlev, given, &m->blas, numbers, &f->relation));
    m->layout.logdetK += f->p * f->relation->logdet;
    return LMM_OK;
}

void relations_free(lmm_model *m)
{
    for (int k = 0; m->layout.f && k < m->layout.nfactor; k++) relation_free(m->layout.f[k].relation);
}

double relation_bytes(const relation *r)
{
    if (!r) return 0;
    const double factor = r->factor ? supernodal_bytes(r->factor) : 12. * (double)r->rootptr[r->q];
    return 12. * (double)r->ptr[r->q] + 20. * r->q + factor;
}

/* X := X G^-1: levels from the last to the first */
CLONES static void solve_backward(const relation *r, ptrdiff_t rows, double *X)
{
    for (ptrdiff_t i = r->q - 1; i >= 0; i--) {
        const ptrdiff_t last = r->rootptr[i + 1] - 1;
        const double scale = 1 / r->rootx[last];
        double *x = X + i * rows;
        for (ptrdiff_t t = 0; t < rows; t++) x[t] *= scale;
        for (ptrdiff_t z = r->rootptr[i]; z < last; z++) {
            double *to = X + r->rootcol[z] * rows;
            for (ptrdiff_t t = 0; t < rows; t++) to[t] -= r->rootx[z] * x[t];
        }
    }
}

/* X := X G^-T: from the first to the last */
CLONES static void solve_forward(const relation *r, ptrdiff_t rows, double *X)
{
    for (ptrdiff_t i = 0; i < r->q; i++) {
        const ptrdiff_t last = r->rootptr[i + 1] - 1;
        const double scale = 1 / r->rootx[last];
        double *x = X + i * rows;
        for (ptrdiff_t z = r->rootptr[i]; z < last; z++) {
            const double *from = X + r->rootcol[z] * rows;
            for (ptrdiff_t t = 0; t < rows; t++) x[t] -= r->rootx[z] * from[t];
        }
        for (ptrdiff_t t = 0; t < rows; t++) x[t] *= scale;
    }
}

void times_root(const relation *r, int rows, double *X)
{
    if (r->rootptr)
        solve_backward(r, rows, X);
    else
        supernodal_solve(r->factor, NULL, rows, X, 1);
}

void draw_related(const relation *r, int rows, double *X)
{
    if (r->rootptr)
        solve_forward(r, rows, X);
    else
        supernodal_solve(r->factor, NULL, rows, X, 2);
}

void times_relation(const relation *r, int rows, double *X)
{
    times_root(r, rows, X);
    draw_related(r, rows, X);
}

lmm_status relation_diagonal(relation *r, double *diagonal, double *work)
{
    if (!r->factor) return LMM_UNAVAILABLE;
    TRY(supernodal_spare(r->factor));
    supernodal_invert(r->factor, NULL, work);
    for (int32_t j = 0; j < r->q; j++) diagonal[j] = work[r->ptr[j]];
    return LMM_OK;
}

double related_product(const relation *r, int p, const double *u, const double *v)
{
    double sum = 0;
    for (ptrdiff_t j = 0; j < r->q; j++)
        for (ptrdiff_t z = r->ptr[j]; z < r->ptr[j + 1]; z++) {
            const ptrdiff_t i = r->row[z];
            double both = 0;
            for (int c = 0; c < p; c++) {
                both += u[i * p + c] * v[j * p + c];
                if (i != j) both += u[j * p + c] * v[i * p + c];
            }
            sum += r->x[z] * both;
        }
    return sum;
}

/* A level's p columns of pb rows stand one after the other: as so many rows of one column of levels */
void relate_rows(lmm_model *m)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        const factor *f = &lay->f[k];
        factor_state *fs = &m->evaluation.f[k];
        const size_t size = sizeof(double) * (size_t)lay->pb * (size_t)f->p * (size_t)f->nlev;
        if (!f->relation) continue;
        memcpy(fs->root, m->evaluation.Y + (ptrdiff_t)f->col * lay->pb, size);
        times_root(f->relation, lay->pb * f->p, fs->root);
        memcpy(fs->related, fs->root, size);
        draw_related(f->relation, lay->pb * f->p, fs->related);
    }
}
