"""What formulas may call: functions, what they need to know of rows, R's matching of names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

State = dict[str, Any]  # what a call learned from the training data
Rows = Literal["each", "levels", "learns", "all"]


class Wrong(ValueError):
    """What a function cannot do with its arguments, in words for the user."""


@dataclass(frozen=True)
class Function:
    """A function of the formula language; those that learn take ``state=``, empty at first.

    What a row's value depends on (`rows`): "each", that row; "levels", the levels of the training
    data too; "learns", also numbers learned from all training rows; "all", the other rows at hand.
    """

    run: Callable[..., Any]
    rows: Rows = "each"
    once: bool = False  # whether its value is what is learned: `run` needs no state

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
        """The value for these arguments; `Wrong` for arguments that it does not have."""
        options = {self._matched(name): value for name, value in named.items()}
        if len(options) < len(named):
            raise Wrong("an argument is given twice")
        state = {} if state is None else state
        if self.remembers and not self.once:
            options["state"] = state
        try:
            bound = inspect.signature(self.run).bind(*values, **options)
        except TypeError as error:
            raise Wrong(f"{error}; its arguments are {', '.join(self._parameters)}") from None
        if not self.once:
            return self.run(*bound.args, **bound.kwargs)
        if "value" not in state:
            state["value"] = self.run(*bound.args, **bound.kwargs)
        return state["value"]

    def _matched(self, name: str) -> str:
        """The parameter that a name means: with dots or underscores, whole or its beginning."""
        wanted = name.replace(".", "_")
        if wanted in self._parameters:
            return wanted
        found = [own for own in self._parameters if own.startswith(wanted)]
        return found[0] if len(found) == 1 and wanted else wanted


each = Function  # treats each row by itself
levels = partial(Function, rows="levels")  # remembers levels
learns = partial(Function, rows="learns")  # learns numbers from all training rows
once = partial(Function, rows="learns", once=True)  # has one value, that of all training rows
of_all = partial(Function, rows="all")  # depends on the other rows at hand
