/* Private: the trailing matrix as one dense matrix (dense.c), and its tiles (tiles.c). */

#ifndef LMM_TILES_H
#define LMM_TILES_H

#include "trailing/trailing.h"

typedef struct {             /* trailing rows of an eliminated factor's panels, strip by strip */
    double *value;           /* blocks                                                          */
    uint16_t *place;         /* trailing node of each block, counted inside its strip           */
    ptrdiff_t *ptr;          /* nstrip x (nlev+1)  first block of each level                    */
    ptrdiff_t *start;        /* nstrip  where a strip's values begin                            */
    int32_t *listat, *rowat; /* nlev  scratch of pack                                           */
} packed;

typedef struct {
    trailing base;
    double *S;        /* s x s  Schur complement, lower; depends: theta                           */
    double *L;        /* s x s  chol of the scaled S                                              */
    double *B;        /* s x s  (Lambda M^-1 Lambda')_trailing: L itself, unless that is spared   */
    double *cholesky; /* scratch of the inverse (cholesky/dense.c)                                */
    int32_t nstrip;   /* with lists: trailing columns are cut into strips that fit in cache       */
    int32_t *strip;   /* nstrip+1 first node of each strip                                        */
    packed *packed;   /* nelim                                                                    */
    double *edge;     /* scratch: rows of X and y, some at a time                                 */
    double *tile;     /* scratch: a strip x strip tile, blocks padded, for every worker           */
    ptrdiff_t ntile, largest_tile; /* size of one worker's, of its tile alone                     */
    int workers;                   /* that tile has room for                                      */
} dense;

lmm_status make_tiles(dense *d, const lmm_model *m);
lmm_status allocate_tiles(dense *d, int workers);
void pack(dense *d, const lmm_model *m, int k);
/* X (its lower triangle, lines ldx apart) -= A_Jl K_l A_lJ over the levels of factor k as it is packed */
void downdate_tiles(dense *d, lmm_model *m, int k, const double *K, double *X, ptrdiff_t ldx);
/* S's rows of X and y -= A_b K_l A_lR for the same levels */
void downdate_tiles_edge(dense *d, lmm_model *m, int k);
void gather_tiles(dense *d, lmm_model *m, int k);

#endif
