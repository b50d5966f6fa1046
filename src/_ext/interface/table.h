/* Private: the table of lmmfast.h. */

#ifndef LMM_TABLE_H
#define LMM_TABLE_H

#include "lmmfast.h"

/* The functions of this library with somebody's BLAS, which must live as long as the table is used. */
lmmfast_api lmmfast_table(const lmm_blas *blas);

#endif
