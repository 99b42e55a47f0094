"""What the engine's circuits cost: the table of synthesized units that machine models read.

>>> encoder = cost_of("encoder lane")
>>> 0.01e-6 < encoder.area_m2 < 0.05e-6
True

The table is made by ``fewbits rtl --report --fresh`` and shipped; reading it needs neither Amaranth
nor Yosys. Everything is for 65 nm, by the conversions in ``technology.py``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

COSTS = "costs.json"
COMMAND = "fewbits rtl --report --fresh"


@dataclass(frozen=True)
class UnitCost:
    """A synthesized unit.

    ``area_m2``: placed. ``critical_path_s``: its inverse is the highest clock. ``energy_j``: a
    value, without leakage and glitches; None where it was not measured. ``values_per_cycle``:
    measured on the mapped netlist, start and table excluded.
    """

    name: str
    settings: Mapping[str, Any]
    units: int
    area_ge: float
    area_m2: float
    registers: int
    table_bits: int
    critical_path_s: float
    energy_j: float | None
    values_per_cycle: float | None
    leakage_w: float

    @property
    def clock_hz(self) -> float:
        """The highest clock."""
        return 1 / self.critical_path_s

    def power_w(self, clock_hz: float) -> float:
        """Power of a unit that works all the time at a clock; ``ValueError`` if not measured."""
        if self.energy_j is None or self.values_per_cycle is None:
            raise ValueError(f"the energy of {self.name} was not measured")
        return self.energy_j * self.values_per_cycle * clock_hz + self.leakage_w


@cache
def unit_costs() -> Mapping[str, UnitCost]:
    """Every unit of the shipped table, by name."""
    text = files("fewbits.silicon").joinpath(COSTS).read_text("utf-8")
    return {unit["name"]: UnitCost(**unit) for unit in json.loads(text)["units"]}


def cost_of(name: str) -> UnitCost:
    """One unit; ``ValueError`` names those there are."""
    try:
        return unit_costs()[name]
    except KeyError:
        raise ValueError(f"no unit {name!r}; there are: {'; '.join(unit_costs())}") from None


def write(units: list[UnitCost], facts: Mapping[str, Any], path: Path) -> None:
    """Write the table."""
    document = {
        "made_by": COMMAND,
        "technology": facts,
        "units": [asdict(unit) for unit in units],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
