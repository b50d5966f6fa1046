/* Private: how a search of the minimizer ended, as callers are told. */

#ifndef LMM_ENDED_H
#define LMM_ENDED_H

#include "lmm.h"
#include "optimize/newton.h"

static inline lmm_status status_of(newton_end end)
{
    switch (end) {
    case NEWTON_CONVERGED: return LMM_OK;
    case NEWTON_STOPPED: return LMM_STOPPED;
    case NEWTON_MAXEVAL: return LMM_MAXEVAL;
    case NEWTON_UNDEFINED: return LMM_NOTPOSDEF;
    case NEWTON_NOTFINITE: break;
    }
    return LMM_NOTFINITE;
}

#endif
