"""How the documentation is built: ``python -m sphinx -W -n docs build/docs``."""

from __future__ import annotations

import hashlib
import inspect
import os
from functools import reduce
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole

import lmmfast

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(lmmfast.__file__).resolve().parent

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # pages that run: one core each
os.environ["PYTHONPATH"] = str(PACKAGE.parent)  # and this package, wherever they run


def fingerprint() -> str:
    """One word for the state of the package: pages run again when it changed."""
    digest = hashlib.sha256()
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.so"), *PACKAGE.glob("*.pyd")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


project = "lmmfast"
author = "The lmmfast developers"
copyright = "The lmmfast developers"
version = release = lmmfast.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "numpydoc",
    "myst_nb",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates"]
default_role = "linked"

html_theme = "furo"
html_title = f"lmmfast {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/lmmfast/lmmfast/",
    "source_branch": "main",
    "source_directory": "docs/",
}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# Pages with code run where they, or the package, changed; an error in one ends the build.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs-cache" / fingerprint())
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True

# by name, not True: pages that are new since the last build count, too
autosummary_generate = [
    f"reference/{page.name}" for page in (ROOT / "docs" / "reference").glob("*.md")
]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings have them, in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"


def linked(_: str, raw: str, text: str, line: int, inliner: Any, *rest: Any) -> Any:
    """What stands between backticks: a link for public names, `lmmfast.lmer` or `LMM.at`; code."""
    name = text.removeprefix("lmmfast.")
    if (name != text or name[:1].isupper()) and name.split(".")[0] in lmmfast.__all__:
        found = reduce(lambda at, part: getattr(at, part, None), name.split("."), lmmfast)
        if found is not None and not inspect.ismodule(found):
            target = f"{text} <lmmfast.{name}>"
            return PyXRefRole()("py:obj", raw, target, line, inliner, {}, [])
    return [nodes.literal(raw, text)], []


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_role("linked", linked)
