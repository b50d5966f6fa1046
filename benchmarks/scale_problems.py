"""Large simulated data of known truth: columns as arrays, levels as int32 codes, seeds fixed.

Every generator gives a dict of columns; ``PROBLEMS`` says which model belongs to it and with which
standard deviations the data were made. NumPy alone is needed (megastudy: what problems.py needs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["PROBLEMS", "ScaleProblem", "trials"]

Columns = dict[str, np.ndarray]
CHUNK = 1_000_000  # rows whose random numbers are made at a time


@dataclass(frozen=True)
class ScaleProblem:
    """A generator and its model.

    Attributes
    ----------
    make : callable
        Keyword arguments -> dict of columns; those with int32 codes are grouping factors.
    formula : str
    truth : mapping
        Standard deviations the data were made with, by the name of the term's group and column as
        in the table of variances ("worker Intercept"); "Residual" for the residual.
    """

    make: Callable[..., Columns]
    formula: str
    truth: Mapping[str, float] = field(default_factory=dict)


def _used(codes: np.ndarray) -> np.ndarray:
    """Codes 0, 1, ... of the levels that occur."""
    seen = np.zeros(int(codes.max()) + 1, bool)
    seen[codes] = True
    return (np.cumsum(seen, dtype=np.int32) - np.int32(1))[codes]


def _with_noise(rng: np.random.Generator, y: np.ndarray, sd: float) -> np.ndarray:
    """Adds the residuals in place, by chunks."""
    for a in range(0, len(y), CHUNK):
        part = y[a : a + CHUNK]
        part += sd * rng.standard_normal(len(part))
    return y


# ---- workers and firms --------------------------------------------------------------------------


class _Markets:
    """Firms of Pareto sizes in local labour markets, drawn in proportion to their size."""

    def __init__(self, rng: np.random.Generator, firms: int, markets: int) -> None:
        spread = rng.integers(0, markets, firms - markets)
        market = np.sort(np.concatenate([np.arange(markets), spread]))  # a firm each, at least
        last = np.searchsorted(market, np.arange(markets), side="right") - 1
        self.rng, self.last = rng, last
        self.ends = np.cumsum(rng.pareto(1.2, firms) + 1)
        self.bounds = np.concatenate([[0.0], self.ends[last]])

    def draw(self, market: np.ndarray) -> np.ndarray:
        """A firm in each of these markets."""
        low, high = self.bounds[market], self.bounds[market + 1]
        place = low + self.rng.random(len(market)) * (high - low)
        return np.minimum(np.searchsorted(self.ends, place, side="right"), self.last[market])


def workers_firms(
    n_workers: int = 100_000,
    n_firms: int = 10_000,
    years: int = 5,
    markets: int | None = None,
    move: float = 0.15,
    far: float = 0.05,
    seed: int = 1,
) -> Columns:
    """Spells of workers at firms: every year some move, most of them within their local market.

    Parameters
    ----------
    n_workers, n_firms, years : int
        Firms that nobody is found at do not appear.
    markets : int, optional
        Default: one for 25 firms.
    move, far : float
        Probability of a move in a year, and that it may lead to another market.
    """
    rng = np.random.default_rng(seed)
    markets = max(1, n_firms // 25) if markets is None else markets
    local = _Markets(rng, n_firms, markets)
    home = rng.integers(0, markets, n_workers)
    firm = np.empty((n_workers, years), np.int32)
    firm[:, 0] = local.draw(home)
    for year in range(1, years):
        firm[:, year] = firm[:, year - 1]
        movers = np.flatnonzero(rng.random(n_workers) < move)
        away = rng.random(len(movers)) < far
        target = np.where(away, rng.integers(0, markets, len(movers)), home[movers])
        firm[movers, year] = local.draw(target)
    worker, firm = np.repeat(np.arange(n_workers, dtype=np.int32), years), _used(firm.ravel())
    x = np.tile(np.arange(years), n_workers) + rng.standard_normal(n_workers * years)
    y = 1 + 0.1 * x + rng.normal(0, 0.6, n_workers)[worker]
    y += rng.normal(0, 0.3, firm.max() + 1)[firm]
    return {"y": _with_noise(rng, y, 0.5), "x": x, "worker": worker, "firm": firm}


# ---- pupils, schools, neighbourhoods ------------------------------------------------------------


def _place(rng: np.random.Generator, at: np.ndarray, side: int, spread: float) -> np.ndarray:
    """Cell of a side x side grid on the unit square (a torus) near each of these points."""
    near = (at + rng.normal(0, spread, at.shape)) % 1.0
    cell = np.minimum((near * side).astype(np.int32), side - 1)
    return cell[:, 0] * np.int32(side) + cell[:, 1]


def pupils(
    n_pupils: int = 50_000,
    n_schools: int = 900,
    n_neighbourhoods: int = 3_600,
    years: int = 4,
    change: float = 0.05,
    seed: int = 6,
) -> Columns:
    """Pupils tested every year; schools take them from the neighbourhoods around, partly crossed.

    Parameters
    ----------
    n_pupils, n_schools, n_neighbourhoods, years : int
        Schools and neighbourhoods lie on square grids: the next smaller square is used.
    change : float
        Probability that a pupil moves house, and so perhaps changes school, in a year.
    """
    rng = np.random.default_rng(seed)
    side, wide = int(np.sqrt(n_neighbourhoods)), int(np.sqrt(n_schools))
    at = rng.random((n_pupils, 2))
    school = np.empty((n_pupils, years), np.int32)
    area = np.empty_like(school)
    for year in range(years):
        movers = np.flatnonzero(rng.random(n_pupils) < change) if year else np.arange(n_pupils)
        if year:
            school[:, year], area[:, year] = school[:, year - 1], area[:, year - 1]
            at[movers] = (at[movers] + rng.normal(0, 0.05, (len(movers), 2))) % 1.0
        area[movers, year] = _place(rng, at[movers], side, 0.0)
        school[movers, year] = _place(rng, at[movers], wide, 0.3 / wide)
    pupil = np.repeat(np.arange(n_pupils, dtype=np.int32), years)
    school, area = _used(school.ravel()), _used(area.ravel())
    age = np.tile(np.arange(years, dtype=float), n_pupils)
    y = 50 + 2 * age + rng.normal(0, 6.0, n_pupils)[pupil]
    y += rng.normal(0, 3.0, school.max() + 1)[school] + rng.normal(0, 2.0, area.max() + 1)[area]
    y = _with_noise(rng, y, 5.0)
    return {"score": y, "age": age, "pupil": pupil, "school": school, "neighbourhood": area}


# ---- megastudy ----------------------------------------------------------------------------------


def megastudy(
    n: int = 1_000_000, subjects: int = 800, items: int = 28_000, seed: int = 1
) -> Columns:
    """The megastudy of problems.py, with codes in place of labels."""
    from problems import megastudy as frame_of

    frame = frame_of(subjects, items, n // subjects, seed)
    levels = {name: frame[name].cat.codes.to_numpy(np.int32) for name in ("subj", "item")}
    return {**levels, **{name: frame[name].to_numpy() for name in ("lrt", "freq", "prior")}}


# ---- ratings ------------------------------------------------------------------------------------


def _activity(size: int, total: int, least: float, median: float, cap: float) -> np.ndarray:
    """Counts with this sum, least and median: quantiles of a lognormal that saturates at a cap.

    The spread is what makes the mean right; what rounding leaves goes to the largest.
    """
    from scipy.special import ndtri

    z = ndtri((np.arange(size) + 0.5) / size)

    def counts(spread: float) -> np.ndarray:
        free = (median - least) * np.exp(spread * z)
        return least + free / (1 + free / cap)

    low, high = 0.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if counts(middle).sum() < total else (low, middle)
    out = np.maximum(np.floor(counts(low)), 1).astype(np.int64)
    while left := total - int(out.sum()):
        own = np.flatnonzero(out > (1 if left < 0 else 0))[-abs(left) :]
        out[own] += np.sign(left)
    return out


def _part_twins(
    rng: np.random.Generator, user: np.ndarray, movie: np.ndarray, rounds: int, tries: int = 6
) -> None:
    """Swaps movies between rows in place so that fewer users have rated a movie twice.

    Every user and every movie keeps its number of ratings.
    """
    many = np.int64(movie.max()) + 1
    for _ in range(rounds):
        key = user * many + movie
        order = np.argsort(key)
        key = key[order]
        twin = order[1:][key[1:] == key[:-1]]
        del order
        single = np.ones(len(user), bool)
        single[twin] = False
        for _ in range(tries):
            other = rng.integers(0, len(user), len(twin))
            new = single[other] & ~_among(key, user[twin] * many + movie[other])
            new[new] = ~_among(key, user[other[new]] * many + movie[twin[new]])
            _, first = np.unique(other, return_index=True)
            new &= np.bincount(first, minlength=len(new)).astype(bool)
            a, b = twin[new], other[new]
            movie[a], movie[b] = movie[b], movie[a]
            twin = twin[~new]


def _among(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Which of these are in a sorted array; sorted questions keep to the cache."""
    order = np.argsort(asked)
    found = np.empty(len(asked), bool)
    place = np.minimum(np.searchsorted(known, asked[order]), len(known) - 1)
    found[order] = known[place] == asked[order]
    return found


