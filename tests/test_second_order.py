"""The next order of Laplace's approximation, beside its definition, quadrature and exact values."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import data, reference
from scipy.special import expit

from lmmfast import GLMM, FitError, Relationship, _core, anova, glmer
from lmmfast.engine import second_order

# AGQ with 25 nodes less Laplace's, and the correction, at Laplace's maximum; theta by the three
KNOWN = {
    "bacteria": (-0.438, -0.433, (1.2424, 1.3015, 1.3043)),
    "Contraception": (-0.268, -0.271, (0.4752, 0.4787, 0.4786)),
    "cbpp": (-0.0850, -0.0874, (0.6423, 0.6477, 0.6475)),
    "epil": (-0.1353, -0.1370, (0.5011, 0.5024, 0.5024)),
}


def given(name: str) -> tuple[Any, ...]:
    """Formula, data, family and link of a reference."""
    wanted = reference(f"glmm__{name}__laplace")
    return wanted["formula"], data(wanted["dataset"]), wanted["family"], wanted["link"]


def coded(kind: str) -> GLMM:
    """A small model of counts or binary rows, with 60 of them."""
    rng = np.random.default_rng(5)
    n, x = 60, np.random.default_rng(6).normal(size=60)
    X, z = np.column_stack([np.ones(n), x]), np.column_stack([np.ones(n), x])
    g, h = np.arange(n) % 6, rng.permutation(np.arange(n) % 4)
    nested = g * 2 + (np.arange(n) // 6) % 2
    terms: Any = {
        "one": [(g, z)],
        "two terms of one": [(g, None), (g, x[:, None])],
        "uncorrelated": [(g, z, "diag")],
        "crossed": [(g, None), (h, None)],
        "slopes": [(g, z), (h, z)],
        "nested": [(g // 2, None), (nested, z)],
        "three": [(g, None), (h, None), (np.arange(n) // 2, None)],
        "apart": [(g, None), (nested, None)],
    }[kind]
    eta = 0.3 + 0.5 * x + rng.normal(size=6)[g]
    if kind in ("slopes", "three"):
        return GLMM.from_arrays(rng.poisson(np.exp(eta)), X, terms, "poisson")
    return GLMM.from_arrays(rng.random(n) < expit(eta), X, terms)


KINDS = ["one", "two terms of one", "uncorrelated", "crossed", "slopes", "nested", "three", "apart"]


def parameters(model: GLMM) -> np.ndarray:
    """Some psi."""
    theta = 0.7 + 0.1 * np.arange(model.ntheta)
    return np.concatenate([theta, [0.2, 0.4]])


def dense(model: GLMM, psi: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """B, derivatives of the rows and Z, from the definition: dense, at the modes of the model."""
    design, blocks, prior = model.design, [], []
    for term, T in zip(design.terms, model._engine.factors(model.split(psi)[0]), strict=True):
        m, k = len(term.levels), term.z.shape[1]
        z = np.zeros((design.n, m, k))
        z[np.arange(design.n), term.codes] = term.z
        blocks.append(z.reshape(design.n, -1))
        prior += [T @ T.T] * m
    size = sum(len(one) for one in prior)
    G, at = np.zeros((size, size)), 0
    for one in prior:
        G[at : at + len(one), at : at + len(one)] = one
        at += len(one)
    family = model.family.core_name, model.family.core_link
    rows = _core.density(*family, design.y, None, model.point(psi).predictor, model.split(psi)[2])
    Z = np.hstack(blocks)
    B = np.linalg.inv(Z.T @ (-rows["d2"][:, None] * Z) + np.linalg.inv(G))
    return B, rows, Z


def by_definition(model: GLMM, psi: np.ndarray) -> float:
    """The correction, as a double sum over rows."""
    B, rows, Z = dense(model, psi)
    sigma, third = Z @ B @ Z.T, rows["d3"]
    h = sigma.diagonal()
    s = h * third
    return float(-2 * (rows["d4"] @ h**2 / 8 + s @ sigma @ s / 8 + third @ sigma**3 @ third / 12))


@pytest.mark.parametrize("kind", KINDS)
def test_correction_is_its_definition(kind: str) -> None:
    model = coded(kind)
    psi = parameters(model)
    wanted = by_definition(model, psi)
    assert abs(wanted) > 0.01
    close(model.correction(psi), wanted, 1.0, 1e-9)
    assert model.second_order.exact


def test_blocks_of_pairs_are_the_double_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a block has rows of several clusters, or a cluster has several blocks."""
    for wide, long in ((4, 8), (8, 16), (64, 64)):
        monkeypatch.setattr(second_order, "WIDE", wide)
        monkeypatch.setattr(second_order, "LONG", long)
        for kind in ("nested", "slopes", "three"):
            model = coded(kind)
            psi = parameters(model)
            close(model.correction(psi), by_definition(model, psi), 1.0, 1e-9)


