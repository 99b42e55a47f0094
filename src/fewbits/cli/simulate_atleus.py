"""``fewbits simulate atleus``."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import console, results
from fewbits.cli.errors import about
from fewbits.cli.options import Json

if TYPE_CHECKING:
    from fewbits.machines.atleus.design import Front
    from fewbits.machines.atleus.machine import Job
    from fewbits.machines.constants import Constants
    from fewbits.machines.result import Result

EXAMPLE = (
    "fewbits simulate atleus --config bert-large --tokens 512 --mode finetune --bits M8F4\n\n"
    "fewbits simulate atleus --config gpt2-medium --tokens 1024 --design-noc -o noc"
)


class _Mode(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    FINETUNE = "finetune"


class _Tuning(StrEnum):
    LORA = "lora"
    ADAPTER = "adapter"
    FULL = "full"


class _Backward(StrEnum):
    TRANSPOSED = "transposed"
    DUPLICATED = "duplicated"


def atleus(
    config: Annotated[
        str, typer.Option("--config", metavar="NAME", help="A transformer, or its config.json.")
    ] = "bert-large",
    tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens; when decoding, earlier ones.")
    ] = 512,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Sequences at once.")] = 1,
    mode: Annotated[_Mode, typer.Option(help="What it does.")] = _Mode.PREFILL,
    tuning: Annotated[_Tuning, typer.Option(help="What fine-tuning trains.")] = _Tuning.LORA,
    rank: Annotated[int, typer.Option(metavar="R", help="Of LoRA, or width of adapters.")] = 32,
    targets: Annotated[
        str, typer.Option(metavar="A,B", help="Matrices that LoRA adapts.")
    ] = "query,value",
    backward: Annotated[
        _Backward, typer.Option(help="How the backward pass reads crossbars.")
    ] = _Backward.TRANSPOSED,
    bits: Annotated[
        str | None,
        typer.Option(
            metavar="M8F4",
            help="Bits of weights: one number, or attention's and feed-forward's.",
            show_default=False,
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Beside GPUs, digital stacks, memories.")
    ] = False,
    thermal_map: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Draw the temperatures.", show_default=False),
    ] = None,
    floor_plan: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Draw the stack.", show_default=False)
    ] = None,
    pipeline: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Draw the stages.", show_default=False)
    ] = None,
    design_noc: Annotated[
        bool, typer.Option("--design-noc", help="Search for networks; -o is a folder.")
    ] = False,
    generations: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of the search for networks.")
    ] = 100,
    population: Annotated[int, typer.Option(min=4, metavar="N", help="Networks at once.")] = 40,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the search for networks.")] = 0,
    sets: results.Sets = None,
    sweeps: results.Sweeps = None,
    explain: results.Explain = False,
    layers: results.Layers = False,
    figure: results.FigureOut = None,
    output: results.TableOut = None,
    as_json: Json = False,
) -> None:
    """A stack of ReRAM tiers and one of systolic arrays, for inference and fine-tuning.

    Frozen weights stand in crossbars, what changes runs on the systolic tier. Says what the
    weights fill, what paces a layer, how warm it gets, and how long the cells last.
    """
    from fewbits.machines.atleus.constants import CONSTANTS
    from fewbits.machines.atleus.mapping import mixed_bits

    job = _job(config, tokens, batch, mode, tuning, rank, targets, backward)
    known = CONSTANTS
    if bits is not None:
        attention, feedforward = mixed_bits(bits)
        known = known.with_values({"attention_bits": attention, "feedforward_bits": feedforward})
    for picture in (thermal_map, floor_plan, pipeline):
        results.check_figure(picture)
    given = known.with_values(results.settings(sets))
    if design_noc:
        _design(job, given, output or Path("noc"), generations, population, seed, as_json)
        return

    def run(c: "Constants") -> Mapping[str, "Result"]:
        from fewbits.machines.atleus.machine import simulate

        return {"": simulate(job, c)}

    from fewbits.machines.atleus.figures import draw_report

    results.deliver(
        run, known, sets=sets, sweeps=sweeps, explain=explain, layers=layers, figure=figure,
        output=output, as_json=as_json, vectorised=False, draw=draw_report,
    )  # fmt: skip
    if not sweeps:
        _draw(job, given, thermal_map, floor_plan, pipeline)
        if baselines and not as_json:
            _tell_baselines(job, given)


def _job(
    config: str,
    tokens: int,
    batch: int,
    mode: _Mode,
    tuning: _Tuning,
    rank: int,
    targets: str,
    backward: _Backward,
) -> "Job":
    from fewbits.machines.atleus.machine import Job
    from fewbits.machines.atleus.mapping import check_targets
    from fewbits.machines.atleus.models import find
    from fewbits.machines.atleus.work import Trained

    name, net = find(config)
    trained = None
    if mode is _Mode.FINETUNE:
        named = tuple(part.strip() for part in targets.split(",") if part.strip())
        trained = Trained(tuning.value, rank, check_targets(named, net))
    return Job(name, net, tokens, batch, mode.value, trained, backward.value)


def _draw(
    job: "Job", constants: "Constants", heat: Path | None, plan: Path | None, stages: Path | None
) -> None:
    from fewbits.machines.atleus import figures
    from fewbits.machines.atleus.machine import build, simulate

    if heat is not None:
        extra = simulate(job, constants).extra
        import numpy as np

        with about(str(heat)):
            figures.draw_thermal_map(
                np.array(extra["core_c"]) + 273.15, np.array(extra["core_w"]),
                int(constants["systolic_place"]), heat,
            )  # fmt: skip
    machine = build(job, constants)
    if plan is not None:
        with about(str(plan)):
            figures.draw_floor_plan(machine, plan)
    if stages is not None:
        with about(str(stages)):
            figures.draw_pipeline(machine.forward().stages, stages)


def _tell_baselines(job: "Job", constants: "Constants") -> None:
    from rich.table import Table

    from fewbits.machines.atleus.baselines import all_points
    from fewbits.machines.atleus.machine import simulate

    result = simulate(job, constants)
    table = Table(box=None, pad_edge=False)
    for head in ("beside", "time", "energy", "Atleus is faster", "and takes less"):
        table.add_column(head, justify="left" if head == "beside" else "right")
    for name, point in all_points(job, constants).items():
        table.add_row(
            name,
            results.si(point.latency_s, "s"),
            results.si(point.energy_j, "J"),
            f"{point.latency_s / result.total_latency_s:.2f}x",
            f"{point.energy_j / result.total_energy_j:.2f}x",
        )
    print()
    console.show(console.stdout(), table)


def _design(
    job: "Job",
    constants: "Constants",
    folder: Path,
    generations: int,
    population: int,
    seed: int,
    as_json: bool,
) -> None:
    from fewbits.machines.atleus.design import search
    from fewbits.machines.atleus.front import write_front

    results.check_figure(folder / "front.png")
    with about(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    with console.progress("designing networks", generations, steps=True) as advance:
        front = search(
            job, constants, generations=generations, population=population, seed=seed,
            advance=advance,
        )  # fmt: skip
    with (
        console.progress("drawing", len(front.designs), steps=True) as advance,
        about(str(folder)),
    ):
        rows = write_front(front, job, constants, folder, advance)
    if as_json:
        console.print_json({"folder": str(folder), "evaluations": front.evaluations, "front": rows})
        return
    _tell_front(front, folder)


def _tell_front(front: "Front", folder: Path) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("network", "latency", "fullest link", "energy", "hottest", "links", "wire"):
        table.add_column(head, justify="left" if head == "network" else "right")
    best = front.best()
    for design in (front.mesh, front.curves, *front.designs):
        latency, fullest, energy, hottest = design.objectives
        table.add_row(
            design.name + (" (best balance)" if design is best else ""),
            f"{latency:.2f} cycles",
            f"{fullest / 1e6:.1f} Mbit",
            results.si(energy, "J"),
            f"{hottest - 273.15:.1f} C",
            str(len(design.network.links)),
            f"{design.network.pitches.sum()} pitches",
        )
    console.show(console.stdout(), table)
    print(
        f"{console.printable(str(folder))}: a picture and a BookSim file of each of "
        f"{console.plural(len(front.designs), 'network')}, front.csv, front.png"
    )
