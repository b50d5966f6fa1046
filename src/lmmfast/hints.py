"""What the names of R, lme4 and statsmodels are called here: hints of errors.

Arguments are checked at the call, so that signatures name all that there are: type checkers find
what is misspelled.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, TypeVar

Called = TypeVar("Called", bound=Callable[..., Any])

# What other packages' arguments are, of any function and of some.
ARGUMENTS = {
    "REML": "write reml=False for maximum likelihood",
    "na_action": "rows with missing values are dropped and counted",
    "missing": "rows with missing values are dropped and counted",
    "subset": "select the rows of the data beforehand",
    "control": "there is one optimizer, and it certifies its optimum: nothing needs to be set",
    "optimizer": "there is one optimizer, and it certifies its optimum: nothing needs to be set",
    "condVar": "write cond_var=True",
    "exponentiate": "numpy.exp(fit.conf_int()), or fit.tidy(exponentiate=True, conf_int=True)",
    "postVar": "write cond_var=True",
    "allow_new_levels": 'write new_levels="population"',
    "newdata": "the new data come first: fit.predict(new)",
    "exog": "the new data come first: fit.predict(new)",
    "re": 'write re_form="none" for the fixed effects alone',
    "parm": 'write parameters="all", "fixed", "random" or a list of names',
    "oldNames": "names are as in lmmfast: sd(x | g), cor(x, z | g), sigma",
    "nsim": "write n=1000 for the number of replicates",
    "n_boot": "write n=1000 for the number of replicates",
    "use_u": 'write re="fixed" for the conditional modes',
    "boot_type": 'write kind="percentile", "basic", "normal", "studentized" or "bca"',
    "use_t": 'write ddf="z" for normal quantiles, else t with the degrees of freedom of ddf=',
    "cov_p": "the covariance goes with ddf=",
    "cov_type": "the covariance is that of the model, or Kenward and Roger's by ddf=",
    "r_matrix": "hypotheses come first: fit.t_test(L)",
    "lmerTest_limit": "there are no limits of the number of rows",
    "pbkrtest_limit": "there are no limits of the number of rows",
    "mode": 'write ddf="satterthwaite", "kenward-roger", "residual" or "z"',
    "df": 'write ddf="satterthwaite", "kenward-roger", "residual" or "z"',
    "model_names": "write names=[...]",
    "conf_level": "write level=0.95",
    "alpha": "write level=0.95 for alpha=0.05",
    "scores": "scores of ordered levels: write contrasts in the formula, C(f, contr.poly)",
    "trace": "write verbose=True",
    "disp": "write verbose=True",
}
_OF = {
    "cluster_test": {
        "nsim": "write n=1000",
        "n_permutations": "write n=1000",
        "connectivity": "write adjacency=",
        "predictors": "write test=, and shuffle= for what is permuted",
        "predictor_type": 'write permute="between" or "within"',
        "stat_fun": "the statistic is t of the model, F of several coefficients",
        "n_jobs": "write threads=2",
    },
    "emmeans": {
        "offset": 'write at={"years": 1} for the variable whose logarithm is the offset',
        "infer": "write .contrasts.summary(conf_int=True)",
        "regrid": 'write type="response"',
    },
    "lmer": {
        "groups": "the formula has the random effects, as in lme4; lmmfast.mixedlm takes groups=",
        "re_formula": "the formula has the random effects, as in lme4; lmmfast.mixedlm takes it",
        "vc_formula": "the formula has the random effects, as in lme4; lmmfast.mixedlm takes it",
        "family": "generalized models are fitted by glmer(formula, data, family)",
        "link": "generalized models are fitted by glmer(formula, data, family, link)",
        "random": "the formula has the random effects: y ~ x + (1 | group)",
        "correlation": 'write residual="ar1(time | subject)", or "car1", "cs", "ante"',
        "dispformula": 'write dispersion="~ group", or "power(x)", "exp(x)"',
        "method": 'write reml=True (the default) for "REML", reml=False for "ML"',
        "newdata": "the data come second: lmer(formula, data)",
        "devFunOnly": "lmer(...).model.objective is the criterion",
        "lmod": "lmer(...).design has the matrices",
    },
    "glmer": {
        "nAGQ": "write nagq=9 for nine nodes (there is no nAGQ = 0)",
        "n_quad": "write nagq=9 for nine nodes",
        "groups": "the formula has the random effects, as in lme4",
        "REML": "write reml=True for restricted likelihood",
        "random": "the formula has the random effects: y ~ x + (1 | group)",
        "trials": "write weights=trials for shares, or cbind(successes, failures) ~ ...",
        "exposure": "write offset(log(exposure)) in the formula",
        "ziformula": "there are no zero-inflated models",
        "dispformula": "the dispersion is one number",
        "newdata": "the data come second: glmer(formula, data)",
    },
    "mmrm": {
        "method": 'write ddf="kenward-roger", "satterthwaite", ...',
        "vcov": 'write ddf="kenward-roger", or "kenward-roger-linear"',
        "covariance": "the covariance is a term of the formula: us(visit | subject)",
        "correlation": "the covariance is a term of the formula: ar1(visit | subject)",
        "random": "there are no random effects here: lmer has them",
    },
    "power": {
        "nsim": "write n=1000",
        "fixed": 'write test="x", a coefficient or a term',
        "breaks": 'sizes go with their column: along={"subj": [10, 20, 40]}',
        "sig": "write alpha=0.05",
        "ddf": 'write method="satterthwaite", "kenward-roger", "z" or "lrt"',
        "fixef": 'write params={"beta": {...}, "sd": {...}, "sigma": ...}',
        "progress": "a terminal shows a bar after two seconds",
    },
    "extend": {"n": "write to=60", "values": "new levels get labels of their own"},
    "design": {
        "n_subjects": "write subjects=24",
        "n_items": "write items=16",
        "subj_btwn": "write between={...}",
        "item_btwn": "write between_items={...}",
        "both_win": "write within={...}",
        "between_subjects": "write between={...}",
    },
    "predict": {
        "which": 'write type="response" or type="link"',
        "transform": 'write type="response" or type="link"',
        "re_formula": 'write re_form="none" for the fixed effects alone',
        "se_fit": "write se=True",
    },
    "simulate": {
        "re_form": 'write re="fixed" for the modes of the fit, re="new" for new random effects',
    },
    "ranova": {"ddf": "likelihood-ratio tests have no degrees of freedom"},
    "anova": {"test": 'write ddf="z" for chi-squared tests', "REML": "write refit=False"},
    "update": {
        "covariance": 'the formula has it: fit.update(". ~ . - us(v | s) + ar1(v | s)")',
        "evaluate": "see the formula of the result",
    },
}

# Attributes of other packages' fits.
ATTRIBUTES = {
    "fixef": "fit.params",
    "fe_params": "fit.params",
    "coefficients": "fit.params",
    "bse_fe": "fit.bse",
    "vcov": "fit.cov_params()",
    "normalized_cov_params": "fit.cov_params()",
    "VarCorr": "fit.varcorr",
    "cov_re": "fit.varcorr",
    "vcomp": "fit.varcorr",
    "bse_re": "fit.varcorr_se()",
    "random_effects": "fit.ranef()",
    "random_effects_cov": "fit.ranef(cond_var=True)",
    "logLik": "fit.llf",
    "loglik": "fit.llf",
    "loglike": "fit.llf",
    "deviance": "fit.objective, the deviance of a fit by maximum likelihood (reml=False)",
    "REMLcrit": "fit.objective",
    "AIC": "fit.aic",
    "BIC": "fit.bic",
    "confint": "fit.conf_int()",
    "fitted": "fit.fittedvalues",
    "fitted_values": "fit.fittedvalues",
    "df_residual": "fit.df_resid",
    "isSingular": "fit.is_singular",
    "ngrps": "fit.n_levels",
    "n_groups": "fit.n_levels",
    "getME": "fit.theta, fit.estimates and fit.design",
    "model_matrix": "fit.design.X",
    "model_frame": "fit.design",
    "optinfo": "fit.converged, fit.certificate, fit.n_evals",
    "method": "fit.reml",
    "coef_": "fit.params",
    "anova": "lmmfast.anova(fit)",
    "ranova": "lmmfast.ranova(fit)",
    "rand": "lmmfast.ranova(fit)",
    "drop1": "lmmfast.drop1(fit)",
    "step": "lmmfast.step(fit)",
    "simplify": "lmmfast.simplify(fit)",
    "compare": "lmmfast.compare(fit, other)",
    "compare_lr_test": "lmmfast.anova(fit, other)",
    "lsmeans": 'fit.emmeans("factor")',
    "difflsmeans": 'fit.emmeans("factor", contrasts="pairwise")',
    "wald_test": "fit.f_test(L)",
    "contest": "fit.f_test(L)",
    "contest1D": "fit.t_test(L)",
    "rsquared": "fit.r2()",
    "cooks_distance": "fit.influence()",
    "cooks_d": "fit.influence()",
    "hatvalues": "fit.influence()",
    "get_influence": "fit.influence()",
    "get_prediction": "fit.predict(new, se=True)",
    "rstudent": 'fit.residuals("pearson")',
    "resid_response": "fit.resid",
    "r_squaredGLMM": "fit.r2()",
    "resid_pearson": 'fit.residuals("pearson")',
    "pearson_resid": 'fit.residuals("pearson")',
    "t_values": "fit.tvalues",
    "p_values": "fit.pvalues",
    "zvalues": "fit.tvalues",
    "use_t": 'fit.coef_test(ddf="z") for normal quantiles',
    "hqic": "fit.aic, fit.bic",
    "power": "lmmfast.power(fit)",
    "powerSim": "lmmfast.power(fit)",
    "powerCurve": 'lmmfast.power(fit, along={"subj": [20, 40]})',
    "extend": 'lmmfast.extend(fit, along="subj", to=60)',
    "bootMer": "fit.bootstrap(1000)",
    "parametricbootstrap": "fit.bootstrap(1000)",
    "PBmodcomp": "lmmfast.pb_test(fit0, fit)",
    "plot": 'lmmfast.plots.fitted(fit, "x"), lmmfast.plots.caterpillar(fit) and other pictures of '
    "lmmfast.plots (pip install 'lmmfast[plot]'), or fit.check().plot() for those of its residuals",
    "refit_many": "fit.model.fit_many(Y)",
    "to_latex": "fit.summary().to_latex()",
    "as_latex": "fit.summary().to_latex()",
    "to_markdown": "fit.summary().to_markdown()",
    "to_html": "fit.summary().to_html()",
    "to_frame": "fit.tidy()",
    "summary_frame": "fit.tidy()",
    "summary2": "fit.summary()",
    "contrasts": "fit.hypotheses()",
    "loo": 'lmmfast.cross_validate(fit, by="subj")',
}


# And those of generalized fits alone.
GENERALIZED = {
    "resid_deviance": 'fit.residuals("deviance")',
    "resid_working": 'fit.residuals("working")',
    "mu": "fit.fittedvalues",
    "predict_proba": 'fit.predict(new, type="response")',
    "pearson_chi2": "fit.check(), which compares it with that of simulated responses",
    "testDispersion": "fit.check()",
    "overdisp": "fit.check()",
    "overdispersion": "fit.check()",
    "dispersion": "fit.extra, or fit.check() for whether the model has enough",
    "odds_ratios": "exponentials of fit.params and fit.conf_int()",
    "odds_ratio": "exponentials of fit.params and fit.conf_int()",
    "null_deviance": "lmmfast.anova(fit0, fit), fit0 without the predictors",
    "score": "fit.r2(), or fit.llf",
    "simulateResiduals": "fit.check()",
    "phi": "fit.extra",
    "alpha": "fit.extra",
}


def hinted(function: Called) -> Called:
    """The function, whose error for an argument that it has not says what to write instead."""
    listed = [name for name in inspect.signature(function).parameters if name != "self"]
    names, message = frozenset(listed), argument_error

    def called(*args: Any, **named: Any) -> Any:
        if not names.issuperset(named):
            wrong = next(name for name in named if name not in names)
            raise TypeError(message(function.__name__, wrong, listed))
        return function(*args, **named)

    # of the function's module: doctest looks for examples there
    home = FunctionType(called.__code__, function.__globals__, closure=called.__closure__)
    return functools.wraps(function)(home)  # type: ignore[return-value]


def argument_error(function: str, wrong: str, names: Iterable[str]) -> str:
    """The message for an argument that a function does not have."""
    known = _OF.get(function, {}).get(wrong) or ARGUMENTS.get(wrong, "")
    hint = known or _nearest(wrong, names) or f"its arguments are {', '.join(names)}"
    return f"{function}() has no argument {wrong!r}: {hint}"


def attribute_error(kind: str, wrong: str, names: Iterable[str]) -> str:
    """The message for an attribute that a fit does not have."""
    hints = ATTRIBUTES | (GENERALIZED if kind == "GLMMFit" else {})
    known = hints.get(wrong) or hints.get(wrong.replace(".", "_"))
    hint = f"write {known}" if known and known.startswith(("fit.", "lmmfast.")) else known
    hint = hint or _nearest(wrong, [name for name in names if not name.startswith("_")])
    return f"{kind!r} object has no attribute {wrong!r}" + (f": {hint}" if hint else "")


def _nearest(wrong: str, names: Iterable[str]) -> str:
    """What may have been meant, by the look of the name."""
    plain: Mapping[str, str] = {name.lower().replace("_", ""): name for name in names}
    near = difflib.get_close_matches(wrong.lower().replace("_", ""), plain, 1, 0.75)
    return f"did you mean {plain[near[0]]}?" if near else ""
