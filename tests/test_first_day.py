"""What users of three trades met on their first day: messy files, services, trials."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import DataError, datasets, emmeans, fit_many, lmer
from lmmfast.data.design import build
from lmmfast.engine.costs import refusal


def test_the_remedy_for_a_file_has_its_whole_path(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    path.write_text("rt;subj\n512,5;a\n498,1;a\n530,0;b\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        lmer("rt ~ 1 + (1 | subj)", path)
    said = re.search(r"pandas\.read_csv\(.*?\)", str(caught.value))
    assert said is not None
    assert eval(said[0], {"pandas": pd})["rt"].tolist() == [512.5, 498.1, 530.0]


def test_a_record_with_null_is_predicted_as_missing(tmp_path: Path) -> None:
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    fit.save(tmp_path / "s.lmm")
    for one in (fit, lmmfast.load(tmp_path / "s.lmm")):
        assert np.isnan(one.predict({"Days": None, "Subject": "308"}).to_numpy()).all()
        table = pd.DataFrame({"Days": [None, None], "Subject": ["308", "309"]}, dtype=object)
        assert np.isnan(one.predict(table).to_numpy()).all()
        with pytest.raises(DataError, match="labels such as 'many'"):
            one.predict({"Days": "many", "Subject": "308"})


def test_a_response_without_values_says_so() -> None:
    data = datasets.load("sleepstudy")
    Y = data["Reaction"].to_numpy()[:, None].repeat(2, axis=1)
    Y[:, 1] = np.nan
    assert list(fit_many("~ Days + (1 | Subject)", data, Y).status) == [
        "converged",
        "no model: all values are missing",
    ]


def test_attributes_of_a_frame_are_left_alone() -> None:
    data = datasets.load("sleepstudy")
    expected = lmer("Reaction ~ Days + (1 | Subject)", data).objective
    circle: dict[str, Any] = {}
    circle["me"] = circle
    data.attrs = circle  # which pandas cannot compare, and copies with each column
    assert lmer("Reaction ~ Days + (1 | Subject)", data).objective == expected
    assert data.attrs is circle or "me" in data.attrs


def test_a_refused_model_names_a_few_factors() -> None:
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(180, 40))).add_prefix("x")
    data["y"] = np.random.default_rng(1).normal(size=180)
    for k in range(12):
        data[f"g{k}"] = np.random.default_rng(k).integers(5 + k, size=180).astype(str)
    bars = [f"(0 + x{i} | g{i % 12})" for i in range(40)]
    design = build("y ~ 1 + " + " + ".join(bars), data)
    said = refusal(design, {"bytes": 1e12, "considered": {}}, 1e9)
    assert said.count("levels)") == 10 and "and 2 more" in said
    assert said.count("g0 (") == 1


def test_a_response_of_classes_says_which_model_takes_it() -> None:
    data = datasets.load("sleepstudy")
    data["how well (1-3)"] = pd.Categorical(np.arange(180) % 3, ordered=True)
    with pytest.raises(DataError, match="family='ordered'") as caught:
        lmer("`how well (1-3)` ~ Days + (1 | Subject)", data)
    assert "the response 'how well (1-3)' is" in str(caught.value)
    with pytest.raises(DataError) as caught:
        lmer("word ~ Days + (1 | Subject)", data.assign(word="a"))
    assert "ordered" not in str(caught.value)


def test_a_pipe_gets_the_fit_and_stays_a_pipe(tmp_path: Path) -> None:
    fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    pipe, copy = tmp_path / "pipe", tmp_path / "copy.lmm"
    os.mkfifo(pipe)
    with copy.open("wb") as out, subprocess.Popen(["cat", pipe], stdout=out) as reader:
        fit.save(pipe)
        assert reader.wait(20) == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert lmmfast.load(copy).objective == fit.objective


def test_errors_of_the_disk_name_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    with pytest.raises(IsADirectoryError, match="give the name of a file") as caught:
        fit.save(tmp_path)
    assert caught.value.filename == str(tmp_path)
    target = tmp_path / "s.lmm"

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as failed:
        fit.save(target)
    assert failed.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []


def test_contrasts_print_with_intervals_when_asked() -> None:
    fit = lmer("angle ~ recipe + temp + (1 | replicate)", datasets.load("cake"))
    for adjust, own in (("none", None), ("tukey", "tukey"), ("holm", "bonferroni")):
        found = emmeans(fit, "recipe").contrast("pairwise", adjust=adjust)
        shown = found.summary(conf_int=True)
        table = shown.to_frame()
        assert list(table.columns)[-4:] == ["lower", "upper", "t", "p"]
        limits = found.conf_int()[["lower", "upper"]].to_numpy()
        np.testing.assert_allclose(table[["lower", "upper"]].astype(float), limits, atol=1e-4)
        last = str(shown).splitlines()[-1]
        assert last == "Confidence level: 0.95" + (f", simultaneous, {own} method" if own else "")
        assert "lower" not in str(found.summary())


def test_ratios_of_an_interaction_are_written_as_ratios() -> None:
    fit = lmer("log(angle) ~ recipe * temp + (1 | replicate)", datasets.load("cake"))
    means = emmeans(fit, ["recipe", "temp"], at={"temp": [175, 225]}, type="response")
    found = means.contrast(interaction="pairwise")
    assert found["recipe_pairwise"].tolist() == ["A / B", "A / C", "B / C"]
    assert set(found["temp_pairwise"]) == {"175 / 225"}


def test_explanations_of_singular_fits_fit_on_paper() -> None:
    data = datasets.load("kb07").rename(columns={"S": "speaker_of_the_name", "P": "precedent_kept"})
    fit = lmer(
        "RTtrunc ~ speaker_of_the_name * precedent_kept"
        " + (speaker_of_the_name * precedent_kept | subj) + (precedent_kept | item)",
        data,
    )
    assert fit.is_singular
    lines = str(fit.explain_singularity()).splitlines()
    assert max(map(len, lines)) <= 100
    start = next(i for i, line in enumerate(lines) if line.startswith("Slope"))
    assert any("(1) " in line for line in lines[start:])


def test_rates_are_asked_for_in_the_words_of_other_packages() -> None:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"arm": np.tile(["a", "b"], 60), "site": np.repeat(list("cdefgh"), 20)})
    data["years"] = rng.uniform(0.1, 2, 120)
    data["events"] = rng.poisson(2 * data["years"])
    fit = lmmfast.glmer("events ~ arm + offset(log(years)) + (1 | site)", data, "poisson")
    call: Any = fit.conf_int
    with pytest.raises(TypeError, match=r"numpy\.exp\(fit\.conf_int\(\)\)"):
        call(exponentiate=True)
    call = emmeans
    with pytest.raises(TypeError, match=r'at=\{"years": 1\}'):
        call(fit, "arm", offset=0)
    rates = fit.tidy(exponentiate=True, conf_int=True).set_index("term").loc["arm[T.b]"]
    np.testing.assert_allclose(
        rates[["conf.low", "conf.high"]].astype(float), np.exp(fit.conf_int().loc["arm[T.b]"])
    )


@pytest.fixture(scope="module")
def rated() -> Any:
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"form": np.tile(["a", "b"], 120), "subj": np.repeat(range(12), 20)})
    latent = rng.normal(size=240) + (data["form"] == "b") + rng.normal(size=12)[data["subj"]]
    data["rating (1-4)"] = np.digitize(latent, [-0.5, 0.5, 1.5]) + 1
    return lmmfast.glmer("`rating (1-4)` ~ form + (1 | subj)", data, "ordered")


def test_classes_of_a_quoted_response_are_named_as_its_column(rated: Any) -> None:
    means = emmeans(rated, ["form", "rating (1-4)"], type="prob")
    assert means.specs == ("rating (1-4)", "form")
    assert "rating (1-4)" in emmeans(rated, "form", type="prob").to_frame()


def test_probabilities_of_classes_are_drawn_over_the_classes(rated: Any) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    means = emmeans(rated, "form", type="prob")
    (ax,) = means.plot()
    assert [one.get_text() for one in ax.get_xticklabels()] == ["1", "2", "3", "4"]
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["a", "b"]
    assert len(means.plot("form")) == 4
    plt.close("all")


def test_long_names_are_whole_below_their_panels() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    data = datasets.load("kb07").rename(columns={"S": "speaker_of_the_name", "P": "precedent_kept"})
    bars = "(speaker_of_the_name * precedent_kept | subj) + (1 | item)"
    fit = lmer(f"RTtrunc ~ speaker_of_the_name * precedent_kept + {bars}", data)
    drawn = lmmfast.plots.caterpillar(fit)
    figure = drawn[0].figure
    figure.canvas.draw()
    for ax in drawn:
        extent = ax.xaxis.label.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
    plt.close("all")


def test_equations_have_names_without_backticks() -> None:
    data = datasets.load("sleepstudy").rename(columns={"Reaction": "RT (ms)"})
    fit = lmer("log(`RT (ms)`) ~ Days + (1 | Subject)", data)
    written = str(fit.equation())
    assert "`" not in written and "log(RT (ms))" in written


def test_headings_of_power_fit_on_paper() -> None:
    data = datasets.load("kb07").rename(columns={"S": "speaker_of_the_name", "P": "precedent_kept"})
    fit = lmer("RTtrunc ~ speaker_of_the_name * precedent_kept + (precedent_kept | subj)", data)
    name = "speaker_of_the_name:precedent_kept"
    lines = str(lmmfast.power(fit, test=name, n=10, seed=1)).splitlines()
    assert max(map(len, lines)) <= 100 and any(name in line for line in lines)
