"""Which codec serves a need that is not one of values."""

import math
from typing import Any

from fewbits.lossy.codec import Codec
from fewbits.lossy.comparisons import Between, Positive, Within
from fewbits.lossy.mask import Shape
from fewbits.lossy.pool import PoolIndices
from fewbits.training.calls import Saving
from fewbits.training.needs import CLAMPS, Need, bounds


def special_codec(need: Need, saving: Saving) -> Codec:
    """The codec for a need that is not of values, of a tensor that this operation saves."""
    if need is Need.SHAPE:
        return Shape()
    if need is Need.SIGN:
        return Positive()
    return _within(saving) if need is Need.INSIDE else _pool_indices(saving)


def _within(saving: Saving) -> Codec:
    if saving.op in CLAMPS:
        low, high = bounds(saving) or (-math.inf, math.inf)
        return Between(low, high)
    given = _arguments(saving, ("input", "min_val", "max_val"))
    low, high = float(given.get("min_val", -1.0)), float(given.get("max_val", 1.0))
    if saving.op == "relu6":
        low, high = 0.0, 6.0
    return Within(low, high, inside=(low + high) / 2, outside=high)


def _pool_indices(saving: Saving) -> Codec:
    given = _arguments(saving, ("input", "kernel_size", "stride", "padding", "dilation"))
    dimensions = int(saving.op.split("pool")[1][0])
    kernel = given["kernel_size"]
    moved = (given.get("stride") or kernel, given.get("padding", 0), given.get("dilation", 1))
    inputs = tuple(given["input"].shape[-dimensions:])
    return PoolIndices(inputs, *(_each(size, dimensions) for size in (kernel, *moved)))


def _arguments(saving: Saving, names: tuple[str, ...]) -> dict[str, Any]:
    return saving.kwargs | dict(zip(names, saving.args, strict=False))


def _each(size: Any, dimensions: int) -> tuple[int, ...]:
    if isinstance(size, int):
        return (size,) * dimensions
    return tuple(size) * (dimensions if len(size) == 1 else 1)
