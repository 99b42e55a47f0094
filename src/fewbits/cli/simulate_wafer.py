"""``fewbits simulate wafer``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import console, results
from fewbits.cli.errors import about
from fewbits.cli.options import Json

if TYPE_CHECKING:
    from fewbits.machines.constants import Constants
    from fewbits.machines.result import Result
    from fewbits.machines.wafer import Graph, Layers, Plan, Shape
    from fewbits.machines.wafer.measure import Measured

EXAMPLE = (
    "fewbits simulate wafer --nodes 20000 --device cs2\n\n"
    "fewbits simulate wafer --graph karate --device cpu --measure"
)
_DEGREE = 10.0
_TILE = 32


def wafer(
    nodes: Annotated[
        int | None,
        typer.Option(metavar="N", help="A graph of so many nodes.", show_default=False),
    ] = None,
    degree: Annotated[
        float | None,
        typer.Option(metavar="D", help="Edges of a node (default: 10).", show_default=False),
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A real graph: karate, les-miserables, florentine-families, southern-women, or "
            "a file of edges.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where: cs2, a100, h100, cpu.")
    ] = "cs2",
    features: Annotated[int, typer.Option(min=1, metavar="N", help="Features of a node.")] = 64,
    layers: Annotated[
        int, typer.Option("--depth", min=1, metavar="N", help="Layers of the network.")
    ] = 2,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Time the formulations here, too (needs PyTorch)."),
    ] = False,
    sets: results.Sets = None,
    sweeps: results.Sweeps = None,
    explain: results.Explain = False,
    parts: Annotated[bool, typer.Option("--layers", help="Show every part of a step.")] = False,
    figure: results.FigureOut = None,
    output: results.TableOut = None,
    as_json: Json = False,
) -> None:
    """Train a graph network on a wafer, or what stands beside it: in which formulation, and why.

    A graph convolution multiplies by the graph's matrix. Five ways to write that (dense-matmul,
    dense-linear, csr, blocked, gather) are compared in memory and time; what does not fit is told.
    The graph is a real one, or of a given size, with edges anywhere; with --measure that is one
    whose degrees follow a power law.
    """
    from fewbits.machines.wafer import Layers
    from fewbits.machines.wafer import device as find_device

    if (nodes is None) == (graph is None):
        raise typer.BadParameter("give one of --nodes and --graph")
    if graph is not None and degree is not None:
        raise typer.BadParameter("--degree goes with --nodes")
    built = _built(graph, nodes, degree or _DEGREE) if graph is not None or measure else None
    numbers: dict[str, float] = {"features": features, "depth": layers}
    if built is None:
        assert nodes is not None
        numbers |= {"nodes": nodes, "degree": _DEGREE if degree is None else degree}
    least_one = {"features": 1, "depth": 1, "nodes": 1}
    known = results.with_options(find_device(device), numbers, low=least_one)
    timed = _timed(built, Layers(features, layers)) if measure and built is not None else {}
    plans: list[Plan] = []

    def run(given: "Constants") -> "dict[str, Result]":
        from fewbits.machines.wafer import make_plan

        sizes = Layers(results.whole(given, "features"), results.whole(given, "depth"))
        plan = make_plan(_shape(given, built), sizes, given, name=device)
        plans[:] = [plan]
        best_first = sorted(plan.results, key=lambda name: name != plan.best)
        return {name: _with_time(plan.results[name], timed.get(name)) for name in best_first}

    results.deliver(
        run, known, sets=sets, sweeps=sweeps, explain=explain, layers=parts, figure=figure,
        output=output, as_json=as_json, vectorised=False,
    )  # fmt: skip
    if not as_json and not sweeps:
        _tell(plans[0], timed)


def _timed(built: "Graph", layers: "Layers") -> "dict[str, Measured | str]":
    """The formulations timed here, or one clear line without PyTorch."""
    from fewbits.errors import FewbitsError

    try:
        from fewbits.machines.wafer.measure import measure
    except ModuleNotFoundError as error:
        raise FewbitsError("--measure needs PyTorch: pip install 'fewbits[torch]'") from error
    with console.progress("measuring", 5, steps=True) as advance:
        return measure(built, layers, advance=advance)


def _with_time(result: "Result", timed: "Measured | str | None") -> "Result":
    if timed is None or isinstance(timed, str):
        return result
    return replace(result, extra={**result.extra, "measured_here_s": timed.step_s})


def _tell(plan: "Plan", timed: "Mapping[str, Measured | str]") -> None:
    """Memory of every formulation, what does not fit, seconds measured, and the answer."""
    from rich.table import Table

    from fewbits.machines.wafer import FORMULATIONS

    print()
    table = Table(box=None, pad_edge=False)
    heads = ["formulation", "matrix", "memory", "of", *(["measured here"] * bool(timed)), ""]
    for head in heads:
        table.add_column(head, justify="left" if head in ("formulation", "") else "right")
    for name in FORMULATIONS:
        result = plan.results.get(name)
        sizes = ("matrix_bytes", "memory_bytes", "room_bytes")
        row = [console.size(result.extra[size]) if result else "-" for size in sizes]
        if timed:
            one = timed[name]
            row.append(one if isinstance(one, str) else results.si(one.step_s, "s"))
        table.add_row(name, *row, plan.faults.get(name, ""))
    console.show(console.stdout(), table)
    print(plan.reason)


def _built(name: str | None, nodes: int | None, degree: float) -> "Graph":
    from fewbits.machines.wafer import NAMED, named, power_law
    from fewbits.machines.wafer.graphs import read

    if name is None:
        assert nodes is not None
        return power_law(nodes, degree=degree)
    path = Path(name)
    if name in NAMED or not (path.suffix or path.exists()):
        return named(name)
    with about(name):
        return read(path)


def _shape(given: "Constants", built: "Graph | None") -> "Shape":
    from fewbits.machines.wafer import shape

    if built is not None:
        return built.shape(_TILE)
    nodes = results.whole(given, "nodes")
    entries = min(nodes * nodes, round(nodes * (given["degree"] + 1)))
    return shape(nodes, entries, tile=_TILE)
