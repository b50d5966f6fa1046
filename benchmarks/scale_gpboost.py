"""GPBoost's Krylov methods (Kuendig & Sigrist 2024) on the ratings, for a Python that has gpboost.

    python benchmarks/scale_gpboost.py --rows 2000000 --users 20000 --movies 8000

Prints one line of JSON: seconds of the fit, its estimates, its objective. One thread, its defaults
otherwise (they estimate the log-determinant and the gradient by 50 random vectors).
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gpboost
import numpy as np
from scale_problems import ratings


def main() -> None:
    """Make the ratings, fit them, print."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rows", type=int, default=2_000_000)
    words.add_argument("--users", type=int, default=20_000)
    words.add_argument("--movies", type=int, default=8_000)
    asked = words.parse_args()
    columns = ratings(asked.rows, asked.users, asked.movies)
    y = columns["y"]
    groups = np.column_stack([columns["user"], columns["movie"]])
    began = time.perf_counter()
    model = gpboost.GPModel(
        group_data=groups, likelihood="gaussian", matrix_inversion_method="iterative"
    )
    model.fit(y=y, X=np.ones((len(y), 1)))
    taken = time.perf_counter() - began
    variances = np.asarray(model.get_cov_pars()).ravel()[:3]
    record = {
        "package": f"gpboost {gpboost.__version__}",
        "n": len(y),
        "seconds": round(taken, 3),
        "sds": [float(s) for s in np.sqrt(variances)],
        "negative_log_likelihood": float(model.get_current_neg_log_likelihood()),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
