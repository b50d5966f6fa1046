/* Related levels: K^-1 and its Cholesky factor, products with K and its root. */

#include "model/relation.h"

#include <string.h>

#include "base/memory.h"

/* The symbolic factor, in the best order at hand */
static lmm_status analyse(lmm_model *m, relation *r)
{
    static const lmm_options none = {0};
    int32_t *weight;
    lmm_order found;
    GRAB(m, weight, r->q);
    for (int32_t i = 0; i < r->q; i++) weight[i] = 1;
    const pattern levels = {r->q, r->ptr, r->row, weight};
    return supernodal_choose(&r->factor, &found, &levels, &levels, &m->blas, &none);
}

lmm_status relation_new(lmm_model *m, factor *f, const lmm_precision *given, int numbers)
{
    const size_t q = (size_t)f->nlev, count = (size_t)given->ptr[q];
    relation *r;
    double logdet;
    GRAB(m, r, 1);
    f->relation = r;
    r->q = f->nlev;
    GRAB(m, r->ptr, q + 1);
    GRAB(m, r->row, count + 1);
    GRAB(m, r->x, count + 1);
    memcpy(r->ptr, given->ptr, sizeof(*r->ptr) * (q + 1));
    memcpy(r->row, given->row, sizeof(*r->row) * count);
    memcpy(r->x, given->x, sizeof(*r->x) * count);
    TRY(analyse(m, r));
    if (!numbers) return LMM_OK;
    TRY(supernodal_allocate(r->factor));
    if (supernodal_factor(r->factor, NULL, r->x, &logdet)) return LMM_NOTPOSDEF;
    r->logdet = -logdet;
    m->layout.logdetK += f->p * r->logdet;
    return LMM_OK;
}

void relations_free(lmm_model *m)
{
    for (int k = 0; m->layout.f && k < m->layout.nfactor; k++)
        if (m->layout.f[k].relation) supernodal_free(m->layout.f[k].relation->factor);
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
