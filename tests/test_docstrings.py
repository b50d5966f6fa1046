"""Every example in a docstring runs and prints what it says; public docstrings are whole.

What is public is what the reference lists: `docs/reference`. numpydoc's `RULES` hold there, of
functions, models and fits besides `RULES_OF_CALLS` (results are made by these alone, and their
methods are often of one sentence), and `RULES_OF_FUNCTIONS` of functions.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import each

import lmmfast

MODULES = [
    found.name
    for found in pkgutil.walk_packages(lmmfast.__path__, "lmmfast.")
    if not found.name.endswith(("__main__", ".marginal"))
]
OPTIONAL = ("lmmfast.maketables", "lmmfast.sklearn")  # named as the packages that they need
REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
TEMPLATE = REFERENCE.parent / "_templates" / "autosummary" / "class.rst"

# https://numpydoc.readthedocs.io/en/latest/validation.html
RULES = {
    "GL05": "tabs",
    "GL06": "unknown section",
    "GL07": "order of sections",
    "GL08": "no docstring",
    "SS03": "summary without a period",
    "PR02": "parameters that there are not",
    "PR04": "no type",
    "PR07": "no description",
    "PR10": "a space before the colon",
    "SA02": "See Also without a period",
    "SA03": "See Also without a capital letter",
    "SA04": "See Also without a description",
}
RULES_OF_CALLS = {"PR01": "parameters that are not documented", "RT01": "no Returns"}
RULES_OF_FUNCTIONS = {"EX01": "no example", "SA01": "no See Also"}
CALLS = ("LMMFit", "GLMMFit", "MMRMFit")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name in OPTIONAL:
        pytest.importorskip(name.removeprefix("lmmfast."))
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def found(name: str) -> Any:
    """The object of a dotted name below `lmmfast`."""
    return functools.reduce(getattr, name.split("."), lmmfast)


def listed() -> Iterator[str]:
    """What the pages of the reference list, by names below `lmmfast`."""
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"autosummary::\n(?:   :\w+:.*\n)*\n((?:   [\w.]+\n)+)", text):
            yield from block.split()
        for name, members in re.findall(r"autoclass:: (\w+)\n   :members: (.*)", text):
            yield name
            yield from (f"{name}.{member}" for member in members.split(", "))


def members(name: str) -> Iterator[str]:
    """Members of a class whose page is made of the template."""
    left_out = re.search(":exclude-members: (.*)", TEMPLATE.read_text(encoding="utf-8"))
    assert left_out
    for member in dir(found(name)):
        if member.startswith("_") or member in left_out[1].split(", "):
            continue
        kind = inspect.getattr_static(found(name), member)
        owner = next(base for base in found(name).__mro__ if member in vars(base))
        is_ours = owner.__module__.startswith("lmmfast")
        if is_ours and (callable(kind) or hasattr(type(kind), "__get__")):
            yield f"{owner.__module__}.{owner.__qualname__}.{member}"


LISTED = sorted(set(listed()))
BY_PAGE = {name for name in LISTED if inspect.isclass(found(name))} - {"LMM", "GLMM", "MMRM"}
NAMES = sorted(
    {f"lmmfast.{name}" for name in LISTED if "Fit." not in name}
    | {member for name in BY_PAGE for member in members(name)}
)


def test_reference_lists_every_public_name() -> None:
    assert {*lmmfast.__all__} - {"datasets", "plots"} <= {*LISTED}


@pytest.mark.parametrize("kind", ["LMMFit", "GLMMFit", "MMRMFit"])
def test_reference_lists_every_member_of_fits(kind: str) -> None:
    """By use, under the name of one of the three kinds."""
    by_use = {name.split(".")[1] for name in LISTED if "Fit." in name}
    own = {name.rsplit(".", 1)[1] for name in members(kind)}
    assert own <= by_use | {"ddf"}


CALLED = {member for kind in CALLS if kind in BY_PAGE for member in members(kind)}


def test_docstrings_are_whole() -> None:
    validate = pytest.importorskip("numpydoc.validate").validate
    each(NAMES, lambda name: check_docstring(name, validate))


def check_docstring(name: str, validate: Any) -> None:
    rules = {**RULES}
    if name in CALLED or name.split(".")[1] in ("LMM", "GLMM", "MMRM", "datasets"):
        rules |= RULES_OF_CALLS
    if name.count(".") == 1 and inspect.isfunction(getattr(lmmfast, name.split(".")[1], None)):
        rules |= RULES_OF_CALLS | RULES_OF_FUNCTIONS
    found = validate(name)
    wrong = [f"{code}: {what}" for code, what in found["errors"] if code in rules]
    if "Yields\n" in found["docstring"]:
        wrong = [text for text in wrong if not text.startswith("RT01")]
    assert not wrong
