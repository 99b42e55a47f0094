"""Rows of a packed matrix: an embedding unpacks the blocks that hold the rows of a batch."""

import torch

from fewbits.weights.packed import Packed
from fewbits.weights.unpacker import Unpacker


def gathered(weight: Packed, unpacker: Unpacker, places: torch.Tensor) -> torch.Tensor:
    """``weight[places]``, as ``torch.embedding`` gives it; its `IndexError` for a place beyond."""
    wanted, where = torch.unique(places, return_inverse=True)
    count = weight.shape[0]
    if wanted.numel() and not 0 <= int(wanted[0]) <= int(wanted[-1]) < count:
        raise IndexError("index out of range in self")
    rows = torch.empty(wanted.numel(), *weight.shape[1:], dtype=weight.dtype)
    done = 0
    for low, high in windows(weight, wanted.tolist()):
        inside = wanted[done:]
        inside = inside[inside < high]
        block = unpacker.rows(weight, low, high)
        rows[done : done + inside.numel()] = block[inside - low]
        done += inside.numel()
    return rows[where]


def windows(weight: Packed, wanted: list[int]) -> list[tuple[int, int]]:
    """Runs of rows that hold all wanted ones (ascending); those of one block are in one run."""
    plan = weight.tensor.header.plan
    row = max(1, weight.nbytes // weight.shape[0] // plan.element_bytes)
    # In classes, neighbours may lie in blocks far from each other.
    share = 1 if plan.classes is not None else max(1, plan.block_elements // row)
    found: list[tuple[int, int]] = []
    for place in wanted:
        if found and (place == found[-1][1] or place // share == found[-1][0] // share):
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found
