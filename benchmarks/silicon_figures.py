"""Draws the datapath and some cycles of the encoder, silicon-datapath.png and silicon-waves.png.

python benchmarks/silicon_figures.py [FOLDER]      # docs/, if no other is given
"""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from amaranth.sim import Simulator

from fewbits.silicon import Settings
from fewbits.silicon.lanes import EncoderLane
from fewbits.silicon.simulate import load

INK, REGISTER, LOGIC, OUTSIDE = "#263238", "#cfd8dc", "#e3f2fd", "#fff8e1"


class Diagram:
    """Boxes and lines on a grid."""

    def __init__(self, axes: Any, title: str) -> None:
        self.axes = axes
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")

    def box(self, x: float, y: float, w: float, h: float, text: str, colour: str = LOGIC) -> None:
        """A box with its lower left corner at (x, y)."""
        self.axes.add_patch(plt.Rectangle((x, y), w, h, facecolor=colour, edgecolor=INK, lw=1.1))
        self.axes.text(
            x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=8.5, color=INK
        )

    def line(self, *points: tuple[float, float], text: str = "", at: Any = None) -> None:
        """An arrow through points; its text at ``at``, or above the middle of its first part."""
        for a, b in pairwise(points[:-1]):
            self.axes.plot(*zip(a, b, strict=True), color=INK, lw=1.1, solid_capstyle="butt")
        self.axes.annotate(
            "",
            points[-1],
            points[-2],
            arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
        )
        if text:
            (ax, ay), (bx, by) = points[:2]
            x, y = at or ((ax + bx) / 2, (ay + by) / 2 + 0.08)
            self.axes.text(x, y, text, ha="center", va="bottom", fontsize=8, color=INK)


def encoder(axes: Any) -> None:
    """The encoder and its packers."""
    d = Diagram(axes, "Encoder")
    d.box(1.6, 4.3, 4.6, 0.8, "table: base, offset length, count of 16 rows", REGISTER)
    d.box(1.6, 2.4, 2.0, 1.1, "find the row\n15 comparators")
    d.box(4.5, 2.4, 2.0, 1.1, "scale\n2 multipliers\n+ LO")
    d.box(7.4, 2.4, 2.2, 1.1, "settle: where HI, LO\ndiffer, where the\nrun ends")
    d.box(10.5, 2.4, 1.6, 1.1, "shift\nby p + u")
    d.box(7.2, 0.4, 1.6, 0.8, "LO, span", REGISTER)
    d.box(9.2, 0.4, 1.6, 0.8, "UBC", REGISTER)
    d.box(13.2, 2.3, 1.7, 1.3, "run writer\nand packer", OUTSIDE)
    d.box(13.2, 4.1, 1.7, 1.0, "packer", OUTSIDE)
    d.line((0.2, 2.95), (1.6, 2.95), text="value")
    d.line((2.6, 4.3), (2.6, 3.5))
    d.line((3.6, 2.95), (4.5, 2.95), text="c_lo c_hi")
    d.line((6.5, 2.95), (7.4, 2.95), text="t_lo t_hi")
    d.line((9.6, 2.95), (10.5, 2.95), text="p, u")
    d.line((12.1, 2.95), (13.2, 2.95), text="code", at=(12.65, 3.0))
    d.line((11.3, 2.4), (11.3, 0.15), (8.0, 0.15), (8.0, 0.4))
    d.line((7.2, 0.8), (5.5, 0.8), (5.5, 2.4))
    d.line((8.5, 2.4), (8.5, 1.7), (10.0, 1.7), (10.0, 1.2), text="u", at=(9.2, 1.7))
    d.line((10.8, 0.8), (14.0, 0.8), (14.0, 2.3), text="inverted bits to insert", at=(12.6, 0.82))
    d.line((3.3, 3.5), (3.3, 3.85), (12.3, 3.85), (12.3, 4.6), (13.2, 4.6),
           text="offset, its length", at=(9.0, 3.87))  # fmt: skip
    d.line((14.9, 2.95), (16.1, 2.95), text="32-bit\nwords")
    d.line((14.9, 4.6), (16.1, 4.6), text="32-bit\nwords")
    axes.set_xlim(0, 16.4)
    axes.set_ylim(0, 5.4)


def decoder(axes: Any) -> None:
    """The decoder and its unpackers."""
    d = Diagram(axes, "Decoder")
    d.box(4.1, 4.3, 4.6, 0.8, "table: base, offset length, count of 16 rows", REGISTER)
    d.box(
        4.1,
        2.2,
        2.4,
        1.5,
        "find the row: by 15\nmultipliers, by 4 in turn,\nor by a division and 2",
    )
    d.box(7.4, 2.4, 1.6, 1.1, "+ LO")
    d.box(9.9, 2.4, 1.6, 1.1, "settle")
    d.box(12.2, 2.4, 1.6, 1.1, "shift\nby p + u")
    d.box(6.6, 0.4, 3.4, 0.8, "LO, span, ahead = CODE - LO", REGISTER)
    d.box(1.2, 0.4, 1.7, 0.8, "unpacker", OUTSIDE)
    d.box(1.2, 4.3, 1.7, 0.8, "unpacker", OUTSIDE)
    d.box(12.2, 4.2, 1.6, 1.0, "base + 1\n+ offset")
    d.line((0.0, 0.8), (1.2, 0.8), text="symbols")
    d.line((0.0, 4.7), (1.2, 4.7), text="offsets")
    d.line((4.9, 4.3), (4.9, 3.7))
    d.line((6.5, 2.95), (7.4, 2.95), text="s_lo s_hi")
    d.line((9.0, 2.95), (9.9, 2.95), text="t_lo t_hi")
    d.line((11.5, 2.95), (12.2, 2.95), text="p, u")
    d.line((13.0, 2.4), (13.0, 0.8), (10.0, 0.8))
    d.line((6.6, 0.8), (5.3, 0.8), (5.3, 2.2))
    d.line((2.9, 0.6), (3.4, 0.6), (3.4, 0.12), (13.4, 0.12), (13.4, 2.4),
           text="next bits; p + u of them are taken", at=(8.4, 0.12))  # fmt: skip
    d.line((8.7, 4.7), (12.2, 4.7), text="the row's base and offset length", at=(10.4, 4.72))
    d.line((2.05, 5.1), (2.05, 5.4), (13.0, 5.4), (13.0, 5.2), text="next bits", at=(8.2, 5.4))
    d.line((5.9, 3.7), (5.9, 4.3))
    d.line((13.8, 4.7), (15.2, 4.7), text="value")
    axes.set_xlim(0, 16.4)
    axes.set_ylim(0, 5.8)


