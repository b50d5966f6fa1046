"""Formulas are arithmetic and calls of known functions: nothing else can be reached from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmmfast import CrossProducts, FormulaError, LmmError, Spec, lmer, mixedlm
from lmmfast.formula.expressions import Memory, evaluate, read_expression

N = 240


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.arange(N) % 12
    return pd.DataFrame(
        {
            "y": rng.normal(size=N) + rng.normal(size=12)[g],
            "x": rng.uniform(1, 2, N),
            "c": rng.choice(list("abc"), N),
            "g": g,
        }
    )


TOUCH = "system('touch {path}')==0"
ROUTES = [
    "np.where(np.lib._datasource.os.system('touch {path}')==0,c,c)",
    "np.where(np.lib.npyio.os.system('touch {path}')==0,c,c)",
    "np.where(np.testing._private.utils.os.system('touch {path}')==0,c,c)",
    "np.where(np.f2py.os.system('touch {path}')==0,c,c)",
    "np.where(np.f2py.subprocess.getoutput('touch {path}')=='',c,c)",
    "np.where(np.ctypeslib.ctypes.os.system('touch {path}')==0,c,c)",
    "np.where(numpy.testing.extbuild.os.system('touch {path}')==0,c,c)",
    "np.where(np.save('{path}',1)==0,c,c)",
    "np.where(np.savetxt('{path}',[1])==0,c,c)",
    "np.where(np.memmap('{path}',mode='w+',shape=3)[0]==0,c,c)",
    "np.where(np.array([1]).tofile('{path}')==0,c,c)",
    "np.where((c).to_pickle('{path}')==0,c,c)",
    "np.where(as_numeric(c).dump('{path}')==0,c,c)",
    "np.where(open('{path}','w').close()==0,c,c)",
    "np.where(__import__('os').system('touch {path}')==0,c,c)",
    "np.where(eval('open(chr(47))')==0,c,c)",
    "np.where(exec('open()')==0,c,c)",
    "np.where((c).__class__.__base__==0,c,c)",
    "np.where(''.__class__.__mro__==0,c,c)",
    "np.where('{{0.__class__}}'.format(c)==0,c,c)",
    "np.where(factor.__globals__==0,c,c)",
    "np.where(log.reduce(c)==0,c,c)",
    "np.where((lambda: 0)()==0,c,c)",
    "np.where([0 for i in c]==0,c,c)",
    "np.where(factor(c,**dict(_state=1))==0,c,c)",
    "np.where(factor(c,_state=1)==0,c,c)",
    "np.where(__FORMULAIC_CONTEXT__==0,c,c)",
    "np.where(np.c_.concatenate==0,c,c)",
    "np.where(np.add.reduce(c)==0,c,c)",
    "np.where(np.__builtins__==0,c,c)",
    "np.where(contr.mro==0,c,c)",
]


@pytest.mark.parametrize("route", ROUTES)
def test_a_loaded_file_runs_nothing(route: str, tmp_path: Path) -> None:
    path = tmp_path / "written"
    data = rows()
    spec = Spec.from_data("y ~ factor(c) + (1 | g)", data)
    file = io.BytesIO(CrossProducts.from_frame(data, spec).to_bytes())
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays["header"].tobytes())
    wanted = f"factor({route.format(path=path)})"
    header["spec"]["formula"] = header["spec"]["formula"].replace("factor(c)", wanted)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    with pytest.raises(LmmError):
        CrossProducts.from_bytes(file.getvalue())
    with pytest.raises(FormulaError):
        lmer(f"y ~ {wanted} + (1 | g)", data)
    with pytest.raises(FormulaError):
        mixedlm(f"y ~ {wanted}", data, groups="g")
    assert not path.exists()


def test_the_code_of_an_expression_is_checked_where_it_is_evaluated(tmp_path: Path) -> None:
    path = tmp_path / "written"
    for code in (
        f"__import__('os').system('touch {path}')",
        f"np.lib._datasource.os.system('touch {path}')",
        f"factor('a', open('{path}', 'w'))",
        "`a",
        "(" * 10_000,
    ):
        with pytest.raises(FormulaError):
            evaluate(read_expression(code), {}, Memory())
    evaluate(read_expression(f"factor('`', \"`'), open('{path}', 'w'))#\")"), {}, Memory())
    assert not path.exists()


def test_what_is_refused_is_named_with_what_is_allowed() -> None:
    with pytest.raises(FormulaError, match=r"np\.linalg\.norm is not allowed.*np\.where") as error:
        lmer("y ~ np.linalg.norm(x) + (1 | g)", rows())
    assert error.value.term == "np.linalg.norm(x)"
    with pytest.raises(FormulaError, match="'opened' is not a function that formulas know"):
        lmer("y ~ opened(x) + (1 | g)", rows())


@pytest.mark.parametrize(
    "term",
    [
        "np.log1p(x)",
        "numpy.clip(x, 1.2, 1.8)",
        "np.where(x > 1.5, x, 0)",
        "I(x * np.pi)",
        "I(x - np.mean(x))",
        "I(x / sum(x))",
        "np.interp(x, [0, 1, 3], [0, 2, 3])",
        "np.isin(c, ['a', 'b'])",
        "np.digitize(x, [1.2, 1.5])",
        "C(c, contr.sum)",
        "C(c, contr.treatment(base='b'))",
        "scale(x) + I(scale(x)**2)",
        "np.c_[x, np.sin(x)]",
        "bs(x, df=4)",
        "factor(c, levels=c('c', 'a', 'b'))",
    ],
)
def test_what_is_usual_works(term: str) -> None:
    data = rows()
    fit = lmer(f"y ~ {term} + (1 | g)", data)
    assert np.allclose(fit.predict(data), fit.fittedvalues)


def test_functions_of_the_caller_keep_working() -> None:
    def doubled(x):
        return 2 * x

    data = rows()
    one = mixedlm("y ~ doubled(x) + np.log(x)", data, groups="g").fit()
    two = mixedlm("y ~ x + np.log(x)", data, groups="g").fit()
    assert one.llf + np.log(2) == pytest.approx(two.llf, rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        "mean",
        "max",
        "min",
        "std",
        "median",
        "sum",
        "cumsum",
        "cumprod",
        "var",
        "ptp",
        "prod",
        "sort",
    ],
)
def test_streams_refuse_functions_of_all_rows_by_name(function: str) -> None:
    """Whatever the first chunks hold: here they are constant, no two of their rows differ."""
    data = rows().assign(x=lambda d: np.where(d.index < 200, 1.0, d["x"]))
    chunks = [data[a : a + 40] for a in range(0, N, 40)]
    formula = f"y ~ I(x / np.{function}(x)) + (1 | g)"
    for make in (lmer, Spec.from_data):
        with pytest.raises(FormulaError, match="needs all rows at once"):
            make(formula, chunks)


@pytest.mark.parametrize(
    "term", ["I(x / len(x))", "I(x / sum(x))", "I(x - x[0])", "I(x @ x)", "np.interp(x, x, g)"]
)
def test_streams_refuse_what_else_looks_at_other_rows(term: str) -> None:
    data = rows().assign(x=1.0)
    with pytest.raises(FormulaError, match="needs all rows at once"):
        Spec.from_data(f"y ~ {term} + (1 | g)", [data[:100], data[100:]])


@pytest.mark.parametrize(
    "term",
    [
        "np.log(x)",
        "np.where(x > 1.5, x, 0)",
        "np.interp(x, [0, 1, 3], [0, 2, 3])",
        "np.c_[x, x**2]",
    ],
)
def test_streams_take_elementwise_functions(term: str) -> None:
    data = rows()
    formula = f"y ~ {term} + factor(g, levels=np.arange(12)) + (1 | g)"
    formula = formula if "log" in term else f"y ~ {term} + (1 | g)"
    found, wanted = lmer(formula, [data[:100], data[100:]]), lmer(formula, data)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-10)
