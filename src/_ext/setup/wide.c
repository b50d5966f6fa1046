/* Whitening of a wide X. With G = X_c'W X_c / n of columns that are centred and scaled, G = R'R, B = R^-1,

     x_w = x_c B,   X_w'W X_w = n I,   Z'W X_w = (Z'W X_c) B:

   one product over the rows, by BLAS for stored columns and by what is not zero for coded ones; the rest are
   sums. The price is that the roundings of G count 1 / (1 - R_j^2) times for a column of which the others
   explain the share R_j^2. Where that is much, or where it is not sure which columns are dependent, all
   columns are stored, G is summed with the greatest care, and the rows are whitened one by one, as those of a
   narrow X are (moments.c): then roundings count by the root of it. */

#include <string.h>

#include "setup/fixed.h"
#include "setup/wide.h"

static char trans = 'T';
static double one = 1, zero = 0;

/* careful: whatever the sums are. *done: whether X is whitened. */
static lmm_status whiten_columns(lmm_model *m, builder *b, uint8_t *keep, int careful, double *scale,
                                 uint8_t *coded, int *done)
{
    whitening *x = &m->layout.x;
    const int p = b->d->p;
    double *full = scale + p, *work = full + p;
    int lost;
    TRY(fixed_moments(b, x, scale, coded));
    TRY(make_gram(m, b, x, scale, coded, careful, &lost));
    if (careful)
        TRY(invert_carefully(m, &b->rows, x, scale, keep, full));
    else if (lost || invert_gram(m, x, keep, full, 0))
        return LMM_OK;
    m->layout.inflation = largest_inflation(p, x->B, full, keep, work);
    if (!(m->layout.inflation < INFLATION || careful)) return LMM_OK;
    for (ptrdiff_t j = 0; j < p; j++)
        for (ptrdiff_t i = 0; i <= j; i++) x->B[i + j * p] /= scale[i];
    uncentred(x, x->constant < 0 ? 1 : first_value(b->d, x->constant));
    *done = 1;
    return LMM_OK;
}

lmm_status whiten_wide(lmm_model *m, builder *b, uint8_t *keep)
{
    const size_t p = (size_t)b->d->p;
    double *scale = malloc((3 * sizeof(double) + 1) * p);
    if (!scale) return LMM_NOMEM;
    uint8_t *coded = (uint8_t *)(scale + 3 * p);
    int done = 0;
    lmm_status status = have_several(b->d) ? LMM_OK : whiten_columns(m, b, keep, 0, scale, coded, &done);
    m->layout.summed = done;
    if (status == LMM_OK && !done && b->d->pstored < b->d->p) status = store_fixed(b);
    if (status == LMM_OK && !done) status = whiten_columns(m, b, keep, 1, scale, coded, &done);
    free(scale);
    return status;
}

/* The basis: B over the kept columns, rows of all. */
lmm_status new_basis(const lmm_model *m, builder *b)
{
    const layout *lay = &m->layout;
    const size_t k = (size_t)lay->pfull;
    b->basis = malloc(sizeof(double) * (k * (size_t)lay->p + 1));
    if (!b->basis) return LMM_NOMEM;
    for (int a = 0; a < lay->p; a++)
        memcpy(b->basis + (size_t)a * k, lay->x.B + (size_t)lay->keep[a] * k, sizeof(double) * k);
    return LMM_OK;
}

/* The columns of X in the block that was read last, whitened, all stored. */
void whiten_wide_rows(const lmm_model *m, const builder *b, double *work)
{
    const layout *lay = &m->layout;
    const rows *r = &b->rows;
    int p = lay->p, k = lay->pfull, n = r->n, ld = r->size, ncol = b->ncol;
    for (ptrdiff_t j = 0; j < k; j++) {
        const double *x = rows_column(r, r->x[j]), mean = lay->x.mean[j];
        double *to = work + j * ld;
        for (int32_t i = 0; i < n; i++) to[i] = (x[i] - mean) * (r->root ? r->root[i] : 1);
    }
    if (p)
        m->blas.gemm(&trans, &trans, &p, &n, &k, &one, b->basis, &k, work, &ld, &zero,
                     b->white + (ncol - lay->pb), &ncol);
}
