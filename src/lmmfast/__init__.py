"""Linear mixed-effects models with lme4's formulas, exact derivatives and a certified optimum.

``lmer(formula, data)`` fits a model; ``LMM.from_arrays`` does so without formulas and pandas.
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
)
from .estimates import Estimates, Evaluation
from .model import LMM, lmer
from .results import LMMFit

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
    "OneRowPerLevelWarning",
    "RankDeficientWarning",
    "datasets",
    "lmer",
]