def shared_levels(model: GLMM) -> list[np.ndarray]:
    """For each factor: do these two rows share a level? (n, n)."""
    parts = second_order.parts_of(model)
    return [part.codes[:, None] == part.codes[None, :] for part in parts]


@pytest.mark.parametrize("kind", ["crossed", "slopes", "three"])
def test_pairs_that_share_a_level(kind: str) -> None:
    model = coded(kind)
    psi = parameters(model)
    B, rows, Z = dense(model, psi)
    shared, third = np.any(shared_levels(model), axis=0), rows["d3"]
    missing = third @ (np.where(shared, 0.0, Z @ B @ Z.T) ** 3) @ third / 12
    wanted = by_definition(model, psi) + 2 * missing
    model.second_order._pairs = second_order.Pairs(second_order.parts_of(model), 0.0)
    assert not model.second_order.exact
    close(model.correction(psi), wanted, 1.0, 1e-9)


def test_many_rows_have_slopes_by_fewer_pairs() -> None:
    """VerbAgg's 7,584 rows: 29 million pairs, of which two million share a level."""
    wanted = reference("glmm__VerbAgg__main")
    model = glmer(wanted["formula"], data("VerbAgg")).model
    psi = np.concatenate([wanted["theta"], wanted["beta"]])
    assert model.second_order.exact
    assert model.second_order.price < 1e7
    _, slope = model.correction(psi, gradient=True)
    along = np.where(np.arange(9) < 2, 0.05, 0.02)
    exact = model.correction(psi + along / 10) - model.correction(psi - along / 10)
    close(slope @ along / 5, exact, abs(exact), 1e-3)


