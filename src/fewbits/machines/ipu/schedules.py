"""Pipelines in rounds: which stage does what in which round, and what it holds meanwhile.

Devices that work in bulk-synchronous rounds wait for the slowest at the end of each. A schedule is
therefore a table of rounds: the round in which each stage takes each micro-batch forward, and the
round in which it takes it backward. Durations, bubbles and stashes follow from the table alone.

>>> rounds = make_rounds("grouped", stages=2, micro_batches=3)
>>> rounds.forward.tolist()
[[0, 2, 4], [2, 4, 6]]
>>> rounds.stash.tolist()
[3, 1]
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Schedule = Literal["grouped", "1f1b", "gpipe", "sequential"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rounds:
    """The round of each stage (rows) and micro-batch (columns), both int64 [stages, micro-batches].

    A stage does one thing in a round. What a round needs was made in earlier ones.
    """

    schedule: Schedule
    forward: NDArray[np.int64]
    backward: NDArray[np.int64]

    @property
    def stash(self) -> NDArray[np.int64]:
        """Micro-batches that each stage holds at most between their forward and backward."""
        forward, backward = np.sort(self.forward, axis=1), np.sort(self.backward, axis=1)
        taken = np.arange(1, forward.shape[1] + 1)
        return np.array(
            [
                (taken - np.searchsorted(stage_b, stage_f)).max()
                for stage_f, stage_b in zip(forward, backward, strict=True)
            ]
        )

    def durations(self, forward_s: Floats, backward_s: Floats) -> Floats:
        """Seconds of each round: those of its slowest stage; from seconds of each stage."""
        took = np.zeros(int(max(self.forward.max(), self.backward.max())) + 1)
        for rounds, seconds in ((self.forward, forward_s), (self.backward, backward_s)):
            np.maximum.at(took, rounds, np.asarray(seconds, float)[:, None])
        return took

    def bubble(self, forward_s: Floats, backward_s: Floats) -> float:
        """Share of all stages' time in which they wait."""
        stages, micro_batches = self.forward.shape
        busy = micro_batches * float(np.sum(forward_s) + np.sum(backward_s))
        return float(1 - busy / (stages * self.durations(forward_s, backward_s).sum()))


def make_rounds(schedule: Schedule, *, stages: int, micro_batches: int) -> Rounds:
    """The table of a schedule.

    GPipe and 1F1B are those of Huang et al. (2019) and Narayanan et al. (2019, 2021). In "grouped",
    one of those of Graphcore's pipelines, forward and backward of all stages take turns: no round
    waits for a backward while others go forward, as in 1F1B on machines that keep in step.
    """
    stage = np.arange(stages, dtype=np.int64)[:, None]
    micro = np.arange(micro_batches, dtype=np.int64)[None, :]
    back = stages - 1 - stage  # stages behind this one
    if schedule == "gpipe":
        forward = stage + micro
        backward = micro_batches + stages - 1 + back + micro
    elif schedule == "grouped":
        forward = 2 * (stage + micro)
        backward = 2 * (stages - 1 + back + micro) + 1
    elif schedule == "1f1b":
        forward = stage + np.where(micro < back, micro, 2 * micro)
        backward = stages + back + 2 * micro
    elif schedule == "sequential":
        forward = 2 * stages * micro + stage
        backward = 2 * stages * micro + stages + back
    else:
        raise ValueError(f"{schedule!r} is no schedule; there are: {', '.join(SCHEDULES)}")
    return Rounds(schedule, forward, backward)


def split(costs: Floats, stages: int) -> list[slice]:
    """Cut a chain into so many runs whose dearest is as cheap as can be; none is empty.

    Exact, by dynamic programming on the least maximum of the first so many in so many runs.
    """
    costs = np.asarray(costs, float)
    count = len(costs)
    if not 1 <= stages <= count:
        raise ValueError(f"{count} operations cannot be cut into {stages} stages")
    sums = np.concatenate(([0.0], np.cumsum(costs)))
    best = sums.copy()
    best[0] = np.inf
    cuts = np.zeros((stages, count + 1), np.int64)
    for run in range(1, stages):
        # worst[i, j]: the first i in `run` runs, then one run of i..j.
        worst = np.maximum(best[:, None], sums[None, :] - sums[:, None])
        worst[np.arange(count + 1)[:, None] >= np.arange(count + 1)] = np.inf
        cuts[run] = worst.argmin(axis=0)
        best = worst.min(axis=0)
    ends = [count]
    for run in range(stages - 1, 0, -1):
        ends.append(int(cuts[run][ends[-1]]))
    bounds = [0, *reversed(ends)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
