"""Pictures of results with Matplotlib: layers, roofline, energy; and of sweeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewbits.machines.result import Result


def draw_results(results: Mapping[str, Result], path: Path) -> None:
    """Bars per layer, roofline if there is one, and energy by part, of one or several variants."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    roofs = any(result.roof is not None for result in results.values())
    panels = figure.subplot_mosaic("LL;RE" if roofs else "LL;EE")
    _layers(panels["L"], results)
    if roofs:
        _roofline(panels["R"], results)
    _energy(panels["E"], results)
    first = next(iter(results.values()))
    figure.suptitle(f"{first.workload} on {first.machine}")
    figure.savefig(path)


def _layers(axes: Any, results: Mapping[str, Result]) -> None:
    width = 0.8 / len(results)
    for index, (name, result) in enumerate(results.items()):
        at = np.arange(len(result.layers)) + (index - (len(results) - 1) / 2) * width
        axes.bar(at, 1e3 * result.latency_s, width, label=name)
    layers = next(iter(results.values())).layers
    step = max(1, len(layers) // 40)
    axes.set_xticks(range(0, len(layers), step), layers[::step], rotation=90, fontsize=6)
    axes.set_ylabel("time (ms)")
    axes.set_xlim(-0.6, len(layers) - 0.4)
    if len(results) > 1:
        axes.legend()


def _roofline(axes: Any, results: Mapping[str, Result]) -> None:
    for index, (name, result) in enumerate(results.items()):
        if result.macs is None or result.roof is None:
            continue
        moved = sum(result.traffic_bytes.values(), np.zeros(len(result.layers)))
        shown = (moved > 0) & (result.macs > 0)
        intensity = result.macs[shown] / moved[shown]
        axes.scatter(
            intensity, result.macs[shown] / result.latency_s[shown] / 1e9, s=12, alpha=0.6,
            color=f"C{index}", label=name,
        )  # fmt: skip
        if len(results) > 1:
            axes.legend(fontsize=7)
        roof = result.roof
        ridge = roof.macs_per_s / roof.bytes_per_s
        low, high = min(intensity.min(initial=ridge), ridge / 10), intensity.max(initial=ridge) * 2
        line = np.geomspace(low, max(high, 2 * ridge), 100)
        if index == 0:
            axes.plot(
                line, np.minimum(roof.macs_per_s, line * roof.bytes_per_s) / 1e9,
                color="0.5", lw=1,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs a byte moved")
    axes.set_ylabel("GMAC/s")
    axes.grid(alpha=0.3, which="both", lw=0.3)


def _energy(axes: Any, results: Mapping[str, Result]) -> None:
    names = list(results)
    below = np.zeros(len(names))
    parts = dict.fromkeys(part for result in results.values() for part in result.energy_j)
    for part in parts:
        height = np.array(
            [1e3 * float(np.sum(result.energy_j.get(part, 0.0))) for result in results.values()]
        )
        axes.bar(names, height, bottom=below, label=part)
        below += height
    axes.set_ylabel("energy (mJ)")
    axes.set_xlim(-0.6, len(names) + 0.2)  # room for the legend
    axes.set_ylim(0, 1.05 * float(below.max()) or 1)
    axes.legend(fontsize=7, loc="upper right")


def draw_sweep(table: Mapping[str, Any], axes_names: Sequence[str], path: Path) -> None:
    """Time and energy (relative to the first variant, where there are several) over one axis.

    Further axes make a line for each of their values; of many, a few.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    relative = "speedup" in table
    columns = ("speedup", "energy_efficiency") if relative else ("latency_s", "energy_j")
    first, others = axes_names[0], axes_names[1:]
    keys = [*others, *(["variant"] if "variant" in table else [])]
    groups = list(dict.fromkeys(zip(*(table[key].tolist() for key in keys), strict=True)))
    if relative:  # what the others are compared with is a line at 1
        groups = [group for group in groups if group[-1] != table["variant"][0]]
    groups = groups or [()]
    for column, panel in zip(columns, figure.subplots(1, 2), strict=True):
        for group in groups[:: max(1, len(groups) // 12)]:
            chosen = np.ones(table[first].size, bool)
            for key, value in zip(keys, group, strict=True):
                chosen &= table[key] == value
            label = ", ".join(
                value if isinstance(value, str) else f"{key} {value:g}"
                for key, value in zip(keys, group, strict=True)
            )
            panel.plot(table[first][chosen], table[column][chosen], label=label or None)
        panel.set_xlabel(first)
        panel.set_ylabel(column.replace("_", " "))
        panel.grid(alpha=0.3, lw=0.3)
        if relative:
            panel.axhline(1.0, color="0.5", lw=0.8, ls=":")
    if keys:
        panel.legend(fontsize=7)
    figure.savefig(path)
