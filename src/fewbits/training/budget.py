"""How bytes are shared out among tensors: the least fidelity lost for the bytes saved.

Each tensor has a few ways to be packed, each with its bytes and its fidelity. Taking one way for
each so that the mean fidelity meets a target in the fewest bytes, or the bytes meet a budget at the
highest mean fidelity, is a knapsack with a choice in each slot. All tensors start at their best
way, and the step down that saves the most bytes for the fidelity it costs is taken first, on the
convex hull of each tensor's ways (the greedy of E. Zemel, The linear multiple choice knapsack
problem, 1980): it misses the optimum by one step of one tensor at most.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewbits.lossy.codec import Codec


@dataclass(frozen=True)
class Option:
    """One way to pack a tensor: bytes it takes, and the fidelity that comes back, 0 to 1."""

    codec: Codec
    nbytes: float
    fidelity: float


@dataclass(frozen=True)
class Curve:
    """A tensor of ``nbytes`` bytes and the ways to pack it, from the best to the smallest."""

    nbytes: int
    options: tuple[Option, ...]

    @classmethod
    def of(cls, nbytes: int, options: Sequence[Option], floor: float) -> "Curve":
        """The convex hull of the options of at least ``floor`` fidelity; of all if none has it.

        At least the best one stays, however low it is.
        """
        best = max(options, key=lambda option: (option.fidelity, -option.nbytes))
        sound = [option for option in options if option.fidelity >= min(floor, best.fidelity)]
        hull = [best]
        for option in sorted(sound, key=lambda option: (-option.fidelity, option.nbytes)):
            if option.nbytes >= hull[-1].nbytes:
                continue
            while len(hull) > 1 and _gain(hull[-1], option) >= _gain(hull[-2], hull[-1]):
                hull.pop()
            hull.append(option)
        return cls(nbytes, tuple(hull))

    def smallest(self, target: float) -> Option:
        """The smallest way whose fidelity is the target at least; the best if none's is."""
        return next((o for o in reversed(self.options) if o.fidelity >= target), self.options[0])


def _gain(before: Option, after: Option) -> float:
    """Bytes saved for each unit of fidelity lost."""
    lost = before.fidelity - after.fidelity
    return (before.nbytes - after.nbytes) / lost if lost > 0 else float("inf")


def score(curves: Mapping[str, Curve], chosen: Mapping[str, Option]) -> float:
    """Mean fidelity, weighted by the tensors' bytes; 1 where there are none."""
    total = sum(curves[key].nbytes for key in chosen)
    lost = sum(curves[key].nbytes * (1 - option.fidelity) for key, option in chosen.items())
    return 1 - lost / total if total else 1.0


def allocate(
    curves: Mapping[str, Curve], *, target: float = 0.0, budget: float = 0.0
) -> dict[str, Option]:
    """One option for each tensor: as few bytes as can be while the score is ``target`` or more.

    Stops early once they take no more than ``budget`` bytes. With a target of 0 that is the highest
    score within the budget; what does not fit has its smallest options, and is left to the caller
    to notice.
    """
    chosen = {key: curve.options[0] for key, curve in curves.items()}
    weights = {key: curve.nbytes for key, curve in curves.items()}
    spare = (1 - target) * sum(weights.values())
    spare -= sum(weights[key] * (1 - option.fidelity) for key, option in chosen.items())
    held = sum(option.nbytes for option in chosen.values())
    moves = [move for key, curve in curves.items() for move in _next(key, curve, 0)]
    heapq.heapify(moves)
    while moves and held > budget:
        _, key, place = heapq.heappop(moves)
        before, after = curves[key].options[place - 1 : place + 1]
        cost = weights[key] * (before.fidelity - after.fidelity)
        if cost > spare + 1e-9:
            continue  # a smaller tensor's step may still fit
        spare -= cost
        held -= before.nbytes - after.nbytes
        chosen[key] = after
        for move in _next(key, curves[key], place):
            heapq.heappush(moves, move)
    return chosen


def _next(key: str, curve: Curve, place: int) -> list[tuple[float, str, int]]:
    """The step down from a place on the curve, sorted first if it saves most for its cost."""
    if place + 1 >= len(curve.options) or not curve.nbytes:
        return []
    return [(-_gain(*curve.options[place : place + 2]) / curve.nbytes, key, place + 1)]
