/* The two hot loops of sparse crossing, over tiles of the trailing matrix that stay in cache:

     downdate:  S_JJ -= P_l P_l'            for every eliminated level l, J the columns it meets
     gather:    Q_l   = A_lJ B_JJ A_Jl      B = (Lambda M^-1 Lambda') over the trailing columns

   A tile is a strip of rows times a strip of columns; in one strip all blocks have one width. */

#include "model.h"
#include "small.h"

typedef struct {         /* one level's part of a strip                                       */
    const int32_t *node; /* its nodes there                                                   */
    int32_t n, width;    /* how many, and their columns                                       */
    ptrdiff_t row;       /* first row in the level's panel                                    */
} piece;

typedef struct { /* a walk over the levels of one eliminated factor for one tile      */
    lmm_model *m;
    const factor *f;
    int32_t strip_r, strip_c, wr, wc;
} tile;

/* Row of the panel where each strip's piece begins: widths are constant inside a strip. */
INLINE piece piece_of(const lmm_model *m, int32_t e, int32_t strip, int32_t width, ptrdiff_t row)
{
    const int32_t *cut = m->cut + (ptrdiff_t)e * (m->nstrip + 1);
    const piece p = {m->row + m->ptr[e] + cut[strip], cut[strip + 1] - cut[strip], width, row};
    return p;
}

/* Panel row of the first trailing node of a strip, for a level of factor f. */
INLINE ptrdiff_t first_row(const lmm_model *m, const factor *f, int32_t e, int32_t strip)
{
    const int32_t *cut = m->cut + (ptrdiff_t)e * (m->nstrip + 1);
    ptrdiff_t row = 0;
    for (const factor *up = f + 1; up < m->f + m->nelim; up++) row += up->p;
    if (m->nfactor - m->nelim == 1) return row + (ptrdiff_t)(cut[strip] - cut[0]) * m->f[m->nelim].p;
    for (int32_t s = 0; s < strip; s++) row += (ptrdiff_t)(cut[s + 1] - cut[s]) * m->width[m->strip[s]];
    return row;
}

/* Rows of a block as one vector: w of its lanes count, the others are masked to zero on load. A vector
   may reach past its block; S and every panel go on for at least one border row, and what is written
   there is what was read. */
typedef double vec4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t mask4 __attribute__((vector_size(32)));
typedef int64_t mask4a __attribute__((vector_size(32), aligned(8), may_alias));

#define LOAD4(x, lanes) ((vec4)(*(const mask4a *)(x) & (lanes)))

/* S_rc -= P_r P_c' for one pair of pieces. buffer: p wc doubles */
INLINE void downdate_pair(const int p, const int wr, const int wc, const double *P, ptrdiff_t ld, piece R,
                          piece C, const int32_t *col, double *S, ptrdiff_t s, int same, double *coef)
{
    const mask4 lanes = {-1, wr > 1 ? -1 : 0, wr > 2 ? -1 : 0, wr > 3 ? -1 : 0};
    for (int32_t b = 0; b < C.n; b++) {
        const double *Pc = P + C.row + b * wc;
        double *Sc = S + (ptrdiff_t)col[C.node[b]] * s;
        for (int x = 0; x < p; x++)
            for (int c = 0; c < wc; c++) coef[c + x * wc] = Pc[c + x * ld];
        for (int32_t a = same ? b : 0; a < R.n; a++) {
            const double *Pr = P + R.row + a * wr;
            double *to = Sc + col[R.node[a]];
            if (wr == 3 || wr == 4) {
                vec4 v[4];
                for (int x = 0; x < p && x < 4; x++) v[x] = LOAD4(Pr + x * ld, lanes);
                for (int c = 0; c < wc; c++) {
                    vec4 sum = *(vec4 *)(to + c * s);
                    for (int x = 0; x < p && x < 4; x++) sum -= v[x] * coef[c + x * wc];
                    *(vec4 *)(to + c * s) = sum;
                }
                continue;
            }
            for (int c = 0; c < wc; c++)
                for (int r = 0; r < wr; r++) {
                    double v = Pr[r] * coef[c];
                    for (int x = 1; x < p; x++) v += Pr[r + x * ld] * coef[c + x * wc];
                    to[r + c * s] -= v;
                }
        }
    }
}

/* t (p x wc) += A_R'B_Rc for the columns c of one block; sums: partial sums that do not wait for each
   other */
