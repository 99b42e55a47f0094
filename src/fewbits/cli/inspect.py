"""``fewbits inspect``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import about
from fewbits.cli.options import Json, Source

if TYPE_CHECKING:
    from rich.console import Console

    from fewbits.archive import Archive
    from fewbits.summary import Summary

EXAMPLE = "fewbits inspect packed.safetensors --sort size"


_TITLES = ("tensor", "dtype", "shape", "size", "ratio", "bits", "entropy", "codec")


class _Sort(StrEnum):
    FILE = "file"
    NAME = "name"
    SIZE = "size"
    RATIO = "ratio"


class _Scale(StrEnum):
    AUTO = "auto"
    LINEAR = "linear"
    LOG = "log"


@dataclass(frozen=True)
class _Listing:
    """One file's tensors."""

    path: str
    packed: bool
    base: str | None
    size: int
    rows: "list[Summary]"


def inspect(
    path: Source,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="Draw this tensor's range table."),
    ] = None,
    plane: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Which plane of it (default: the first that has a table)."
        ),
    ] = None,
    scale: Annotated[_Scale, typer.Option(help="Height of the bars.")] = _Scale.AUTO,
    sort: Annotated[_Sort, typer.Option(help="Order of the tensors.")] = _Sort.FILE,
    as_json: Json = False,
) -> None:
    """Show what a packed file holds, tensor by tensor, from its headers alone.

    With --table NAME: decode one tensor and draw its range table over the distribution of its
    values, then the table's rows. Plain safetensors files can be listed too.
    """
    if plane is not None and table is None:
        raise typer.BadParameter("--plane needs --table NAME")
    with about(path):
        if table is not None:
            from fewbits.cli.table_view import show_table

            show_table(path, table, plane, scale.value, as_json)
            return
        listings = _listings(path)
    for listing in listings:
        _sort(listing.rows, sort)
    if as_json:
        console.print_json(_document(path, listings))
        return
    out = console.stdout()
    for listing in listings:
        _print(out, listing)
    if len(listings) > 1:
        rows = [row for listing in listings for row in listing.rows]
        print(f"{console.plural(len(listings), 'file')}: {_totals_line(rows, listings)}")


def _listings(path: str) -> list[_Listing]:
    from fewbits import archive
    from fewbits.folders import tensor_files

    listings = []
    for name in tensor_files(path):
        with archive.open(name) as opened:
            listings.append(
                _Listing(name, opened.packed, opened.base_name, opened.size, _summaries(opened))
            )
    return listings


def _summaries(opened: "Archive") -> "list[Summary]":
    from fewbits.frame import PackedTensor
    from fewbits.summary import Summary, summarize

    rows = []
    for entry in opened.container.entries:
        if not opened.packed:
            size = entry.stop - entry.start
            rows.append(
                Summary(
                    entry.name, entry.dtype, entry.shape, "not packed", size, size,
                    float("nan"), 0, 0, size,
                )
            )  # fmt: skip
            continue
        tensor = opened[entry.name]
        assert isinstance(tensor, PackedTensor)
        row, holder = summarize(entry.name, tensor), opened.frame_entry(entry.name).name
        if holder != entry.name:
            row = replace(row, codec=f"same as {holder}", same_as=holder)
        rows.append(row)
    return rows


def _sort(rows: "list[Summary]", order: _Sort) -> None:
    if order is _Sort.NAME:
        rows.sort(key=lambda row: row.name)
    elif order is _Sort.SIZE:
        rows.sort(key=lambda row: -row.plain_bytes)
    elif order is _Sort.RATIO:
        rows.sort(key=lambda row: -row.ratio)


def mean_ratio(rows: "Sequence[Summary]") -> float:
    """Mean of the ratios of the tensors that hold anything."""
    ratios = [row.ratio for row in rows if row.plain_bytes]
    return sum(ratios) / len(ratios) if ratios else 1.0


def _document(path: str, listings: list[_Listing]) -> dict[str, Any]:
    rows = [row for listing in listings for row in listing.rows]
    plain, size = sum(row.plain_bytes for row in rows), sum(listing.size for listing in listings)
    return {
        "path": path,
        "packed": all(listing.packed for listing in listings),
        "files": len(listings),
        "bytes": size,
        "plain_bytes": plain,
        "ratio": plain / size if size else 1.0,
        "mean_ratio": mean_ratio(rows),
        "tensors": [
            {
                "file": listing.path,
                **asdict(row),
                "base": listing.base if row.delta else None,
                "ratio": row.ratio,
                "bits": row.bits,
            }
            for listing in listings
            for row in listing.rows
        ],
    }


