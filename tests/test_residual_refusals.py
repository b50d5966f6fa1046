"""What residual structures do not go with is refused, in words."""

import numpy as np
import pandas as pd
import pytest

from lmmfast import datasets, lmer
from lmmfast.errors import FitError


@pytest.mark.parametrize("more", [{"residual": "ar1(Days | Subject)"}, {"dispersion": "exp(Days)"}])
def test_terms_that_do_not_go_with_them(more):
    data = datasets.load("sleepstudy")
    data["day"] = data["Days"].astype(int).astype(str).astype("category")
    with pytest.raises(FitError, match=r"covariance structure, as ar1\(0 \+ day \| Subject\)"):
        lmer("Reaction ~ Days + ar1(0 + day | Subject)", data, **more)
    names = sorted(data["Subject"].astype(str).unique())
    K = pd.DataFrame(0.5 + 0.5 * np.eye(len(names)), index=names, columns=names)
    with pytest.raises(FitError, match="relationship matrix"):
        lmer("Reaction ~ Days + (1 | Subject)", data, relationship={"Subject": K}, **more)
