"""Mixed models as regressors of scikit-learn: pipelines, cross-validation by group, grid search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .api import lmer
from .data.columns import Table
from .errors import DataError
from .lmm import LMM
from .results import LMMFit

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "lmmfast.sklearn needs the package scikit-learn, 1.6 or later: "
        "pip install 'lmmfast[sklearn]'"
    ) from error

RESPONSE = "y"


class LMMRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc, unused-ignore]
    """A linear mixed model as a regressor of scikit-learn.

    With a formula, variables are columns of `X` by name, grouping factors too. Without one the
    model has all columns of `X`, an intercept, and an intercept for each of the `groups` that `fit`
    is given; without groups either it is least squares.

    Parameters
    ----------
    formula : str, optional
        Right-hand side in lme4's syntax: ``"~ x + (1 + x | subject)"``. Columns of an array are
        x0, x1, ...
    reml : bool, default True
        As for `lmmfast.lmer`.
    contrasts : dict, optional
        As for `lmmfast.lmer`; with a formula.
    re_form : {"all", "none"}, list of str, or formula, default "all"
        Random effects that are in predictions, as for `LMMFit.predict`; with a formula.
    new_levels : {"population", "error", "missing"}, default "population"
        What predictions are of groups that `fit` has not seen: those of the fixed effects, an
        error, or missing.

    Attributes
    ----------
    fit_ : LMMFit or None
        The fit; None for least squares.
    coef_ : (n_features_in_,) array
        Fixed effects of the columns; without a formula.
    intercept_ : float
        Without a formula.
    effects_ : dict
        Conditional modes by group; without a formula.
    n_features_in_, feature_names_in_
        As of all estimators.

    See Also
    --------
    lmmfast.lmer : The fit with everything that can be asked of it.
    lmmfast.cross_validate : Log predictive densities, leaving out rows or groups.

    Examples
    --------
    Whole subjects are left out, so that predictions are for new ones:

    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from lmmfast import datasets
    >>> from lmmfast.sklearn import LMMRegressor
    >>> data = datasets.load("sleepstudy")
    >>> model = LMMRegressor("~ Days + (Days | Subject)")
    >>> scores = cross_val_score(
    ...     model, data, data["Reaction"], groups=data["Subject"], cv=GroupKFold(6),
    ...     scoring="neg_root_mean_squared_error",
    ... )
    >>> bool(-scores.mean() < data["Reaction"].std())
    True
    """

    def __init__(
        self,
        formula: str | None = None,
        *,
        reml: bool = True,
        contrasts: Mapping[str, Any] | None = None,
        re_form: Any = "all",
        new_levels: str = "population",
    ) -> None:
        self.formula = formula
        self.reml = reml
        self.contrasts = contrasts
        self.re_form = re_form
        self.new_levels = new_levels

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> LMMRegressor:
        """Fit the model.

        Parameters
        ----------
        X : data frame or (n, p) array
        y : (n,) array
            Response.
        groups : (n,) array, optional
            Labels of groups, each of which has an intercept; without a formula.
        sample_weight : (n,) array, optional
            Precision weights: the residual variance of a row is sigma^2 / weight. Rows with a
            weight of zero are left out.

        Returns
        -------
        LMMRegressor
            Itself.

        Raises
        ------
        DataError, FormulaError, FitError
            As of `lmmfast.lmer`: ValueErrors.
        """
        if self.formula is not None:
            return self._fit_formula(X, y, groups, sample_weight)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        columns = np.column_stack([np.ones(len(X)), X])
        self.effects_: dict[Any, float] = {}
        if groups is None:
            self.fit_: LMMFit | None = None
            root = 1.0 if weights is None else np.sqrt(weights)
            beta = np.linalg.lstsq((columns.T * root).T, y * root, rcond=None)[0]
        else:
            beta = self._fit_groups(columns, y, groups, weights)
        self.intercept_, self.coef_ = float(beta[0]), np.asarray(beta[1:])
        return self

    def _fit_groups(self, columns: Any, y: Any, groups: Any, weights: Any) -> np.ndarray:
        """An intercept for each group: the fixed effects (p + 1,)."""
        labels = _labels(groups, len(y))
        if weights is not None:
            used = weights > 0
            columns, y, labels, weights = columns[used], y[used], labels[used], weights[used]
        levels, codes = np.unique(labels, return_inverse=True)
        model = LMM.from_arrays(y, columns, [(codes, None)], weights)
        fit = model.fit(reml=self.reml)
        self.fit_, estimates = fit, fit.estimates
        self.effects_ = dict(zip(levels.tolist(), estimates.b[0][:, 0], strict=True))
        return np.where(estimates.fixed_kept, estimates.beta, 0.0)

    def _fit_formula(self, X: Any, y: Any, groups: Any, sample_weight: Any) -> LMMRegressor:
        if groups is not None:
            raise DataError(
                "groups= is for models without a formula: the grouping factors of a formula are "
                "columns of X"
            )
        left, tilde, _ = str(self.formula).partition("~")
        if not tilde or left.strip():
            raise DataError(
                f"formula is a right-hand side such as '~ x + (1 | subject)', not {self.formula!r}"
            )
        data = self._frame(X, reset=True)
        name = RESPONSE
        while name in data:
            name += "_"
        data[name] = column_or_1d(y, warn=True)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=float)
        self.fit_ = lmer(
            f"{name} {self.formula}",
            data,
            reml=self.reml,
            weights=weights,
            contrasts=self.contrasts,
        )
        return self

    def _frame(self, X: Any, reset: bool) -> dict[str, Any]:
        """The columns of X by name."""
        validate_data(self, X, reset=reset, skip_check_array=True)
        if isinstance(X, (np.ndarray, list)):
            columns = np.atleast_2d(np.asarray(X))
            return {f"x{j}": columns[:, j] for j in range(columns.shape[1])}
        table = Table.of(X)
        return {str(name): X[name] for name in table.names}

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict the response.

        Parameters
        ----------
        X : data frame or (n, p) array
            Columns as in `fit`.
        groups : (n,) array, optional
            Labels of groups; without a formula. Default: predictions by the fixed effects.

        Returns
        -------
        (n,) array

        Raises
        ------
        DataError
            For unseen groups with ``new_levels="error"``.
        """
        check_is_fitted(self)
        if self.formula is not None:
            assert self.fit_ is not None
            data = self._frame(X, reset=False)
            levels: Any = self.new_levels
            found = self.fit_.predict(data, re_form=self.re_form, new_levels=levels)
            return np.asarray(found)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        values = np.asarray(self.intercept_ + X @ self.coef_)
        return values if groups is None else values + self._effects(_labels(groups, len(X)))

    def _effects(self, labels: np.ndarray) -> np.ndarray:
        """Conditional modes of the groups of rows (n,)."""
        levels, codes = np.unique(labels, return_inverse=True)
        new = [level for level in levels.tolist() if level not in self.effects_]
        if new and self.new_levels == "error":
            raise DataError(
                f"groups has levels that fit has not seen: {new[:5]}", variable="groups"
            )
        other = np.nan if self.new_levels == "missing" else 0.0
        return np.array([self.effects_.get(level, other) for level in levels.tolist()])[codes]


def _labels(groups: Any, n: int) -> np.ndarray:
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise DataError(f"groups has shape {labels.shape}; it needs ({n},)", variable="groups")
    return labels