INLINE void gather_block(const int p, const int wr, const int wc, const double *A, ptrdiff_t ld, piece R,
                         int32_t from, const int32_t *col, const double *Bc, ptrdiff_t s, double *t)
{
    const mask4 lanes = {-1, wr > 1 ? -1 : 0, wr > 2 ? -1 : 0, wr > 3 ? -1 : 0};
    if ((wr == 3 || wr == 4) && p <= 3 && wc <= 4) {
        vec4 sums[12] = {0};
        for (int32_t a = from; a < R.n; a++) {
            const double *Ar = A + R.row + a * wr, *B = Bc + col[R.node[a]];
            for (int c = 0; c < wc; c++) {
                const vec4 b = *(const vec4 *)(B + c * s);
                for (int x = 0; x < p; x++) sums[x + c * p] += b * LOAD4(Ar + x * ld, lanes);
            }
        }
        for (int i = 0; i < p * wc; i++) t[i] += (sums[i][0] + sums[i][1]) + (sums[i][2] + sums[i][3]);
        return;
    }
    if (wr == 1 && p == 1 && wc == 1) {
        double sum[4] = {0};
        int32_t a = from;
        const double *Ar = A + R.row;
        for (; a + 4 <= R.n; a += 4)
            for (int u = 0; u < 4; u++) sum[u] += Ar[a + u] * Bc[col[R.node[a + u]]];
        for (; a < R.n; a++) sum[0] += Ar[a] * Bc[col[R.node[a]]];
        *t += (sum[0] + sum[1]) + (sum[2] + sum[3]);
        return;
    }
    for (int32_t a = from; a < R.n; a++) {
        const double *Ar = A + R.row + a * wr, *B = Bc + col[R.node[a]];
        for (int c = 0; c < wc; c++)
            for (int x = 0; x < p; x++) {
                double sum = 0;
                for (int r = 0; r < wr; r++) sum += B[r + c * s] * Ar[r + x * ld];
                t[x + c * p] += sum;
            }
    }
}

/* Q += half of A_r' B_rc A_c (its symmetric part counts the other half) for one pair of pieces.
   buffer: p wc doubles */
INLINE void gather_pair(const int p, const int wr, const int wc, const double *A, ptrdiff_t ld, piece R,
                        piece C, const int32_t *col, const double *B, ptrdiff_t s, int same, double *Q,
                        double *t)
{
    for (int32_t b = 0; b < C.n; b++) {
        const double *Ac = A + C.row + b * wc, *Bc = B + (ptrdiff_t)col[C.node[b]] * s;
        for (int i = 0; i < p * wc; i++) t[i] = 0;
        gather_block(p, wr, wc, A, ld, R, same ? b + 1 : 0, col, Bc, s, t);
        if (same) { /* the diagonal block is whole: its halves are each other's transposes */
            const double *from = Bc + col[C.node[b]];
            for (int c = 0; c < wc; c++)
                for (int x = 0; x < p; x++)
                    for (int r = 0; r < wc; r++) t[x + c * p] += 0.5 * from[r + c * s] * Ac[r + x * ld];
        }
        for (int c = 0; c < wc; c++)
            for (int x = 0; x < p; x++)
                for (int y = 0; y < p; y++) Q[y + x * p] += t[y + c * p] * Ac[c + x * ld];
    }
}

INLINE void downdate_tile(const int p, const int wr, const int wc, const tile *t)
{
    lmm_model *m = t->m;
    const factor *f = t->f;
    double local[16], *buffer = p <= 3 && wc <= 4 ? local : m->tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const piece C = piece_of(m, e, t->strip_c, wc, 0), R = piece_of(m, e, t->strip_r, wr, 0);
        if (!C.n || !R.n) continue;
        piece c = C, r = R;
        c.row = first_row(m, f, e, t->strip_c);
        r.row = first_row(m, f, e, t->strip_r);
        downdate_pair(p, wr, wc, f->P + m->pan[e], ld, r, c, m->trailcol, m->S, m->s,
                      t->strip_r == t->strip_c, buffer);
    }
}

INLINE void gather_tile(const int p, const int wr, const int wc, const tile *t)
{
    lmm_model *m = t->m;
    const factor *f = t->f;
    double local[16], *buffer = p <= 3 && wc <= 4 ? local : m->tmp;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const piece C = piece_of(m, e, t->strip_c, wc, 0), R = piece_of(m, e, t->strip_r, wr, 0);
        if (!C.n || !R.n) continue;
        piece c = C, r = R;
        c.row = first_row(m, f, e, t->strip_c);
        r.row = first_row(m, f, e, t->strip_r);
        gather_pair(p, wr, wc, f->pan + m->pan[e], ld, r, c, m->trailcol, m->L, m->s,
                    t->strip_r == t->strip_c, f->Q + (ptrdiff_t)(e - f->node) * p * p, buffer);
    }
}

