"""The options that say which workload a machine runs, and how its tensors pack."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fewbits.machines.constants import Constants
    from fewbits.machines.traffic import Traffic
    from fewbits.machines.workload import Workload


class Mode(StrEnum):
    """What a transformer, or any network, does."""

    PREFILL = "prefill"
    DECODE = "decode"
    TRAINING = "training"


PREFILL = Mode.PREFILL

Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME",
        help="A network that comes along (fewbits simulate --list-networks).",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A transformer's Hugging Face config.json.",
        show_default=False,
    ),
]
Onnx = Annotated[
    Path | None,
    typer.Option("--onnx", metavar="FILE", help="An ONNX model.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FILE.py:FUNCTION",
        help="A function that gives a torch.nn.Module; with --input.",
        show_default=False,
    ),
]
InputSizes = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SIZES",
        help="Sizes of the module's input for one sample: 1x3x224x224.",
        show_default=False,
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Samples at once.")]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--tokens", min=1, metavar="N", help="Tokens a transformer reads.", show_default=False
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=0,
        metavar="N",
        help="Earlier tokens in the cache when decoding.",
        show_default=False,
    ),
]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Forward, one token with a cache, or forward and backward.")
]
Bits = Annotated[
    int, typer.Option("--bits", min=1, max=64, metavar="N", help="Bits of an element.")
]
Weights = Annotated[
    float | None,
    typer.Option(
        "--weights",
        metavar="SHARE",
        help="Bytes of weights after packing, as a share of those before (the paper's mean: 0.60).",
        show_default=False,
    ),
]
Activations = Annotated[
    float | None,
    typer.Option(
        "--activations",
        metavar="SHARE",
        help="The same for activations (the paper's mean: 0.48).",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="A report of fewbits.training as JSON: what packing made of activations.",
        show_default=False,
    ),
]


def load(
    network: str | None,
    config: Path | None = None,
    onnx: Path | None = None,
    batch: int = 1,
    tokens: int | None = None,
    context: int | None = None,
    mode: Mode = PREFILL,
    model: str | None = None,
    sizes: str | None = None,
    *,
    traced: "Workload | None" = None,
) -> "Workload":
    """The workload that the options ask for: exactly one of a network, a config, a model.

    Or none, where a trace holds one.
    """
    given = [one for one in (network, config, onnx, model) if one is not None]
    if sizes is not None and model is None:
        raise typer.BadParameter("--input is for --model")
    if not given and traced is not None:
        return _as_asked(traced.with_batch(batch), tokens or context, mode)
    if len(given) != 1:
        raise typer.BadParameter("give one of --network, --config, --onnx and --model")
    if network is not None:
        from fewbits.machines import networks

        return networks.load(network, batch=batch, mode=mode.value, tokens=tokens, context=context)
    if config is not None:
        from fewbits.cli.errors import about
        from fewbits.machines.transformers import of_config

        with about(str(config)):
            return of_config(
                config, mode=mode.value, tokens=tokens or 128, context=context, batch=batch,
                name=config.parent.name or config.stem,
            )  # fmt: skip
    if model is not None:
        return _as_asked(_of_model(model, sizes).with_batch(batch), tokens or context, mode)
    from fewbits.machines.onnx import of_onnx

    assert onnx is not None
    return _as_asked(of_onnx(onnx, batch=batch, tokens=tokens), context, mode)


def _of_model(place: str, sizes: str | None) -> "Workload":
    """The workload of a module that a function gives, for one sample."""
    from fewbits.cli.user_code import call, fault
    from fewbits.errors import FewbitsError

    try:
        shape = tuple(int(size) for size in (sizes or "").lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise typer.BadParameter("--model needs --input with its sizes, such as 1x3x224x224")
    try:
        import torch

        from fewbits.machines.modules import of_module

        module = call(place)
        return of_module(module, torch.empty(shape, device="meta"), name=Path(place).stem)
    except ModuleNotFoundError as error:
        raise FewbitsError(f"{place}: needs {error.name}, which is not installed") from None
    except (FewbitsError, typer.BadParameter):
        raise
    except Exception as error:
        raise fault(place, error) from error


def _as_asked(net: "Workload", tokens: int | None, mode: Mode) -> "Workload":
    """A workload whose operations are fixed, forward or in training."""
    if mode is Mode.DECODE or tokens is not None:
        from fewbits.errors import FewbitsError

        raise FewbitsError(f"{net.name} runs as it is, forward or in training")
    return net.training() if mode is Mode.TRAINING else net


def traced(path: Path, codecs: str, *asked: Any) -> "tuple[Workload, dict[str, Traffic], bool]":
    """The workload that is asked for, or a trace's own, and what codecs make of the trace.

    And whether the trace holds activations.
    """
    from fewbits import traces
    from fewbits.cli import console
    from fewbits.cli.errors import about
    from fewbits.errors import FewbitsError

    with about(str(path)):
        trace = traces.load(path)
    if trace.workload is None and not any((*asked[:3], *asked[7:])):
        raise FewbitsError(f"{path}: holds no workload; name it with --network")
    net = load(*asked, traced=trace.workload)
    bits = 8 * max((array.dtype.itemsize for array in trace.weights.values()), default=1)
    names = [name.strip() for name in codecs.split(",")]
    with console.progress("packing", trace.nbytes * len(names)) as advance:
        found = {name: traces.measure(trace, name, advance=advance) for name in names}
    matched = {name: traces.matched(traffic, trace, net) for name, traffic in found.items()}
    return net.with_bits(bits, bits), matched, bool(trace.inputs)


def reported(path: Path) -> "Traffic":
    """What a report of ``fewbits.training``, written as JSON, says of activations."""
    import json

    from fewbits.cli.errors import about
    from fewbits.errors import FewbitsError
    from fewbits.machines.traffic import of_training

    with about(str(path)):
        try:
            return of_training(json.loads(path.read_text("utf-8")))
        except FewbitsError as error:
            raise FewbitsError(f"{path}: {error}") from None
        except ValueError as error:
            raise FewbitsError(f"{path}: not JSON: {error}") from None


def with_given(
    constants: "Constants", weights: float | None, activations: float | None
) -> "Constants":
    """The constants with the ratios that were given."""
    pairs = {"weight_traffic": weights, "activation_traffic": activations}
    return constants.with_values({name: v for name, v in pairs.items() if v is not None})
