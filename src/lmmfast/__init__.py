"""Linear mixed-effects models with lme4's formulas, exact derivatives and a certified optimum.

``lmer(formula, data)`` fits a linear model, ``glmer(formula, data, family)`` a generalized one;
``LMM.from_arrays`` and ``GLMM.from_arrays`` do so without formulas and pandas;
``mixedlm`` and ``MixedLM`` take and give what statsmodels' do.
"""

from . import datasets, plots
from .api import glmer, lmer, plan
from .capi import get_include
from .clusters.results import ClusterTest
from .clusters.run import cluster_test
from .data.relationship import Adjacency, Precision, Relationship
from .data.structures import structures
from .engine.costs import ModelPlan
from .engine.custom import CustomFamily
from .engine.custom_covariance import CustomCovariance
from .engine.estimates import Estimates, Evaluation
from .engine.free import Free
from .engine.pedigree import Pedigree
from .errors import (
    ConvergenceWarning,
    DataError,
    DoubleBarWarning,
    FitError,
    FormulaError,
    IdentifiabilityWarning,
    LmmError,
    LmmWarning,
    LostWorkerWarning,
    OneRowPerLevelWarning,
    RankDeficientWarning,
    RestrictedLikelihoodWarning,
    SeparationWarning,
    UnusedArgumentWarning,
)
from .formula.hypotheses import hypotheses
from .glmm import GLMM
from .glmm_fit import GLMMFit
from .inference.hypotheses.anova import Anova, anova
from .inference.means.contrasts import Contrasts
from .inference.means.emmeans import EMMeans, emmeans
from .inference.means.joint import JointTests, joint_tests
from .inference.means.trends import Trends, emtrends
from .inference.selection.compare import compare
from .inference.selection.deletion_tables import drop1, ranova
from .inference.selection.singular import simplify
from .inference.selection.step import step
from .lmm import LMM
from .loading import load, verify
from .many.parameters import Parameters
from .measures import MMRM, mmrm
from .mmrm_fit import MMRMFit
from .planning.design import design
from .planning.extend import extend
from .planning.power import power
from .resampling.exact import lr_test, rlr_test
from .resampling.jackknife import Jackknife, jackknife
from .resampling.pb import pb_test
from .resampling.validation import CrossValidation, cross_validate
from .responses import fit_many, simulate
from .results import LMMFit
from .sm.model import MixedLM, mixedlm
from .sm.params import MixedLMParams
from .sm.results import MixedLMResults
from .sources import CrossProducts, Spec

__version__ = "0.1.0"

__all__ = [
    "GLMM",
    "LMM",
    "MMRM",
    "Adjacency",
    "Anova",
    "ClusterTest",
    "Contrasts",
    "ConvergenceWarning",
    "CrossProducts",
    "CrossValidation",
    "CustomCovariance",
    "CustomFamily",
    "DataError",
    "DoubleBarWarning",
    "EMMeans",
    "Estimates",
    "Evaluation",
    "FitError",
    "FormulaError",
    "Free",
    "GLMMFit",
    "IdentifiabilityWarning",
    "Jackknife",
    "JointTests",
    "LMMFit",
    "LmmError",
    "LmmWarning",
    "LostWorkerWarning",
    "MMRMFit",
    "MixedLM",
    "MixedLMParams",
    "MixedLMResults",
    "ModelPlan",
    "OneRowPerLevelWarning",
    "Parameters",
    "Pedigree",
    "Precision",
    "RankDeficientWarning",
    "Relationship",
    "RestrictedLikelihoodWarning",
    "SeparationWarning",
    "Spec",
    "Trends",
    "UnusedArgumentWarning",
    "anova",
    "cluster_test",
    "compare",
    "cross_validate",
    "datasets",
    "design",
    "drop1",
    "emmeans",
    "emtrends",
    "extend",
    "fit_many",
    "get_include",
    "glmer",
    "hypotheses",
    "jackknife",
    "joint_tests",
    "lmer",
    "load",
    "lr_test",
    "mixedlm",
    "mmrm",
    "pb_test",
    "plan",
    "plots",
    "power",
    "ranova",
    "rlr_test",
    "simplify",
    "simulate",
    "step",
    "structures",
    "verify",
]


def __dir__() -> list[str]:
    """What users call; the modules are not."""
    return [*__all__, "__version__"]
