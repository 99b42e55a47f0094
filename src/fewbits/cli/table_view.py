"""``fewbits inspect --table``: one tensor's range table as a picture, then its rows."""

import difflib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from fewbits.cli import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from fewbits.drawing import Picture
    from fewbits.frame import PackedTensor
    from fewbits.lossless.histogram import Histogram
    from fewbits.lossless.plan import Plane
    from fewbits.lossless.table import RangeTable

_COLOURS = ("cyan", "magenta")
_HEIGHT = 12
_SHARE_WIDTH = 16


@dataclass(frozen=True)
class _View:
    """A plane of a tensor with the histogram of its values."""

    name: str
    tensor: "PackedTensor"
    index: int
    plane: "Plane"
    table: "RangeTable | None"
    histogram: "Histogram"
    kind: int | None  # the class of rows that is shown, where each has a table


def show_table(
    path: str, name: str, index: int | None, scale: Literal["auto", "linear", "log"], as_json: bool
) -> None:
    """Draw the table of one plane of one tensor, or print it as JSON."""
    view = _look(path, name, index)
    if as_json:
        console.print_json(_document(view))
        return
    out = console.stdout()
    print(_title(view))
    _print_picture(out, view, scale)
    _print_rows(out, view)


def _look(path: str, name: str, index: int | None) -> _View:
    import numpy as np

    from fewbits import archive
    from fewbits.delta import DeltaTensor
    from fewbits.errors import FewbitsError
    from fewbits.folders import tensor_files
    from fewbits.frame import PackedTensor
    from fewbits.values.types import to_storage

    known: list[str] = []
    for file in tensor_files(path):
        with archive.open(file) as opened:
            known += opened
            if name not in opened:
                continue
            tensor = opened[name]
            if not isinstance(tensor, PackedTensor):
                raise FewbitsError(f"{file}: is not packed, so tensor {name!r} has no table")
            planes = tensor.header.plan.planes
            if index is not None and index >= len(planes):
                raise FewbitsError(
                    f"{file}: tensor {name!r} has {len(planes)} planes, counted from 0; no {index}"
                )
            if index is None:
                index = next((i for i, plane in enumerate(planes) if plane.tables), 0)
            # A delta's table describes the changes; to look at these takes no base.
            coded = tensor.changes if isinstance(tensor, DeltaTensor) else tensor
            data = to_storage(coded.unpack())
            histograms = tensor.header.plan.histograms(index, data)
            plane = planes[index]
            table, kind = plane.tables[0] if plane.tables else None, None
            if len(plane.tables) == len(histograms) > 1:
                kind = int(np.argmax(histograms.sum(axis=1)))  # the class with most values
                table, histograms = plane.tables[kind], histograms[kind : kind + 1]
            return _View(name, tensor, index, plane, table, histograms.sum(axis=0), kind)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise FewbitsError(f"{path}: no tensor {name!r}{hint}")


def _title(view: _View) -> str:
    from fewbits.summary import codec_name

    shape = "x".join(map(str, view.tensor.shape)) or "scalar"
    planes = len(view.tensor.header.plan.planes)
    which = f", plane {view.index} of {planes} ({view.plane.width} bits)" if planes > 1 else ""
    if view.kind is not None:
        share = view.histogram.sum() / view.plane.values_in(max(1, prod(view.tensor.shape)))
        which += f", class {view.kind} of {len(view.plane.tables)} ({share:.0%} of the values)"
    return (
        f"{console.printable(view.name)}  {view.tensor.dtype} {shape}{which}\n"
        f"{codec_name(view.tensor)}\n"
    )


def _print_picture(out: "Console", view: _View, scale: Literal["auto", "linear", "log"]) -> None:
    from rich.text import Text

    from fewbits.drawing import ASCII_BLOCKS, BLOCKS, draw

    if not view.histogram.sum():
        print("(no values)")
        return
    blocks = BLOCKS if out.encoding.lower().startswith("utf") else ASCII_BLOCKS
    picture = draw(
        view.histogram,
        view.table,
        width=console.drawing_width(out) - 4,
        height=_HEIGHT,
        scale=scale,
        blocks=blocks,
    )
    margin = "  "
    for line in picture.bars:
        console.show(out, Text(margin) + _coloured(line, picture.owners))
    if view.table is not None:
        for line in picture.ruler():
            console.show(out, Text(margin) + _coloured(line, picture.owners))
    console.show(out, Text(_axis(view, picture, margin), style="dim"))
    print()