def ratings(
    n: int = 25_000_000,
    users: int = 162_000,
    movies: int = 59_000,
    rounds: int = 2,
    seed: int = 2,
) -> Columns:
    """Movie ratings with the long tails of MovieLens 25M.

    At full size users have at least 20 ratings, a median of 71 and at most 26,000; movies a median
    of 6 and at most 80,000 (MovieLens: 20, 71, 32,202; 6, 81,491). At other sizes these numbers go
    with the means, and no user rates much more than 40 % of few movies. Who rates what is random;
    pairs that occur twice are parted in some `rounds`, in which a few of a hundred are left. Rows
    are sorted by user; levels' numbers say nothing about popularity.
    """
    rng = np.random.default_rng(seed)
    of_user, of_movie = n / users / 154.3, n / movies / 423.7
    most = max(movies**3 / 2e8, 0.4 * movies)  # a million at full size: no cap
    active = _activity(users, n, min(20.0, 20 * of_user), 71.5 * of_user, most)
    cap = min(81_000 * of_movie, 0.5 * users)
    popular = _activity(movies, n, min(0.5, of_movie), max(6.5 * of_movie, 1.5), cap)
    user = np.repeat(np.arange(users, dtype=np.int32), rng.permutation(active))
    movie = rng.permutation(np.repeat(np.arange(movies, dtype=np.int32), rng.permutation(popular)))
    _part_twins(rng, user, movie, rounds)
    by_user, by_movie = rng.normal(0, 0.4, users), rng.normal(0, 0.6, movies)
    y = np.full(n, 3.5)
    for a in range(0, n, CHUNK):
        part = slice(a, a + CHUNK)
        y[part] += by_user[user[part]] + by_movie[movie[part]]
    return {"y": _with_noise(rng, y, 1.0), "user": user, "movie": movie}


