"""Bars of long work: where somebody looks, and silent elsewhere."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from lmmfast import fit_many, progress


class Terminal:
    """A stderr that keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In the test itself: pytest puts its own stderr in place after fixtures."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_long_work_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.progress(20, "rows", "row") as advance:
        for _ in range(20):
            time.sleep(0.02)
            advance(1)
    assert "rows" in terminal.text and "/20" in terminal.text


def test_short_work_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with progress.progress(20, "rows", "row") as advance:  # ends before there is a bar
        advance(20)
    with progress.progress(3, "rows", "row", least=10) as advance:
        advance(3)
        assert advance is progress.silent
    assert terminal.text == ""


def test_many_responses_show_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    rng = np.random.default_rng(0)
    data = {"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200)}
    Y = rng.normal(size=(200, 3000))
    fit_many("~ x + (1 | g)", data, Y, ddf="z")
    assert "responses" in terminal.text
