#!/usr/bin/env python3
"""Prints the version, which `src/lmmfast/__init__.py` states; meson.build asks for it."""

import re
from pathlib import Path

text = (Path(__file__).parent.parent / "src/lmmfast/__init__.py").read_text(encoding="utf-8")
found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
if found is None:
    raise SystemExit("src/lmmfast/__init__.py states no __version__")
print(found[1])