# ---- what the curves are made of ----------------------------------------------------------------


def crossed(n: int = 300_000, levels: int = 300, columns: int = 1, seed: int = 7) -> Columns:
    """Two crossed factors g and h that meet at random, and numeric columns z1, z2, ... in [-1, 1].

    Every column has an effect that varies between levels: no fit is singular.
    """
    rng = np.random.default_rng(seed)
    out: Columns = {}
    y = rng.standard_normal(n)
    for name, number in (("g", levels), ("h", max(2, levels // 2))):
        codes = rng.integers(0, number, n)
        codes[:number] = np.arange(number)
        out[name] = codes.astype(np.int32)
        y += rng.normal(0, 0.7, number)[codes]
    for j in range(1, columns):
        z = rng.uniform(-1, 1, n)
        out[f"z{j}"] = z
        for name in ("g", "h"):
            y += rng.normal(0, 0.5, out[name].max() + 1)[out[name]] * z
    return {"y": y, **out}


def single(n: int = 300_000, levels: int = 30_000, seed: int = 8) -> Columns:
    """One grouping factor with a random intercept and a random slope."""
    rng = np.random.default_rng(seed)
    g = (np.arange(n) % levels).astype(np.int32)
    x = rng.standard_normal(n)
    b = rng.normal(0, 0.5, (levels, 2))
    return {"y": b[g, 0] + (0.3 + b[g, 1]) * x + rng.standard_normal(n), "x": x, "g": g}


# ---- rows that are never in memory together -----------------------------------------------------


def trials(
    n: int, subjects: int = 2_000, items: int = 500, rows: int = CHUNK, seed: int = 9
) -> Iterator[Columns]:
    """Chunks of an experiment of any length: a number, a condition of three levels, two factors.

    The random effects are those of the seed; each chunk has random numbers of its own.
    """
    start = np.random.default_rng(seed)
    by_subj = start.normal(0, [0.5, 0.2], (subjects, 2))
    by_item = start.normal(0, 0.3, items)
    effect = np.array([0.0, 0.1, -0.2])
    for number, a in enumerate(range(0, n, rows)):
        rng, m = np.random.default_rng([seed, number]), min(rows, n - a)
        subj, item, cond = (rng.integers(0, k, m, np.int32) for k in (subjects, items, 3))
        x = rng.standard_normal(m)
        y = 1 + by_subj[subj, 0] + (0.3 + by_subj[subj, 1]) * x + by_item[item] + effect[cond]
        own = {"x": x, "cond": np.array(["a", "b", "c"])[cond], "subj": subj, "item": item}
        yield {"y": _with_noise(rng, y, 1.0), **own}


PROBLEMS: dict[str, ScaleProblem] = {
    "workers": ScaleProblem(
        workers_firms,
        "y ~ x + (1 | worker) + (1 | firm)",
        {"worker Intercept": 0.6, "firm Intercept": 0.3, "Residual": 0.5},
    ),
    "pupils": ScaleProblem(
        pupils,
        "score ~ age + (1 | pupil) + (1 | school) + (1 | neighbourhood)",
        {
            "pupil Intercept": 6.0,
            "school Intercept": 3.0,
            "neighbourhood Intercept": 2.0,
            "Residual": 5.0,
        },
    ),
    "mega": ScaleProblem(
        megastudy,
        "lrt ~ freq + prior + (1 + freq + prior | subj) + (1 + prior | item)",
    ),
    "ratings": ScaleProblem(
        ratings,
        "y ~ 1 + (1 | user) + (1 | movie)",
        {"user Intercept": 0.4, "movie Intercept": 0.6, "Residual": 1.0},
    ),
    "crossed": ScaleProblem(crossed, "y ~ 1 + (1 | g) + (1 | h)"),
    "single": ScaleProblem(single, "y ~ x + (x | g)"),
}