@pytest.mark.parametrize("kind", ["crossed", "slopes", "three"])
def test_pairs_by_moments(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Covariances over the effects of the levels that two rows share."""
    model = coded(kind)
    psi = parameters(model) * 0.3
    B, rows, Z = dense(model, psi)
    sigma = np.zeros((60, 60))
    shared = shared_levels(model)
    ends = np.cumsum([0, *(part.m * part.z.shape[1] for part in second_order.parts_of(model))])
    for f, one in enumerate(shared):
        for g, two in enumerate(shared):
            a, b = slice(*ends[f : f + 2]), slice(*ends[g : g + 2])
            sigma += (one & two) * (Z[:, a] @ B[a, b] @ Z[:, b].T)
    third, whole = rows["d3"], Z @ B @ Z.T
    wanted = by_definition(model, psi) - third @ (sigma**3 - whole**3) @ third / 6
    monkeypatch.setattr(second_order, "MOST_PAIRS", 0)
    assert not model.second_order.exact
    close(model.correction(psi), wanted, 1.0, 1e-9)


def test_too_many_pairs_of_nested_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_order, "MOST_PAIRS", 0)
    rng = np.random.default_rng(2)
    inner = np.repeat(np.arange(12), 10)
    terms = [(inner // 3, None), (inner, None)]
    model = GLMM.from_arrays(rng.poisson(20, 120), np.ones((120, 1)), terms, "poisson")
    with pytest.raises(FitError, match="lie within those of another"):
        model.correction([1.0, 1.0, 3.0])


def test_rows_may_be_trials() -> None:
    """Bernoulli rows, or one binomial row for all that are alike."""
    counts = data("cbpp")
    long = pd.DataFrame(
        [
            {"herd": row.herd, "period": row.period, "hit": i < row.incidence}
            for row in counts.itertuples()
            for i in range(int(row.size))
        ]
    )
    one = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", counts)
    other = glmer("hit ~ period + (1 | herd)", long)
    wanted = one.model.correction(one.psi)
    close(other.model.correction(one.psi), wanted, 1.0, 1e-9)


def test_nothing_is_lacking_in_linear_models() -> None:
    rng = np.random.default_rng(4)
    g, h = np.arange(80) % 8, np.arange(80) // 16
    y = 9 + rng.normal(size=8)[g] + rng.normal(size=80)
    model = GLMM.from_arrays(y, np.ones((80, 1)), [(g, None), (h, None)], "gaussian")
    assert model.correction([1.0, 0.5, 0.0, 0.0]) == 0


# ---- against quadrature --------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_correction_is_near_what_quadrature_adds(name: str) -> None:
    laplace = glmer(*given(name))
    exact = glmer(*given(name), nagq=25).model.objective(laplace.psi) - laplace.objective
    found = laplace.model.correction(laplace.psi)
    close([exact, found], KNOWN[name][:2], 1.0, 6e-4)
    close(found, exact, abs(exact), 0.03)


@pytest.mark.parametrize("name", KNOWN)
def test_corrected_fits_are_near_those_of_quadrature(name: str) -> None:
    laplace = glmer(*given(name))
    corrected = glmer(*given(name), accuracy="second-order")
    exact = glmer(*given(name), nagq=25)
    assert corrected.converged
    assert corrected.certificate < 1e-7
    assert corrected.n_evals - laplace.n_evals <= 6
    fits = (laplace, corrected, exact)
    close([fit.theta[0] for fit in fits], KNOWN[name][2], 1.0, 6e-5)
    off, before = (np.abs(exact.psi - fit.psi) for fit in (corrected, laplace))
    assert (off < 0.2 * before + 0.01 * exact.estimates.covariance.diagonal() ** 0.5).all()
    se, wanted = (fit.estimates.covariance.diagonal() ** 0.5 for fit in (corrected, exact))
    close(se, wanted, wanted, 0.012 if name == "bacteria" else 7e-4)


def table(rng: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, ...]:
    """A binary table with crossed effects: response, row and column."""
    g, h = np.divmod(np.arange(rows * columns), columns)
    eta = 0.2 + rng.normal(size=rows)[g] + rng.normal(size=columns)[h]
    return (rng.random(len(g)) < expit(eta)).astype(float), g, h


def exact_value(y: np.ndarray, sds: tuple[float, float], mean: float) -> float:
    """-2 log-likelihood of a table y (rows, 3), by quadrature over the effects of the columns, and
    for these over that of each row."""
    x, w = np.polynomial.hermite_e.hermegauss(25)
    w = w / w.sum()
    inner = mean + sds[0] * x  # (nodes,)
    total = np.zeros((25, 25, 25))
    outer = sds[1] * np.stack(np.meshgrid(x, x, x, indexing="ij"), axis=-1)
    eta = inner + outer[..., None]  # columns x nodes of the row's effect
    hit = expit(eta)
    for row in y:
        p = np.where(row[:, None] > 0, hit, 1 - hit).prod(axis=-2)
        total += np.log(p @ w)
    weights = w[:, None, None] * w[:, None] * w
    return float(-2 * np.log((np.exp(total) * weights).sum()))


@pytest.mark.parametrize("sds", [(1.0, 0.5), (0.8, 1.2), (1.5, 1.0)])
def test_crossed_tables_are_nearer_to_exact_values(sds: tuple[float, float]) -> None:
    y, g, h = table(np.random.default_rng(8), 12, 3)
    model = GLMM.from_arrays(y, np.ones((36, 1)), [(g, None), (h, None)])
    psi = np.array([*sds, 0.3])
    exact = exact_value(y.reshape(12, 3), sds, 0.3)
    laplace = model.objective(psi)
    corrected = laplace + model.correction(psi)
    assert abs(corrected - exact) < 0.35 * abs(laplace - exact)


# ---- the corrected criterion ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary() -> pd.DataFrame:
    y, g, h = table(np.random.default_rng(3), 20, 8)
    return pd.DataFrame({"y": y, "g": g, "h": h, "x": np.sin(np.arange(160))})


@pytest.fixture(scope="module")
def corrected(binary: pd.DataFrame) -> Any:
    return glmer("y ~ x + (1 | g) + (1 | h)", binary, accuracy="second-order")


def test_slopes_are_those_of_the_criterion(corrected: Any) -> None:
    """By differences in steps that have nothing to do with those of the slope."""
    model, psi = corrected.model, corrected.psi + np.array([0.1, -0.05, 0.1, 0.05])
    value, slope = model.objective(psi, gradient=True)
    close(value, model.objective(psi), 1.0, 1e-9)
    for j in range(len(psi)):
        step = 0.02 * (np.arange(len(psi)) == j)
        far, near = (
            (model.objective(psi + k * step) - model.objective(psi - k * step)) / (0.04 * k)
            for k in (2, 1)
        )
        close(slope[j], near + (near - far) / 3, 1.0, 2e-4)


def test_criterion_is_lowest_at_the_fit(corrected: Any) -> None:
    model, psi = corrected.model, corrected.psi
    assert corrected.converged
    laplace = model.uncorrected(psi)
    close(corrected.objective, laplace.value + model.correction(psi), 1.0, 1e-9)
    for j, se in enumerate(corrected.estimates.covariance.diagonal() ** 0.5):
        for side in (0.2, -0.2):
            rise = model.objective(psi + side * se * (np.arange(len(psi)) == j)) - model.objective(
                psi
            )
            assert rise > 0.02  # (0.2 standard errors)^2 is 0.04 with the others held


def test_curvature_is_that_of_the_criterion(corrected: Any) -> None:
    point = corrected.estimates.point
    units = corrected.estimates.covariance.diagonal() ** 0.5
    H = point.hessian * units[:, None] * units
    close(point.curvature * units[:, None] * units, H, np.abs(H).max(), 1e-7)
    laplaces = corrected.model.uncorrected(corrected.psi).hessian * units[:, None] * units
    assert np.abs(laplaces - H).max() > 0.01
    for j in range(len(units)):
        step = 0.02 * units * (np.arange(len(units)) == j)
        up, down = (
            corrected.model.objective(corrected.psi + side * step, gradient=True)[1]
            for side in (1, -1)
        )
        close(H[j], (up - down) * units / 0.04, np.abs(H).max(), 2e-3)


def test_corrected_fits_are_said_to_be(corrected: Any, binary: pd.DataFrame) -> None:
    assert corrected.estimates.accuracy == "second-order"
    assert "Laplace approximation, second order" in str(corrected.summary())
    again = pickle.loads(pickle.dumps(corrected))
    close(again.model.objective(again.psi), corrected.objective, 1.0, 1e-8)
    there = corrected.model.at(corrected.psi)
    assert there.converged
    close(there.objective, corrected.objective, 1.0, 1e-8)
    close(there.bse, corrected.bse, corrected.bse, 1e-4)
    other = corrected.refit(binary["y"].to_numpy())
    close(other.objective, corrected.objective, 1.0, 1e-7)


def test_a_smaller_model_is_corrected_too(corrected: Any, binary: pd.DataFrame) -> None:
    small = corrected.update(". ~ . - x")
    assert small.estimates.accuracy == "second-order"
    found = anova(small, corrected).table
    assert np.isfinite(found["Pr(>Chisq)"].iloc[-1])
    plain = glmer("y ~ (1 | g) + (1 | h)", binary)
    found = anova(plain, corrected)
    assert np.isnan(found.table["Pr(>Chisq)"].iloc[-1])
    assert any("approximated in different ways" in note for note in found.notes)


def test_profiles_are_of_the_criterion(corrected: Any) -> None:
    """With a parameter held, the others are at the best of the corrected criterion."""
    psi = corrected.psi.copy()
    psi[0] += 0.3
    held = np.arange(len(psi)) == 0
    best = corrected.model.minimum(psi, held)
    assert corrected.objective < best < corrected.model.objective(psi)
    beside = corrected.conf_int(method="profile", parameters=["x"]).to_numpy()[0]
    wald = corrected.conf_int(parameters=["x"]).to_numpy()[0]
    close(beside, wald, wald[1] - wald[0], 0.1)


def test_standard_errors_within_structures() -> None:
    """Two columns with one correlation are unstructured: other parameters, the same errors."""
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(40), 8), rng.normal(size=320)
    eta = 0.2 + 0.5 * x + rng.normal(size=40)[g] + rng.normal(size=40)[g] * x
    frame = pd.DataFrame({"y": (rng.random(320) < expit(eta)) * 1.0, "g": g, "x": x})
    plain, other = (
        glmer(f"y ~ x + {term}", frame, accuracy="second-order")
        for term in ("(1 + x | g)", "cs(1 + x | g)")
    )
    close(other.objective, plain.objective, 1.0, 1e-6)
    own = plain.estimates.covariance.diagonal() ** 0.5
    close(other.estimates.covariance.diagonal() ** 0.5, own, own, 1e-4)
    laplace = plain.model.uncorrected(plain.psi).covariance.diagonal() ** 0.5
    assert np.abs(laplace / own - 1).max() > 1e-3


def test_zero_variances_stay_where_they_are_best() -> None:
    rng = np.random.default_rng(1)
    frame = {"y": np.tile([0, 1], 40), "g": np.repeat(np.arange(10), 8), "x": rng.normal(size=80)}
    fit = glmer("y ~ x + (1 | g)", frame, accuracy="second-order")
    assert fit.is_singular
    assert fit.converged
    plain = glmer("y ~ x + (1 | g)", frame)
    close(fit.objective, plain.objective, 1.0, 1e-7)


# ---- the report ----------------------------------------------------------------------------------


def test_approximation_foretells_the_corrected_fit(corrected: Any, binary: pd.DataFrame) -> None:
    fit = glmer("y ~ x + (1 | g) + (1 | h)", binary)
    found = fit.approximation()
    assert found.exact
    close(found.correction, fit.model.correction(fit.psi), 1.0, 1e-9)
    table = found.to_frame()
    assert list(table.index) == ["sd(Intercept | g)", "sd(Intercept | h)", "Intercept", "x"]
    wanted = np.array([*corrected.theta, *corrected.params]) - table["estimate"]
    close(table["change"], wanted, table["se"], 0.04)
    close(table["ratio"], table["change"] / table["se"], 1.0, 1e-12)
    close(found.largest, np.abs(table["ratio"]).max(), 1.0, 1e-12)
    assert 'accuracy="second-order"' in found.advice
    assert "sd(Intercept | g)" in str(found)


def test_advice_goes_by_what_can_be_done() -> None:
    assert "nagq=" in glmer(*given("bacteria")).approximation().advice
    assert "good enough" in glmer(*given("cbpp")).approximation().advice


def test_standard_deviations_of_slopes_and_sizes() -> None:
    """By the delta method: those of the intervals."""
    fit = glmer("y ~ V4 + (1 + V4 | subject)", data("epil"), "negativebinomial")
    table = fit.approximation().table
    close(table.loc["size", "se"], fit.extra_se["size"], fit.extra_se["size"], 1e-4)
    close(table["se"].iloc[-2:], fit.bse, fit.bse, 1e-6)


@pytest.mark.parametrize("how", [{"nagq": 5}, {"information": "expected"}])
def test_what_it_does_not_go_with(how: dict[str, Any]) -> None:
    with pytest.raises(FitError, match="leave out"):
        glmer(*given("cbpp"), accuracy="second-order", **how)
    with pytest.raises(FitError, match="Laplace"):
        glmer(*given("cbpp"), **how).approximation()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="'laplace' or 'second-order'"):
        glmer(*given("cbpp"), accuracy="best")
    with pytest.raises(FitError, match="has the correction"):
        glmer(*given("cbpp"), accuracy="second-order").approximation()


def test_related_levels_are_refused_in_words() -> None:
    formula, frame, family, link = given("cbpp")
    kin = Relationship(0.9 * np.eye(15) + 0.1, sorted(frame["herd"].unique()))
    with pytest.raises(FitError, match=r"accuracy='second-order' takes the levels .* 'herd'"):
        terms = formula, frame, family, link
        glmer(*terms, accuracy="second-order", relationship={"herd": kin})


def test_what_stops_a_fit_at_its_start_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was called a criterion that is not finite."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(rng.integers(0, 9, (200, 2)), columns=["a", "b"]).assign(
        y=rng.integers(0, 2, 200)
    )
    monkeypatch.setattr(second_order, "MOST_PAIRS", 10)
    with pytest.raises(FitError, match="too many here"):
        glmer("y ~ 1 + (1 | mm(a, b))", frame, "binomial", accuracy="second-order")
