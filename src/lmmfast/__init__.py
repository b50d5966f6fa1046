"""Linear mixed-effects models with lme4's formulas, exact derivatives and a certified optimum.

``lmer(formula, data)`` fits a model; ``LMM.from_arrays`` does so without formulas and pandas;
``mixedlm`` and ``MixedLM`` take and give what statsmodels' do.
"""

from . import datasets
from .errors import (
    ConvergenceWarning,
    DataError,
    DoubleBarWarning,
    FitError,
    FormulaError,
    IdentifiabilityWarning,
    LmmError,
    LmmWarning,
    OneRowPerLevelWarning,
    RankDeficientWarning,
    RestrictedLikelihoodWarning,
    UnusedArgumentWarning,
)
from .estimates import Estimates, Evaluation
from .model import LMM, lmer
from .results import LMMFit
from .sm_model import MixedLM, mixedlm
from .sm_params import MixedLMParams
from .sm_results import MixedLMResults

__version__ = "0.1.0"

__all__ = [
    "LMM",
    "ConvergenceWarning",
    "DataError",
    "DoubleBarWarning",
    "Estimates",
    "Evaluation",
    "FitError",
    "FormulaError",
    "IdentifiabilityWarning",
    "LMMFit",
    "LmmError",
    "LmmWarning",
    "MixedLM",
    "MixedLMParams",
    "MixedLMResults",
    "OneRowPerLevelWarning",
    "RankDeficientWarning",
    "RestrictedLikelihoodWarning",
    "UnusedArgumentWarning",
    "datasets",
    "lmer",
    "mixedlm",
]
