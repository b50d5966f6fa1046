/* A model from cross-products instead of rows: they are whitened as the columns would have been,

     z_w = z T,  T'(Z'WZ)T = n I   (T upper triangular, by term),   y_w = (y - X_w b) / s,

   which is a congruence of every block. The coordinates that the blocks stand in are near to these, so no
   digits are lost. */

#include <math.h>
#include <string.h>

#include "setup/places.h"
#include "base/small.h"

/* T := inverse Cholesky factor of G / n (k x k, lower triangle given); keep: independent columns */
static lmm_status whitening_of(int k, double n, double *G, uint8_t *keep, double *T)
{
    double *ones = malloc(sizeof(double) * (size_t)(k + 1));
    if (!ones) return LMM_NOMEM;
    for (int i = 0; i < k; i++) ones[i] = 1;
    for (int i = 0; i < k * k; i++) G[i] /= n;
    chol_dropping(k, G, keep);
    invert_factor(k, G, ones, keep, T);
    free(ones);
    return LMM_OK;
}

/* Whitening of each term of f; the factor's B is T, its C leads from the user's columns to the whitened. */
lmm_status whiten_products(lmm_model *m, factor *f, const builder *b, uint8_t *keep)
{
    const int p = f->p;
    const double *diag = b->x->blocks->diag[f->user];
    double *sum, *G, *T;
    GRAB(m, sum, p * p);
    GRAB(m, G, p * p);
    GRAB(m, T, p * p);
    for (ptrdiff_t l = 0; l < f->nlev; l++)
        for (int i = 0; i < p * p; i++) sum[i] += diag[l * p * p + i];
    for (int a = 0, c; a < p; a = c) {
        for (c = a + 1; c < p && f->term[c] == a;) c++;
        const int k = c - a;
        for (int j = 0; j < k; j++)
            for (int i = 0; i < k; i++) G[i + j * k] = sum[a + i + (a + j) * p];
        TRY(whitening_of(k, (double)b->x->n, G, keep, T));
        for (int j = 0; j < k; j++) {
            if (!keep[j]) {
                b->report->factor = f->user;
                b->report->column = a + j;
                return LMM_DEPENDENT;
            }
            for (int i = 0; i < k; i++) f->w.B[a + i + (a + j) * p] = T[i + j * k];
        }
    }
    f->w.constant = -1;
    mul(p, p, p, 0, b->x->C[f->user], p, f->w.B, p, f->w.C, p);
    return LMM_OK;
}

/* log|det A| by elimination; A (k x k) is overwritten */
static double log_determinant(int k, double *A)
{
    double sum = 0;
    for (int c = 0; c < k; c++) {
        int r = c;
        for (int i = c + 1; i < k; i++)
            if (fabs(A[i + c * k]) > fabs(A[r + c * k])) r = i;
        for (int j = c; j < k && r != c; j++) {
            const double t = A[c + j * k];
            A[c + j * k] = A[r + j * k], A[r + j * k] = t;
        }
        sum += log(fabs(A[c + c * k]));
        for (int i = c + 1; i < k; i++) {
            const double e = A[i + c * k] / A[c + c * k];
            for (int j = c + 1; j < k && e != 0; j++) A[i + j * k] -= e * A[c + j * k];
        }
    }
    return sum;
}

/* Whitening of X and y: lay->x.B is T, b0 and yscale take up what the response gave to X. */
lmm_status whiten_fixed_products(lmm_model *m, const builder *b, uint8_t *keep)
{
    layout *lay = &m->layout;
    const int p = lay->pfull, nb = p + 1;
    const double n = (double)b->x->n, *corner = b->x->blocks->corner, yy = corner[p * nb + p];
    double *G, *K, rest = yy;
    GRAB(m, G, p * p + 1);
    GRAB(m, K, p * p + 1);
    for (int j = 0; j < p; j++)
        for (int i = 0; i < p; i++) G[i + j * p] = corner[i * nb + j];
    TRY(whitening_of(p, n, G, keep, lay->x.B));
    lay->x.constant = -1;
    mul(p, p, p, 0, b->x->CX, p, lay->x.B, p, lay->x.C, p);
    for (int j = 0; j < p; j++)
        if (keep[j]) {
            lay->logdetB += log(lay->x.B[j + j * p]);
            lay->keep[lay->p++] = j;
        }
    for (int j = 0; j < lay->p; j++)
        for (int i = 0; i < lay->p; i++) K[i + j * lay->p] = b->x->CX[lay->keep[i] + lay->keep[j] * p];
    lay->logdetB += log_determinant(lay->p, K);
    for (int a = 0; a < lay->p; a++) {
        const int j = lay->keep[a];
        double v = 0;
        for (int i = 0; i <= j; i++) v += lay->x.B[i + j * p] * corner[i * nb + p];
        m->sums.b0[j] = v / n;
        rest -= v * v / n;
    }
    if (!(rest > 1e-13 * yy)) return LMM_NOVARIANCE;
    m->sums.yscale = b->x->yscale * sqrt(rest / n);
    for (int j = 0; j < p; j++) m->sums.b0[j] *= b->x->yscale;
    for (int j = 0; j < p; j++) m->sums.beta0[j] = b->x->beta0[j];
    m->sums.sumlogw = b->x->sumlogw;
    return LMM_OK;
}

