"""A schedule as a picture: a lane for each stage, time to the right, micro-batches by number."""

from pathlib import Path
from typing import Any

import numpy as np

from fewbits.machines.ipu.model import Run

_FORWARD, _BACKWARD, _REDUCE, _TEXT = "#33658a", "#d6803d", "#8a949e", "#20262c"
# Wider boxes than this share of the picture get their micro-batch's number.
_NUMBERED = 0.012


def bars(run: Run) -> list[dict[str, Any]]:
    """What runs when: ``stage``, ``micro_batch``, ``backward``, ``start_s``, ``took_s``."""
    forward = np.array([stage.forward_s for stage in run.stages])
    backward = np.array([stage.backward_s for stage in run.stages])
    starts = np.concatenate(([0.0], np.cumsum(run.round_s)))
    return [
        {
            "stage": stage,
            "micro_batch": micro,
            "backward": back,
            "start_s": float(starts[table[stage, micro]]),
            "took_s": float(seconds[stage]),
        }
        for back, table, seconds in (
            (False, run.rounds.forward, forward),
            (True, run.rounds.backward, backward),
        )
        for stage in range(table.shape[0])
        for micro in range(table.shape[1])
    ]


def text(run: Run, *, width: int = 72) -> list[str]:
    """The same in characters: ``>`` forward, ``<`` backward, ``.`` waiting; a line a stage."""
    # What is done in the middle of each column.
    middles = (np.arange(width) + 0.5) * float(run.round_s.sum()) / width
    lanes = [["."] * width for _ in run.stages]
    for bar in bars(run):
        start, stop = np.searchsorted(middles, (bar["start_s"], bar["start_s"] + bar["took_s"]))
        for column in range(start, stop):
            lanes[bar["stage"]][column] = "<" if bar["backward"] else ">"
    return ["".join(lane) for lane in lanes]


def draw(run: Run, path: Path) -> None:
    """Write the picture (.png, .svg, .pdf) of one replica's step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    setting, lanes = run.setting, len(run.stages)
    figure = Figure(figsize=(10, 1.3 + 0.45 * lanes), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    whole = run.step_s
    for bar in bars(run):
        start, took = 1e3 * bar["start_s"], 1e3 * bar["took_s"]
        color = _BACKWARD if bar["backward"] else _FORWARD
        axes.barh(bar["stage"], took, left=start, height=0.8, color=color, ec="white", lw=0.4)
        if took > _NUMBERED * 1e3 * whole:
            axes.text(
                start + took / 2, bar["stage"], str(bar["micro_batch"] + 1), color="white",
                ha="center", va="center", fontsize=7,
            )  # fmt: skip
    rounds = 1e3 * float(run.round_s.sum())
    if 1e3 * whole - rounds > 1e-3 * rounds:
        for stage in range(lanes):
            axes.barh(stage, 1e3 * whole - rounds, left=rounds, height=0.8, color=_REDUCE)
    handles = [
        axes.barh(0, 0, color=color, label=label)
        for color, label in (
            (_FORWARD, "forward"),
            (_BACKWARD, "backward"),
            (_REDUCE, "all-reduce, optimizer"),
        )
    ]
    axes.set_yticks(range(lanes), [_lane(run, stage) for stage in range(lanes)], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms", color=_TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{run.result.workload}, {setting.schedule}: {lanes} stages, {setting.micro_batches} "
        f"micro-batches of {setting.micro_batch}, ratio {setting.ratio:g}; waiting "
        f"{100 * run.bubble:.0f} %",
        fontsize=10, loc="left", color=_TEXT,
    )  # fmt: skip
    axes.legend(handles=handles, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1.0))
    figure.savefig(path)


def _lane(run: Run, stage: int) -> str:
    spilled = run.stages[stage].spilled
    return f"stage {stage + 1}" + (f"\nspills {', '.join(sorted(spilled))}" if spilled else "")
