from dataclasses import dataclass
import numpy as np
from .. import _core


@dataclass(frozen=True, eq=False)
class Structure:
    kind: str
    columns: tuple
    coordinates: object = None
    rank: int = 0

    @property
    def p(self):
        return len(self.columns)

    @property
    def compiled(self):
        return _core.Structure(self.kind, self.p, self.coordinates, self.rank)