/* out (pb) := [X y] row of the blocks (p + 1) in whitened coordinates */
static void whiten_border(const lmm_model *m, const builder *b, const double *row, double *out)
{
    const layout *lay = &m->layout;
    const int p = lay->pfull;
    const double scale = b->x->yscale;
    double y = row[p];
    for (int a = 0; a < lay->p; a++) {
        const int j = lay->keep[a];
        out[a] = 0;
        for (int i = 0; i <= j; i++) out[a] += lay->x.B[i + j * p] * row[i];
        y -= out[a] * m->sums.b0[j] / scale;
    }
    out[lay->p] = y * scale / m->sums.yscale;
}

/* Diagonal blocks and edges of one factor. */
static void copy_levels(lmm_model *m, const builder *b, factor *f)
{
    const layout *lay = &m->layout;
    const int p = f->p, nb = lay->pfull + 1;
    const lmm_blocks *x = b->x->blocks;
    double *T = f->w.B, *half = m->scratch.tmp, *row = half + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        const int32_t e = f->perm[l];
        const ptrdiff_t ld = lay->ld[e];
        double *edge = m->sums.A[f->k].pan + lay->pan[e] + ld - lay->pb;
        mul(p, p, p, 0, x->diag[f->user] + (ptrdiff_t)l * p * p, p, T, p, half, p);
        tmul(p, p, p, 0, T, p, half, p, m->sums.A[f->k].diag + (ptrdiff_t)(e - f->node) * p * p, p);
        for (int c = 0; c < p; c++) {
            whiten_border(m, b, x->edge[f->user] + ((ptrdiff_t)l * p + c) * nb, row);
            for (int j = c; j < p; j++)
                for (int r = 0; r < lay->pb; r++) edge[r + j * ld] += T[c + j * p] * row[r];
        }
    }
}

/* to (rows of o times columns of f) = T_o' V T_f, V the block of the pair */
INLINE void copy_block(int p, int w, const double *Tf, const double *To, const double *V, int swapped,
                       double *to, ptrdiff_t ld)
{
    for (int c = 0; c < p; c++)
        for (int r = 0; r < w; r++) {
            double v = 0;
            for (int x = 0; x <= c; x++)
                for (int y = 0; y <= r; y++)
                    v += Tf[x + c * p] * To[y + r * w] * V[swapped ? y * p + x : x * w + y];
            to[r + c * ld] = v;
        }
}

/* Blocks of factor k with a later factor j. */
static void copy_pairs(lmm_model *m, const builder *b, int k, int j)
{
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k], *o = &lay->f[j];
    const int swapped = f->user > o->user;
    const lmm_pairs *pairs =
        swapped ? lmm_pairs_of(b->x->blocks, o->user, f->user) : lmm_pairs_of(b->x->blocks, f->user, o->user);
    const level_pairs levels = level_pairs_of(b, f->user, o->user);
    for (int64_t i = 0; i < levels.n; i++) {
        const int32_t e = f->perm[levels.a[i]], node = o->perm[levels.b[i]];
        double *to = m->sums.A[k].pan + lay->pan[e] + place_of(lay, b, k, j, e, node);
        copy_block(f->p, o->p, f->w.B, o->w.B, pairs->value + (ptrdiff_t)i * f->p * o->p, swapped, to,
                   lay->ld[e]);
    }
}

static lmm_status copy_corner(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    const int nb = lay->pfull + 1, pb = lay->pb;
    const double *corner = b->x->blocks->corner, scale = b->x->yscale;
    double *row; /* pfull + 1 rows of pb: first the columns are whitened, then the rows */
    GRAB(m, row, nb * pb);
    for (int i = 0; i < nb; i++) whiten_border(m, b, corner + i * nb, row + i * pb);
    for (int c = 0; c < pb; c++) {
        double *to = m->sums.border + c * pb, y = row[lay->pfull * pb + c];
        for (int a = 0; a < lay->p; a++) {
            const int j = lay->keep[a];
            to[a] = 0;
            for (int i = 0; i <= j; i++) to[a] += lay->x.B[i + j * lay->pfull] * row[i * pb + c];
            y -= to[a] * m->sums.b0[j] / scale;
        }
        to[lay->p] = y * scale / m->sums.yscale;
    }
    return LMM_OK;
}

lmm_status copy_products(lmm_model *m, const builder *b)
{
    const layout *lay = &m->layout;
    for (int k = 0; k < lay->nfactor; k++) {
        copy_levels(m, b, &lay->f[k]);
        for (int j = k + 1; j < lay->nfactor; j++) copy_pairs(m, b, k, j);
    }
    return copy_corner(m, b);
}