def datapath(path: Path) -> None:
    """Both units, one above the other."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 8))
    encoder(above)
    decoder(below)
    figure.text(
        0.98,
        0.012,
        "blue: logic    grey: registers    yellow: what the paper leaves outside",
        ha="right",
        fontsize=8.5,
        color=INK,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def traced(cycles: int) -> dict[str, list[int]]:
    """Signals of an encoder lane in its first cycles with values."""
    settings = Settings()
    rng = np.random.default_rng(7)
    values = np.round(rng.laplace(0, 10, 200)).astype(np.int8).view(np.uint8)
    table = settings.table_for(values)
    lane = EncoderLane(settings)
    encoder = lane.encoder
    names = {
        "value": lane.value,
        "code_length": encoder.code_length,
        "code": encoder.code,
        "inserted": encoder.inserted,
        "offset_length": encoder.offset_length,
        "offset": encoder.offset,
        "word valid": lane.symbols.valid,
        "word": lane.symbols.word,
    }
    seen: dict[str, list[int]] = {name: [] for name in names}

    async def bench(ctx: Any) -> None:
        await load(ctx, lane, table, settings)
        ctx.set(lane.valid, 1)
        ctx.set(lane.symbols.ready, 1)
        ctx.set(lane.offsets.ready, 1)
        for value in values[:cycles].tolist():
            ctx.set(lane.value, value)
            for name, signal in names.items():
                seen[name].append(ctx.get(signal))
            await ctx.tick()

    simulator = Simulator(lane)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def shown(seen: dict[str, list[int]], name: str, cycle: int) -> str:
    """What a wave says in a cycle: as many bits as count, nothing where there is none."""
    settings = Settings()
    if name in ("code", "offset"):
        length = seen[f"{name}_length"][cycle]
        width = settings.most_shifted if name == "code" else settings.most_offset
        return f"{seen[name][cycle]:0{width}b}"[:length]
    if name == "word":
        return f"{seen[name][cycle]:08x}" if seen["word valid"][cycle] else ""
    if name == "value":
        return str(np.uint8(seen[name][cycle]).view(np.int8))
    return str(seen[name][cycle])


def waves(path: Path, cycles: int = 16) -> None:
    """A few cycles as a logic analyser shows them."""
    seen = traced(cycles)
    labels = {
        "clock": "clock",
        "value": "value",
        "code_length": "code_length",
        "code": "code",
        "inserted": "inserted",
        "offset_length": "offset_length",
        "offset": "offset",
        "word valid": "symbols.valid",
        "word": "symbols.word",
    }
    figure, axes = plt.subplots(figsize=(13, 4.6))
    for row, (name, label) in enumerate(labels.items()):
        low = -row
        axes.text(-0.2, low + 0.3, label, ha="right", va="center", fontsize=9, color=INK)
        for cycle in range(cycles):
            if name == "clock":
                x = [cycle, cycle, cycle + 0.5, cycle + 0.5, cycle + 1]
                axes.plot(x, [low, low + 0.6, low + 0.6, low, low], color=INK, lw=1)
            elif name == "word valid":
                now = seen[name][cycle]
                before = seen[name][cycle - 1] if cycle else 0
                y = [low + 0.6 * before, low + 0.6 * now, low + 0.6 * now]
                axes.plot([cycle, cycle, cycle + 1], y, color=INK, lw=1)
            else:
                text, e = shown(seen, name, cycle), 0.07
                x = [cycle, cycle + e, cycle + 1 - e, cycle + 1, cycle + 1 - e, cycle + e, cycle]
                y = [0.3, 0.6, 0.6, 0.3, 0, 0, 0.3]
                colour = LOGIC if text not in ("", "0") else "white"
                axes.fill(x, [low + v for v in y], facecolor=colour, edgecolor=INK, lw=0.9)
                size = 8 if len(text) < 9 else 6.5
                axes.text(
                    cycle + 0.5, low + 0.3, text, ha="center", va="center", fontsize=size, color=INK
                )
    axes.set_xlim(-2.0, cycles)
    axes.set_ylim(-len(labels) + 0.8, 0.9)
    axes.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Draw both."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
    datapath(folder / "silicon-datapath.png")
    waves(folder / "silicon-waves.png")


if __name__ == "__main__":
    main()
