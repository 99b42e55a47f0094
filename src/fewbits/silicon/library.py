"""A standard-cell library of our own, in gate equivalents, to map circuits to without a foundry's.

One GE is the area of a NAND2. Areas and delays are derived, not taken from any library:

* **Area.** A cell is as wide as its transistor pairs side by side, and one pitch more for the
  border; a break in the diffusion takes one, too. A NAND2 has two pairs: 3 pitches are 1 GE. A cell
  of twice the drive has each pair twice.
* **Delay.** Logical effort (Sutherland, Sproull, Harris, *Logical Effort*, 1999): ``tau * (p + load
  / (drive * C))``, where C is an inverter's input and the cell's own input is ``g * drive * C``.
  Cells of several stages have the stages' delays added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fewbits.silicon.technology import TECHNOLOGY

PITCHES_PER_GE = 3
DRIVES = (1, 2, 4)


@dataclass(frozen=True)
class Cell:
    """A gate: its function of inputs A, B, C, D (and S), what it is made of, and how fast it is.

    ``pairs``: transistor pairs of the smallest size. ``efforts``: of each input. ``parasitic``: its
    delay without load in tau. ``output_pairs``: pairs that grow with the drive, for gates whose
    last stage alone does (0: all).
    """

    name: str
    function: str
    pairs: int
    efforts: tuple[float, ...]
    parasitic: float
    output_pairs: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return ("A", "B", "S") if self.name == "MUX2" else tuple("ABCD"[: len(self.efforts)])

    def area_ge(self, drive: int = 1) -> float:
        """Area in GE."""
        growing = self.output_pairs or self.pairs
        return (self.pairs + growing * (drive - 1) + 1) / PITCHES_PER_GE


THIRD = 1 / 3
CELLS = (
    Cell("INV", "!A", 1, (1,), 1),
    Cell("BUF", "A", 2, (1,), 3, 1),
    Cell("NAND2", "!(A&B)", 2, (4 * THIRD,) * 2, 2),
    Cell("NAND3", "!(A&B&C)", 3, (5 * THIRD,) * 3, 3),
    Cell("NAND4", "!(A&B&C&D)", 4, (2,) * 4, 4),
    Cell("NOR2", "!(A|B)", 2, (5 * THIRD,) * 2, 2),
    Cell("NOR3", "!(A|B|C)", 3, (7 * THIRD,) * 3, 3),
    Cell("AND2", "A&B", 3, (4 * THIRD,) * 2, 4, 1),
    Cell("OR2", "A|B", 3, (5 * THIRD,) * 2, 4, 1),
    Cell("AOI21", "!((A&B)|C)", 3, (2, 2, 5 * THIRD), 7 * THIRD),
    Cell("OAI21", "!((A|B)&C)", 3, (2, 2, 4 * THIRD), 7 * THIRD),
    Cell("AOI22", "!((A&B)|(C&D))", 4, (2,) * 4, 4),
    Cell("OAI22", "!((A|B)&(C|D))", 4, (2,) * 4, 4),
    # A NOR2 into an AOI21, and the other way about.
    Cell("XOR2", "A^B", 5, (11 * THIRD,) * 2, 6, 3),
    Cell("XNOR2", "!(A^B)", 5, (10 * THIRD,) * 2, 17 * THIRD, 3),
    # Two tri-state inverters, the select's inverter and one behind.
    Cell("MUX2", "(A&!S)|(B&S)", 6, (2, 2, 3), 6, 1),
)
# 12 pairs and four breaks; 9 pairs and three breaks.
FLIP_FLOP, FLIP_FLOP_GE = "DFF", 17 / PITCHES_PER_GE
CLOCK_GATE, CLOCK_GATE_GE = "CLKGATE", 13 / PITCHES_PER_GE
CLOCK_PIN_EFFORT = 1.0


def areas_ge() -> dict[str, float]:
    """The area of every cell, by its name with its drive."""
    areas = {f"{c.name}_X{drive}": c.area_ge(drive) for c in CELLS for drive in DRIVES}
    return {**areas, FLIP_FLOP: FLIP_FLOP_GE, CLOCK_GATE: CLOCK_GATE_GE}


def liberty() -> str:
    """The library as a Liberty file: areas in GE, times in ps, loads in fF."""
    lines = [
        "library (fewbits_ge) {",
        "  delay_model : table_lookup;",
        '  time_unit : "1ps";',
        "  capacitive_load_unit (1, ff);",
        '  voltage_unit : "1V";',
        '  current_unit : "1mA";',
        '  pulling_resistance_unit : "1kohm";',
        f"  nom_voltage : {TECHNOLOGY['supply_v'].value};",
        "  lu_table_template (linear) {",
        "    variable_1 : input_net_transition;",
        "    variable_2 : total_output_net_capacitance;",
        '    index_1 ("0, 1000");',
        f'    index_2 ("0, {_LOAD:g}");',
        "  }",
    ]
    for cell in CELLS:
        for drive in DRIVES:
            lines += _gate(cell, drive)
    return "\n".join([*lines, *_flip_flop(), *_clock_gate(), "}", ""])


_LOAD = 1000.0


def _gate(cell: Cell, drive: int) -> Iterator[str]:
    inverter = TECHNOLOGY["inverter_f"].value * 1e15
    yield f"  cell ({cell.name}_X{drive}) {{"
    yield f"    area : {cell.area_ge(drive):.4f};"
    for pin, effort in zip(cell.inputs, cell.efforts, strict=True):
        # Where the last stage alone grows, the inputs stay as they are.
        growth = drive if not cell.output_pairs else 1
        load = effort * growth * inverter
        yield f"    pin ({pin}) {{ direction : input; capacitance : {load:.4f}; }}"
    yield f'    pin (Y) {{ direction : output; function : "{cell.function}";'
    yield f"      max_capacitance : {_LOAD:g};"
    for pin in cell.inputs:
        yield from _arc(pin, cell.parasitic, drive)
    yield "    }"
    yield "  }"


def _arc(pin: str, parasitic: float, drive: int) -> Iterator[str]:
    tau = TECHNOLOGY["tau_s"].value * 1e12
    inverter = TECHNOLOGY["inverter_f"].value * 1e15
    fast, slow = tau * parasitic, tau * (parasitic + _LOAD / (drive * inverter))
    yield f'      timing () {{ related_pin : "{pin}";'
    for table in ("cell_rise", "cell_fall", "rise_transition", "fall_transition"):
        values = ", ".join([f'"{fast:.3f}, {slow:.3f}"'] * 2)
        yield f"        {table} (linear) {{ values ({values}); }}"
    yield "      }"


def _flip_flop() -> Iterator[str]:
    inverter = TECHNOLOGY["inverter_f"].value * 1e15
    yield f"  cell ({FLIP_FLOP}) {{"
    yield f"    area : {FLIP_FLOP_GE:.4f};"
    yield '    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }'
    clock = CLOCK_PIN_EFFORT * inverter
    yield f"    pin (CK) {{ direction : input; clock : true; capacitance : {clock:.4f}; }}"
    yield f"    pin (D) {{ direction : input; capacitance : {inverter:.4f}; }}"
    yield '    pin (Q) { direction : output; function : "IQ"; }'
    yield "  }"


def _clock_gate() -> Iterator[str]:
    inverter = TECHNOLOGY["inverter_f"].value * 1e15
    yield f"  cell ({CLOCK_GATE}) {{"
    yield f"    area : {CLOCK_GATE_GE:.4f};"
    yield "    clock_gating_integrated_cell : latch_posedge;"
    clock = f"clock_gate_clock_pin : true; capacitance : {inverter:.4f};"
    yield f"    pin (CK) {{ direction : input; {clock} }}"
    enable = f"clock_gate_enable_pin : true; capacitance : {inverter:.4f};"
    yield f"    pin (E) {{ direction : input; {enable} }}"
    yield "    pin (GCK) { direction : output; clock_gate_out_pin : true; }"
    yield "  }"
