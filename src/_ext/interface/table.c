/* What lmmfast.h hands to other programs, and statuses in words. */

#include "interface/table.h"

lmmfast_api lmmfast_table(const lmm_blas *blas)
{
    static const uint32_t sizes[] = {LMMFAST_SIZES};
#define ENTRY(f) f,
    return (lmmfast_api){LMMFAST_ABI, sizeof(sizes) / sizeof(*sizes), sizes, blas, LMMFAST_FUNCTIONS(ENTRY)};
#undef ENTRY
}

const char *lmm_words(lmm_status status)
{
    switch (status) {
    case LMM_OK: return "done";
    case LMM_STOPPED: return "stopped by the caller; what is returned is the best so far";
    case LMM_MAXEVAL: return "the limit of evaluations was reached; what is returned is the best so far";
    case LMM_NOMEM: return "memory could not be had, or would exceed the limit";
    case LMM_NOTPOSDEF: return "the criterion is not finite at the starting value";
    case LMM_NOVARIANCE: return "the response is a linear combination of X: no residual variance is left";
    case LMM_DEPENDENT:
        return "columns of a random term are linearly dependent (factor and column: the report)";
    case LMM_UNAVAILABLE: return "not available with this storage";
    case LMM_TOOLARGE: return "the memory needed would exceed the limit (bytes: the report)";
    case LMM_UNSOLVED: return "the iterations of an iterative model did not converge";
    case LMM_NOTFINITE: return "the derivatives of the criterion are not finite";
    case LMM_EXACT: return "the residual variance went to zero on the way";
    }
    return "no status of lmmfast";
}
