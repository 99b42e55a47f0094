"""What a gate equivalent is worth in 65 nm: each number with its unit, source and kind.

Kinds are those of the machine models: ``paper`` (APack), ``cited``, ``derived`` from others,
``assumed``.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fact:
    """A number with what it rests on."""

    value: float
    unit: str
    source: str
    kind: Literal["paper", "cited", "derived", "assumed"]


TECHNOLOGY = {
    "ge_m2": Fact(
        1.44e-12,
        "m2",
        "area of a NAND2 in 65 nm, as circuit papers convert it; libraries have 1.1 to 2.1 um2",
        "assumed",
    ),
    "density": Fact(0.70, "", "share of a placed block that is cells", "assumed"),
    "fo4_s": Fact(
        25e-12,
        "s",
        "an inverter that drives four: 360 to 500 ps for each um of gate length, a rule of thumb",
        "assumed",
    ),
    "tau_s": Fact(5e-12, "s", "a fifth of the FO4 delay (logical effort, p = 1)", "derived"),
    "inverter_f": Fact(1.5e-15, "F", "input of the smallest inverter", "assumed"),
    "wire_f": Fact(1.5e-15, "F", "wire for each input that a net drives, some 8 um", "assumed"),
    "clock_tree": Fact(
        2.0, "", "a clock pin's load with its share of wires and buffers", "assumed"
    ),
    "clock_inside": Fact(
        5.0,
        "",
        "inverter inputs' worth of gates that a flip-flop's own clock inverters drive: 10"
        " transistors",
        "derived",
    ),
    "supply_v": Fact(1.0, "V", "nominal supply of general-purpose 65 nm processes", "assumed"),
    "clock_to_q_s": Fact(50e-12, "s", "2 FO4", "assumed"),
    "setup_s": Fact(25e-12, "s", "1 FO4", "assumed"),
    "leakage_w_per_ge": Fact(5e-9, "W", "of a general-purpose process at 25 C", "assumed"),
    "encoder_m2": Fact(0.020e-6, "m2", "APack, section VII: encoder, layout", "paper"),
    "decoder_m2": Fact(0.017e-6, "m2", "APack, section VII: decoder, layout", "paper"),
    "encoder_w": Fact(2.8e-3, "W", "APack, section VII: encoder; its clock is not given", "paper"),
    "decoder_w": Fact(2.65e-3, "W", "APack, section VII: decoder; its clock is not given", "paper"),
}
