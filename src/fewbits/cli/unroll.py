"""``fewbits unroll``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console, unroll_view
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Destination, Force, Json, picture
from fewbits.quantities import parse_bytes

if TYPE_CHECKING:
    from fewbits.unroll.generate import Optimizer, Unrolled
    from fewbits.unroll.operations.base import Profile
    from fewbits.unroll.verify import Report

EXAMPLE = (
    "fewbits unroll model.txt -o step.py --codec 'dct4+int8' --budget 900MB\n\n"
    "fewbits unroll resnet50 --set batch=64 --codec int4 -o step.py\n\n"
    "fewbits unroll --from-onnx net.onnx -o net.txt --weights net.safetensors"
)


class _Profile(StrEnum):
    TORCH = "torch"
    PORTABLE = "portable"


class _Optimizer(StrEnum):
    NONE = "none"
    SGD = "sgd"
    ADAMW = "adamw"


def _budget(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        amount = parse_bytes(text)
    except (ValueError, OverflowError):
        amount = 0
    if not 1 <= amount < 1e18:
        raise typer.BadParameter(f"{text!r} is no amount of memory such as 900MB")
    return amount


def _settings(pairs: list[str] | None) -> dict[str, int]:
    found = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        if not name.isidentifier() or not value.isdigit():
            raise typer.BadParameter(f"{pair!r}: expected NAME=NUMBER")
        found[name] = int(value)
    return found


def unroll(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A text model, or the name of one that is included.",
            show_default=False,
        ),
    ] = None,
    dst: Destination = None,
    codec: Annotated[
        str,
        typer.Option(
            metavar="CODEC",
            help="What activations rest in: int4, dct4+int8, bf16, a policy's .toml.",
        ),
    ] = "none",
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Most memory the step may take: 900MB.", show_default=False
        ),
    ] = None,
    profile: Annotated[
        _Profile, typer.Option(help="Operations to use: all of torch, or what any compiler has.")
    ] = _Profile.TORCH,
    optimizer: Annotated[
        _Optimizer, typer.Option(help="What the step ends with.")
    ] = _Optimizer.NONE,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=NUMBER", help="Replace a let line's number.", show_default=False
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare gradients with autograd.")
    ] = True,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Print the memory after each line.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Draw the memory (.png, .svg, .pdf).", show_default=False),
    ] = None,
    from_onnx: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Import an ONNX model.", show_default=False),
    ] = None,
    from_export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Import a torch.export .pt2.", show_default=False),
    ] = None,
    from_print: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Import a printed module tree.", show_default=False),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="SIZES",
            help="Input of a printed tree: 32x3x224x224.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write an import's weights there; with a MODEL, read them to check it with.",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS", help="Add a loss to an import: cross_entropy, mse.", show_default=False
        ),
    ] = None,
    list_ops: Annotated[bool, typer.Option("--list-ops", help="List the operations.")] = False,
    list_models: Annotated[
        bool, typer.Option("--list-models", help="List included models.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a model's training step as plain PyTorch: forward, backward, and what rests packed.

    MODEL is text, one operation a line; the result is a Python file that needs torch alone and that
    static-graph compilers can take. Gradients are compared with autograd before it is written
    (--no-check leaves that out). Without -o the step goes to standard output. With a DST that
    ends in .txt, an import is written as a text model and nothing else is done. --weights writes
    an import's weights, under the names that the step wants, or reads a MODEL's to check it with.
    """
    if list_ops or list_models:
        (unroll_view.print_operations if list_ops else unroll_view.print_models)(as_json)
        return
    imports = {"onnx": from_onnx, "export": from_export, "print": from_print}
    given = [(kind, path) for kind, path in imports.items() if path is not None]
    if len(given) + (model is not None) != 1:
        raise typer.BadParameter("give one MODEL, or one --from-...; --list-models names some")
    options = _Options(
        codec, _budget(budget), profile.value, optimizer.value, _settings(settings), check
    )
    _check_plot(plot, force)
    _check_destination(dst, force)
    held: dict[str, Any] | None = None
    with _told(as_json):
        if given:
            _check_destination(weights, force)
            name, text, held = _imported(*given[0], input_shape, loss)
            if weights is not None:
                _write_weights(weights, held)
        else:
            name, text = _read(model or "")
            held = _read_weights(weights) if weights is not None else None
        if dst is not None and dst.endswith(".txt"):
            _write(dst, text)
            count = console.plural(len(text.splitlines()), "line")
            print(f"{console.printable(dst)}: a text model of {count}")
            return
        made, report = _made(name, text, options, held)
    fine = (report is None or report.fine) and made.planned.fits
    if fine:
        _deliver(made, dst, plot, as_json)
    if as_json:
        console.print_json(unroll_view.document(made, report, dst))
    elif dst is not None or not fine:
        unroll_view.tell(made, report, dst if fine else None)
        if timeline:
            unroll_view.print_timeline(made)
    if not fine:
        raise typer.Exit(EXIT_FAILURE)


