"""``fewbits simulate ipu``."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import console, results, workloads
from fewbits.cli.errors import about
from fewbits.cli.options import Json

if TYPE_CHECKING:
    from fewbits.machines.constants import Constants
    from fewbits.machines.ipu import Run, Setting
    from fewbits.machines.result import Result
    from fewbits.machines.workload import Workload

EXAMPLE = (
    "fewbits simulate ipu --network resnet50 --devices 16 --pipeline 4 --ratio 4\n\n"
    "fewbits simulate ipu --network resnet50 --devices 16 --plan 768"
)
PLAIN, PACKED = "not packed", "packed"
_PLANNED_RATIO = 4.0
_LANE = 48
_MOST_STAGES_SHOWN = 16
_MICRO_BATCHES_A_STAGE = 4


class _Schedule(StrEnum):
    GROUPED = "grouped"
    ONE_FORWARD_ONE_BACKWARD = "1f1b"
    GPIPE = "gpipe"
    SEQUENTIAL = "sequential"


class _Codec(StrEnum):
    DCT = "dct"
    CAST = "cast"


class _Optimizer(StrEnum):
    SGD = "sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"


def ipu(
    network: workloads.Network = None,
    config: workloads.Config = None,
    onnx: workloads.Onnx = None,
    tokens: workloads.Tokens = None,
    devices: Annotated[int, typer.Option(metavar="N", help="IPUs, 1 to 64.")] = 1,
    pipeline: Annotated[int, typer.Option(metavar="N", help="Stages of each replica.")] = 1,
    micro_batch: Annotated[int, typer.Option(metavar="N", help="Samples of a micro-batch.")] = 8,
    micro_batches: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Micro-batches of a step (default: 4 a stage, 1 without a pipeline).",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[
        _Schedule, typer.Option(help="The order of micro-batches.")
    ] = _Schedule.GROUPED,
    ratio: Annotated[
        float, typer.Option(metavar="R", help="Activations at rest, before over after packing.")
    ] = 1.0,
    codec: Annotated[_Codec, typer.Option(help="Whose time packing takes.")] = _Codec.DCT,
    pack_links: Annotated[
        bool, typer.Option("--pack-links", help="Activations cross between stages packed, too.")
    ] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Elements of 4 bytes (default: 2).")] = False,
    optimizer: Annotated[
        _Optimizer, typer.Option(help="What it keeps beside the weights.")
    ] = _Optimizer.MOMENTUM,
    plan: Annotated[
        int | None,
        typer.Option(
            metavar="SAMPLES",
            help="Find the fastest way to train on so many samples a step, packed or not.",
            show_default=False,
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Plan no cuts where there is no pipeline.")
    ] = False,
    report: workloads.Report = None,
    gantt: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Draw the schedule (.png, .svg, .pdf).", show_default=False
        ),
    ] = None,
    sets: results.Sets = None,
    sweeps: results.Sweeps = None,
    explain: results.Explain = False,
    layers: results.Layers = False,
    figure: results.FigureOut = None,
    output: results.TableOut = None,
    as_json: Json = False,
) -> None:
    """Train on one to 64 IPUs, activations packed or not: what spills, and how long a step takes.

    With --ratio or --report, the same step is timed with and without packing. --plan tries every
    pipeline depth, cut into micro-batches and schedule instead, with and without packing by that
    ratio (default: 4), and says whether to pack. All numbers can be swept: --sweep ratio=1..16,
    --sweep devices=1,2,4,8.
    """
    from fewbits.machines.ipu import Setting, constants, with_traffic

    if whole and plan is None:
        raise typer.BadParameter("--whole goes with --plan")
    if report is not None and ratio != 1:
        raise typer.BadParameter("give one of --ratio and --report")
    if plan is not None and (pipeline != 1 or micro_batches is not None):
        raise typer.BadParameter("--plan chooses pipeline and micro-batches by itself")
    results.check_figure(gantt)
    workload = workloads.load(network, config, onnx, tokens=tokens)
    base = Setting(
        schedule=schedule.value,
        codec=codec.value,
        pack_links=pack_links,
        element_bytes=4 if fp32 else 2,
        optimizer=optimizer.value,
    )
    if report is not None:
        base = with_traffic(base, workloads.reported(report), workload)
        ratio = base.ratio
    numbers: dict[str, float] = {"devices": devices, "ratio": ratio}
    if plan is not None:
        numbers |= {"batch": plan, "ratio": _PLANNED_RATIO if ratio == 1 else ratio}
    else:
        count = micro_batches or (_MICRO_BATCHES_A_STAGE * pipeline if pipeline > 1 else 1)
        numbers |= {"pipeline": pipeline, "micro_batch": micro_batch, "micro_batches": count}
    known = results.with_options(constants(), numbers, low={"batch": 1})
    runs: dict[str, Run] = {}

    def run(given: "Constants") -> "dict[str, Result]":
        if plan is not None:
            found = _planned(workload, base, given, cut=not whole)
        else:
            found = _variants(workload, base, given, both=bool(sweeps))
        runs.clear()
        runs.update(found)
        return {name: one.result for name, one in found.items()}

    results.deliver(
        run,
        known,
        sets=sets,
        sweeps=sweeps,
        explain=explain,
        layers=layers,
        figure=figure,
        output=output,
        as_json=as_json,
        vectorised=False,
    )
    if gantt is not None:
        from fewbits.machines.ipu.gantt import draw

        with about(str(gantt)):
            draw(list(runs.values())[-1], gantt)
    if not as_json and not sweeps:
        for name, one in runs.items():
            _tell(name, one)


def _variants(
    workload: "Workload", base: "Setting", given: "Constants", *, both: bool
) -> "dict[str, Run]":
    """The setting without packing, where that fits, and with it if it packs."""
    from fewbits.errors import FewbitsError
    from fewbits.machines.ipu import simulate

    setting = replace(
        base,
        ratio=given["ratio"],
        devices=results.whole(given, "devices"),
        pipeline=results.whole(given, "pipeline"),
        micro_batch=results.whole(given, "micro_batch"),
        micro_batches=results.whole(given, "micro_batches"),
    )
    packed = simulate(workload, setting, given)
    if not setting.packs and not both:
        return {PLAIN: packed}
    try:
        plain = simulate(workload, replace(setting, ratio=1.0, ratios={}), given)
        return {PLAIN: plain, PACKED: packed}
    except FewbitsError as fault:
        return {PACKED: _noted(packed, f"not packed, {fault}")}


def _planned(
    workload: "Workload", base: "Setting", given: "Constants", *, cut: bool
) -> "dict[str, Run]":
    """The fastest ways with and without packing, the one to take last."""
    from fewbits.machines.ipu import make_plan
    from fewbits.machines.ipu.planner import count

    devices, batch = results.whole(given, "devices"), results.whole(given, "batch")
    ratios = (given["ratio"],)
    runs = count(workload, devices, batch, ratios, cut=cut)
    with console.progress("planning", runs, steps=True) as advance:
        plan = make_plan(
            workload,
            devices=devices,
            batch=batch,
            ratios=ratios,
            setting=base,
            cut=cut,
            constants=given,
            advance=advance,
        )
    found = {}
    for name, one in ((PLAIN, plan.plain), (PACKED, plan.packed)):
        if one is not None:
            way = one.setting
            dealt = f"{way.micro_batches} x {way.micro_batch} samples"
            how = f"{way.pipeline} stages, {way.schedule}, {dealt}" if way.pipeline > 1 else dealt
            found[name] = _noted(one, f"{name}: {how}")
    last = PLAIN if not plan.pack else list(found)[-1]
    found[last] = _noted(found.pop(last), plan.reason)
    return found


def _noted(run: "Run", *notes: str) -> "Run":
    return replace(run, result=replace(run.result, notes=(*run.result.notes, *notes)))


def _tell(name: str, run: "Run") -> None:
    """The stages: what they hold, what spills, and when they work."""
    from rich.table import Table

    from fewbits.machines.ipu.gantt import text

    setting = run.setting
    speed = f"{run.samples_per_s:,.0f} samples/s, {setting.batch} a step"
    print(f"\n{name}, ratio {setting.ratio:g}: {speed}")
    table = Table(box=None, pad_edge=False)
    for head in ("stage", "in flight", "on the chip", "of", "streamed", "forward", "backward", ""):
        table.add_column(head, justify="left" if head == "" else "right")
    lanes = text(run, width=_LANE) if len(run.stages) > 1 else [""]
    pairs = list(zip(run.stages, lanes, strict=True))[:_MOST_STAGES_SHOWN]
    for index, (stage, lane) in enumerate(pairs):
        streamed = stage.needs.streamed(stage.spilled)
        table.add_row(
            str(index + 1),
            str(stage.stash),
            console.size(stage.needs.on_chip(stage.spilled)),
            console.size(run.room_bytes),
            f"{console.size(streamed)} ({', '.join(sorted(stage.spilled))})" if streamed else "-",
            results.si(stage.forward_s, "s"),
            results.si(stage.backward_s, "s"),
            lane,
        )
    console.show(console.stdout(), table)
    if len(run.stages) > _MOST_STAGES_SHOWN:
        print(f"... {len(run.stages) - _MOST_STAGES_SHOWN} more stages; --json has all")
