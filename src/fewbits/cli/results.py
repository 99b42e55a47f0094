"""What the machines' commands share: their options, and how results are shown and written.

A command builds its constants and a function that runs the machine with them, and gives both to
``deliver``, which does the rest: ``--set``, ``--sweep``, ``--explain``, ``--json``, ``--figure``.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fewbits.cli import console
from fewbits.cli.errors import about
from fewbits.cli.options import picture

if TYPE_CHECKING:
    from fewbits.machines.constants import Constant, Constants
    from fewbits.machines.result import Result
    from fewbits.machines.sweep import Run

_TABLES = (".csv", ".parquet")
_MOST_ROWS_SHOWN = 40

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Replace a constant (--explain lists them).",
        show_default=False,
    ),
]
Sweeps = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="NAME=A..B",
        help="Run for many values of a constant: 16..256, 0.4..1/7, 16..256*2 or 1,2,8.",
        show_default=False,
    ),
]
Explain = Annotated[bool, typer.Option("--explain", help="List every constant that was used.")]
Layers = Annotated[bool, typer.Option("--layers", help="Show every layer.")]
FigureOut = Annotated[
    Path | None,
    typer.Option(
        "--figure", metavar="OUT", help="Draw the result (.png, .svg, .pdf).", show_default=False
    ),
]
TableOut = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="Write the layers, or the sweep, as a table (.csv, .parquet).",
        show_default=False,
    ),
]


def deliver(
    run: "Run",
    constants: "Constants",
    *,
    sets: list[str] | None = None,
    sweeps: list[str] | None = None,
    explain: bool = False,
    layers: bool = False,
    figure: Path | None = None,
    output: Path | None = None,
    as_json: bool = False,
    vectorised: bool = True,
    draw: Callable[[Mapping[str, "Result"], Path], None] | None = None,
) -> None:
    """Run a machine and show, write and draw what it says.

    ``run`` gives results by variant, the first being what the others are compared with. It must
    take all that can be set or swept from the constants it is given. ``vectorised``: whether it
    takes arrays in their place. ``draw`` replaces the usual figure.
    """
    check_figure(figure)
    if output is not None and output.suffix not in _TABLES:
        raise typer.BadParameter(f"{output}: must end in {' or '.join(_TABLES)}")
    if layers and sweeps:
        raise typer.BadParameter("--layers is for one setting, --sweep for many")
    constants = constants.with_values(settings(sets))
    if sweeps:
        _sweep(run, constants, sweeps, vectorised, figure, output, as_json)
        if explain and not as_json:
            print_constants(_used(constants, run(constants)))
        return
    results = run(constants)
    if output is not None:
        _write_layers(results, output)
    if figure is not None:
        from fewbits.reports.figures import draw_results

        with about(str(figure)):
            (draw or draw_results)(results, figure)
    if as_json:
        used = _used(constants, results) if explain else []
        console.print_json(_document(results, used))
        return
    _tell(results, layers)
    if explain:
        print_constants(_used(constants, results))


def settings(pairs: list[str] | None) -> dict[str, float]:
    """``NAME=NUMBER`` pairs of ``--set``."""
    found = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{pair!r}: expected NAME=NUMBER") from None
    return found


def with_options(
    constants: "Constants", numbers: Mapping[str, float], low: Mapping[str, float]
) -> "Constants":
    """The constants, and options that are numbers, so that they can be swept too.

    ``low``: the least value of an option that has another than 0.
    """
    from fewbits.machines.constants import Constant

    return constants.with_constants(
        *(
            Constant(name, number, "", "given by the user", "given", low=low.get(name, 0.0))
            for name, number in numbers.items()
        )
    )


def check_figure(path: Path | None) -> None:
    """Refuse a picture that could not be drawn, before anything is run."""
    if path is None:
        return
    picture(path)
    if find_spec("matplotlib") is None:
        from fewbits.errors import FewbitsError

        raise FewbitsError("--figure needs matplotlib: pip install 'fewbits[machines]'")


def whole(constants: "Constants", name: str) -> int:
    """A constant that only makes sense as a whole number; ``FewbitsError`` for another."""
    value = constants[name]
    if not value.is_integer():
        from fewbits.errors import FewbitsError

        raise FewbitsError(f"{name} {value:g}: must be a whole number")
    return int(value)


def _used(constants: "Constants", results: Mapping[str, "Result"]) -> "list[Constant]":
    """Constants that were read, by the command itself or for its results, each once."""
    used = [*constants.used, *(c for result in results.values() for c in result.constants)]
    return list({constant.name: constant for constant in used}.values())


def _document(results: Mapping[str, "Result"], used: "list[Constant]") -> dict[str, Any]:
    from fewbits.machines.result import compare

    relative = compare(results) if len(results) > 1 else {}
    found = {
        name: {**result.to_dict(constants=False), **relative.get(name, {})}
        for name, result in results.items()
    }
    constants = [constant.to_dict() for constant in used]
    return {"results": found, **({"constants": constants} if constants else {})}


def _write_layers(results: Mapping[str, "Result"], path: Path) -> None:
    import numpy as np

    from fewbits.machines.sweep import write

    rows = [{"variant": name, **row} for name, result in results.items() for row in result.rows()]
    names = list(dict.fromkeys(key for row in rows for key in row))
    with about(str(path)):
        write({name: np.array([row.get(name) for row in rows]) for name in names}, path)


def _tell(results: Mapping[str, "Result"], layers: bool) -> None:
    from rich.table import Table

    from fewbits.machines.result import compare

    first = next(iter(results.values()))
    print(f"{first.workload} on {first.machine}")
    several = len(results) > 1
    relative = compare(results)
    table = Table(box=None, pad_edge=False)
    heads = [""] * several + ["time", "energy", "traffic", "bound by"]
    heads += ["speedup", "energy efficiency", "traffic"] * several
    for head in heads:
        table.add_column(head, justify="left" if head in ("", "bound by") else "right")
    for name, result in results.items():
        row = [name] * several
        row += [
            si(result.total_latency_s, "s"),
            si(result.total_energy_j, "J"),
            console.size(result.total_traffic_bytes),
            bounds(result),
        ]
        if several:
            shares = relative[name]
            row += [f"{shares['speedup']:.2f}x", f"{shares['energy_efficiency']:.2f}x"]
            row += [f"{shares['traffic']:.2f}"]
        table.add_row(*row)
    console.show(console.stdout(), table)
    if layers:
        for name, result in results.items():
            _tell_layers(f"\n{name}" if several else "", result)
    for name, result in results.items():
        _tell_engines(f"{name}: " if several else "", result)
    for note in dict.fromkeys(note for result in results.values() for note in result.notes):
        print(note)


def _tell_engines(label: str, result: "Result") -> None:
    """Say so where what packs and unpacks, not the memory, holds the machine up."""
    share = result.bound_shares().get("engine", 0.0)
    if share >= 0.005:
        print(
            f"{label}packing and unpacking bind {100 * share:.0f} % of the time; "
            f"{result.shortage('engine'):.2f} times as fast they never would"
        )


def bounds(result: "Result") -> str:
    """What bounds a result: ``memory 80 %, compute 20 %`` of the time."""
    shares = sorted(result.bound_shares().items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares if share >= 0.005)


def _tell_layers(title: str, result: "Result") -> None:
    from rich.table import Table

    if title:
        print(title)
    table = Table(box=None, pad_edge=False)
    for head in ("layer", "time", "energy", "traffic", "bound by"):
        table.add_column(head, justify="left" if head in ("layer", "bound by") else "right")
    names = result.bounds
    for index, layer in enumerate(result.layers):
        table.add_row(
            console.printable(layer),
            si(float(result.latency_s[index]), "s"),
            si(float(sum(part[index] for part in result.energy_j.values())), "J"),
            console.size(float(sum(part[index] for part in result.traffic_bytes.values()))),
            str(names[index]),
        )
    console.show(console.stdout(), table)


def si(value: float, unit: str) -> str:
    """A number with an SI prefix: ``1.25 ms``."""
    if value == 0:
        return f"0 {unit}"
    prefixes = {"": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
    prefix = next((p for p, factor in prefixes.items() if abs(value) >= factor), "p")
    return f"{value / prefixes[prefix]:.3g} {prefix}{unit}"


def print_constants(constants: "list[Constant]") -> None:
    """A table of constants."""
    from rich.table import Table

    print()
    table = Table(box=None, pad_edge=False)
    for head in ("constant", "value", "unit", "kind", "source"):
        justify: Literal["left", "right"] = "right" if head == "value" else "left"
        table.add_column(head, justify=justify, no_wrap=head != "source")
    for constant in constants:
        table.add_row(
            constant.name, f"{constant.value:.6g}", constant.unit, constant.kind, constant.source
        )
    console.show(console.stdout(), table)


def _sweep(
    run: "Run",
    constants: "Constants",
    sweeps: list[str],
    vectorised: bool,
    figure: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from fewbits.machines.sweep import axis, grid, sweep, write

    found = [axis(text) for text in sweeps]
    axes = dict(found)
    if len(axes) < len(found):
        raise typer.BadParameter("--sweep names a constant twice")
    count = next(iter(grid(axes).values())).size
    with console.progress("simulating", count, steps=True) as advance:
        table = sweep(run, constants, axes, vectorised=vectorised, advance=advance)
    if output is not None:
        with about(str(output)):
            write(table, output)
    if figure is not None:
        from fewbits.reports.figures import draw_sweep

        with about(str(figure)):
            draw_sweep(table, list(axes), figure)
    if as_json:
        console.print_json({name: column.tolist() for name, column in table.items()})
    else:
        _tell_sweep(table, list(axes), output)


def _tell_sweep(table: Mapping[str, Any], axes: list[str], output: Path | None) -> None:
    from rich.table import Table

    columns = ["variant", "latency_s", "energy_j", "traffic_bytes", "bound"]
    columns += ["speedup", "energy_efficiency"]
    heads = [*axes, *(name for name in columns if name in table)]
    shown = Table(box=None, pad_edge=False)
    for head in heads:
        shown.add_column(head, justify="left" if head in ("variant", "bound") else "right")
    rows = list(zip(*(table[head].tolist() for head in heads), strict=True))
    for row in rows[:_MOST_ROWS_SHOWN]:
        shown.add_row(*(cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row))
    console.show(console.stdout(), shown)
    if len(rows) > _MOST_ROWS_SHOWN:
        where = "" if output else "; -o out.csv writes all"
        print(f"... {len(rows) - _MOST_ROWS_SHOWN} more rows{where}")
