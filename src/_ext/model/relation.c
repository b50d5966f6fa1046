/* Related levels: K^-1 and its Cholesky factor, products with K and its root. */

#include "model/relation.h"

#include <string.h>

#include "base/memory.h"

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

lmm_status relation_new(void **memory, int32_t q, const lmm_precision *given, const lmm_blas *blas,
                        int numbers, relation **out)
{
    const size_t columns = (size_t)q + 1, count = (size_t)given->ptr[q];
    double logdet;
    relation *r = *out = grab(memory, 1, sizeof(*r));
    if (!r) return LMM_NOMEM;
    r->q = q;
    r->ptr = grab(memory, columns, sizeof(*r->ptr));
    r->row = grab(memory, count, sizeof(*r->row));
    r->x = grab(memory, count, sizeof(*r->x));
    if (!r->ptr || !r->row || !r->x) return LMM_NOMEM;
    memcpy(r->ptr, given->ptr, sizeof(*r->ptr) * columns);
    memcpy(r->row, given->row, sizeof(*r->row) * count);
    memcpy(r->x, given->x, sizeof(*r->x) * count);
    TRY(analyse(r, memory, blas));
    if (!numbers) return LMM_OK;
    TRY(supernodal_allocate(r->factor));
    if (supernodal_factor(r->factor, NULL, r->x, &logdet)) return LMM_NOTPOSDEF;
    r->logdet = -logdet;
    return LMM_OK;
}

void relation_free(relation *r)
{
    if (r) supernodal_free(r->factor);
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
    return r ? 12. * (double)r->ptr[r->q] + 12. * r->q + supernodal_bytes(r->factor) : 0;
}

void times_root(const relation *r, int rows, double *X)
{
    supernodal_solve(r->factor, NULL, rows, X, 1);
}

void times_relation(const relation *r, int rows, double *X)
{
    supernodal_solve(r->factor, NULL, rows, X, 3);
}

void draw_related(const relation *r, int rows, double *X)
{
    supernodal_solve(r->factor, NULL, rows, X, 2);
}

lmm_status relation_diagonal(relation *r, double *diagonal, double *work)
{
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
        supernodal_solve(f->relation->factor, NULL, lay->pb * f->p, fs->related, 2);
    }
}
