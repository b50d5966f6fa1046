"""Models from arrays: names, new rows as columns of the design, what a model says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import GLMM, LMM, DataError, datasets, glmer, lmer


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def arrays(data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes = np.unique(data["Subject"], return_inverse=True)[1]
    X = np.column_stack([np.ones(len(data)), data["Days"]])
    return data["Reaction"].to_numpy(), X, codes


@pytest.fixture(scope="module")
def fit(arrays: tuple) -> Any:
    y, X, codes = arrays
    names = {"names": ["(Intercept)", "Days"], "groups": ["Subject"]}
    return LMM.from_arrays(y, X, [(codes, X)], **names).fit()


def test_names_are_those_of_tables(fit: Any, data: pd.DataFrame) -> None:
    by_formula = lmer("Reaction ~ Days + (Days | Subject)", data)
    assert list(fit.params.index) == ["(Intercept)", "Days"]
    assert fit.params.to_numpy() == pytest.approx(by_formula.params.to_numpy(), rel=1e-9)
    assert list(fit.ranef()) == ["Subject"]
    assert list(fit.ranef()["Subject"].columns) == ["(Intercept)", "Days"]
    assert repr(fit.model) == "<LMM none (made from arrays): n = 180, Subject 18>"
    assert repr(by_formula.model) == (
        "<LMM Reaction ~ Days + (Days | Subject): n = 180, Subject 18>"
    )


@pytest.mark.parametrize("how", [{}, {"se": True}, {"interval": "prediction"}])
@pytest.mark.parametrize("re_form", ["all", "none", ["Subject"]])
def test_new_rows_are_predicted_as_by_a_formula(
    fit: Any, data: pd.DataFrame, arrays: tuple, how: dict, re_form: Any
) -> None:
    _, X, codes = arrays
    own = fit.predict(X=X[5:30], Z=[(codes[5:30], X[5:30])], re_form=re_form, **how)
    by_formula = lmer("Reaction ~ Days + (Days | Subject)", data)
    other = by_formula.predict(data[5:30], re_form=re_form, **how)
    assert own.to_numpy() == pytest.approx(other.to_numpy(), rel=1e-8)


def test_levels_that_are_none_of_the_fit(fit: Any, data: pd.DataFrame) -> None:
    X = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 4.0]])
    Z = [(np.array([0, -1, 18]), X)]
    with pytest.raises(DataError, match="not seen: 'row 1', 'row 2'"):
        fit.predict(X=X, Z=Z)
    own = fit.predict(X=X, Z=Z, new_levels="population", interval="prediction")
    new = {"Days": [2, 3, 4], "Subject": ["308", "x", "y"]}
    by_formula = lmer("Reaction ~ Days + (Days | Subject)", data)
    other = by_formula.predict(new, new_levels="population", interval="prediction")
    assert own.to_numpy() == pytest.approx(other.to_numpy(), rel=1e-8)


def test_a_generalized_model_too(data: pd.DataFrame, arrays: tuple) -> None:
    _, X, codes = arrays
    slow = (data["Reaction"] > 300).astype(int)
    model = GLMM.from_arrays(
        slow.to_numpy(), X, [(codes, None)], names=["(Intercept)", "Days"], groups=["Subject"]
    )
    assert repr(model) == "<GLMM none (made from arrays), binomial logit: n = 180, Subject 18>"
    own = model.fit().predict(X=X[:9], Z=[(codes[:9], None)], type="response", se=True)
    by_formula = glmer("slow ~ Days + (1 | Subject)", data.assign(slow=slow))
    other = by_formula.predict(data[:9], type="response", se=True)
    assert own.to_numpy() == pytest.approx(other.to_numpy(), rel=1e-6)


def test_what_is_wrong_is_said(fit: Any, arrays: tuple) -> None:
    y, X, codes = arrays
    new = X[:3]
    for arguments, words in (
        ({"X": new}, "need Z"),
        ({"X": new[:, :1]}, "2 fixed-effects columns"),
        ({"X": new, "Z": [(codes[:3], new)] * 2}, "Z has 2 terms, the model has 1"),
        ({"X": new, "Z": [(codes[:2], new)]}, "3 integers"),
        ({"X": new, "Z": [(codes[:3], None)]}, "need \\(3, 2\\)"),
        ({"Z": [(codes[:3], new)]}, "Z needs X"),
        ({"newdata": {"Days": [1]}, "X": new}, "not both"),
        ({"newdata": {"Days": [1]}}, "give its columns"),
    ):
        with pytest.raises(DataError, match=words):
            fit.predict(**arguments)
    for names, words in (
        ({"names": ["a"]}, "columns of X \\(2\\)"),
        ({"names": ["a", "a"]}, "different names"),
        ({"groups": ["a", "b"]}, "each term \\(1\\)"),
    ):
        with pytest.raises(DataError, match=words):
            LMM.from_arrays(y, X, [(codes, X)], **names)
    two = [(codes, None), (codes, X[:, 1])]
    with pytest.raises(DataError, match="they are one grouping factor"):
        LMM.from_arrays(y, X, two, groups=["a", "b"])
    other = [(codes, None), (codes // 2, None)]
    with pytest.raises(DataError, match="two factors with different codes"):
        LMM.from_arrays(y, X, other, groups=["a", "a"])
