"""Temperatures in a stack of tiers: a grid of thermal resistances, solved for the steady state.

Tier 0 touches the heat sink. A tier is cut into rows x columns **cells**; a cell passes heat to its
four neighbours through silicon, to the cells above and below through silicon and the bond between
dies, and, in tier 0, to the ambient through one bond more and its share of the sink. Where every
tier's power is spread evenly no heat flows sideways, and the solution is that of a stack:

    T_k = T_ambient + R_sink · P + sum over j <= k of (R_silicon + R_bond) · (power of tiers >= j)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """Tiers of ``width_m`` x ``depth_m``, all of one thickness."""

    width_m: float
    depth_m: float
    die_m: float
    bond_m: float
    silicon_w_per_mk: float
    bond_w_per_mk: float
    sink_k_per_w: float
    ambient_k: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}, not above 0")

    @property
    def tier_k_per_w(self) -> float:
        """Resistance from one tier to the next, over the whole area."""
        area = self.width_m * self.depth_m
        silicon = self.die_m / (self.silicon_w_per_mk * area)
        return silicon + self.bond_m / (self.bond_w_per_mk * area)

    def conductance(self, tiers: int, rows: int, columns: int) -> Any:
        """The grid as a sparse symmetric matrix G (W/K): G · (T - ambient) = power."""
        from scipy import sparse

        nodes = np.arange(tiers * rows * columns).reshape(tiers, rows, columns)
        cells = rows * columns
        dx, dy = self.width_m / columns, self.depth_m / rows
        sheet = self.silicon_w_per_mk * self.die_m
        pairs = [
            (nodes[:, :, :-1], nodes[:, :, 1:], sheet * dy / dx),
            (nodes[:, :-1, :], nodes[:, 1:, :], sheet * dx / dy),
            (nodes[:-1], nodes[1:], 1 / (self.tier_k_per_w * cells)),
        ]
        to_sink = 1 / ((self.sink_k_per_w + self.tier_k_per_w) * cells)
        diagonal = np.zeros(nodes.size)
        diagonal[nodes[0].ravel()] = to_sink
        rows_at, columns_at, values = [], [], []
        for one, other, value in pairs:
            a, b = one.ravel(), other.ravel()
            rows_at += [a, b]
            columns_at += [b, a]
            values += [np.full(2 * a.size, -value)]
            np.add.at(diagonal, a, value)
            np.add.at(diagonal, b, value)
        rows_at.append(np.arange(nodes.size))
        columns_at.append(np.arange(nodes.size))
        values.append(diagonal)
        place = (np.concatenate(rows_at), np.concatenate(columns_at))
        return sparse.csc_matrix((np.concatenate(values), place), shape=(nodes.size,) * 2)

    def temperatures_k(self, power_w: Floats) -> Floats:
        """Temperature of each cell for the power in each: both (tiers, rows, columns)."""
        from scipy.sparse.linalg import spsolve

        power = np.asarray(power_w, np.float64)
        if power.ndim != 3 or not np.isfinite(power).all() or (power < 0).any():
            raise ValueError("power is one finite number of 0 or more for each tier, row, column")
        rise = spsolve(self.conductance(*power.shape), power.ravel())
        return np.asarray(self.ambient_k + rise.reshape(power.shape))

    def influence_k_per_w(self, tiers: int, rows: int, columns: int) -> Floats:
        """How much each watt in a cell (column) heats each cell (row); for many powers at once."""
        from scipy.sparse.linalg import splu

        size = tiers * rows * columns
        factors = splu(self.conductance(tiers, rows, columns))
        return np.asarray(factors.solve(np.eye(size)))

    def stacked_k(self, tier_w: Floats) -> Floats:
        """The formula of the module's text: temperatures of tiers whose power is spread evenly."""
        power = np.asarray(tier_w, np.float64)
        above = np.cumsum(power[::-1])[::-1]
        rise = self.sink_k_per_w * power.sum() + self.tier_k_per_w * np.cumsum(above)
        return np.asarray(self.ambient_k + rise)
