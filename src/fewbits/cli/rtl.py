"""``fewbits rtl``."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import about
from fewbits.cli.options import Force, Json

if TYPE_CHECKING:
    from fewbits.silicon.costs import UnitCost
    from fewbits.silicon.settings import Settings

EXAMPLE = (
    "fewbits rtl engine --lanes 64 -o build/\n\n"
    "fewbits rtl encoder --datapath paper --underflow-bits 5 --report\n\n"
    "fewbits rtl --report"
)
_MORE_UNDERFLOW = "default: never overflows in a frame"


class _Unit(StrEnum):
    ENGINE = "engine"
    ENCODER = "encoder"
    DECODER = "decoder"
    RANS_DECODER = "rans-decoder"
    SHAPESHIFTER_ENCODER = "shapeshifter-encoder"
    SHAPESHIFTER_DECODER = "shapeshifter-decoder"


class _Lookup(StrEnum):
    PARALLEL = "parallel"
    BINARY = "binary"
    DIVIDER = "divider"


class _Datapath(StrEnum):
    RANGE = "range"
    PAPER = "paper"


class _Codes(StrEnum):
    ALIAS = "alias"
    RANGES = "ranges"


def rtl(
    unit: Annotated[_Unit | None, typer.Argument(help="What to build.", show_default=False)] = None,
    dst: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write Verilog there.", show_default=False
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Area, timing, energy: of UNIT, or of the table.")
    ] = False,
    lanes: Annotated[int, typer.Option(metavar="N", help="Lanes of an engine.")] = 1,
    ports: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Memory ports (default: one for 4 lanes).", show_default=False
        ),
    ] = None,
    width: Annotated[int, typer.Option(metavar="BITS", help="Bits of a value.")] = 8,
    rows: Annotated[int, typer.Option(metavar="N", help="Rows of the table.")] = 16,
    count_bits: Annotated[int, typer.Option(metavar="BITS", help="Bits of a count.")] = 10,
    window_bits: Annotated[int, typer.Option(metavar="BITS", help="Bits of HI and LO.")] = 16,
    underflow_bits: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help=f"Bits of the underflow counter ({_MORE_UNDERFLOW}).",
            show_default=False,
        ),
    ] = None,
    lookup: Annotated[_Lookup, typer.Option(help="How the decoder finds a row.")] = _Lookup.BINARY,
    datapath: Annotated[
        _Datapath, typer.Option(help="The paper's figures, or the same bits by less.")
    ] = _Datapath.RANGE,
    codes: Annotated[_Codes, typer.Option(help="How rANS deals codes to rows.")] = _Codes.ALIAS,
    stages: Annotated[
        int, typer.Option(metavar="N", help="Pipeline stages, and streams that take turns.")
    ] = 1,
    count: Annotated[
        int, typer.Option(metavar="N", help="Values a stream in the testbench's vectors.")
    ] = 1000,
    clock_ns: Annotated[
        float | None,
        typer.Option(
            metavar="NS",
            help="Size gates for this clock (default: least area).",
            show_default=False,
        ),
    ] = None,
    liberty: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Map to this cell library.", show_default=False),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Synthesize the whole table anew (minutes).")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Build the engine as a circuit: Verilog with a testbench, or its area, timing and energy.

    With UNIT and -o, Verilog goes to DIR; for an engine with self-checking testbenches and vectors
    (run DIR/run.sh). With UNIT and --report the unit is synthesized. With --report alone the table
    that is shipped is printed; with --fresh it is made again, and -o FILE.json keeps it.
    """
    if unit is None:
        if not report:
            raise typer.BadParameter("give a UNIT, or --report")
        _report_all(fresh, dst, liberty, force, as_json)
        return
    if dst is None and not report:
        raise typer.BadParameter("give -o DIR, or --report")
    sizes = _checked(
        width=width,
        rows=rows,
        count_bits=count_bits,
        window_bits=window_bits,
        underflow_bits=underflow_bits,
        lookup=lookup.value,
        datapath=datapath.value,
        stages=stages,
    )
    if clock_ns is not None and not 0 < clock_ns < 1e6:
        raise typer.BadParameter(f"--clock-ns {clock_ns} is no time of a clock")
    if not 1 <= count <= 1 << 20:
        raise typer.BadParameter(f"--count {count} is not in 1..{1 << 20}")
    _need("amaranth", "silicon")
    try:
        made = _circuits(unit, sizes, codes.value, lanes, ports)
        if dst is not None:
            _export(unit, made, sizes, lanes, ports, count, dst, force, as_json)
        if report:
            _report_unit(made, clock_ns, liberty, as_json)
    except ValueError as error:
        if not str(error).startswith("silicon: "):
            raise
        raise typer.BadParameter(str(error)) from None


