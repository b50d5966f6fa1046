"""What formulas may call: functions, what they need to know of rows, R's matching of names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from .values import Wrong

__all__ = ["Function", "Rows", "State", "each", "learns", "levels", "of_all"]

State = dict[str, Any]  # what a call learned from the training data
Rows = Literal["each", "levels", "learns", "all"]


@dataclass(frozen=True)
class Function:
    """A function of the formula language.

    Attributes
    ----------
    run : callable
        Takes values; those that learn take ``state=`` too, empty for training data.
    rows : {"each", "levels", "learns", "all"}
        What a row's value depends on: that row; also the levels of the training data; also numbers
        learned from all training rows; the other rows at hand.
    """

    run: Callable[..., Any]
    rows: Rows = "each"

    @property
    def remembers(self) -> bool:
        """Whether it keeps something for new data."""
        return self.rows in ("levels", "learns")

    @cached_property
    def _parameters(self) -> tuple[str, ...]:
        return tuple(name for name in inspect.signature(self.run).parameters if name != "state")

    def __call__(
        self, values: Sequence[Any], named: dict[str, Any], state: State | None = None
    ) -> Any:
        """The value for these arguments.

        Raises
        ------
        Wrong
            For arguments that it does not have.
        """
        options = {self._matched(name): value for name, value in named.items()}
        if len(options) < len(named):
            raise Wrong("an argument is given twice")
        if self.remembers:
            options["state"] = {} if state is None else state
        try:
            bound = inspect.signature(self.run).bind(*values, **options)
        except TypeError as error:
            raise Wrong(f"{error}; its arguments are {', '.join(self._parameters)}") from None
        return self.run(*bound.args, **bound.kwargs)

    def _matched(self, name: str) -> str:
        """The parameter that a name means: with dots or underscores, whole or its beginning."""
        wanted = name.replace(".", "_")
        if wanted in self._parameters:
            return wanted
        found = [own for own in self._parameters if own.startswith(wanted)]
        return found[0] if len(found) == 1 and wanted else wanted


def each(run: Callable[..., Any]) -> Function:
    """A function that treats each row by itself."""
    return Function(run)


def levels(run: Callable[..., Any]) -> Function:
    """A function that remembers levels."""
    return Function(run, "levels")


def learns(run: Callable[..., Any]) -> Function:
    """A function that learns numbers from all training rows."""
    return Function(run, "learns")


def of_all(run: Callable[..., Any]) -> Function:
    """A function whose value for a row depends on the other rows at hand."""
    return Function(run, "all")
