"""From a unit to gates: area in gate equivalents, critical path, and the mapped netlist.

Yosys maps to the library of ``library.py``, or to any Liberty file. Registers that share an enable
get one clock gate, as low-power flows do; ABC sizes gates for the clock that is asked for.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from fewbits.errors import FewbitsError
from fewbits.silicon import library, yosys
from fewbits.silicon.technology import TECHNOLOGY

# Registers that share an enable and are fewer than this keep a multiplexer.
GATED_REGISTERS = 8
# ABC takes area back where a path has time to spare; so long a clock leaves it all.
RELAXED_S = 50e-9

_SCRIPT = """\
read_rtlil design.il
synth -top top -run begin:fine -flatten
opt_dff
simplemap t:$dff t:$dffe t:$sdff t:$sdffe t:$sdffce
{gate}
synth -run fine:check
dfflegalize -cell $_DFF_P_ 0 -mince 1000000 -minsrst 1000000
opt -full
dfflibmap -liberty cells.lib
abc -liberty cells.lib {constraints} -D {clock_ps:.0f}
opt_clean -purge
tee -q -o stat.json stat -json -liberty cells.lib
write_json netlist.json
write_verilog -noattr netlist.v
"""


@dataclass(frozen=True)
class Synthesis:
    """A mapped unit.

    ``critical_path_s`` includes a register's clock-to-output and setup times with our library; with
    another it is what lies between registers. ``netlist``: module ``top`` as Yosys writes JSON.
    """

    area_ge: float
    registers: int
    cells: Mapping[str, int]
    critical_path_s: float
    netlist: Mapping[str, Any]
    verilog: str

    @property
    def placed_m2(self) -> float:
        """Area of the placed block in 65 nm."""
        return placed_m2(self.area_ge)


def placed_m2(area_ge: float) -> float:
    """Area in 65 nm of so many gate equivalents, placed."""
    return area_ge * TECHNOLOGY["ge_m2"].value / TECHNOLOGY["density"].value


def synthesize(unit: Any, *, liberty: Path | None = None, clock_s: float = RELAXED_S) -> Synthesis:
    """Map a unit; ``liberty``: a library in place of ours, which must have a NAND2 and a flip-flop.

    ``clock_s``: the period that gates are sized for; the default leaves area smallest.
    ``FewbitsError`` without Yosys, or where it fails.
    """
    text = library.liberty() if liberty is None else _read(liberty)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.il").write_text(rtlil.convert(unit, name="top"), "utf-8")
        (folder / "cells.lib").write_text(text, "utf-8")
        constraints = _constraints(text)
        (folder / "load.constr").write_text(constraints, "utf-8")
        gated = "clock_gating_integrated_cell" in text
        gate = f"clockgate -liberty cells.lib -min_net_size {GATED_REGISTERS}" if gated else ""
        log = yosys.run(
            _SCRIPT.format(
                gate=gate,
                constraints="-constr load.constr" if constraints else "",
                clock_ps=clock_s * 1e12,
            ),
            folder,
        )
        stat = _json((folder / "stat.json").read_text("utf-8"))["design"]
        netlist = json.loads((folder / "netlist.json").read_text("utf-8"))["modules"]["top"]
        verilog = (folder / "netlist.v").read_text("utf-8")
    delays = re.findall(r"Delay = *([\d.]+) ps", log)
    if not delays:
        raise FewbitsError("Yosys told no delay; is this library one with timing tables?")
    path = float(delays[-1]) * 1e-12
    if liberty is None:
        path += TECHNOLOGY["clock_to_q_s"].value + TECHNOLOGY["setup_s"].value
    cells = {name.lstrip("\\"): int(count) for name, count in _cells(stat).items()}
    return Synthesis(
        area_ge=float(stat["area"]) / _nand2_area(text),
        registers=_registers(netlist, text),
        cells=cells,
        critical_path_s=path,
        netlist=netlist,
        verilog=verilog,
    )


def _cells(stat: Mapping[str, Any]) -> Mapping[str, Any]:
    found = stat["num_cells_by_type"]
    # Newer versions tell the area beside the count.
    return {k: v["count"] if isinstance(v, dict) else v for k, v in found.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise FewbitsError(f"{path}: {error.strerror}") from error


def _json(text: str) -> Any:
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


_CELL = re.compile(r'\bcell\s*\(\s*"?([^\s")]+)"?\s*\)\s*\{')
_AREA = re.compile(r"\barea\s*:\s*([\d.eE+-]+)")


def _areas(text: str) -> dict[str, float]:
    """The area of each cell of a Liberty file."""
    found, cells = {}, list(_CELL.finditer(text))
    for cell, following in zip_longest(cells, cells[1:]):
        end = following.start() if following else len(text)
        if area := _AREA.search(text, cell.end(), end):
            found[cell[1]] = float(area[1])
    return found


def _smallest(text: str, pattern: str) -> str | None:
    named = {n: a for n, a in _areas(text).items() if re.search(pattern, n, re.IGNORECASE) and a}
    return min(named, key=lambda name: named[name]) if named else None


def _nand2_area(text: str) -> float:
    name = _smallest(text, r"(^|_)nand(2|2x)|nd2")
    if name is None:
        raise FewbitsError("the library has no NAND2, whose area is the gate equivalent")
    return _areas(text)[name]


def _constraints(text: str) -> str:
    """What drives the inputs and loads the outputs, without which ABC does not size gates."""
    inverter = _smallest(text, r"(^|_)inv")
    return f"set_driving_cell {inverter}\nset_load 6.0\n" if inverter else ""


def _registers(netlist: Mapping[str, Any], text: str) -> int:
    blocks, cells = set(), list(_CELL.finditer(text))
    for cell, following in zip_longest(cells, cells[1:]):
        if re.search(r"\bff\s*\(", text[cell.end() : following.start() if following else None]):
            blocks.add(cell[1])
    return sum(cell["type"].lstrip("\\") in blocks for cell in netlist["cells"].values())
