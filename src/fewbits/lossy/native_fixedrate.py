"""`FixedRate` in the C++ kernels (``src/kernels/lossy_fixedrate.hpp``)."""

from typing import TYPE_CHECKING

import torch

from fewbits import _kernels
from fewbits.lossy.codec import TensorSpec
from fewbits.lossy.cosine import WEIGHTS
from fewbits.lossy.native import FLOATS, address, threads

if TYPE_CHECKING:
    from fewbits.lossy.fixedrate import FixedRate


def _kernel(codec: "FixedRate", shape: tuple[int, ...]) -> _kernels.FixedRate:
    layout = codec.layout
    outer, *inner = codec.grid(shape)
    first, second, third = (1,) * (3 - codec.dims) + tuple(inner)
    return _kernels.FixedRate(
        codec.dims,
        layout.budget,
        layout.largest_fall,
        layout.sizes,
        layout.order,
        outer,
        (first, second, third),
        *WEIGHTS[4, True],
    )


def encode(codec: "FixedRate", tensor: torch.Tensor) -> torch.Tensor:
    """The payload of a tensor."""
    tensor = tensor.contiguous()
    payload = torch.empty(codec.nbytes(TensorSpec.of(tensor)), dtype=torch.uint8)
    if payload.numel():
        kernel = _kernel(codec, tuple(tensor.shape))
        kernel.encode(FLOATS[tensor.dtype], address(tensor), address(payload), threads())
    return payload


def decode(codec: "FixedRate", payload: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """The tensor of a payload."""
    payload = payload.contiguous()
    out = torch.empty(spec.shape, dtype=spec.dtype)
    if payload.numel():
        kernel = _kernel(codec, spec.shape)
        kernel.decode(FLOATS[spec.dtype], address(payload), address(out), threads())
    return out
