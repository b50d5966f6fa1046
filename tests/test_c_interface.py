"""Programs of other people, in C, C++ and Cython, that fit models by lmmfast.h."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lmmfast
from lmmfast import _core, datasets, lmer

EXAMPLES = Path(__file__).parent.parent / "examples/embedding"
INCLUDE = Path(lmmfast.get_include())
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def compiled(source: Path, name: str, folder: Path, *options: str) -> ModuleType:
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = [f"-I{sysconfig.get_path('include')}", f"-I{INCLUDE}"]
    command = ["cc", "-shared", "-fPIC", "-O0", *options, *include, str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return loaded(name, target)


def loaded(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    data = datasets.load("sleepstudy")
    levels, codes = np.unique(data["Subject"], return_inverse=True)
    numbers = (data[name].to_numpy(np.float64) for name in ("Reaction", "Days"))
    return (*numbers, codes.astype(np.int32), len(levels))


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("c")
    return compiled(EXAMPLES / "in_c.c", "in_c", folder, "-Wall", "-Wextra", "-Werror")


@needs_compiler
def test_a_program_in_c(in_c: ModuleType, rows: tuple) -> None:
    found = in_c.fit(*rows)
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    assert found["objective"] == pytest.approx(fit.objective, rel=1e-12)
    assert found["theta"] == pytest.approx(fit.theta, rel=1e-9)
    assert found["beta"] == pytest.approx(fit.params.to_numpy(), rel=1e-10)
    assert found["sigma"] == pytest.approx(fit.sigma, rel=1e-10)
    assert found["certificate"] < 1e-6


@needs_compiler
def test_its_errors_are_words(in_c: ModuleType, rows: tuple) -> None:
    _, x, g, levels = rows
    with pytest.raises(ArithmeticError, match="linear combination of X"):
        in_c.fit(1 + 2 * x, x, g, levels)
    with pytest.raises(ValueError, match="g int32 from 0 to"):
        in_c.fit(x, x, g + 1, levels)


@pytest.mark.slow  # to compile what Cython writes takes five seconds
@needs_compiler
def test_a_program_in_cython(tmp_path: Path, rows: tuple) -> None:
    pytest.importorskip("Cython")
    shutil.copy(EXAMPLES / "in_cython.pyx", tmp_path)
    package = Path(lmmfast.__file__).parent.parent
    command = [sys.executable, "-m", "cython", "-I", str(package), "in_cython.pyx"]
    subprocess.run(command, check=True, cwd=tmp_path)
    module = compiled(tmp_path / "in_cython.c", "in_cython", tmp_path)
    model = module.Model(*rows)
    objective, theta = model.fit(reml=False)
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"), reml=False)
    assert objective == pytest.approx(fit.objective, rel=1e-12)
    assert theta == pytest.approx(fit.theta, rel=1e-9)
    value, slope = model.objective([1.0, 0.1, 0.2])
    own = fit.model.objective([1.0, 0.1, 0.2], gradient=True)
    assert value == pytest.approx(own.value, rel=1e-12)
    assert slope == pytest.approx(own.gradient, rel=1e-9)


@needs_compiler
@pytest.mark.parametrize(
    ("header", "old", "new"),
    [
        ("lmmfast.h", "#define LMMFAST_ABI 1", "#define LMMFAST_ABI 2"),
        ("lmm.h", "double radius;    /* 1", "double radius, another; /* 1"),
    ],
)
def test_headers_of_another_version_are_refused(
    tmp_path: Path, header: str, old: str, new: str
) -> None:
    for name in ("lmm.h", "lmmfast.h", "structures/structure.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (INCLUDE / name).read_text()
        if name == header:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    with pytest.raises(ImportError, match="headers of another lmmfast"):
        compiled(EXAMPLES / "in_c.c", "in_c", tmp_path, f"-I{tmp_path}")


@needs_compiler
def test_it_is_cpp_too(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    source = tmp_path / "in_cpp.cpp"
    source.write_text(
        '#include <Python.h>\n#include "lmmfast.h"\n'
        "int main() { return lmmfast_import() < 0 || lmm_defaults().maxeval != 500; }\n"
    )
    include = [f"-I{sysconfig.get_path('include')}", f"-I{INCLUDE}"]
    subprocess.run(
        ["c++", "-std=c++17", "-Wall", "-Werror", "-c", *include, source], check=True, cwd=tmp_path
    )


def test_the_table_has_every_function_of_the_headers() -> None:
    functions = set()
    for name in ("lmm.h", "structures/structure.h"):
        text = re.sub(r"/\*.*?\*/", "", (INCLUDE / name).read_text(), flags=re.S)
        functions |= set(re.findall(r"^(?:const )?\w+ \*?(lmm_\w+)\(", text, flags=re.M))
    text = (INCLUDE / "lmmfast.h").read_text()
    assert set(re.findall(r"X\((lmm_\w+)\)", text)) == functions
    assert set(re.findall(r"#define (lmm_\w+) ", text)) == functions


def test_the_table_is_in_a_capsule() -> None:
    assert "lmmfast._core.c_api" in repr(_core.c_api)
