/* Private: Cholesky factor of a sparse symmetric positive definite matrix by supernodes, and the entries
   of its inverse on the matrix's pattern. */

#ifndef LMM_SUPERNODAL_H
#define LMM_SUPERNODAL_H

#include "lmm.h"
#include "base/team.h"
#include "cholesky/graph.h"

typedef struct supernodal supernodal;

/* Symbolic analysis. Lower triangle by columns: rows row[ptr[c]] .. row[ptr[c+1]-1] of column c, ascending;
   entries above the diagonal may stand there (whole diagonal blocks): ignored when read, filled when
   written. ptr, row: borrowed until supernodal_free. perm[i]: the i-th column to eliminate. */
lmm_status supernodal_analyse(supernodal **out, int32_t n, const ptrdiff_t *ptr, const int32_t *row,
                              const int32_t *perm, const lmm_blas *blas);

/* The same in the order with the fewest multiplications among those at hand, and what found that. A node has
   weight[i] successive columns with the same rows. */
lmm_status supernodal_choose(supernodal **out, lmm_order *found, const pattern *nodes, const pattern *columns,
                             const lmm_blas *blas, const lmm_options *options);

double supernodal_flops(const supernodal *sn);  /* multiplications of one factorization            */
double supernodal_bytes(const supernodal *sn);  /* what supernodal_allocate will take                */
lmm_status supernodal_allocate(supernodal *sn); /* memory of the numbers, for one thread             */
void supernodal_free(supernodal *sn);           /* NULL is fine                                      */

/* Scratch for teams of up to so many threads; it does not shrink. LMM_NOMEM: as before. */
lmm_status supernodal_set_threads(supernodal *sn, int threads);

/* P M P' = L L'. Nonzero where M is not positive definite. */
int supernodal_factor(supernodal *sn, team *t, const double *values, double *logdet);

/* X: r x n column-major (r right-hand sides, one a row). part 1: X := X P'L^-T (columns then stand in the
   order of elimination), 2: X := X L^-1 P, 3: both, X M^-1 */
void supernodal_solve(const supernodal *sn, team *t, int r, double *X, int part);

/* Memory, so that the inverse leaves the factor. */
lmm_status supernodal_spare(supernodal *sn);

/* inverse: as values, the entries of M^-1 on the pattern. L is overwritten unless it is spared. */
void supernodal_invert(supernodal *sn, team *t, double *inverse);

#endif
