/* Where one exact factorization takes as long as many solves by conjugate gradients, the optimum is looked
   for with these: their criterion and slope are estimates, but what is left to chance moves the optimum by
   far less than the data do (measured: the exact criterion promises 1e-9 to 1e-6 there). What is certified is
   exact: the fit goes on from there with the model's own trailing matrix, which one evaluation mostly ends.

   The iterative matrix lives as long as the approach; the exact one is not touched before. */

#include "optimize/approach.h"

#include "base/small.h"
#include "trailing/iterative.h"

/* An iterative trailing matrix for the model's A, its directions found; NULL: no memory, or A is not positive
   definite */
static trailing *begin_iterative(lmm_model *m)
{
    trailing *t = iterative_new();
    if (!t) return NULL;
    if (t->steps->make(t, m) == LMM_OK && t->steps->threads(t, m, team_size(m->team)) == LMM_OK) {
        trailing *exact = m->trailing;
        m->trailing = t;
        t->steps->begin(t, m);
        const lmm_status status = factorize_typical(m, m->scratch.newton);
        m->trailing = exact;
        if (status == LMM_OK) return t;
    }
    trailing_free(t);
    return NULL;
}

newton_end approach(fit *t, double *x)
{
    lmm_model *m = t->m;
    trailing *exact = m->trailing, *iterative = begin_iterative(m);
    newton_state seen = {.f = INFINITY, .radius = t->s->radius}, *state = t->state;
    if (!iterative) return NEWTON_UNDEFINED;
    const size_t size = sizeof(double) * (size_t)fit_size(t);
    memcpy(t->begin, x, size);
    m->trailing = iterative;
    t->state = &seen;
    t->begun = 0;
    const newton_end end = fit_minimize(t, x);
    if (end == NEWTON_CONVERGED && seen.ahead)
        memcpy(x, seen.ahead, size);
    else if (end != NEWTON_CONVERGED && end != NEWTON_STOPPED)
        memcpy(x, t->begin, size);
    t->state = state;
    state->neval = seen.neval;
    state->moved = 1;
    m->trailing = exact;
    m->evaluation.at.state = NOWHERE;
    trailing_free(iterative);
    return end;
}
