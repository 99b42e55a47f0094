"""``fewbits unroll``."""

import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Destination, Force, Json
from fewbits.quantities import parse_bytes

if TYPE_CHECKING:
    from fewbits.unroll.generate import Unrolled
    from fewbits.unroll.verify import Report

EXAMPLE = (
    "fewbits unroll model.txt -o step.py --codec 'dct4+int8' --budget 900MB\n\n"
    "fewbits unroll resnet50 --set batch=64 --codec int4 -o step.py\n\n"
    "fewbits unroll --from-onnx net.onnx -o net.txt"
)
_SUFFIXES = (".png", ".svg", ".pdf")


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
    ends in .txt, an import is written as a text model and nothing else is done.
    """
    if list_ops or list_models:
        (_print_operations if list_ops else _print_models)(as_json)
        return
    imports = {"onnx": from_onnx, "export": from_export, "print": from_print}
    given = [(kind, path) for kind, path in imports.items() if path is not None]
    if len(given) + (model is not None) != 1:
        raise typer.BadParameter("give one MODEL, or one --from-...; --list-models names some")
    _check_plot(plot, force)
    limit, numbers = _budget(budget), _settings(settings)
    _check_destination(dst, force)
    from fewbits.unroll.faults import ModelError

    try:
        name, text = _imported(*given[0], input_shape, loss) if given else _read(model or "")
        if dst is not None and dst.endswith(".txt"):
            _write(dst, text)
            print(
                f"{console.printable(dst)}: a text model of {console.plural(_count(text), 'line')}"
            )
            return
        made = _generate(name, text, codec, limit, profile, optimizer, numbers)
        report = _verified(made) if check and made.graph.loss else None
    except ModelError as error:
        if error.excerpt and not as_json:
            print(error.excerpt, file=sys.stderr)
        raise
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from fewbits.errors import FewbitsError

        raise FewbitsError(
            "codecs, --check and imports need PyTorch: pip install torch, or --no-check"
        ) from None
    fine = (report is None or report.fine) and made.planned.fits
    if fine:
        _deliver(made, dst, plot, as_json)
    if as_json:
        console.print_json(_document(made, report, dst))
    elif dst is not None or not fine:
        _tell(made, report, dst if fine else None)
        if timeline:
            _print_timeline(made)
    if not fine:
        raise typer.Exit(EXIT_FAILURE)


def _verified(made: "Unrolled") -> "Report":
    from fewbits.unroll.verify import check

    return check(made)


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


def _imported(kind: str, path: Path, shape: str | None, loss: str | None) -> tuple[str, str]:
    from fewbits.unroll import importers

    with about(str(path)):
        made = importers.text_from_file(kind, path, input_shape=shape, loss=loss)
    return f"{path.stem}.txt", made.text


def _generate(
    name: str,
    text: str,
    codec: str,
    budget: int | None,
    profile: _Profile,
    optimizer: _Optimizer,
    numbers: dict[str, int],
) -> "Unrolled":
    from fewbits.unroll.generate import unroll as generate

    return generate(
        text,
        file=name,
        settings=numbers,
        codec=codec,
        profile=profile.value,
        budget=budget,
        optimizer=optimizer.value,
    )


def _count(text: str) -> int:
    return len(text.splitlines())


def _check_destination(dst: str | None, force: bool) -> None:
    if dst is not None and Path(dst).exists() and not force:
        from fewbits.errors import FewbitsError

        raise FewbitsError(f"{dst}: exists; --force replaces it")


def _check_plot(path: Path | None, force: bool) -> None:
    if path is None:
        return
    if path.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"{path}: must end in {', '.join(_SUFFIXES)}")
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


def _tell(made: "Unrolled", report: "Report | None", dst: str | None) -> None:
    from fewbits.unroll.timeline import chart

    before, after = made.planned.before, made.planned.schedule
    if dst is not None:
        print(f"{console.printable(dst)}: {console.plural(_count(made.source), 'line')}")
    if made.graph.loss:
        print()
        print(chart(made.planned, ascii_only=not _shows_blocks()))
        print()
        print(
            f"resting {console.size(before.resting_bytes)} -> {console.size(after.resting_bytes)}"
            f" ({before.resting_bytes / max(after.resting_bytes, 1):.1f}x), "
            f"most after any line, with parameters and gradients: "
            f"{console.size(before.peak)} -> {console.size(after.peak)}"
        )
        if made.planned.extra_s:
            print(f"modelled time for it: {1e3 * made.planned.extra_s:.2f} ms a step")
    else:
        print("no loss: only forward is written")
    if made.planned.note:
        print(made.planned.note)
    if report is not None:
        _tell_report(report)


def _tell_report(report: "Report") -> None:
    small = " ".join(f"{name}={value}" for name, value in report.sizes.items())
    at = f" (at {small})" if small else ""
    verdict = "agree with" if report.fine else "DIFFER from"
    print(f"gradients {verdict} autograd: relative error {report.error:.1e} at most{at}")
    if not report.fine:
        print(f"worst: {report.worst}")
    worst = sorted(report.cosines.items(), key=lambda item: item[1])
    if worst:
        mean = sum(report.cosines.values()) / len(worst)
        least = ", ".join(f"{name} {cosine:.4f}" for name, cosine in worst[:3])
        print(f"with the codec, cosine to the exact gradients: mean {mean:.4f}; least: {least}")


def _shows_blocks() -> bool:
    try:
        "▁█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _print_timeline(made: "Unrolled") -> None:
    from fewbits.unroll.timeline import rows

    print(f"\n{'resting':>10} {'held':>10}  after")
    for label, resting, live in rows(made.planned.schedule):
        print(f"{console.size(resting):>10} {console.size(live):>10}  {label}")


def _document(made: "Unrolled", report: "Report | None", dst: str | None) -> dict[str, Any]:
    before, after = made.planned.before, made.planned.schedule
    found: dict[str, Any] = {
        "model": made.file,
        "destination": dst,
        "parameters": after.parameters // 4,
        "resting_bytes_before": before.resting_bytes,
        "resting_bytes": after.resting_bytes,
        "peak_bytes_before": before.peak,
        "peak_bytes": after.peak,
        "modelled_extra_s": made.planned.extra_s,
        "note": made.planned.note,
        "fits": made.planned.fits,
        "activations": {
            name: {
                "how": rest.how,
                "codec": rest.codec.name if rest.codec else None,
                "bytes": after.resting.get(name, 0),
            }
            for name, rest in after.plan.items()
        },
    }
    if report is not None:
        found["check"] = {
            "ok": report.fine,
            "relative_error": report.error,
            "worst": report.worst,
            "sizes": dict(report.sizes),
            "cosines": report.cosines,
        }
    return found


def _print_operations(as_json: bool) -> None:
    from fewbits.unroll.operations import FAMILIES

    if as_json:
        console.print_json(
            {
                operation.name: {
                    "family": family,
                    "summary": operation.summary,
                    "arguments": list(operation.arguments),
                    "attributes": [a.describe(key) for key, a in operation.attributes.items()],
                }
                for family, operations in FAMILIES.items()
                for operation in operations
            }
        )
        return
    for family, operations in FAMILIES.items():
        print(f"{family}")
        for operation in operations:
            more = " ..." if operation.variadic else ""
            attributes = [a.describe(key) for key, a in operation.attributes.items()]
            line = " ".join([operation.name, *operation.arguments]) + more
            print(f"  {' '.join([line, *attributes])}\n      {operation.summary}")


def _print_models(as_json: bool) -> None:
    from fewbits.unroll import models
    from fewbits.unroll.text import parse

    titles = {
        name: parse(models.path_of(name).read_text("utf-8"), file=name).title
        for name in models.names()
    }
    if as_json:
        console.print_json(titles)
        return
    for name, title in titles.items():
        print(f"{name:10} {title}")
