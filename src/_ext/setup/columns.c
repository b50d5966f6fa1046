/* The columns of X and of each factor: parameters, whitening, the way back to the user's units. */

#include "model/relation.h"
#include "setup/fixed.h"
#include "setup/wide.h"
#include "base/small.h"

static lmm_status new_whitening(lmm_model *m, whitening *w, int32_t k)
{
    w->k = k;
    w->constant = -1;
    GRAB(m, w->mean, k + 1);
    GRAB(m, w->B, (size_t)k * (size_t)k + 1);
    GRAB(m, w->C, (size_t)k * (size_t)k + 1);
    return LMM_OK;
}

/* Whitens columns a, ... of one term; t: as wide. */
static lmm_status whiten_term(factor *f, const builder *b, int a, const span *s, whitening *t, uint8_t *keep,
                              lmm_report *report)
{
    const int p = f->p;
    TRY(whiten(t, s, &b->rows, keep));
    for (int j = 0; j < t->k; j++) {
        if (!keep[j]) {
            report->factor = f->user;
            report->column = a + j;
            return LMM_DEPENDENT;
        }
        f->w.mean[a + j] = t->mean[j];
        for (int i = 0; i < t->k; i++) {
            f->w.B[a + i + (a + j) * p] = t->B[i + j * t->k];
            f->w.C[a + i + (a + j) * p] = t->C[i + j * t->k];
        }
    }
    return LMM_OK;
}

lmm_status whiten_factor(lmm_model *m, factor *f, const builder *b, uint8_t *keep, lmm_report *report)
{
    const size_t p = (size_t)f->p;
    const span *s = b->moments.span + b->moments.first[f->user];
    lmm_status status = LMM_OK;
    double *buffer = malloc(sizeof(double) * (p + 2 * p * p));
    if (!buffer) return LMM_NOMEM;
    whitening t = {.mean = buffer, .B = buffer + p, .C = buffer + p + p * p};
    for (int a = 0; a < f->p && status == LMM_OK; a += t.k, s++) {
        t.k = s->k;
        status = whiten_term(f, b, a, s, &t, keep, report);
    }
    free(buffer);
    invert(f->p, f->w.C, f->Cinv, m->evaluation.f[f->k].T);
    return status;
}

void whiten_fixed(lmm_model *m, const builder *b)
{
    const lmm_data *d = b->d;
    layout *lay = &m->layout;
    lay->logdetB = m->sums.sumlogw = 0;
    if (lay->x.constant >= 0) lay->xconstant = first_value(d, lay->x.constant);
    for (int a = 0; a < lay->p; a++) lay->logdetB += log(lay->x.B[(ptrdiff_t)lay->keep[a] * (d->p + 1)]);
    m->sums.absent = 0;
    for (int64_t i = 0; d->w && i < d->n; i++) {
        if (d->w[i] > 0)
            m->sums.sumlogw += log(d->w[i]);
        else
            m->sums.absent++;
    }
}

/* A^-1 by Gauss-Jordan with partial pivoting; A is p x p, well conditioned by construction. */
void invert(int p, const double *A, double *X, double *work)
{
    memcpy(work, A, sizeof(double) * (size_t)(p * p));
    memset(X, 0, sizeof(double) * (size_t)(p * p));
    for (int i = 0; i < p; i++) X[i + i * p] = 1;
    for (int c = 0; c < p; c++) {
        int r = c;
        for (int i = c + 1; i < p; i++)
            if (fabs(work[i + c * p]) > fabs(work[r + c * p])) r = i;
        for (int j = 0; j < p && r != c; j++) {
            double t = work[c + j * p];
            work[c + j * p] = work[r + j * p], work[r + j * p] = t;
            t = X[c + j * p];
            X[c + j * p] = X[r + j * p], X[r + j * p] = t;
        }
        const double d = work[c + c * p];
        for (int j = 0; j < p; j++) work[c + j * p] /= d, X[c + j * p] /= d;
        for (int i = 0; i < p; i++) {
            const double e = work[i + c * p];
            if (i == c || e == 0) continue;
            for (int j = 0; j < p; j++)
                work[i + j * p] -= e * work[c + j * p], X[i + j * p] -= e * X[c + j * p];
        }
    }
}

