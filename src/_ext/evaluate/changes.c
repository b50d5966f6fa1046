/* The factorization differentiated in each entry of the eliminated factors' G = T T' (traces.c has the
   formulas). What one level sends is a sum of few symmetric products,

     dA_RR -= left right' + right left',    of its factor:  F_x F_y', F = A_Rl N_l, for entry (x, y)
                                            of a finer one: left = A_Rl dK_l / 2 + dA_Rl K_l, right = A_Rl

   and into the trailing matrix they are gathered for many levels, so that BLAS multiplies. */

#include <stdlib.h>

#include "base/memory.h"
#include "base/small.h"
#include "evaluate/changes.h"
#include "trailing/trailing.h"

#define GATHERED 256 /* columns that are multiplied at a time */
#define DENSE 0.3    /* share of nonzero rows from which that is faster than level by level */

static char lower = 'L', none = 'N', trans = 'T';
static double one = 1;

int changes_count(const layout *lay)
{
    int count = 0;
    for (int k = 0; k < lay->nelim; k++) count += lay->f[k].nth;
    return count;
}

/* Trailing rows of the panels of factor k, all levels */
static double trailing_rows(const layout *lay, int k)
{
    const factor *f = &lay->f[k];
    return (double)panel_size(lay, k) / f->p - (double)f->nlev * (double)(lay->pb + ancestor_rows(lay, k));
}

/* Is every level's list long enough for products of whole columns? */
static int is_dense(const layout *lay, int k)
{
    return trailing_rows(lay, k) >= DENSE * lay->q2 * (double)lay->f[k].nlev;
}

double changes_flops(const lmm_model *m)
{
    const layout *lay = &m->layout;
    double flops = 0;
    for (int k = 0; k < lay->nelim; k++) {
        const factor *f = &lay->f[k];
        const double mean = trailing_rows(lay, k) / f->nlev, rows = is_dense(lay, k) ? lay->q2 : mean;
        flops += 2 * rows * rows * f->nlev * (f->nth + (double)f->th * f->p);
    }
    return flops;
}

void changes_free(changes *ch)
{
    if (!ch) return;
    release(&ch->memory, NULL);
    free(ch);
}

static lmm_status make(changes *ch)
{
    const layout *lay = &ch->m->layout;
    const ptrdiff_t q2 = lay->q2;
    ch->count = changes_count(lay);
    GRAB(ch, ch->diag, ch->count);
    GRAB(ch, ch->pan, ch->count);
    GRAB(ch, ch->N, ch->count);
    GRAB(ch, ch->left, q2 * GATHERED + 1);
    GRAB(ch, ch->right, q2 * GATHERED + 1);
    GRAB(ch, ch->index, q2 + 1);
    ptrdiff_t most = 0;
    for (int k = 0; k < lay->nelim; k++) {
        const ptrdiff_t size = (ptrdiff_t)lay->f[k].nlev * lay->f[k].p * lay->f[k].p;
        if (size > most) most = size;
    }
    GRAB(ch, ch->dK, most + 1);
    for (int k = 0; k < lay->nelim; k++)
        for (int r = lay->f[k].th; r < lay->f[k].th + lay->f[k].nth; r++) {
            GRAB(ch, ch->diag[r], lay->nelim);
            GRAB(ch, ch->pan[r], lay->nelim);
            GRAB(ch, ch->N[r], q2 * q2 + 1);
            for (int j = k + 1; j < lay->nelim; j++) {
                GRAB(ch, ch->diag[r][j], (ptrdiff_t)lay->f[j].nlev * lay->f[j].p * lay->f[j].p);
                GRAB(ch, ch->pan[r][j], panel_size(lay, j));
            }
        }
    return LMM_OK;
}

changes *changes_new(lmm_model *m, int wanted)
{
    changes *ch = calloc(1, sizeof(*ch));
    if (!ch) return NULL;
    ch->m = m;
    if (!wanted || make(ch) == LMM_OK) return ch;
    changes_free(ch);
    return NULL;
}

void level_matrices(const lmm_model *m, const factor *f, int32_t l, double *K, double *N)
{
    const factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p;
    const ptrdiff_t block = (ptrdiff_t)l * p * p;
    scaled_factor(p, fs->T, fs->L + block, N);
    mult(p, p, p, 0, N, p, N, p, K, p);
    mul(p, p, p, 0, K, p, fs->diag + block, p, N, p);
    for (int i = 0; i < p * p; i++) N[i] = (i % (p + 1) == 0) - N[i];
}

/* ---------------------------------------------------------------------------- what one level sends -- */

