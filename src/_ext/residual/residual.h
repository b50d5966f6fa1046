/* Private: residual structures. With the rows U = L^-1 W^1/2 [Z X y] of a model, R = L L',

     A = U'U,   dA_j = dU_j'U + U'dU_j,   df/d delta_j = <F, dA_j> + d log|R|/d delta_j
     F = df/dA = [B 0; 0 0] + [REML] N C^-1 N' + (nu/r^2) w w',   N = [-B Z'R^-1 X; I; 0],  w = [b; beta; -1]

   so that only sums over rows are needed, laid out as A: patterns, storage and all readings stay what they
   are. Strata have a sum each, A = sum_s d_s^-2 A_s, and need no rows; other structures keep their rows
   (rows.c), which are made independent within subjects (whiten.c), where neighbours share every level.

   Average information (slope.c): the direction of delta_j is R_j P y = R_j R^-1 e, of which the model needs
   [Z X]'R^-1 R_j R^-1 e = dA_j w, and squares of L^-1 R_j L^-T e~, e~ = L^-1 e (Gilmour, Thompson & Cullis
   1995). */

#ifndef LMM_RESIDUAL_H
#define LMM_RESIDUAL_H

#include "model/model.h"

typedef struct {    /* sums over rows, laid out as the model's A  */
    columns *A;     /* nfactor                                    */
    double *border; /* pb x pb                                    */
} block_sums;

typedef struct { /* rows W^1/2 [Z X y] in whitened coordinates, by first factor, subject, time        */
    int64_t n;
    int32_t width;   /* columns: of all factors, X and y                                                  */
    double *value;   /* n x width, row-major                                                              */
    int32_t *node;   /* nfactor x n   node of each row                                                    */
    uint32_t **spot; /* nfactor^2  n  of k < j: place in the panels of k of the block with j; else NULL   */
    int64_t *from;   /* n             where the row stands in the data                                    */
    int64_t nsubject;
    int64_t *subject; /* nsubject + 1  first row of each; NULL where rows are independent                  */
} residual_rows;

struct residual {
    int32_t ndelta, ndeviation, ncorrelation;
    lmm_correlation kind;
    int at;         /* is A that of delta? */
    double sumlogw; /* of the weights W */
    double *delta;  /* ndelta */
    double *logs;   /* ndelta         d log|R| / d delta */
    /* strata: */
    int32_t nstrata;     /* ndeviation + 1: the first has d = 1; 0: rows are kept */
    block_sums *stratum; /* nstrata */
    int64_t *count;      /* nstrata        rows */
    /* rows: */
    residual_rows rows;
    int32_t *own;        /* n              stratum less one, -1: the first; NULL */
    double *column;      /* n x ndeviation what log d is made of; NULL */
    double most;         /* rows of the largest subject */
    int32_t *visit;      /* n              LMM_ANTE */
    double *gap;         /* n              time since the row before, 0: the first of a subject */
    double *scale;       /* n              1 / d */
    double *root;        /* n              1 / kappa */
    double *phi, *kappa; /* n              u_i = kappa_i (g_i - phi_i g_(i-1)), or of a subject (LMM_CS) */
    double *slope;       /* n              of phi in the parameter, where there is one; NULL */
    block_sums *dA;      /* ndelta */
    double *e, *t;       /* n, n x ndelta  e~ and L^-1 R_j L^-T e~ */
    double *buffer;      /* whitened rows of a block or a subject, and their derivatives */
    ptrdiff_t batch;     /* rows of it */
    void *memory;
};

/* sums.c */
lmm_status new_sums(block_sums *s, residual *r, const layout *lay);
double sums_bytes(const layout *lay);
void clear_block_sums(const layout *lay, const block_sums *s);
block_sums model_sums(const lmm_model *m);
void add_sums(const layout *lay, double w, const block_sums *from, const block_sums *to); /* to += w from */
/* out (r x (q + pb)) := V A */
void times_sums(const layout *lay, const block_sums *s, int r, const double *V, double *out);
/* sum of B times s where s is not zero, B = Lambda M^-1 Lambda'; after INVERTED */
lmm_status contract_sums(lmm_model *m, const block_sums *s, double *sum);