/* The small matrices of an evaluation. */
static lmm_status new_state(lmm_model *m, const factor *f)
{
    factor_state *fs = &m->evaluation.f[f->k];
    const int p = f->p;
    GRAB(m, fs->Tp, p * p);
    GRAB(m, fs->T, p * p);
    GRAB(m, fs->D, p * p);
    GRAB(m, fs->S, p * p);
    GRAB(m, fs->axes, p * p);
    return LMM_OK;
}

/* Levels that a row has at most where it may have several; 0: it has one */
static int most_levels(const lmm_factor *u, int64_t n)
{
    int most = u->members != NULL;
    for (int64_t i = 0; u->members && i < n; i++) {
        int32_t count;
        levels_of_row(u, i, &count);
        if (count > most) most = count;
    }
    return most;
}

/* Columns, parameters and whitening of one factor. */
lmm_status new_factor(lmm_model *m, factor *f, const builder *b, int32_t user, uint8_t *keep)
{
    const lmm_factor *u = &b->d->factor[user];
    const int p = u->ncol;
    f->user = user;
    f->p = p;
    f->nlev = u->nlev;
    f->several = most_levels(u, b->d->n);
    GRAB(m, f->term, p);
    for (int j = 0; j < p; j++) f->term[j] = j && u->term[j] == u->term[j - 1] ? f->term[j - 1] : j;
    GRAB(m, f->thr, p * (p + 1) / 2);
    GRAB(m, f->thc, p * (p + 1) / 2);
    GRAB(m, f->place, p * (p + 1) / 2);
    for (int c = 0; c < p; c++)
        for (int r = c; r < p && f->term[r] == f->term[c]; r++) {
            f->thr[f->nth] = r;
            f->thc[f->nth++] = c;
        }
    GRAB(m, f->perm, f->nlev);
    GRAB(m, f->Cinv, p * p);
    TRY(new_state(m, f));
    TRY(new_whitening(m, &f->w, p));
    if (u->precision) TRY(relate_factor(m, f, u->precision, !b->options->plan));
    if (!b->x) return whiten_factor(m, f, b, keep, b->report);
    TRY(whiten_products(m, f, b, keep));
    invert(p, f->w.C, f->Cinv, m->evaluation.f[f->k].T);
    return LMM_OK;
}

lmm_status whiten_x(lmm_model *m, builder *b, uint8_t *keep)
{
    layout *lay = &m->layout;
    lay->summed = 0;
    lay->inflation = INFINITY;
    lay->wide = is_wide(b->d);
    if (lay->wide) return whiten_wide(m, b, keep);
    return b->d->p ? whiten_narrow(b, &lay->x, keep) : LMM_OK;
}

lmm_status new_fixed(lmm_model *m, builder *b, uint8_t *keep)
{
    layout *lay = &m->layout;
    const lmm_data *d = b->d;
    lay->pfull = d->p;
    TRY(new_whitening(m, &lay->x, d->p));
    GRAB(m, lay->keep, d->p + 1);
    GRAB(m, m->sums.b0, d->p + 1);
    GRAB(m, m->sums.beta0, d->p + 1);
    if (b->x) {
        TRY(whiten_fixed_products(m, b, keep));
    } else {
        TRY(whiten_x(m, b, keep));
        for (int j = 0; j < d->p; j++)
            if (keep[j]) lay->keep[lay->p++] = j;
        whiten_fixed(m, b);
    }
    lay->pb = lay->p + 1;
    GRAB(m, m->evaluation.beta, 2 * lay->pb); /* and scratch of residual.c */
    return LMM_OK;
}