/* Instances with constant widths: one column or a few on either side, else the general loop. */
#define INSTANCES(name)                                                                    \
    CLONES static void name##_111(const tile *t)                                           \
    {                                                                                      \
        name(1, 1, 1, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_211(const tile *t)                                           \
    {                                                                                      \
        name(2, 1, 1, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_122(const tile *t)                                           \
    {                                                                                      \
        name(1, 2, 2, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_222(const tile *t)                                           \
    {                                                                                      \
        name(2, 2, 2, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_233(const tile *t)                                           \
    {                                                                                      \
        name(2, 3, 3, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_322(const tile *t)                                           \
    {                                                                                      \
        name(3, 2, 2, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_333(const tile *t)                                           \
    {                                                                                      \
        name(3, 3, 3, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_144(const tile *t)                                           \
    {                                                                                      \
        name(1, 4, 4, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_244(const tile *t)                                           \
    {                                                                                      \
        name(2, 4, 4, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_133(const tile *t)                                           \
    {                                                                                      \
        name(1, 3, 3, t);                                                                  \
    }                                                                                      \
    CLONES static void name##_any(const tile *t)                                           \
    {                                                                                      \
        name(t->f->p, t->wr, t->wc, t);                                                    \
    }                                                                                      \
    static void name##_all(lmm_model *m, int k)                                            \
    {                                                                                      \
        tile t = {.m = m, .f = &m->f[k]};                                                  \
        for (t.strip_c = 0; t.strip_c < m->nstrip; t.strip_c++)                            \
            for (t.strip_r = t.strip_c; t.strip_r < m->nstrip; t.strip_r++) {              \
                t.wc = m->width[m->strip[t.strip_c]];                                      \
                t.wr = m->width[m->strip[t.strip_r]];                                      \
                switch (t.wr == t.wc && t.f->p < 4 && t.wc < 5 ? 10 * t.f->p + t.wc : 0) { \
                case 11: name##_111(&t); break;                                            \
                case 21: name##_211(&t); break;                                            \
                case 12: name##_122(&t); break;                                            \
                case 22: name##_222(&t); break;                                            \
                case 23: name##_233(&t); break;                                            \
                case 13: name##_133(&t); break;                                            \
                case 14: name##_144(&t); break;                                            \
                case 24: name##_244(&t); break;                                            \
                case 32: name##_322(&t); break;                                            \
                case 33: name##_333(&t); break;                                            \
                default: name##_any(&t);                                                   \
                }                                                                          \
            }                                                                              \
    }

INSTANCES(downdate_tile)
INSTANCES(gather_tile)

/* The rows of X and y: S_bJ -= P_b P_J', S_bb -= P_b P_b' */
CLONES static void downdate_border(lmm_model *m, const factor *f)
{
    const ptrdiff_t s = m->s, pb = m->pb;
    double *corner = m->S + m->q2 * s + m->q2;
    for (int32_t e = f->node; e < f->node + f->nlev; e++) {
        const ptrdiff_t ld = m->ld[e];
        const double *P = f->P + m->pan[e], *Pb = P + ld - pb;
        ptrdiff_t row = first_row(m, f, e, 0);
        const int32_t *cut = m->cut + (ptrdiff_t)e * (m->nstrip + 1);
        for (ptrdiff_t i = m->ptr[e] + cut[0]; i < m->ptr[e + 1]; i++)
            for (int c = 0; c < m->width[m->row[i]]; c++, row++) {
                double *to = m->S + (ptrdiff_t)(m->trailcol[m->row[i]] + c) * s + m->q2;
                for (int x = 0; x < f->p; x++)
                    for (ptrdiff_t r = 0; r < pb; r++) to[r] -= Pb[r + x * ld] * P[row + x * ld];
            }
        for (int x = 0; x < f->p; x++)
            for (ptrdiff_t c = 0; c < pb; c++)
                for (ptrdiff_t r = c; r < pb; r++) corner[r + c * s] -= Pb[r + x * ld] * Pb[c + x * ld];
    }
}

void downdate_trailing(lmm_model *m, int k)
{
    downdate_tile_all(m, k);
    downdate_border(m, &m->f[k]);
}

/* Q_l of factor k from the trailing part of the selected inverse (m->L), whole diagonal blocks */
void gather_trailing(lmm_model *m, int k)
{
    const factor *f = &m->f[k];
    const int p = f->p;
    memset(f->Q, 0, sizeof(double) * (size_t)f->nlev * (size_t)(p * p));
    gather_tile_all(m, k);
    for (int32_t l = 0; l < f->nlev; l++) {
        double *Q = f->Q + (ptrdiff_t)l * p * p;
        for (int j = 0; j < p; j++)
            for (int i = j; i < p; i++) Q[i + j * p] = Q[j + i * p] = Q[i + j * p] + Q[j + i * p];
    }
}
