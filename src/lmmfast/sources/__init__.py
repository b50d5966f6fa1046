"""Models of data that are not in memory: sources of chunks, additive cross-products, Dask."""

from .cross import CrossProducts
from .spec import Spec

__all__ = ["CrossProducts", "Spec"]
