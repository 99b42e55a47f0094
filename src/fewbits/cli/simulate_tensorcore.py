"""``fewbits simulate tensorcore``."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import results, workloads
from fewbits.cli.options import Json

if TYPE_CHECKING:
    from fewbits.machines.constants import Constants
    from fewbits.machines.result import Result

EXAMPLE = (
    "fewbits simulate tensorcore --network resnet50 --weights 0.60 --activations 0.48\n\n"
    "fewbits simulate tensorcore --trace trace.safetensors --codec apack,shapeshifter,rle\n\n"
    "fewbits simulate tensorcore --network resnet18 --sweep engines=16..256*2 --figure out.png"
)


class _Policy(StrEnum):
    ALL = "all"
    READS = "reads"
    FIT = "fit"


def tensorcore(
    network: workloads.Network = None,
    config: workloads.Config = None,
    onnx: workloads.Onnx = None,
    model: workloads.Model = None,
    sizes: workloads.InputSizes = None,
    batch: workloads.Batch = 1,
    tokens: workloads.Tokens = None,
    context: workloads.Context = None,
    mode: workloads.ModeOption = workloads.PREFILL,
    weights: workloads.Weights = None,
    activations: workloads.Activations = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Pack the tensors of a trace (or any weights) and take what that gives.",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="For traces: apack, fewbits, shapeshifter, rle, rlez; or several."
        ),
    ] = "apack",
    policy: Annotated[
        _Policy,
        typer.Option(help="What crosses to memory: all, weights and inputs, or what does not fit."),
    ] = _Policy.ALL,
    dram: Annotated[str, typer.Option(metavar="NAME", help="Kind of memory.")] = "ddr4-3200",
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT",
            help="A circuit that `fewbits rtl --report` lists; give an encoder and a decoder.",
            show_default=False,
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
    """A tensor-core accelerator with DDR4 and compression engines, as in the APack paper.

    Compares packed traffic with plain traffic. What tensors take when packed is measured on a
    trace, or given, or the paper's average.
    """
    from fewbits.machines.parts.engine import synthesized
    from fewbits.machines.tensorcore import constants, simulate
    from fewbits.machines.traffic import NONE, Traffic

    asked = (network, config, onnx, batch, tokens, context, mode, model, sizes)
    try:
        known = constants(dram).with_constants(*(synthesized(*engine) if engine else ()))
    except ValueError as error:
        raise typer.BadParameter(f"--engine: {error}") from None
    known = workloads.with_given(known, weights, activations)
    measured: dict[str, Traffic] = {}
    sampled = False
    if trace is None:
        net = workloads.load(*asked)
    else:
        net, measured, sampled = workloads.traced(trace, codec, *asked)
        if weights is not None or (sampled and activations is not None):
            raise typer.BadParameter("the trace says what its tensors take when packed")

    def run(c: "Constants") -> Mapping[str, "Result"]:
        packed = dict(measured)
        if not packed:
            packed = {"packed": Traffic("apack", c["weight_traffic"], c["activation_traffic"])}
        elif not sampled:
            share = c["activation_traffic"]
            packed = {name: replace(found, activations=share) for name, found in measured.items()}
        return {
            name: simulate(net, traffic, c, policy=policy.value)
            for name, traffic in {"plain": NONE, **packed}.items()
        }

    results.deliver(
        run, known, sets=sets, sweeps=sweeps, explain=explain, layers=layers, figure=figure,
        output=output, as_json=as_json,
    )  # fmt: skip