def _checked(underflow_bits: int | None, **sizes: Any) -> "Settings":
    from fewbits.silicon.settings import UNDERFLOW_BITS, Settings

    try:
        return Settings(**sizes, underflow_bits=underflow_bits or UNDERFLOW_BITS)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _need(module: str, extra: str) -> None:
    from importlib.util import find_spec

    from fewbits.errors import FewbitsError

    if find_spec(module) is None:
        raise FewbitsError(f"fewbits rtl needs {module}: pip install 'fewbits[{extra}]'")


def _circuits(
    unit: _Unit, settings: "Settings", codes: str, lanes: int, ports: int | None
) -> dict[str, Callable[[], Any]]:
    """What makes each circuit, by its name."""
    from fewbits.silicon.decoder import Decoder
    from fewbits.silicon.encoder import Encoder
    from fewbits.silicon.engine import DecoderEngine, EncoderEngine
    from fewbits.silicon.rans import RansDecoder, RansSettings
    from fewbits.silicon.shapeshifter import ShapeShifterDecoder, ShapeShifterEncoder

    def rans() -> RansDecoder:
        return RansDecoder(
            RansSettings(
                width=settings.width,
                rows=settings.rows,
                count_bits=settings.count_bits,
                codes="alias" if codes == "alias" else "ranges",
                stages=settings.stages,
            )
        )

    if unit is _Unit.ENGINE:
        return {
            "encoder_engine": lambda: EncoderEngine(settings, lanes, ports),
            "decoder_engine": lambda: DecoderEngine(settings, lanes, ports),
        }
    makers: dict[_Unit, Callable[[], Any]] = {
        _Unit.ENCODER: lambda: Encoder(settings),
        _Unit.DECODER: lambda: Decoder(settings),
        _Unit.RANS_DECODER: rans,
        _Unit.SHAPESHIFTER_ENCODER: lambda: ShapeShifterEncoder(settings.width),
        _Unit.SHAPESHIFTER_DECODER: lambda: ShapeShifterDecoder(settings.width),
    }
    return {unit.value.replace("-", "_"): makers[unit]}


def _export(
    unit: _Unit,
    made: dict[str, Callable[[], Any]],
    settings: "Settings",
    lanes: int,
    ports: int | None,
    count: int,
    dst: Path,
    force: bool,
    as_json: bool,
) -> None:
    from fewbits.errors import FewbitsError
    from fewbits.silicon import export

    if dst.exists() and not dst.is_dir():
        raise FewbitsError(f"{dst}: is not a folder")
    if dst.is_dir() and any(dst.iterdir()) and not force:
        raise FewbitsError(f"{dst}: is not empty; --force writes into it")
    with about(str(dst)):
        if unit is _Unit.ENGINE:
            files = export.engine(settings, lanes, ports, dst, count=count)
        else:
            files = [
                path for name, circuit in made.items() for path in export.unit(circuit(), name, dst)
            ]
    for path in files if not as_json else ():
        print(f"{console.printable(str(path))}  {console.size(path.stat().st_size)}")


