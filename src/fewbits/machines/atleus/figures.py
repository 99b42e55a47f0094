"""Pictures of Atleus with Matplotlib: its floor plan, its pipeline, its heat, its networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbits.machines.atleus.pipeline import Stages

if TYPE_CHECKING:
    from fewbits.machines.atleus.design import Design, Front
    from fewbits.machines.atleus.machine import Machine
    from fewbits.machines.parts.noc import Network
    from fewbits.machines.result import Result

Floats = NDArray[np.float64]
_RERAM, _SYSTOLIC = "#c8553d", "#2f6690"
_STAGES = ("query, key, value", "attention", "output", "up", "down")


def draw_report(results: Mapping[str, "Result"], path: Path) -> None:
    """Stages, energy by part, temperature of the tiers, and operations, of one or more results."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    names = list(results)
    extras = [results[name].extra for name in names]
    for index, (name, extra) in enumerate(zip(names, extras, strict=True)):
        width = 0.8 / len(names)
        at = np.arange(len(extra["stage_s"])) + (index - (len(names) - 1) / 2) * width
        axes[0, 0].bar(at, [1e6 * s for s in extra["stage_s"].values()], width, label=name)
        axes[1, 0].plot(range(len(extra["tier_c"])), extra["tier_c"], "o-", label=name)
    axes[0, 0].set_xticks(range(len(extras[0]["stage_s"])), list(extras[0]["stage_s"]))
    axes[0, 0].set(ylabel="a layer and sequence, µs", yscale="log", title="What paces a layer")
    _stack(axes[0, 1], {n: {p: 1e3 * float(np.sum(v)) for p, v in results[n].energy_j.items()}
                        for n in names}, "energy, mJ")  # fmt: skip
    axes[1, 0].set(xlabel="tier from the heat sink", ylabel="C", title="Hottest core of each tier")
    axes[1, 0].set_xticks(range(len(extras[0]["tier_c"])))
    _stack(axes[1, 1], {n: {k: v / 1e9 for k, v in e["kernel_macs"].items()}
                        for n, e in zip(names, extras, strict=True)}, "GMAC")  # fmt: skip
    if len(names) > 1:
        axes[0, 0].legend(fontsize=7)
    first = next(iter(results.values()))
    figure.suptitle(f"{first.workload} on {first.machine}")
    figure.savefig(path)


def _stack(axes: Any, bars: Mapping[str, Mapping[str, float]], label: str) -> None:
    below = np.zeros(len(bars))
    for part in dict.fromkeys(part for parts in bars.values() for part in parts):
        height = np.array([parts.get(part, 0.0) for parts in bars.values()])
        axes.bar(list(bars), height, 0.6, bottom=below, label=part)
        below += height
    axes.set_ylabel(label)
    axes.set_xlim(-0.6, len(bars) + 0.4)
    axes.legend(fontsize=7, loc="upper right")


def draw_thermal_map(temperature_k: Floats, power_w: Floats, systolic: int, path: Path) -> None:
    """Temperature of each core, tier by tier from the heat sink."""
    from matplotlib.figure import Figure

    celsius = temperature_k - 273.15
    tiers = celsius.shape[0]
    figure = Figure(figsize=(3.1 * tiers + 1, 3.6), layout="constrained")
    grid = figure.subplots(1, tiers, squeeze=False)[0]
    image: Any = None
    for tier, axes in enumerate(grid):
        image = axes.imshow(celsius[tier], vmin=celsius.min(), vmax=celsius.max(), cmap="inferno")
        for (row, column), value in np.ndenumerate(celsius[tier]):
            shade = (value - celsius.min()) / max(float(np.ptp(celsius)), 1e-9)
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7,
                      color="black" if shade > 0.6 else "white")  # fmt: skip
        kind = "systolic" if tier == systolic else "ReRAM"
        place = " (heat sink)" if tier == 0 else ""
        axes.set_title(f"tier {tier}{place}\n{kind}, {power_w[tier].sum():.1f} W", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=list(grid), label="C", shrink=0.8)
    figure.savefig(path)


def draw_network(
    network: "Network", path: Path, *, systolic: Sequence[int] = (), title: str = "",
    stands: Sequence[int] = (),
) -> None:  # fmt: skip
    """Tiers side by side: routers with their core's number, links, longer ones as arcs."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    places = np.array(network.places)
    tiers, rows, columns = places.max(0) + 1
    step = columns + 0.8
    at = np.stack([places[:, 2] + places[:, 0] * step, -places[:, 1]], 1).astype(np.float64)
    figure = Figure(figsize=(0.7 * tiers * step, 0.7 * rows + 1.0))
    # One pair of axes and few artists: a front has dozens of these pictures.
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.84))
    links = np.array(network.links).reshape(-1, 2)[network.pitches > 0]
    bends = np.where(network.pitches[network.pitches > 0] == 1, 0.0, 0.25)
    lines = [_arc(at[a], at[b], bend) for (a, b), bend in zip(links, bends, strict=True)]
    axes.add_collection(LineCollection(lines, colors="0.45", linewidths=1.5, zorder=1))
    digital = np.isin(places[:, 0], list(systolic))
    axes.scatter(at[:, 0], at[:, 1], s=190, marker="s", c=np.where(digital, _SYSTOLIC, _RERAM))
    for index, (x, y) in enumerate(at):
        label = str(stands[index]) if stands else str(index)
        axes.text(x, y, label, ha="center", va="center", color="white", fontsize=7)
    for tier in range(tiers):
        kind = "systolic" if tier in systolic else "ReRAM"
        axes.text(tier * step + (columns - 1) / 2, 0.6, f"tier {tier}: {kind}", ha="center")
    axes.set_xlim(-0.5, tiers * step - 1.3)
    axes.set_ylim(0.5 - rows, 1.0)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _arc(start: Floats, end: Floats, bend: float) -> Floats:
    """Points from start to end, along a parabola that bends to the side."""
    if bend == 0:
        return np.stack([start, end])
    t = np.linspace(0, 1, 12)[:, None]
    side = np.array([start[1] - end[1], end[0] - start[0]])
    return np.asarray(start + t * (end - start) + 4 * bend * t * (1 - t) * side / 2)


def draw_design(design: "Design", systolic_tier: int, path: Path) -> None:
    """A design's network with its objectives."""
    latency, fullest, energy, hottest = design.objectives
    draw_network(
        design.network,
        path,
        systolic=(design.tiers.index(systolic_tier),),
        stands=design.stands,
        title=f"{design.name}: {latency:.2f} cycles, fullest link {fullest / 1e6:.1f} Mbit, "
        f"{1e3 * energy:.3f} mJ, {hottest - 273.15:.1f} C",
    )