def _totals_line(rows: "Sequence[Summary]", listings: list[_Listing]) -> str:
    plain, size = sum(row.plain_bytes for row in rows), sum(listing.size for listing in listings)
    line = f"{console.plural(len(rows), 'tensor')}, {console.size(plain)}"
    if not any(listing.packed for listing in listings):
        return f"{line}, not packed"
    return (
        f"{line} -> {console.size(size)}, ratio {plain / size if size else 1.0:.3f} "
        f"(mean of the tensors' ratios {mean_ratio(rows):.3f})"
    )


def _print(out: "Console", listing: _Listing) -> None:
    """One file as a table whose last line says what it adds up to."""
    from rich.table import Table
    from rich.text import Text

    print(f"{console.printable(listing.path)}: {_totals_line(listing.rows, [listing])}")
    if changed := sum(row.delta is not None for row in listing.rows):
        base = console.printable(listing.base or "another file")
        print(f"{console.plural(changed, 'tensor')} as changes since {base}")
    titles: tuple[str, ...] = _TITLES if listing.packed else _TITLES[:4]
    lines = [_cells(row, listing.packed) for row in listing.rows]
    if listing.packed and listing.rows:
        lines.append(_totals(listing))
    if out.is_terminal:
        titles, lines = _fitted(titles, lines, out.width)
    view = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        right = title in ("size", "ratio", "bits", "entropy")
        view.add_column(title, no_wrap=True, justify="right" if right else "left")
    for index, line in enumerate(lines):
        total = listing.packed and index == len(listing.rows)
        view.add_row(*map(Text, line), style="bold" if total else None)
    console.show(out, view)


def _fitted(
    titles: tuple[str, ...], lines: list[list[str]], width: int
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Make lines fit a terminal: shorten names and codecs, and do without sizes if need be."""
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        return titles, lines
    if len(titles) > 4 and width < 110:
        titles = titles[:3] + titles[4:]
        lines = [line[:3] + line[4:] for line in lines]
        del widths[3]
    codec = widths.pop() if len(titles) > 4 else 0
    room = width - sum(widths[1:]) - 2 * (len(titles) - 1)
    name_room = min(widths[0], max(16, room - min(codec, max(14, room // 3))))
    fitted = []
    for line in lines:
        short = [_shortened(line[0], name_room), *line[1:]]
        if codec:
            short[-1] = _shortened_codec(line[-1], max(8, room - name_room))
        fitted.append(short)
    return titles, fitted


def _cells(row: "Summary", packed: bool) -> list[str]:
    dtype = row.dtype.replace("bfloat", "bf").replace("float", "fp")
    shape = "x".join(map(str, row.shape)) or "scalar"
    cells = [console.printable(row.name), dtype, shape, console.size(row.plain_bytes)]
    if not packed:
        return cells
    if not row.elements:
        return [*cells, "-", "-", "-", row.codec]
    codec = console.printable(row.codec)  # it may have a tensor's name in it
    return [*cells, f"{row.ratio:.3f}", f"{row.bits:.2f}", f"{row.entropy_bits:.2f}", codec]


def _totals(listing: _Listing) -> list[str]:
    rows = listing.rows
    plain, elements = sum(row.plain_bytes for row in rows), sum(row.elements for row in rows)
    entropy = sum(row.entropy_bits * row.elements for row in rows if row.elements)
    return [
        "the whole file",
        "",
        "",
        console.size(plain),
        f"{plain / listing.size:.3f}",
        f"{8 * listing.size / elements:.2f}" if elements else "-",
        f"{entropy / elements:.2f}" if elements else "-",
        "",
    ]


def _shortened(name: str, width: int) -> str:
    """A name that fits: parts from the left lose letters down to one, then the middle goes.

    ``encoder.layer.0.attention.output.dense.weight`` becomes ``e.l.0.a.output.dense.weight``.
    """
    parts = name.split(".")
    for index, part in enumerate(parts[:-1]):
        excess = len(".".join(parts)) - width
        if excess > 0 and not part.isdecimal():
            parts[index] = part[: max(1, len(part) - excess)]
    short = ".".join(parts)
    if len(short) <= width:
        return short
    back = (width - 1) * 2 // 3
    return f"{short[: width - 1 - back]}…{short[-back:]}"


def _shortened_codec(codec: str, width: int) -> str:
    """A codec without its remap, which follows from the rest as a rule, and cut off."""
    if len(codec) > width:
        codec = codec.replace("sign to LSB, ", "").replace("zigzag, ", "")
        codec = codec.replace(" + 8 raw bits", "+8")
    return codec if len(codec) <= width else codec[: width - 1] + "…"