def _report_unit(
    made: dict[str, Callable[[], Any]], clock_ns: float | None, liberty: Path | None, as_json: bool
) -> None:
    from fewbits.silicon.synthesis import RELAXED_S, synthesize

    found = {}
    for name, circuit in made.items():
        done = synthesize(
            circuit(), liberty=liberty, clock_s=RELAXED_S if clock_ns is None else clock_ns * 1e-9
        )
        found[name] = {
            "area_ge": done.area_ge,
            "area_m2": done.placed_m2,
            "registers": done.registers,
            "critical_path_s": done.critical_path_s,
            "cells": dict(done.cells),
        }
        if not as_json:
            print(
                f"{name}: {done.area_ge:,.0f} GE, {done.placed_m2 * 1e6:.4f} mm2 in 65 nm,"
                f" {done.registers} registers, critical path {done.critical_path_s * 1e9:.2f} ns"
            )
    if as_json:
        console.print_json(found)


def _report_all(
    fresh: bool, dst: Path | None, liberty: Path | None, force: bool, as_json: bool
) -> None:
    from dataclasses import asdict

    from fewbits.errors import FewbitsError
    from fewbits.silicon import costs
    from fewbits.silicon.technology import TECHNOLOGY

    if not fresh:
        if dst is not None or liberty is not None:
            raise typer.BadParameter("-o and --liberty make the table anew: add --fresh")
        units = list(costs.unit_costs().values())
    else:
        if dst is not None and dst.exists() and not force:
            raise FewbitsError(f"{dst}: exists; --force replaces it")
        _need("amaranth", "silicon")
        units = _fresh(liberty)
        if dst is not None:
            with about(str(dst)):
                costs.write(units, {k: asdict(f) for k, f in TECHNOLOGY.items()}, dst)
    if as_json:
        console.print_json([{**asdict(unit), "clock_hz": unit.clock_hz} for unit in units])
        return
    console.show(console.stdout(), _table(units))
    if liberty is None:
        print(_REMARK)


def _fresh(liberty: Path | None) -> list["UnitCost"]:
    from fewbits.silicon.variants import VARIANTS, measure

    units = []
    with console.progress("synthesizing", len(VARIANTS), steps=True) as advance:
        for variant in VARIANTS:
            units.append(measure(variant, liberty))
            advance(1)
    return units


_REMARK = """\
65 nm, placed at 70 % density; paths without wires; energy without glitches. paper: area against
APack's 0.020 mm2 (encoder) and 0.017 mm2 (decoder). at MHz: the clock at which a unit draws APack's
2.8 and 2.65 mW; the paper gives none. Made by: fewbits rtl --report --fresh"""


def _table(units: list["UnitCost"]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("unit")
    for name in ("GE", "mm2", "paper", "ns", "MHz", "v/cycle", "pJ/value", "at MHz"):
        table.add_column(name, justify="right")
    for unit in units:
        area, power = _papers(unit.name)
        table.add_row(
            unit.name,
            f"{unit.area_ge:,.0f}",
            f"{unit.area_m2 * 1e6:.4f}",
            f"{unit.area_m2 / unit.units / area - 1:+.0%}" if area else "",
            f"{unit.critical_path_s * 1e9:.2f}",
            f"{unit.clock_hz / 1e6:.0f}",
            "" if unit.values_per_cycle is None else f"{unit.values_per_cycle:.3f}",
            "" if unit.energy_j is None else f"{unit.energy_j * 1e12:.2f}",
            "" if power is None or unit.energy_j is None else f"{power / unit.energy_j / 1e6:.0f}",
        )
    return table


def _papers(name: str) -> tuple[float | None, float | None]:
    """Area and power of the paper's unit that a variant answers to."""
    from fewbits.silicon.technology import TECHNOLOGY

    own = name.removeprefix("paper's ")
    if " bits" in own or "lane" in own or not own.startswith(("encoder", "decoder")):
        return None, None
    side = own[:7]
    return TECHNOLOGY[f"{side}_m2"].value, TECHNOLOGY[f"{side}_w"].value