@dataclass(frozen=True)
class _Options:
    codec: str
    budget: int | None
    profile: "Profile"
    optimizer: "Optimizer"
    numbers: dict[str, int]
    check: bool


@contextmanager
def _told(as_json: bool) -> Iterator[None]:
    """Show where in the text a fault is, and say what to install."""
    from fewbits.errors import FewbitsError
    from fewbits.unroll.faults import ModelError

    try:
        yield
    except ModelError as error:
        if error.excerpt and not as_json:
            print(error.excerpt, file=sys.stderr)
        raise
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise FewbitsError(
            "codecs, --check and imports need PyTorch: pip install torch, or --no-check"
        ) from None


def _made(
    name: str, text: str, options: _Options, weights: dict[str, Any] | None
) -> "tuple[Unrolled, Report | None]":
    from fewbits.unroll.generate import unroll as generate

    made = generate(
        text,
        file=name,
        settings=options.numbers,
        codec=options.codec,
        profile=options.profile,
        budget=options.budget,
        optimizer=options.optimizer,
    )
    if weights is not None:
        from fewbits.unroll.weights import insist

        insist(weights, made.graph)
    if not options.check or not made.graph.loss:
        return made, None
    from fewbits.unroll.verify import check

    return made, check(made, weights)


def _read(model: str) -> tuple[str, str]:
    from fewbits.errors import FewbitsError
    from fewbits.unroll import models

    path = Path(model)
    if not path.suffix and not path.exists() and model in models.names():
        return f"{model}.txt", models.path_of(model).read_text("utf-8")
    try:
        with about(model):
            return path.name, path.read_text("utf-8")
    except FewbitsError as error:
        if path.exists() or path.suffix:
            raise
        raise FewbitsError(f"{error}; included are: {', '.join(models.names())}") from None
    except UnicodeDecodeError as error:
        raise FewbitsError(f"{model}: not a text file") from error


def _imported(
    kind: str, path: Path, shape: str | None, loss: str | None
) -> tuple[str, str, dict[str, Any] | None]:
    from fewbits.unroll import importers

    with about(str(path)):
        made = importers.text_from_file(kind, path, input_shape=shape, loss=loss)
    return f"{path.stem}.txt", made.text, made.weights or None


def _write_weights(path: str, weights: dict[str, Any] | None) -> None:
    if weights is None:
        from fewbits.errors import FewbitsError

        raise FewbitsError("--weights: a printed tree has none")
    from safetensors.torch import save

    with about(path):
        Path(path).write_bytes(save({name: w.contiguous().clone() for name, w in weights.items()}))


def _read_weights(path: str) -> dict[str, Any]:
    from fewbits.archive import load

    with about(path):
        return load(path, framework="pt")


def _check_destination(dst: str | None, force: bool) -> None:
    if dst is not None and Path(dst).exists() and not force:
        from fewbits.errors import FewbitsError

        raise FewbitsError(f"{dst}: exists; --force replaces it")


def _check_plot(path: Path | None, force: bool) -> None:
    if path is None:
        return
    picture(path)
    _check_destination(str(path), force)
    if find_spec("matplotlib") is None:
        from fewbits.errors import FewbitsError

        raise FewbitsError("--plot needs matplotlib: pip install matplotlib")


def _write(dst: str, text: str) -> None:
    with about(dst):
        Path(dst).write_text(text, "utf-8")


def _deliver(made: "Unrolled", dst: str | None, plot: Path | None, as_json: bool) -> None:
    if dst is not None:
        _write(dst, made.source)
    elif not as_json:
        print(made.source, end="")
    if plot is not None:
        from fewbits.unroll.timeline import plot as draw

        with about(str(plot)):
            draw(made.planned, plot)
