"""The memory of a step, line by line: as rows, in characters, and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from fewbits.unroll.emit import human
from fewbits.unroll.planner import Planned
from fewbits.unroll.schedule import Schedule, Step

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " ..::||##"


def label(step: Step) -> str:
    """What a step does, in a few characters."""
    if step.kind == "pack":
        return f"pack {step.name}"
    if step.kind == "unpack":
        return f"unpack {step.name}"
    return ", ".join(step.line.writes)


def rows(schedule: Schedule) -> list[tuple[str, int, int]]:
    """For each line of a step: what it does, bytes resting after it, bytes held."""
    return [(label(step), step.resting, step.live) for step in schedule.steps]


def chart(planned: Planned, *, width: int = 64, height: int = 6, ascii_only: bool = False) -> str:
    """Bytes that rest over the lines of a step, before and after compression, on one scale."""
    before = [step.resting for step in planned.before.steps]
    after = [step.resting for step in planned.schedule.steps]
    top = max(*before, *after, 1)
    lines = []
    for title, values in (("as it is", before), ("as planned", after)):
        lines.append(f"resting, {title}: at most {human(max(values))}")
        lines += _bars(values, top, width, height, _ASCII if ascii_only else _BLOCKS)
        turn = sum(not s.backward for s in _steps(planned, title))
        column = turn * width // max(len(values), 1)
        lines.append(
            ("forward " + "-" * width)[:column] + ("| backward " + "-" * width)[: width - column]
        )
    return "\n".join(line.rstrip() for line in lines)


def _steps(planned: Planned, title: str) -> list[Step]:
    return (planned.before if title == "as it is" else planned.schedule).steps


def _bars(values: Sequence[int], top: int, width: int, height: int, blocks: str) -> list[str]:
    levels = []
    for column in range(width):
        start = column * len(values) // width
        stop = max((column + 1) * len(values) // width, start + 1)
        levels.append(max(values[start:stop], default=0) * height * 8 // top)
    return [
        "".join(blocks[max(0, min(8, level - 8 * row))] for level in levels)
        for row in reversed(range(height))
    ]


def plot(planned: Planned, path: Path) -> None:
    """Draw what rests and what is held, before and after, into a PNG, SVG or PDF."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for schedule, name, colour in (
        (planned.before, "as it is", "tab:gray"),
        (planned.schedule, "as planned", "tab:blue"),
    ):
        count = max(len(schedule.steps) - 1, 1)
        at = [index / count for index in range(len(schedule.steps))]
        axes.plot(at, [s.live / 1e6 for s in schedule.steps], color=colour, alpha=0.4, lw=0.8)
        axes.fill_between(
            at, [s.resting / 1e6 for s in schedule.steps], color=colour, alpha=0.5, label=name
        )
    axes.set_xlabel("share of the step's lines")
    axes.set_ylabel("MB; filled: resting, line: held")
    axes.legend()
    figure.savefig(path)
