"""Engines that pack and unpack what crosses to memory: how many values a second, at what cost.

>>> apack = engines(Constants(*APACK))
>>> float(apack.seconds(64e9)), round(apack.area_mm2, 4), round(1e3 * apack.power_w, 1)
(1.0, 1.14, 179.2)
"""

from dataclasses import dataclass

from fewbits.machines.constants import Constant, Constants

#: Codecs that need no tables and no multiplier.
SIMPLE = ("shapeshifter", "rle", "rlez")


@dataclass(frozen=True)
class Engines:
    """A bank of engines; numbers, or arrays in a sweep.

    ``power_w`` of all while they work; ``idle_w`` while they wait.
    """

    values_per_s: float
    power_w: float
    idle_w: float
    area_mm2: float

    def seconds(self, values: float) -> float:
        """Seconds for so many values, dealt evenly to all engines."""
        return values / self.values_per_s

    def energy_j(self, busy_s: float, total_s: float) -> float:
        """Joules over ``total_s`` seconds, in ``busy_s`` of which they work."""
        return self.power_w * busy_s + self.idle_w * (total_s - busy_s)


def engines(c: Constants, codec: str = "apack") -> Engines:
    """The engines that the constants describe; for codecs without tables, simpler ones."""
    share = c["simple_engine_share"] if codec in SIMPLE else 1.0
    faster = c["engine_clock_hz"] / c["engine_power_at_hz"]
    power = share * c["engines"] * c["engine_power_w"] * faster
    return Engines(
        c["engines"] * c["engine_clock_hz"] * c["engine_values_per_cycle"],
        power,
        power * c["engine_idle_share"],
        share * c["engines"] * c["engine_area_mm2"],
    )


def synthesized(*names: str) -> tuple[Constant, ...]:
    """Engines that are circuits of `fewbits.silicon`, by their names there, as many of each.

    They run at the clock of the slowest; power and area are means. ``ValueError`` if there is no
    such circuit, or its energy was not measured.
    """
    from fewbits.silicon.costs import COMMAND, cost_of  # three fifths of what a machine imports

    units = [cost_of(name) for name in names]
    clock = min(unit.clock_hz for unit in units)
    pace = min(unit.values_per_cycle or 0.0 for unit in units)
    power = sum(unit.power_w(clock) for unit in units) / len(units)
    area = sum(unit.area_m2 for unit in units) / len(units)
    source = f"{COMMAND}: {', '.join(names)}; 65 nm"
    return (
        Constant("engine_clock_hz", clock, "Hz", source, "derived", low=1.0),
        Constant("engine_values_per_cycle", pace, "", source, "derived", low=1e-6),
        Constant("engine_power_w", power, "W", source, "derived"),
        Constant("engine_power_at_hz", clock, "Hz", source, "derived", low=1.0),
        Constant("engine_area_mm2", 1e6 * area, "mm2", source, "derived"),
    )


#: 64 units in all, of either kind: 179.2 mW and 1.14 mm2 are 64 times one.
APACK = (
    Constant("engines", 64, "", "APack, VII: 64 engines", "paper", low=1),
    Constant(
        "engine_clock_hz", 1e9, "Hz", "not in the paper: the accelerator's, Table III", "assumed",
        low=1.0,
    ),
    Constant("engine_values_per_cycle", 1, "", "APack, V: one a cycle", "paper", low=1e-6),
    Constant("engine_power_w", 2.8e-3, "W", "APack, VII-B: 179.2 mW of 64", "paper"),
    Constant(
        "engine_power_at_hz", 1e9, "Hz", "the clock that engine_power_w is for: not in the paper",
        "assumed", low=1.0,
    ),
    Constant(
        "engine_idle_share", 0.5, "", "clocks of tables that are not gated: half of the power of a "
        "netlist of an encoder", "assumed", high=1.0,
    ),
    Constant("engine_area_mm2", 1.14 / 64, "mm2", "APack, VII-B: 1.14 mm2 of 64, 65 nm", "paper"),
    Constant(
        "simple_engine_share", 0.5, "", "power and area of engines of ShapeShifter, RLE and RLEZ "
        "beside APack's; the paper says only that ShapeShifter's are less", "assumed",
    ),
)  # fmt: skip