/* left and right (rows x columns of the result) of one level: its panel without X and y. work: 4 p x p */
static int products(const changes *ch, const factor *f, int32_t l, int r, double *left, double *right,
                    double *work)
{
    const lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    const int p = f->p, ld = lay->ld[f->node + l], rows = ld - lay->pb, t = r - f->th;
    const double *A = m->evaluation.f[f->k].pan + lay->pan[f->node + l];
    double *K = work, *N = K + p * p, *X = N + p * p, *dK = X + p * p;
    level_matrices(m, f, l, K, N);
    if (t >= 0) {
        mul(rows, 1, p, 0, A, ld, N + f->thr[t] * p, p, left, rows);
        mul(rows, 1, p, 0, A, ld, N + f->thc[t] * p, p, right, rows);
        for (int i = 0; i < rows && f->thr[t] == f->thc[t]; i++) left[i] /= 2;
        return 1;
    }
    mul(p, p, p, 0, ch->diag[r][f->k] + (ptrdiff_t)l * p * p, p, K, p, X, p);
    mul(p, p, p, 0, K, p, X, p, dK, p);
    for (int i = 0; i < p * p; i++) dK[i] /= -2;
    mul(rows, p, p, 0, A, ld, dK, p, left, rows);
    mul(rows, p, p, 1, ch->pan[r][f->k] + lay->pan[f->node + l], ld, K, p, left, rows);
    for (int c = 0; c < p; c++)
        memcpy(right + (ptrdiff_t)c * rows, A + (ptrdiff_t)c * ld, sizeof(double) * (size_t)rows);
    return p;
}

/* C (m x n) -= left right' + right left' of rows i.. and j.. */
INLINE void subtract(int m, int n, int columns, const double *li, const double *ri, const double *lj,
                     const double *rj, ptrdiff_t rows, double *C, ptrdiff_t ldc)
{
    for (int x = 0; x < columns; x++)
        for (int c = 0; c < n; c++)
            for (int r = 0; r < m; r++)
                C[r + c * ldc] -= li[r + x * rows] * rj[c + x * rows] + ri[r + x * rows] * lj[c + x * rows];
}

/* To the level of factor j that contains node e */
static void send_to_ancestor(const changes *ch, int k, int j, int32_t e, int r, int columns,
                             const double *left, const double *right)
{
    const layout *lay = &ch->m->layout;
    const factor *up = &lay->f[j];
    const int pu = up->p;
    const ptrdiff_t rows = lay->ld[e] - lay->pb;
    const int32_t a = lay->row[lay->ptr[e] + j - k - 1];
    ptrdiff_t own = 0, at, i = lay->ptr[a];
    for (int g = k + 1; g < j; g++) own += lay->f[g].p;
    double *pan = ch->pan[r][j] + lay->pan[a];
    subtract(pu, pu, columns, left + own, right + own, left + own, right + own, rows,
             ch->diag[r][j] + (ptrdiff_t)(a - up->node) * pu * pu, pu);
    at = own + pu;
    for (ptrdiff_t next = lay->ptr[e] + j - k, row = 0; next < lay->ptr[e + 1]; next++) {
        const int w = lay->width[lay->row[next]];
        for (; lay->row[i] != lay->row[next]; i++)
            row += lay->width[lay->row[i]]; /* its list is part of a's */
        subtract(w, pu, columns, left + at, right + at, left + own, right + own, rows, pan + row, lay->ld[a]);
        at += w;
    }
}

/* --------------------------------------------------------------------------- into the trailing matrix -- */

static void multiply(changes *ch, double *N, int same)
{
    int q2 = ch->m->layout.q2, n = ch->columns;
    const lmm_blas *blas = &ch->m->blas;
    if (n && same)
        blas->syrk(&lower, &none, &q2, &n, &one, ch->right, &q2, &one, N, &q2);
    else if (n)
        blas->gemm(&none, &trans, &q2, &q2, &n, &one, ch->left, &q2, ch->right, &q2, &one, N, &q2);
    ch->columns = 0;
}

/* One column (panel rows from the first trailing one on) to a column of all trailing rows */
static void spread(const layout *lay, int k, int32_t e, const double *from, double *to)
{
    if (lay->full) {
        memcpy(to, from, sizeof(double) * (size_t)lay->q2);
        return;
    }
    memset(to, 0, sizeof(double) * (size_t)lay->q2);
    for (ptrdiff_t i = lay->ptr[e] + lay->nelim - 1 - k; i < lay->ptr[e + 1]; i++)
        for (int c = 0; c < lay->width[lay->row[i]]; c++) to[lay->trailcol[lay->row[i]] + c] = *from++;
}

static void gather(changes *ch, int k, int32_t e, int columns, const double *left, const double *right,
                   ptrdiff_t rows, double *N, int same)
{
    const layout *lay = &ch->m->layout;
    for (int x = 0; x < columns; x++) {
        if (ch->columns == GATHERED) multiply(ch, N, same);
        const ptrdiff_t at = (ptrdiff_t)ch->columns++ * lay->q2;
        if (!same) spread(lay, k, e, left + x * rows, ch->left + at);
        spread(lay, k, e, right + x * rows, ch->right + at);
    }
}

/* N (lower, half its diagonal) += left right' + right left' over the rows `at`, which ascend; n: between its
   columns */