/* rows.c */
/* summed: rows of a stratum follow each other */
lmm_status keep_residual_rows(residual *r, lmm_model *m, const lmm_data *d, const lmm_residual *given,
                              int summed);
/* s += u v' over n rows from `first` on, u: rows of the panels, v: their columns; rows are width apart */
void add_rows_to(const lmm_model *m, const residual *r, const block_sums *s, int64_t first, int32_t n,
                 const double *u, const double *v);
int64_t block_end(const residual *r, int64_t first, int64_t *subject); /* of rows handled together */
const double *scale_rows(const residual *r, int64_t first, int64_t end, double *g); /* D^-1 times the rows */
/* s += u v' + v u' over rows [first, end) */
void add_both(const lmm_model *m, const residual *r, const block_sums *s, int64_t first, int64_t end,
              const double *u, const double *v);
lmm_status fill_from_rows(lmm_model *m, residual *r); /* A at delta */
void differentiate_rows(lmm_model *m, residual *r);   /* dA, logs, at delta */

/* whiten.c: what makes a block of rows independent, at r->delta; g, u: rows, width apart */
int place_rows(residual *r, double *logdet); /* scale, phi, kappa, log|R|; nonzero: there is no R */
void whiten_block(const residual *r, int64_t first, int64_t end, const double *g, int32_t width, double *u);
/* its derivative in the j-th parameter of the correlation */
void turn_block(const residual *r, int64_t first, int64_t end, int j, const double *g, int32_t width,
                double *u);
double log_slope(const residual *r, int j); /* d log|C| */
/* Derivative of phi of row i in the j-th parameter of the correlation; rho of LMM_CS and its derivative */
double neighbour_slope(const residual *r, int64_t i, int j);
double compound_correlation(const residual *r, double *slope);
/* log d_i = sum_j deviation(i, j) delta_j */
double residual_deviation(const residual *r, int64_t i, int j);
/* t := L^-1 R_j L^-T e~ of rows [first, end), whole subjects; e: D^-1 W^1/2 (y - X beta - Z b) of these rows,
   or another vector, white: L^-1 times it. work: twice the rows of the largest subject */
void residual_direction(const residual *r, int64_t first, int64_t end, int j, const double *e,
                        const double *white, double *work, double *t);

/* slope.c: derivatives of the criterion in (Sigma, delta) */
typedef struct { /* what one evaluation makes; columns of [Z X y] one after the other                   */
    double *V;   /* (p + 1) x (q + pb)  rows: R^-1 N' and w', C = R R'                                   */
    double *M;   /* the same times dA_j */
    double *G;   /* ndelta x (p + 1) x (p + 1)  M V' */
    double *s;   /* ndelta x (q + pb)   dA_j w, later [Z X]'V^-1 c_j, c_j = R_j R^-1 e */
    double *b;   /* ndelta x (q + pb)   B Z'R^-1 c_j, zeros behind */
    double *work;
    void *memory;
} residual_parts;
lmm_status residual_room(residual_parts *a, const lmm_model *m);
void residual_vectors(lmm_model *m, residual_parts *a);  /* V; after BORDERED                */
void residual_products(lmm_model *m, residual_parts *a); /* G, s and the model's dA; after V */
void residual_give_products(const lmm_model *m, const double *from, double *G); /* y in the user's units */
/* dA_j = weight times the sums that are returned */
const block_sums *residual_derivative(const residual *r, int j, double *weight);
lmm_status residual_derivatives(lmm_model *m, int reml, double *slope, double *A);
ptrdiff_t residual_size(const lmm_model *m); /* ntheta + ndelta */

/* setup.c */
void residual_free(residual *r);
lmm_status keep_residual(lmm_model *m, residual *r, lmm_status status); /* r is the model's, or freed */

#endif
