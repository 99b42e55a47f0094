"""`DCT` in the C++ kernels (``src/kernels/lossy_dct.hpp``)."""

from typing import TYPE_CHECKING

import torch

from fewbits import _kernels
from fewbits.lossy.cosine import WEIGHTS
from fewbits.lossy.native import FLOATS, address, threads

if TYPE_CHECKING:
    from fewbits.lossy.dct import DCT

SIDE = 8


def _kernel(codec: "DCT", shape: tuple[int, ...]) -> _kernels.Dct:
    slots = {u * SIDE + v: slot for slot, (u, v) in enumerate(codec.frequencies)}
    planes, height, width = shape
    places = [slots.get(place, -1) for place in range(SIDE * SIDE)]
    return _kernels.Dct((planes, height, width), codec.chop, places, *WEIGHTS[SIDE, True])


def encode(codec: "DCT", maps: torch.Tensor) -> torch.Tensor:
    """(maps, height, width) -> (frequencies, maps, rows, columns) of blocks."""
    maps = maps.contiguous()
    planes, height, width = maps.shape
    blocks = (-(-height // SIDE), -(-width // SIDE))
    out = torch.empty((len(codec.frequencies), planes, *blocks), dtype=maps.dtype)
    if out.numel():
        kernel = _kernel(codec, tuple(maps.shape))
        kernel.encode(FLOATS[maps.dtype], address(maps), address(out), threads())
    return out


def decode(codec: "DCT", coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The maps of what `encode` made."""
    coefficients = coefficients.contiguous()
    planes = coefficients.shape[1]
    out = torch.empty((planes, height, width), dtype=coefficients.dtype)
    if out.numel():
        kernel = _kernel(codec, tuple(out.shape))
        kernel.decode(FLOATS[out.dtype], address(coefficients), address(out), threads())
    return out