INLINE void add_symmetric(const int columns, ptrdiff_t count, const int32_t *at, const double *left,
                          const double *right, ptrdiff_t rows, double *N, ptrdiff_t n)
{
    for (int z = 0; z < columns; z++, left += rows, right += rows)
        for (ptrdiff_t c = 0; c < count; c++) {
            const double lc = left[c], rc = right[c];
            double *to = N + n * at[c];
            to[at[c]] += lc * rc; /* half of it */
            for (ptrdiff_t r = c + 1; r < count; r++) to[at[r]] += left[r] * rc + right[r] * lc;
        }
}

/* The same at once, over the level's list only */
INLINE void send_list(changes *ch, int k, int32_t e, int columns, const double *left, const double *right,
                      ptrdiff_t rows, double *N)
{
    const layout *lay = &ch->m->layout;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = lay->ptr[e] + lay->nelim - 1 - k; i < lay->ptr[e + 1]; i++)
        for (int x = 0; x < lay->width[lay->row[i]]; x++) ch->index[count++] = lay->trailcol[lay->row[i]] + x;
    add_symmetric(columns, count, ch->index, left, right, rows, N, lay->q2);
}

/* What all levels of factor k send in its parameter t, by the loop of the downdate */
static void send_tiles(changes *ch, int k, int t, double *half, double *work)
{
    lmm_model *m = ch->m;
    const layout *lay = &m->layout;
    const factor *f = &lay->f[k];
    const int p = f->p, x = f->thr[t], y = f->thc[t];
    double *K = work, *N = K + p * p;
    for (int32_t l = 0; l < f->nlev; l++) {
        double *dK = ch->dK + (ptrdiff_t)l * p * p;
        level_matrices(m, f, l, K, N);
        for (int c = 0; c < p; c++)
            for (int r = 0; r < p; r++)
                dK[r + c * p] = x == y ? -N[r + x * p] * N[c + x * p]
                                       : -N[r + x * p] * N[c + y * p] - N[r + y * p] * N[c + x * p];
    }
    m->trailing->steps->downdate_by(m->trailing, m, k, ch->dK, half);
    for (int j = lay->nelim; j < lay->nfactor; j++) /* diagonal blocks are whole */
        for (int32_t e = lay->f[j].node; e < lay->f[j].node + lay->f[j].nlev; e++) {
            const int w = lay->f[j].p;
            double *block = half + lay->trailcol[e] * ((ptrdiff_t)lay->q2 + 1);
            for (int c = 0; c < w; c++)
                for (int r = 0; r <= c; r++) block[r + c * (ptrdiff_t)lay->q2] *= r == c ? 0.5 : 0;
        }
}

/* What all levels of factor k send in parameter r. half: N + N' in the end; lists go there whole, into its
   lower triangle, with half the diagonal. */
CLONES static void send_factor(changes *ch, int k, int r, double *half, double *work)
{
    const layout *lay = &ch->m->layout;
    const factor *f = &lay->f[k];
    const int t = r - f->th, dense = is_dense(lay, k), same = t >= 0 && dense && f->thr[t] == f->thc[t];
    const int tiled = t >= 0 && !dense && lay->q2 && ch->m->trailing->steps->downdate_by;
    const ptrdiff_t skip = ancestor_rows(lay, k);
    if (k == lay->nelim - 1 && !lay->q2) return; /* nothing to send to */
    if (tiled) send_tiles(ch, k, t, half, work);
    if (tiled && k == lay->nelim - 1) return;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t rows = lay->ld[e] - lay->pb;
        double *left = work + 4 * f->p * f->p, *right = left + rows * f->p;
        const int columns = products(ch, f, e - f->node, r, left, right, work);
        for (int j = k + 1; j < lay->nelim; j++) send_to_ancestor(ch, k, j, e, r, columns, left, right);
        if (rows == skip || tiled) continue;
        if (dense)
            gather(ch, k, e, columns, left + skip, right + skip, rows, half, same);
        else
            send_list(ch, k, e, columns, left + skip, right + skip, rows, half);
    }
    multiply(ch, half, same);
    for (ptrdiff_t i = 0; same && i < lay->q2; i++) half[i + i * lay->q2] /= 2;
}

lmm_status changes_find(changes *ch)
{
    const layout *lay = &ch->m->layout;
    const ptrdiff_t q2 = lay->q2;
    ptrdiff_t size = 0;
    for (int k = 0; k < lay->nelim; k++)
        for (int32_t l = 0; l < lay->f[k].nlev; l++) {
            const ptrdiff_t p = lay->f[k].p, need = 4 * p * p + 2 * p * lay->ld[lay->f[k].node + l];
            if (need > size) size = need;
        }
    double *work = malloc(sizeof(double) * (size_t)(size + 1));
    if (!work) return LMM_NOMEM;
    for (int first = 0; first < lay->nelim; first++)
        for (int r = lay->f[first].th; r < lay->f[first].th + lay->f[first].nth; r++) {
            double *N = ch->N[r];
            for (int k = first; k < lay->nelim; k++) send_factor(ch, k, r, N, work);
            for (ptrdiff_t j = 0; j < q2; j++)
                for (ptrdiff_t i = 0; i <= j; i++)
                    N[i + j * q2] = N[j + i * q2] = N[i + j * q2] + N[j + i * q2];
        }
    free(work);
    return LMM_OK;
}
