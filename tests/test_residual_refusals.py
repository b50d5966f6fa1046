"""What residual structures do not go with is refused, in words."""

import pytest

from lmmfast import datasets, lmer
from lmmfast.errors import FitError


@pytest.mark.parametrize("more", [{"residual": "ar1(Days | Subject)"}, {"dispersion": "exp(Days)"}])
def test_several_levels_in_a_row(more):
    data = datasets.load("sleepstudy")
    data["other"] = data["Subject"].to_numpy()[::-1]
    with pytest.raises(FitError, match="several levels in a row"):
        lmer("Reaction ~ Days + (1 | mm(Subject, other))", data, **more)
