"""Arrays of multipliers: how many cycles a product takes on tiles of fixed size.

>>> # 64 cores of 4x4 elements of 4 products a cycle: 8x8 by 8x8 is 4 tiles of 2 steps each
>>> int(tile_cycles(1, 8, 8, 8, Tiles(cores=64, rows=4, columns=4, depth=4)))
2
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tiles:
    """``cores`` that each make a tile of ``rows`` by ``columns`` results, ``depth`` products of
    each a cycle.
    """

    cores: float
    rows: float
    columns: float
    depth: float

    @property
    def macs_per_cycle(self) -> float:
        """Products a cycle where everything divides."""
        return self.cores * self.rows * self.columns * self.depth


def tile_cycles(groups: Any, m: Any, n: Any, k: Any, tiles: Tiles) -> Any:
    """Cycles for ``groups`` products (m, k) by (k, n): tiles are dealt to the cores, rounded up.

    Numbers or arrays that broadcast. Each core finishes a tile before the next one.
    """
    count = groups * np.ceil(m / tiles.rows) * np.ceil(n / tiles.columns)
    return np.ceil(count / tiles.cores) * np.ceil(k / tiles.depth)
