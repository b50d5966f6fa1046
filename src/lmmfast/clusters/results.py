"""What a cluster-based permutation test found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables
from ..plots import results as _pictures
from ..typing import Axes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

SHOWN = 20  # clusters in a summary
LEVEL = 0.05  # up to which points are marked
TOLERANCE = 1e-6  # relative, of statistics


@dataclass(frozen=True, eq=False, repr=False)
class ClusterTest(tables.Printed):
    """A cluster-based permutation test at T points; `cluster_test` makes it.

    p-values are of whole clusters, and corrected for all points together: where a cluster begins or
    ends is not tested (Sassenhagen and Draschkow 2019, *Psychophysiology* 56).

    Attributes
    ----------
    test : str
        The hypothesis, and which `statistic` was taken of it at each point.
    points : (T,) array
        Names of the points, or their numbers.
    statistic : (T,) array
        t or F of the data; NaN where the model could not be fitted: such points are in no cluster.
    status : (T,) array of str
        How the fit of each point ended.
    threshold : float
        Beyond which points form clusters; 0 with "tfce".
    labels : (T,) array of int
        The cluster of each point, from 1 on; 0: none.
    sign, size, mass : (K,) arrays
        Of each cluster: 1 or -1; its number of points; the sum of its statistics, with "tfce" the
        largest enhanced value.
    pvalue : (K,) array
        Family-wise: ``(1 + b) / (1 + n)``, b the number of the n permutations whose largest cluster
        is at least as large.
    enhanced : (T,) array or None
        The statistics after threshold-free cluster enhancement.
    null : (n,) array
        Size or absolute mass of the largest cluster, or the largest enhanced value, of each
        permutation; infinite for those that failed.
    failed : int
        Permutations of which a point could not be fitted, though the data could: they count as if
        they exceeded everything.
    doubtful : int
        Fits of permutations, of all n x T, that have a statistic but no certified optimum.
    exhaustive : bool
        Whether all arrangements were tried, so that p-values are exact.
    untested : tuple of str
        Coefficients that are not in the hypothesis though their variable was shuffled: effects
        which they have are noise in permutations.
    scheme : str
        What was shuffled among what.
    seed : int
    seconds : float
    """

    formula: str
    test: str
    kind: str
    tail: str
    name: str  # "t" or "F"
    points: np.ndarray
    shape: tuple[int, ...]
    statistic: np.ndarray
    status: np.ndarray
    threshold: float
    labels: np.ndarray
    sign: np.ndarray
    size: np.ndarray
    mass: np.ndarray
    pvalue: np.ndarray
    enhanced: np.ndarray | None
    null: np.ndarray
    failed: int
    doubtful: int
    exhaustive: bool
    untested: tuple[str, ...]
    scheme: str
    seed: int
    seconds: float

    def __len__(self) -> int:
        return len(self.pvalue)

    @property
    def n(self) -> int:
        """Number of permutations."""
        return len(self.null)

    @cached_property
    def point_pvalue(self) -> np.ndarray:
        """(T,): the p-value of the cluster of each point, with "tfce" its own; 1 where none is."""
        if self.enhanced is not None:
            return corrected(np.abs(self.enhanced), self.null)
        return np.asarray(np.append(1.0, self.pvalue)[self.labels])

    def members(self, cluster: int) -> np.ndarray:
        """(size,) or (size, axes): the places of the points of a cluster, by its number from 1 on.

        Parameters
        ----------
        cluster : int
            Its row in ``table``.

        Returns
        -------
        numpy.ndarray
        """
        if not 1 <= cluster <= len(self):
            raise ValueError(f"clusters are 1 to {len(self)}, there is no {cluster!r}")
        places = np.flatnonzero(self.labels == cluster)
        if len(self.shape) == 1:
            return places
        return np.column_stack(np.unravel_index(places, self.shape))

    def to_frame(self) -> pd.DataFrame:
        """One row for each cluster, the smallest p-value first.

        Returns
        -------
        pandas.DataFrame
            ``cluster`` (its number), ``sign``, ``first``, ``last`` (points; where there are several
            axes, places on the last one), ``size``, ``mass``, ``peak`` (the largest statistic),
            ``at`` (its point), ``p``.
        """
        import pandas as pd

        rows = [self._row(k) for k in np.lexsort((-np.abs(self.mass), self.pvalue)) + 1]
        names = ["cluster", "sign", "first", "last", "size", "mass", "peak", "at", "p"]
        return pd.DataFrame(rows, columns=names)

    def _row(self, cluster: int) -> tuple[Any, ...]:
        own = np.flatnonzero(self.labels == cluster)
        peak = own[np.argmax(np.abs(self.statistic[own]))]
        last = np.unravel_index(own, self.shape)[-1]
        one = len(self.shape) == 1
        first, end = (
            (self.points[own[0]], self.points[own[-1]]) if one else (last.min(), last.max())
        )
        k = cluster - 1
        numbers = (int(self.size[k]), float(self.mass[k]), float(self.statistic[peak]))
        sign = "+" if self.sign[k] > 0 else "-"
        p = float(self.pvalue[k])
        return (cluster, sign, first, end, *numbers, self.points[peak], p)

    def to_points(self) -> pd.DataFrame:
        """One row for each point.

        Returns
        -------
        pandas.DataFrame
            ``point``, ``statistic`` (called t or F), ``cluster`` (0: none), ``p`` (of the cluster;
            of the point itself with "tfce"), ``status``, and ``tfce`` where it was asked for.
        """
        import pandas as pd

        own = {"point": self.points, self.name: self.statistic, "cluster": self.labels}
        if self.enhanced is not None:
            own["tfce"] = self.enhanced
        return pd.DataFrame(own | {"p": self.point_pvalue, "status": self.status})

    def summary(self) -> tables.Summary:
        """The clusters, and how the null distribution was made."""
        how = "all" if self.exhaustive else "random"
        kinds = {"mass": "cluster mass", "size": "cluster size", "tfce": "TFCE"}
        beyond = "" if self.kind == "tfce" else f", beyond {self.threshold:.4g} ({self.tail})"
        what = f"{self.test}: {kinds[self.kind]} of {self.name}{beyond}"
        lines = tables.wrapped(f"Cluster-based permutation test of {what}")
        lines += tables.wrapped(self.formula)
        made = f"{self.n:,} permutations ({how}): {self.scheme}"
        notes = [*tables.wrapped(made), *self._notes()]
        done = f"{len(self.points):,} points, in {tables.duration(self.seconds)}"
        return tables.Summary((tuple(lines), (self._table(),), (*notes, done)))

    def _table(self) -> tables.Table | str:
        if not len(self):
            return "There is no cluster."
        frame = self.to_frame().head(SHOWN)
        texts = {str(name): [str(value) for value in frame[name]] for name in frame}
        texts |= {name: tables.column(frame[name]) for name in ("mass", "peak")}
        texts["p"] = [tables.p_value(p) for p in frame["p"]]
        rows = tuple(zip(*texts.values(), strict=True))
        return tables.Table(tuple(texts), rows, 2)

    def _notes(self) -> list[str]:
        """What went wrong, in sentences."""
        notes = []
        missing = int(np.isnan(self.statistic).sum())
        if missing:
            ends = ", ".join(sorted(set(self.status[np.isnan(self.statistic)].tolist())))
            notes.append(f"{missing} points have no fit, and are in no cluster: {ends}")
        if self.untested:
            names = tables.joined(self.untested)
            notes.append(f"Shuffled too: {names}; without random slopes their effects become noise")
        if self.failed:
            notes.append(
                f"{self.failed} permutations failed at a point, and count against every cluster"
            )
        if self.doubtful:
            share = self.doubtful / (self.n * len(self.points))
            notes.append(f"{self.doubtful} fits of permutations ({share:.2%}) are not certified")
        if len(self) > SHOWN:
            notes.append(f"{len(self) - SHOWN} more clusters: to_frame()")
        return [line for note in notes for line in tables.wrapped(note)]

    def plot(self, ax: Axes | None = None, *, level: float = LEVEL) -> Axes:
        """The statistics, with the clusters whose p-value is at most `level`.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Default: a new figure.
        level : float, default 0.05
            Coverage of the intervals.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        ValueError
            For points on more than two axes.
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.clusters(self, ax, level=level)


def corrected(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(1 + b) / (1 + n) of each value, b the number of the n null values that are not smaller.

    What the tolerance of fits makes of equal values counts as equal: those of a permutation and of
    its mirror image, for example.
    """
    least = np.sort(null)
    below = np.searchsorted(least, values * (1 - TOLERANCE), side="left")
    return np.asarray((1 + len(null) - below) / (1 + len(null)))
