"""The program whose types mypy checks runs, too."""

from __future__ import annotations

from pathlib import Path

import pytest
import typed_program


def test_data_of_every_kind(tmp_path: Path) -> None:
    objectives = typed_program.data_of_every_kind(tmp_path)
    assert objectives == pytest.approx([objectives[0]] * len(objectives), rel=1e-9)


def test_fits_of_every_kind(tmp_path: Path) -> None:
    assert abs(typed_program.linear(tmp_path)) < 100
    assert typed_program.generalized().converged
    assert typed_program.repeated().converged