def _coloured(line: str, owners: tuple[int, ...]) -> "Text":
    from rich.text import Text

    text = Text()
    for character, owner in zip(line, owners, strict=True):
        text.append(character, _COLOURS[owner % 2] if owner >= 0 else "white")
    return text


def _axis(view: _View, picture: "Picture", margin: str) -> str:
    """Both ends of the axis, and what the picture leaves out."""
    low, high = (_label(view, value) for value in (picture.low, picture.high))
    width = len(picture.owners)
    line = margin + low + high.rjust(max(0, width - len(low)))
    notes = ["height: values per column" + (", logarithmic" if picture.logarithmic else "")]
    for share, side in ((picture.left, "left"), (picture.right, "right")):
        if share:
            notes.append(f"{share:.2%} lie further {side}")
    return f"{line}\n{margin}{'; '.join(notes)}"


def _label(view: _View, value: int) -> str:
    """A value in hexadecimal, and the element it stands for where that can be told."""
    digits = (view.plane.width + 3) // 4
    element = _element(view, value)
    return f"0x{value:0{digits}X}" + (f" = {element}" if element else "")


def _element(view: _View, value: int) -> str | None:
    """The element behind a value of the top plane, lower planes taken as zero."""
    import numpy as np

    from fewbits.delta import DeltaTensor, Kind
    from fewbits.values.types import Remap

    plan, dtype = view.tensor.header.plan, view.tensor.dtype
    if view.index or view.plane.bytes_ == 0 or dtype.itemsize != plan.element_bytes:
        return None
    if isinstance(view.tensor, DeltaTensor) and view.tensor.kind is Kind.XOR:
        return None
    if not dtype.isnative or not dtype.name.startswith(("int", "uint", "float", "bfloat")):
        return None
    bits = value << (8 * view.plane.offset)
    if plan.remap is Remap.ZIGZAG:
        return str(bits >> 1 ^ -(bits & 1))
    if plan.remap is Remap.SIGN_TO_LSB:
        bits >>= 1  # drops the sign, which the label leaves open
    element = np.array([bits], f"u{dtype.itemsize}").view(dtype)[0]
    return f"±{float(element):.3g}" if plan.remap is Remap.SIGN_TO_LSB else str(element)


def _print_rows(out: "Console", view: _View) -> None:
    """The table as it prints itself; beside each row, what share of the values falls in it."""
    from rich.text import Text

    from fewbits.lossless.histogram import entropy

    bound = entropy(view.histogram)
    table = view.table
    if table is None:
        print(f"no table codes these values; order-0 entropy {bound:.3f} bits a value")
        return
    head, *lines = str(table).split("\n")
    console.show(out, Text(f"{head}   values", style="bold"))
    total = int(view.histogram.sum()) or 1
    full = "█" if out.encoding.lower().startswith("utf") else "#"
    shares = [
        int(view.histogram[start : end + 1].sum()) / total
        for start, end in zip(table.starts, table.ends, strict=True)
    ]
    for row, (line, share) in enumerate(zip(lines, shares, strict=True)):
        bar = full * round(share / (max(shares) or 1) * _SHARE_WIDTH)
        console.show(out, Text(f"{line}  {share:6.2%}  {bar}", style=_COLOURS[row % 2]))
    expected = table.expected_bits(view.histogram)
    print(
        f"\nexpected {expected:.3f} bits a value, order-0 entropy {bound:.3f}, "
        f"gap {expected - bound:.3f}\nthe table itself: {len(table.to_bytes())} bytes"
    )


def _document(view: _View) -> dict[str, Any]:
    from fewbits.lossless.histogram import entropy

    table, bound = view.table, entropy(view.histogram)
    found: dict[str, Any] = {
        "name": view.name,
        "dtype": str(view.tensor.dtype),
        "shape": list(view.tensor.shape),
        "plane": view.index,
        "width": view.plane.width,
        "class": view.kind,
        "entropy_bits": bound,
        "table": None,
    }
    if table is not None:
        found["table"] = {
            "count_bits": table.count_bits,
            "starts": table.starts,
            "ends": table.ends,
            "offset_lengths": table.offset_lengths,
            "counts": table.counts,
            "expected_bits": table.expected_bits(view.histogram),
            "bytes": len(table.to_bytes()),
        }
    return found
