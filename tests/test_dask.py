"""Dask data frames: partitions are reduced on the workers, the fit is that of all rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from streams import CASES, assert_same, gappy, in_memory, mixed, sleep

from lmmfast import DataError, FormulaError, Spec, lmer

dask = pytest.importorskip("dask")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dd = pytest.importorskip("dask.dataframe")

FORMULA = "Reaction ~ Days + (Days | Subject)"
pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")


@pytest.fixture(autouse=True)
def threads():
    with dask.config.set(scheduler="threads"):
        yield


def divided(data: pd.DataFrame, parts: int = 20) -> object:
    return dd.from_pandas(data, npartitions=parts)


@pytest.mark.parametrize("name", ["slope", "nested", "factors", "gaps", "dependent random"])
@pytest.mark.parametrize("parts", [1, 3, 20])
def test_partitions_give_the_fit_in_memory(name: str, parts: int) -> None:
    case = CASES[name]
    data = case.data().reset_index(drop=True)
    fit = lmer(case.formula, divided(data, parts), **case.options)
    assert_same(fit, in_memory(name))
    assert fit.pvalues.notna().any()


def test_partitions_without_rows() -> None:
    data = mixed()
    frame = divided(data, 6)
    some = frame[frame["k"] == 2]
    empty = some.map_partitions(lambda part: part[part["x"] > part["x"].max()])
    both = dd.concat([empty, some])
    assert_same(lmer("y ~ x + (1 | g)", both), lmer("y ~ x + (1 | g)", data[data["k"] == 2]))


def test_dot_stands_for_the_other_columns() -> None:
    data = mixed()[["y", "x", "f", "g"]]
    fit = lmer("y ~ . - g + (1 | g)", divided(data, 4))
    assert_same(fit, lmer("y ~ x + f + (1 | g)", data))


def test_residuals_stream_over_partitions() -> None:
    data = gappy()
    frame = divided(data, 5)
    fit = lmer(FORMULA, frame, weights="w", offset="o")
    wanted = lmer(FORMULA, data, weights="w", offset="o")
    found = pd.concat(fit.stream_residuals(frame))
    assert list(found.index) == list(wanted.design.rows)
    assert np.allclose(found["resid"], wanted.resid, rtol=0, atol=1e-8)


def test_specs_of_dask_data() -> None:
    spec = Spec.from_data(FORMULA, divided(sleep(), 4))
    assert spec.names == Spec.from_data(FORMULA, sleep()).names


def raising(part: pd.DataFrame) -> pd.DataFrame:
    if len(part) and part["Reaction"].iloc[0] > 0:
        raise RuntimeError("the disk of this worker is on fire")
    return part


def test_faults_on_workers_come_through() -> None:
    with pytest.raises(FormulaError, match=r"'Dais'.*did you mean 'Days'"):
        lmer("Reaction ~ Dais + (1 | Subject)", divided(sleep(), 4))
    bad = sleep()
    bad.loc[170, "Reaction"] = np.inf
    with pytest.raises(DataError, match=r"partition 3 \(rows 0 to 44\).*infinite"):
        lmer(FORMULA, divided(bad, 4))
    frame = divided(sleep(), 4)
    broken = frame.map_partitions(raising, meta=frame._meta)
    with pytest.raises(RuntimeError, match="on fire"):
        lmer(FORMULA, broken)
    with pytest.raises(FormulaError, match="all rows at once"):
        lmer("Reaction ~ scale(Days) + (1 | Subject)", frame)
    with pytest.raises(DataError, match="name of a column"):
        lmer(FORMULA, frame, weights=np.ones(180))
    with pytest.raises(DataError, match="constant"):
        lmer(FORMULA, divided(sleep().assign(Reaction=1.0), 3))


@pytest.mark.slow
def test_a_cluster_of_processes() -> None:
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
            dask.config.set(scheduler=None),
        ):
            fit = lmer(CASES["factors"].formula, divided(mixed(), 20))
            bad = mixed().assign(f=lambda d: d["f"].where(d.index != 599))
            bad["x"] = bad["x"].where(bad.index != 599, np.inf)
            with pytest.raises(DataError, match=r"partition .*infinite"):
                lmer("y ~ x + (1 | g)", divided(bad, 4))
    assert_same(fit, in_memory("factors"))


def test_other_objects_of_dask_are_refused() -> None:
    frame = divided(sleep(), 2)
    for one in (frame.to_dask_array(), frame["Days"], frame.to_delayed()[0]):
        with pytest.raises(DataError, match="of Dask: give a Dask data frame"):
            lmer(FORMULA, one)


def test_rows_that_move_to_other_levels_between_the_passes() -> None:
    data = mixed()[["y", "x", "g"]]
    calls: list[int] = []

    def moving(part: pd.DataFrame) -> pd.DataFrame:
        calls.append(1)  # surveyed, sampled, then the cross-products
        return (
            part if len(calls) < 3 else part.assign(g=np.roll(part["g"].to_numpy() // 20 * 20, 1))
        )

    frame = divided(data, 1).map_partitions(moving, meta=data)
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(DataError, match="changed between"),
    ):
        lmer("y ~ x + (1 | g)", frame)


def test_numbers_in_one_partition_and_text_in_another_are_refused() -> None:
    data = mixed()[["y", "x", "g"]].astype({"g": object})
    data.loc[300:, "g"] = [f"{g:03}" for g in data["g"][300:]]
    with dask.config.set({"dataframe.convert-string": False}):
        frame = divided(data, 2)
        with pytest.raises(DataError, match=r"'g' has numbers .*partition 0.*text .*partition 1"):
            lmer("y ~ x + (1 | g)", frame)
