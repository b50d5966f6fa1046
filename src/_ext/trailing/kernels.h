/* Private: what one level of an eliminated factor does in one tile of the trailing matrix (tiles.c).

   A tile holds its blocks one after the other, column of blocks by column of blocks: a block is at most two
   or three cache lines, where columns of a matrix would touch one line, and one page, each. A level has a few
   blocks in the tile's strip of rows, a few in its strip of columns, and works on every pair of them.
   Columns are taken two at a time: what is loaded of a row serves both, and the loop over rows, whose
   length no processor can foresee, ends half as often.

   Widths (p: the level's columns, w: those of a trailing level) are constants where it pays, so that a block
   is a few vectors whose factors stay in registers. Blocks of three rows have four lanes; the fourth holds
   the first number of what follows in the panel times something, and nobody reads it. */

#ifndef LMM_KERNELS_H
#define LMM_KERNELS_H

#include <stdint.h>

#include "base/small.h"

#define AT_ONCE 4 /* columns of numbers */
#define SMALL 12  /* p times w where both are constants, at most */

#ifdef __GNUC__ /* a vector that a function returns: all are inline, so that no call has to agree about it \
                 */
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

typedef struct {           /* the blocks of one level in one strip                             */
    const double *value;   /* w x p each, column-major; four doubles may be read behind the last */
    const uint16_t *place; /* trailing level of each, counted inside the strip, ascending        */
    ptrdiff_t n;
} blocks;

/* rows that a block of w rows takes in a tile */
INLINE int lanes(const int w)
{
    return w <= 2 ? w : (w + 3) / 4 * 4;
}

INLINE vec4 load4(const double *x)
{
    return *(const vec4 *)x;
}

INLINE vec4 all4(double x)
{
    return (vec4){x, x, x, x};
}

/* Blocks of 2 x 2 are one vector: their two rows twice, ... */
INLINE vec4 twice(const double *x)
{
    return (vec4){x[0], x[1], x[0], x[1]};
}

/* ... and a factor for each of their columns. */
INLINE vec4 by_column(double x, double y)
{
    return (vec4){x, x, y, y};
}

INLINE double sum4(vec4 x)
{
    return (x[0] + x[1]) + (x[2] + x[3]);
}

/* ------------------------------------------------------------------------------------- downdate -- */

/* coef (p x w) := K C' for one block C of a column of blocks */
INLINE void coefficients(const int p, const int w, const double *C, const double *K, double *coef)
{
    for (int c = 0; c < w; c++)
        for (int x = 0; x < p; x++) {
            double v = 0;
            for (int y = 0; y < p; y++) v += C[c + y * w] * K[y + x * p];
            coef[x + c * p] = v;
        }
}

/* vectors that a block of w columns has: 2 x 2 is one */
INLINE int vectors(const int w)
{
    return w == 2 ? 1 : w;
}

/* A matrix p x w (leading dimensions dp, dw) as what the vectors of a block are multiplied by */
INLINE void spread(const int p, const int w, const double *C, const int dp, const int dw, vec4 *factors)
{
    for (int c = 0; c < vectors(w); c++)
        for (int x = 0; x < p; x++)
            factors[x + c * p] = w == 2 ? by_column(C[x * dp], C[x * dp + dw]) : all4(C[x * dp + c * dw]);
}

/* The rows of a block, one column */
INLINE vec4 rows4(const int w, const double *R)
{
    return w == 2 ? twice(R) : load4(R);
}

/* block += R K C' for `count` blocks of one row, one or two. All that the row has is read before anything is
   written, so that it is read once. */
INLINE void add_block(const int p, const int w, const int count, const double *R, const vec4 *factors,
                      double *const *block)
{
    vec4 row[4], sum[4];
    for (int x = 0; x < p; x++) row[x] = rows4(w, R + x * w);
    for (int b = 0; b < count; b++, factors += p * vectors(w)) {
        vec4 *to = (vec4 *)block[b];
        for (int c = 0; c < vectors(w); c++) {
            sum[c] = to[c];
            for (int x = 0; x < p; x++) sum[c] += row[x] * factors[x + c * p];
        }
        for (int c = 0; c < vectors(w); c++) to[c] = sum[c];
    }
}

/* The same for one block of any widths */
INLINE void add_any_block(const int p, const int wr, const int wc, const double *R, const double *coef,
                          double *block)
{
    const int lr = lanes(wr);
    for (int c = 0; c < wc; c++)
        for (int x = 0; x < p; x++) {
            const double *r = R + x * wr, v = coef[x + c * p];
            if (lr >= 4)
                for (int i = 0; i < lr; i += 4) *(vec4 *)(block + i + c * lr) += load4(r + i) * v;
            else
                for (int i = 0; i < wr; i++) block[i + c * lr] += r[i] * v;
        }
}

