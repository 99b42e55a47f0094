"""What each stage of a pipeline must hold, and what goes to streaming memory where it does not fit.

Tensors are placed when the program is compiled, a class at a time, as PopTorch does it: all of a
stage's activations rest on the chip, or none; the same for weights and for the optimizer's state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from fewbits.errors import FewbitsError

CLASSES = ("optimizer", "activations", "weights")


@dataclass(frozen=True)
class Needs:
    """Bytes of one stage.

    ``touched``: weights that a micro-batch reads; of an embedding, the rows it looks up.
    ``stash``: activations at rest, of all micro-batches in flight, packed if they are packed.
    ``resting``: those of one micro-batch. ``work``: what the largest operation has at hand, plain.
    ``largest_tensor``: the largest activation, plain.
    """

    weights: float
    touched: float
    gradients: float
    optimizer: float
    stash: float
    resting: float
    work: float
    largest_weights: float
    largest_tensor: float

    def on_chip(self, spilled: frozenset[str]) -> float:
        """Bytes that stay on the chip, with what a spilled class needs to pass through."""
        held = self.work
        held += 0 if "optimizer" in spilled else self.optimizer
        held += self.largest_tensor if "activations" in spilled else self.stash
        held += 2 * self.largest_weights if "weights" in spilled else self.weights + self.gradients
        return held

    def streamed(self, spilled: frozenset[str]) -> float:
        """Bytes that rest in streaming memory."""
        parts = {
            "optimizer": self.optimizer,
            "activations": self.stash,
            "weights": self.weights + self.gradients,
        }
        return sum(parts[name] for name in spilled)

    def moved(self, spilled: frozenset[str], micro_batches: int) -> dict[str, float]:
        """Bytes to and from streaming memory in a step, by class.

        Optimizer state is read and written once a step. Activations are written and read for each
        micro-batch; weights that are touched are read forward and backward, their gradients read
        and written.
        """
        moved = {
            "optimizer": 2 * self.optimizer,
            "activations": 2 * self.resting * micro_batches,
            "weights": 4 * self.touched * micro_batches,
        }
        return {name: moved[name] if name in spilled else 0.0 for name in CLASSES}


def place(needs: Needs, room: float, micro_batches: int, stage: str) -> frozenset[str]:
    """The classes to stream so that the rest fits in ``room`` bytes, moving as little as can be."""
    fitting = [s for s in _subsets() if needs.on_chip(s) <= room]
    if not fitting:
        least = min(needs.on_chip(s) for s in _subsets())
        raise FewbitsError(
            f"does not fit: {stage} holds {least / 1e6:,.0f} MB at once with all else in streaming "
            f"memory, and has {room / 1e6:,.0f} MB; try a smaller micro-batch or more stages"
        )
    return min(fitting, key=lambda s: (sum(needs.moved(s, micro_batches).values()), len(s)))


def _subsets() -> Iterator[frozenset[str]]:
    for count in range(len(CLASSES) + 1):
        yield from map(frozenset, combinations(CLASSES, count))
