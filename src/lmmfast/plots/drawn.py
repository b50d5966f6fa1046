"""What pictures are drawn of, by what they read of it: results of rooms below this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class Means(Protocol):
    """`EMMeans` or `Trends`."""

    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def specs(self) -> tuple[str, ...]: ...
    @property
    def by(self) -> tuple[str, ...]: ...
    @property
    def level(self) -> float: ...


class Compared(Protocol):
    """`Contrasts`."""

    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def level(self) -> float: ...
    @property
    def ratios(self) -> bool: ...
    @property
    def adjust(self) -> str: ...
    def conf_int(self, level: float | None = None) -> pd.DataFrame: ...


class Replicates(Protocol):
    """`Bootstrap`."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def estimates(self) -> np.ndarray: ...
    @property
    def conf_int(self) -> Any: ...
    def to_frame(self) -> pd.DataFrame: ...


class Sizes(Protocol):
    """`Power`."""

    @property
    def n(self) -> int: ...
    def to_frame(self) -> pd.DataFrame: ...


class Tested(Protocol):
    """`ClusterTest`."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def statistic(self) -> np.ndarray: ...
    @property
    def point_pvalue(self) -> np.ndarray: ...
    @property
    def name(self) -> str: ...
    @property
    def test(self) -> str: ...
    def to_points(self) -> pd.DataFrame: ...


class Profiled(Protocol):
    """`Profile`."""

    def conf_int(self, level: float = 0.95) -> pd.DataFrame: ...
    def curves(self, which: str | list[str] | tuple[str, ...] | None = None) -> pd.DataFrame: ...


class Checked(Protocol):
    """`Checks`."""

    @property
    def simulated(self) -> pd.DataFrame: ...
    @property
    def influence(self) -> pd.DataFrame | None: ...
    def to_frame(self) -> pd.DataFrame: ...