/* The same for whole columns of blocks, from one row on: count of them, constant widths of two and more */
INLINE void add_columns(const int p, const int w, const int count, blocks R, ptrdiff_t from,
                        const double *coef, double *const *to)
{
    vec4 factors[2 * SMALL];
    for (int b = 0; b < count; b++) spread(p, w, coef + b * p * w, 1, p, factors + b * p * vectors(w));
    for (ptrdiff_t a = from; a < R.n; a++) {
        const ptrdiff_t at = (ptrdiff_t)R.place[a] * (lanes(w) * w);
        double *const block[2] = {to[0] + at, to[1] + at};
        add_block(p, w, count, R.value + a * p * w, factors, block);
    }
}

/* any widths, one column of blocks */
INLINE void add_any_column(const int p, const int wr, const int wc, blocks R, ptrdiff_t from,
                           const double *coef, double *to)
{
    for (ptrdiff_t a = from; a < R.n; a++)
        add_any_block(p, wr, wc, R.value + a * p * wr, coef, to + (ptrdiff_t)R.place[a] * (lanes(wr) * wc));
}

/* The same for count columns of numbers, from one row on: p = w = 1 */
INLINE void add_numbers(const int count, blocks R, ptrdiff_t from, const double *coef, double *const *to)
{
    double factor[AT_ONCE], *column[AT_ONCE];
    for (int b = 0; b < count; b++) factor[b] = coef[b], column[b] = to[b];
    for (ptrdiff_t a = from; a < R.n; a++) {
        const ptrdiff_t at = R.place[a];
        const double row = R.value[a];
        double sum[AT_ONCE];
        for (int b = 0; b < count; b++) sum[b] = column[b][at] + row * factor[b];
        for (int b = 0; b < count; b++) column[b][at] = sum[b];
    }
}

/* tile += R K C' for one level of one column in a tile of numbers, some columns at a time */
INLINE void downdate_numbers(blocks R, blocks C, double K, int diagonal, double *tile, ptrdiff_t height)
{
    double coef[AT_ONCE], *to[AT_ONCE];
    for (ptrdiff_t b = 0; b < C.n; b += AT_ONCE) {
        const ptrdiff_t left = C.n - b, from = diagonal ? b : 0;
        for (int i = 0; i < AT_ONCE && i < left; i++) {
            coef[i] = C.value[b + i] * K;
            to[i] = tile + C.place[b + i] * height;
        }
        if (left >= AT_ONCE)
            add_numbers(AT_ONCE, R, from, coef, to);
        else
            for (int i = 0; i < left; i++) add_numbers(1, R, from, coef + i, to + i);
    }
}

/* tile += A_R K A_C' for the blocks of one level; in a tile on the diagonal its lower blocks, and some of
   those above. height: doubles between columns of blocks; room: for p x wc where they are no constants */
INLINE void downdate_level(const int p, const int wr, const int wc, const int constant, blocks R, blocks C,
                           const double *K, int diagonal, double *tile, ptrdiff_t height, double *room)
{
    double local[2 * SMALL], *coef = constant ? local : room;
    const int pairs = constant && wr >= 2;
    if (constant && p == 1 && wr == 1) {
        downdate_numbers(R, C, *K, diagonal, tile, height);
        return;
    }
    for (ptrdiff_t b = 0; b < C.n; b += 1 + pairs) {
        const int both = pairs && b + 1 < C.n;
        const ptrdiff_t from = diagonal ? b : 0;
        double *const to[2] = {tile + C.place[b] * height, tile + C.place[both ? b + 1 : b] * height};
        coefficients(p, wc, C.value + b * p * wc, K, coef);
        if (both) coefficients(p, wc, C.value + (b + 1) * p * wc, K, coef + p * wc);
        if (both)
            add_columns(p, wr, 2, R, from, coef, to);
        else if (pairs)
            add_columns(p, wr, 1, R, from, coef, to);
        else
            add_any_column(p, wr, wc, R, from, coef, to[0]);
    }
}

/* --------------------------------------------------------------------------------------- gather -- */

/* sums[y + x p] += R_y'(B_0 C_0 + B_1 C_1)_x, lane by lane, for one or two columns of blocks and all rows
   from one on. B C comes first, so that nothing is summed up at the end of a column. */
INLINE void gather_rows(const int p, const int w, const int count, blocks R, ptrdiff_t from, const double *C,
                        const double *const *B, vec4 *sums)
{
    vec4 factors[2 * SMALL];
    for (int b = 0; b < count; b++) spread(p, w, C + b * p * w, w, 1, factors + b * p * vectors(w));
    for (ptrdiff_t a = from; a < R.n; a++) {
        const ptrdiff_t at = (ptrdiff_t)R.place[a] * (lanes(w) * w);
        vec4 u[2] = {{0}, {0}};
        for (int b = 0; b < count; b++) {
            const vec4 *block = (const vec4 *)(B[b] + at);
            for (int c = 0; c < vectors(w); c++)
                for (int x = 0; x < p; x++) u[x] += block[c] * factors[x + (c + b * vectors(w)) * p];
        }
        for (int y = 0; y < p; y++) {
            const vec4 row = rows4(w, R.value + (a * p + y) * w);
            for (int x = 0; x < p; x++) sums[y + x * p] += row * u[x];
        }
    }
}