def draw_front(front: "Front", path: Path) -> None:
    """The front in three views, with the mesh and the curves it began with."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    names = ("latency, cycles", "fullest link, Mbit", "energy, mJ", "hottest core, C")
    scale = np.array([1.0, 1e-6, 1e3, 1.0])
    shift = np.array([0.0, 0.0, 0.0, -273.15])
    values = np.array([design.objectives for design in front.designs]) * scale + shift
    for (x, y), axes in zip(((0, 1), (0, 3), (1, 2)), figure.subplots(1, 3), strict=True):
        axes.scatter(values[:, x], values[:, y], s=18, label="front")
        for design, marker in ((front.mesh, "s"), (front.curves, "^"), (front.best(), "*")):
            point = np.array(design.objectives) * scale + shift
            label = "best balance" if marker == "*" else design.name
            axes.scatter(point[x], point[y], s=70, marker=marker, label=label, zorder=3)
        axes.set(xlabel=names[x], ylabel=names[y])
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path)


def draw_floor_plan(machine: "Machine", path: Path) -> None:
    """The stack from the heat sink up: tiers, cores, and which matrices a tier holds."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    from fewbits.machines.atleus.mapping import matrices

    hardware = machine.hardware
    rows, columns = hardware.cores
    held: dict[int, list[str]] = {}
    for matrix in matrices(machine.job.net):
        for tier in machine.mapping.tiers(matrix):
            held.setdefault(tier, []).append(matrix.name)
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    lean, rise, gap = 0.45, 0.35, 1.9

    def at(tier: float, row: float, column: float) -> tuple[float, float]:
        return column + lean * row, tier * gap + rise * row

    def plate(
        tier: float, row: float, column: float, height: float, width: float, **style: Any
    ) -> None:
        corners = ((row, column), (row, column + width), (row + height, column + width),
                   (row + height, column))  # fmt: skip
        axes.add_patch(Polygon([at(tier, r, c) for r, c in corners], **style))

    plate(-0.75, -0.3, -0.3, rows + 0.6, columns + 0.6, color="0.75")
    axes.text(*at(-0.75, rows / 2, columns / 2), "heat sink", ha="center", va="center")
    for tier in range(hardware.tiers):
        digital = tier == hardware.systolic_place
        color = _SYSTOLIC if digital else _RERAM
        for row in range(rows):
            for column in range(columns):
                plate(tier, row + 0.05, column + 0.05, 0.9, 0.9, color=color, alpha=0.85)
        what = "systolic arrays: attention, adapters, softmax, norms"
        if not digital:
            what = f"ReRAM: {', '.join(held.get(tier, ['copies']))}"
        x, y = at(tier, rows / 2, columns)
        axes.text(x + 1.3, y, f"tier {tier}\n{what}", va="center", fontsize=9)
        if tier:
            for row, column in ((0, 0), (0, columns), (rows, columns)):
                low, high = at(tier - 1, row, column), at(tier, row, column)
                axes.plot([low[0], high[0]], [low[1], high[1]], color="0.4", lw=0.8, zorder=0)
    axes.set_xlim(-0.8, columns + lean * rows + 5)
    axes.set_ylim(-1.7, hardware.tiers * gap)
    axes.axis("off")
    figure.savefig(path)


def draw_pipeline(stages: Stages, path: Path, *, tokens: int = 12) -> None:
    """The first tokens of a layer in its stages, as they follow each other in time."""
    from matplotlib.figure import Figure

    few = Stages(tokens, stages.before, stages.attention * tokens / stages.tokens, stages.after,
                 stages.fill, stages.causal)  # fmt: skip
    services = few.services()
    done = np.zeros(services.shape)
    first = np.cumsum(services[:, 0])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for token, service in enumerate(services):
        for stage, length in enumerate(service):
            before = done[token - 1, stage] if token else 0.0
            arrives = 0.0 if stage == 0 else done[token, stage - 1]
            if stage == 1 and not few.causal:
                arrives = first[-1]
            done[token, stage] = max(before, arrives) + length
            color = _SYSTOLIC if stage == 1 else _RERAM
            start = 1e6 * (done[token, stage] - length)
            axes.barh(stage, 1e6 * length, left=start, height=0.8, color=color, edgecolor="white",
                      alpha=0.55 + 0.45 * (token % 2))  # fmt: skip
    axes.set_yticks(range(services.shape[1]), _STAGES[: services.shape[1]])
    axes.invert_yaxis()
    axes.set_xlabel("µs")
    kind = "causal: streams" if few.causal else "bidirectional: attention waits for all keys"
    axes.set_title(f"{tokens} tokens of a layer ({kind})", fontsize=10)
    figure.savefig(path)
