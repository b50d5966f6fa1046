"""Pictures look as they did: without text, whose shapes depend on fonts, small, within a tolerance.

``LMMFAST_IMAGES=write pytest tests/test_plot_images.py`` draws the baselines anew: look at each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import datasets, emmeans, glmer, lmer, plots

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.text import Text  # noqa: E402

IMAGES = Path(__file__).parent / "images"
TOLERANCE = 6.0  # root mean square of differences, of 255; a line that moves by a pixel makes more


@cache
def sleep() -> Any:
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


@cache
def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    subj, item = np.repeat(np.arange(30), 8), np.tile(np.arange(8), 30)
    cond, freq = np.where((subj + item) % 2, "a", "b"), rng.normal(size=8)[item]
    y = (cond == "b") * (1 + freq) + rng.normal(size=30)[subj] + rng.normal(size=240)
    counts = rng.poisson(np.exp(0.3 * y))
    return pd.DataFrame({"y": y, "n": counts, "cond": cond, "freq": freq, "subj": subj})


@cache
def model() -> Any:
    return lmer("y ~ cond * freq + (cond | subj)", crossed())


@cache
def profile() -> Any:
    return sleep().profile(["sd(Days | Subject)", "sigma", "Days"])


def means() -> Any:
    return emmeans(model(), ["freq", "cond"], at={"freq": [-1, 0, 1]}).plot()


def counts() -> Any:
    return plots.simulated(glmer("n ~ cond + (1 | subj)", crossed(), "poisson"), n=10)


def spaghetti() -> Any:
    _, ax = plt.subplots()
    return plots.fitted(sleep(), "Days", ax=ax)


PICTURES: dict[str, Callable[[], Any]] = {
    "caterpillar": lambda: plots.caterpillar(sleep()),
    "qq_ranef": lambda: plots.qq_ranef(sleep()),
    "shrinkage": lambda: plots.shrinkage(sleep()),
    "coefficients": lambda: plots.coefficients([model(), sleep()]),
    "residuals": lambda: plots.residuals(model()),
    "qq": lambda: plots.qq(sleep()),
    "fitted": lambda: plots.fitted(sleep(), "Days", levels=["308", "309", "310"]),
    "spaghetti": spaghetti,
    "profile": lambda: plots.profile(profile()),
    "density": lambda: plots.profile_density(profile()),
    "contours": lambda: plots.profile_contours(profile()),
    "means": means,
    "counts": counts,
    "bootstrap": lambda: sleep().bootstrap(200, seed=1).plot("fixed"),
    "check": lambda: sleep().check().plot(),
}


def drawn(picture: Callable[[], Any]) -> np.ndarray:
    """A picture without text, small, in matplotlib's own style: (height, width, 3) of 0 to 255."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        matplotlib.rcParams["figure.dpi"] = 100
        figure = np.atleast_1d(picture()).ravel()[0].figure
        for ax in figure.axes:
            if ax.get_legend() is not None:
                ax.get_legend().remove()
            ax.tick_params(labelleft=False, labelbottom=False, which="both")
        for text in figure.findobj(Text):
            text.set_visible(False)
        figure.set_dpi(40)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[:, :, :3].astype(float)
        plt.close(figure)
    return pixels


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square, infinite for pictures of other sizes."""
    return float(np.sqrt(np.mean((one - other) ** 2))) if one.shape == other.shape else np.inf


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_looks_as_it_did(name: str) -> None:
    path, pixels = IMAGES / f"{name}.png", drawn(PICTURES[name])
    if os.environ.get("LMMFAST_IMAGES") == "write":
        plt.imsave(path, pixels.astype(np.uint8))
    baseline = np.round(plt.imread(path)[:, :, :3] * 255)
    assert difference(pixels, baseline) < TOLERANCE


def test_other_numbers_make_another_picture() -> None:
    """The comparison can fail: another level of the intervals, another model's residuals."""
    wider = drawn(lambda: plots.caterpillar(sleep(), level=0.8))
    baseline = np.round(plt.imread(IMAGES / "caterpillar.png")[:, :, :3] * 255)
    assert difference(wider, baseline) > TOLERANCE
    data = crossed().assign(y=crossed()["y"] + 0.5 * crossed()["freq"] ** 2)
    other = drawn(lambda: plots.residuals(lmer("y ~ cond * freq + (cond | subj)", data)))
    baseline = np.round(plt.imread(IMAGES / "residuals.png")[:, :, :3] * 255)
    assert difference(other, baseline) > TOLERANCE


def test_the_baselines_are_small_and_all_used() -> None:
    files = list(IMAGES.glob("*.png"))
    assert {path.stem for path in files} == set(PICTURES)
    assert sum(path.stat().st_size for path in files) < 300_000