/* sums[y + x p] += R_y (B_0 C_0 + B_1 C_1)_x for one row and trailing levels of one column */
INLINE void add_number(const int p, const int count, blocks R, ptrdiff_t a, const double *C,
                       const double *const *B, double *sums)
{
    for (int x = 0; x < p; x++) {
        double u = B[0][R.place[a]] * C[x];
        if (count == 2) u += B[1][R.place[a]] * C[x + p];
        for (int y = 0; y < p; y++) sums[y + x * p] += R.value[a * p + y] * u;
    }
}

/* gather_rows where trailing levels have one column. Sums in four lanes do not wait for each other. */
INLINE void gather_numbers(const int p, const int count, blocks R, ptrdiff_t from, const double *C,
                           const double *const *B, vec4 *sums)
{
    double part[4][4] = {{0}};
    ptrdiff_t a = from;
    for (; a + 4 <= R.n; a += 4)
        for (int lane = 0; lane < 4; lane++) add_number(p, count, R, a + lane, C, B, part[lane]);
    for (; a < R.n; a++) add_number(p, count, R, a, C, B, part[0]);
    for (int lane = 0; lane < 4; lane++)
        for (int i = 0; i < p * p; i++) sums[i][lane] += part[lane][i];
}

/* Q += A_R' B A_C for one level whose widths are small constants, p <= 2 */
INLINE void gather_small(const int p, const int w, blocks R, blocks C, int diagonal, const double *tile,
                         ptrdiff_t height, double *Q)
{
    vec4 sums[4] = {{0}, {0}, {0}, {0}};
    for (ptrdiff_t b = 0; b < C.n; b += 2) {
        const int both = b + 1 < C.n;
        const double *c = C.value + b * p * w, *const B[2] = {tile + C.place[b] * height,
                                                              tile + C.place[both ? b + 1 : b] * height};
        const ptrdiff_t from = diagonal ? b : 0;
        if (w == 1 && both)
            gather_numbers(p, 2, R, from, c, B, sums);
        else if (w == 1)
            gather_numbers(p, 1, R, from, c, B, sums);
        else if (both)
            gather_rows(p, w, 2, R, from, c, B, sums);
        else
            gather_rows(p, w, 1, R, from, c, B, sums);
    }
    for (int i = 0; i < p * p; i++) Q[i] += sum4(sums[i]);
}

/* t (p x wc) := A_R'B for one column of blocks B and all rows from one on */
INLINE void gather_column(const int p, const int wr, const int wc, const int constant, blocks R,
                          ptrdiff_t from, const double *B, double *t)
{
    const int lr = lanes(wr), size = lr * wc;
    vec4 sums[SMALL];
    for (int i = 0; i < p * wc; i++)
        if (constant && lr == 4)
            sums[i] = all4(0);
        else
            t[i] = 0;
    for (ptrdiff_t a = from; a < R.n; a++) {
        const double *r = R.value + a * p * wr, *block = B + (ptrdiff_t)R.place[a] * size;
        for (int c = 0; c < wc; c++)
            for (int x = 0; x < p; x++)
                if (constant && lr == 4)
                    sums[x + c * p] += load4(block + c * lr) * load4(r + x * wr);
                else
                    for (int i = 0; i < wr; i++) t[x + c * p] += block[i + c * lr] * r[i + x * wr];
    }
    for (int i = 0; constant && lr == 4 && i < p * wc; i++) t[i] = sum4(sums[i]);
}

/* Q += A_R' B A_C for one level, B: the tile; above the diagonal it is zero */
INLINE void gather_level(const int p, const int wr, const int wc, const int constant, blocks R, blocks C,
                         int diagonal, const double *tile, ptrdiff_t height, double *Q, double *room)
{
    double local[SMALL], *t = constant ? local : room;
    if (constant && p <= 2) {
        gather_small(p, wr, R, C, diagonal, tile, height, Q);
        return;
    }
    for (ptrdiff_t b = 0; b < C.n; b++) {
        const double *c = C.value + b * p * wc;
        gather_column(p, wr, wc, constant, R, diagonal ? b : 0, tile + C.place[b] * height, t);
        for (int j = 0; j < wc; j++)
            for (int x = 0; x < p; x++)
                for (int y = 0; y < p; y++) Q[y + x * p] += t[y + j * p] * c[j + x * wc];
    }
}

#endif
