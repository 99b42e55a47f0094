"""``fewbits simulate gpu``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import results, workloads
from fewbits.cli.options import Json

if TYPE_CHECKING:
    from fewbits.machines.constants import Constants
    from fewbits.machines.result import Result

EXAMPLE = (
    "fewbits simulate gpu --device h100 --network llama-3-8b --mode decode --weights 0.66\n\n"
    "fewbits simulate gpu --network llama-3-8b --mode decode --sweep weight_traffic=0.25..1/16"
)


def gpu(
    network: workloads.Network = None,
    config: workloads.Config = None,
    onnx: workloads.Onnx = None,
    model: workloads.Model = None,
    sizes: workloads.InputSizes = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="a100, h100, h200, orin-agx or orin-nano.")
    ] = "a100",
    batch: workloads.Batch = 1,
    tokens: workloads.Tokens = None,
    context: workloads.Context = None,
    mode: workloads.ModeOption = workloads.PREFILL,
    bits: workloads.Bits = 16,
    weights: workloads.Weights = None,
    activations: workloads.Activations = None,
    report: workloads.Report = None,
    sets: results.Sets = None,
    sweeps: results.Sweeps = None,
    explain: results.Explain = False,
    layers: results.Layers = False,
    figure: results.FigureOut = None,
    output: results.TableOut = None,
    as_json: Json = False,
) -> None:
    """A GPU by its roofline: what packed weights and activations buy on a machine one can rent."""
    from fewbits.machines import gpu as machine
    from fewbits.machines.traffic import NONE, Traffic

    asked = (network, config, onnx, batch, tokens, context, mode, model, sizes)
    net = workloads.load(*asked).with_bits(bits, bits)
    known = workloads.with_given(machine.constants(device), weights, activations)
    found = None if report is None else workloads.reported(report)
    if found is not None and activations is not None:
        raise typer.BadParameter("the report says what activations take when packed")

    def run(c: "Constants") -> Mapping[str, "Result"]:
        packed = Traffic("packed", c["weight_traffic"], c["activation_traffic"])
        if found is not None:
            packed = replace(found, weights=c["weight_traffic"])
        return {
            label: machine.simulate(net, traffic, c, name=machine.title(device))
            for label, traffic in (("plain", NONE), ("packed", packed))
        }

    results.deliver(
        run, known, sets=sets, sweeps=sweeps, explain=explain, layers=layers, figure=figure,
        output=output, as_json=as_json,
    )  # fmt: skip
