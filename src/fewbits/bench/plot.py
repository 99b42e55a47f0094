"""Ratio against decompression speed, one panel a dataset, with the Pareto front."""

import importlib.util
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fewbits.atomic import atomic_file
from fewbits.bench.measure import Comparison, Row, pareto
from fewbits.errors import FewbitsError

SUFFIXES = (".png", ".svg", ".pdf")
_OURS, _PEER, _FRONT, _TEXT = "#d6453d", "#33658a", "#b9c2cb", "#20262c"
_QUIET = "#8a949e"
_COLUMNS, _COLORS = 3, 48
# A codec that saves less than this share of what the best one saves is named, not drawn.
LEAST_SHARE = 0.2
# Where a label may stand, seen from its point, best first: offsets in points and alignments.
_NEAR = [(6, 0), (-6, 0), (0, 8), (0, -8), (6, 8), (6, -8), (-6, 8), (-6, -8)]
_FAR = [(x * 8, y) for y, x in product((16, -16, 24, -24, 34, -34, 44, -44, 56, -56), (0, 1, -1))]


def check(path: Path, *, force: bool) -> None:
    """Refuse a plot that could not be written, before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise FewbitsError("--plot needs matplotlib: pip install 'fewbits[bench]'")
    if path.is_dir() or (path.exists() and not force):
        raise FewbitsError(f"{path}: exists already (use --force to replace it)")
    if not path.parent.is_dir():
        raise FewbitsError(f"{path}: the folder {path.parent} does not exist")


def draw(comparisons: Sequence[Comparison], path: Path, *, footer: str) -> None:
    """Write the plot; its format follows from the suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(comparisons))
    lines = -(-len(comparisons) // columns)
    figure = Figure(
        figsize=(4.6 * columns + (2.4 if columns == 1 else 0.4), 3.9 * lines + 0.5), dpi=110
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    drawn = [(axis, _points(axis, one)) for axis, one in zip(axes, comparisons, strict=False)]
    for axis in axes[len(comparisons) :]:
        axis.set_visible(False)
    figure.text(0.01, 0.006, footer, fontsize=7, color=_TEXT, va="bottom")
    figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1))
    for axis, rows in drawn:
        _label(axis, rows)
    with atomic_file(path) as file:
        _save(figure, file, path.suffix[1:].lower())


def _save(figure: Any, file: BinaryIO, kind: str) -> None:
    if kind != "png":
        figure.savefig(file, format=kind)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    # A third of the bytes of full colour.
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(_COLORS).save(file, "PNG", optimize=True)


def _points(axis: Any, comparison: Comparison) -> list[Row]:
    """The dots and the front of one panel; the rows that have a dot."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rows, beneath = shown(comparison.rows)
    points = [(row.decompress_mb_per_s, row.ratio) for row in rows]
    front = [points[index] for index in pareto(points)]
    axis.step(*zip(*front, strict=True), where="pre", color=_FRONT, linewidth=5, zorder=1)
    for row, (speed, ratio) in zip(rows, points, strict=True):
        color = _OURS if row.ours else _PEER
        if row.into_mb_per_s is not None:
            axis.plot([speed, row.into_mb_per_s], [ratio, ratio], color=color, lw=0.8, zorder=2)
            axis.plot(row.into_mb_per_s, ratio, "o", mfc="white", mec=color, ms=5, zorder=3)
        axis.plot(speed, ratio, "o", color=color, ms=6, zorder=4)
    ratios = [ratio for _, ratio in points]
    room = max(max(ratios) - min(ratios), 0.02)
    speeds = [speed for speed, _ in points] + [row.into_mb_per_s or points[0][0] for row in rows]
    axis.set_xscale("log")
    axis.set_xlim(min(speeds) / 1.9, max(speeds) * 1.9)
    axis.set_ylim(min(ratios) - 0.16 * room, max(ratios) + 0.16 * room)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=8, colors=_TEXT)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#eceff2", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(comparison.name, fontsize=10, loc="left", color=_TEXT)
    axis.set_xlabel("decompression, MB/s of one core", fontsize=8, color=_TEXT)
    axis.set_ylabel("ratio", fontsize=8, color=_TEXT)
    if beneath:
        names = ", ".join(f"{row.codec} {row.ratio:.3f}" for row in beneath)
        place = {"transform": axis.transAxes, "ha": "right", "va": "bottom"}
        axis.text(0.99, 0.02, f"not drawn: {names}", fontsize=7, color=_QUIET, **place)
    return rows


def shown(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows to draw, and those that save so little that the others would be drawn as one dot."""
    fine = [row for row in rows if not row.fault]
    saved = [1 - 1 / row.ratio for row in fine]
    least = LEAST_SHARE * max(saved, default=0.0)
    drawn = [row for row, save in zip(fine, saved, strict=True) if save >= least or row.ours]
    return drawn, [row for row in fine if row not in drawn]


def _label(axis: Any, rows: Sequence[Row]) -> None:
    """Names beside the dots, each where it covers neither a dot nor another name."""
    from matplotlib.transforms import Bbox

    renderer = axis.figure.canvas.get_renderer()
    spots = [(row.decompress_mb_per_s, row.ratio) for row in rows]
    spots += [(row.into_mb_per_s, row.ratio) for row in rows if row.into_mb_per_s is not None]
    taken = [
        Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axis.transData.transform(spots).tolist()
    ]
    frame = axis.get_window_extent(renderer)
    # Ours first: they get the best places.
    for row in sorted(rows, key=lambda row: (not row.ours, -row.ratio)):
        at = (row.decompress_mb_per_s, row.ratio)
        for x, y in [*_NEAR, *_FAR]:
            text = axis.annotate(
                row.codec,
                at,
                (x, y),
                textcoords="offset points",
                ha="left" if x > 0 else "right" if x < 0 else "center",
                va="bottom" if y > 0 else "top" if y < 0 else "center",
                fontsize=8,
                color=_OURS if row.ours else _TEXT,
                weight="bold" if row.ours else "normal",
                zorder=5,
                bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6},
            )
            box = text.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 + 8 and frame.y0 <= box.y0
            if inside and box.y1 <= frame.y1 and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            continue  # no room: the table has it
        taken.append(box.padded(3, 1))
        if abs(y) > 10:
            style = {"arrowstyle": "-", "color": _QUIET, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
            axis.annotate("", at, (x, y), textcoords="offset points", arrowprops=style)
