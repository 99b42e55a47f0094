"""Which elements are zero, at one bit each: beside a lossy codec, or instead of the values."""

from dataclasses import dataclass

import torch

from fewbits.lossy import native_mask
from fewbits.lossy.backend import Backend, backend_for
from fewbits.lossy.bitpack import pack_flat, packed_size, unpack_flat
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.torch_quantize import FLOAT_TYPES, least

#: Bits are packed in rows of this many (`fewbits.lossy.bitpack`).
GROUP = 256


def pack_mask(tensor: torch.Tensor) -> torch.Tensor:
    """One bit for each element of a tensor, whether it is not zero, as flat bytes."""
    return _bits_and_below(tensor)[0]


def _bits_and_below(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `pack_mask` returns, and whether an element is below zero: uint8 of shape (1,)."""
    form = _form(tensor)
    if form == "native":
        bits, below = native_mask.pack_mask(tensor)
        return bits, torch.full((1,), below, dtype=torch.uint8)
    if form == "triton":
        from fewbits.lossy import triton_mask

        bits = triton_mask.pack_mask(tensor)
    else:
        bits = pack_flat((tensor != 0).reshape(-1).to(torch.uint8), 1, GROUP)
    return bits, (tensor < 0).any().view(1).to(torch.uint8)


def _form(tensor: torch.Tensor) -> Backend:
    """The form for this tensor; the kernels take floats of 16 and 32 bits."""
    return backend_for(tensor) if tensor.dtype in FLOAT_TYPES[:3] else "torch"


def unpack_mask(bits: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """A bool tensor of the spec's shape."""
    return unpack_flat(bits, 1, GROUP, spec.numel).view(spec.shape).to(torch.bool)


def _check_bits(bits: torch.Tensor, spec: TensorSpec) -> None:
    if TensorSpec.of(bits) != TensorSpec((packed_size(spec.numel, 1, GROUP),), torch.uint8):
        raise ValueError(f"{bits.nbytes} bytes are not the bits of {spec.numel} elements")


@dataclass(frozen=True)
class Mask(Codec):
    """Keeps exact zeros exact, beside whatever codec follows: ``DCT(4) + Quantize(8) + Mask()``.

    Parts: the tensor as it is, one bit for each element (flat uint8), and whether any element is
    below zero (one uint8). What was zero decodes to zero; what was not never does, nor to less than
    zero where nothing was (the output of a ReLU), so that ``x > 0`` and ``x != 0`` come out as they
    were. What would, becomes a positive number as small as can be.
    """

    flat = True
    sees_original = True
    part_count = 3

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        tensor = tensor.detach()
        return tensor, *_bits_and_below(tensor)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        values, bits, below = parts
        _check_bits(bits, spec)
        form = _form(values)
        if form == "native":
            return native_mask.apply_mask(values, bits, positive=not int(below)).view(spec.shape)
        if form == "triton":
            from fewbits.lossy import triton_mask

            return triton_mask.apply_mask(values, bits, below).view(spec.shape)
        lost = (values == 0) | ((values < 0) & (below == 0))
        values = torch.where(lost, least(spec.dtype), values)
        return torch.where(unpack_mask(bits, spec), values, 0.0).to(spec.dtype).contiguous()

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return spec

    def nbytes(self, spec: TensorSpec) -> int:
        return spec.nbytes + packed_size(spec.numel, 1, GROUP) + 1

    def refusal(self, spec: TensorSpec) -> str | None:
        return None if spec.dtype in FLOAT_TYPES else f"{spec.dtype} is no float of 16 to 64 bits"

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros((), dtype=torch.float64, device=tensor.device)


@dataclass(frozen=True)
class Bits(Codec):
    """Keeps whether an element is zero, and one value for all that are not, at 1 bit each.

    Exact for a tensor that holds zero and one other value, as a dropout's noise does, and for bool;
    for others, ``x != 0`` is what comes back (all that a ReLU's backward asks of its output). The
    value is the largest element, or the smallest where none is above zero. Parts: the bits (flat
    uint8), and the value (one element of the tensor's dtype).
    """

    part_count = 2
    flat = True

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        tensor = tensor.detach()
        return pack_mask(tensor), _largest(tensor)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        bits, value = parts
        _check_bits(bits, spec)
        if _form(value) == "native":
            return native_mask.spread_mask(value, bits, spec.shape)
        return torch.where(unpack_mask(bits, spec), value, torch.zeros_like(value))

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((packed_size(spec.numel, 1, GROUP),), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        return self.payload(spec).nbytes + int(spec.dtype.itemsize)

    def refusal(self, spec: TensorSpec) -> str | None:
        if spec.dtype == torch.bool or spec.dtype in FLOAT_TYPES:
            return None
        return f"{spec.dtype} is neither bool nor a float of 16 to 64 bits"

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        away = (tensor.double() - _largest(tensor).double()).abs()
        return torch.where(tensor != 0, away, 0.0)


def is_two_valued(tensor: torch.Tensor) -> bool:
    """Does `Bits` bring this tensor back exactly? (Waits for the device.)"""
    return bool(((tensor == 0) | (tensor == _largest(tensor))).all())


def _largest(tensor: torch.Tensor) -> torch.Tensor:
    """What `Bits` puts where an element is not zero, of shape (1,)."""
    if tensor.dtype == torch.bool:
        return torch.ones(1, dtype=torch.bool, device=tensor.device)
    if not tensor.numel():
        return tensor.new_ones(1)
    low, high = tensor.aminmax()
    value = torch.where(high > 0, high, low)
    return torch.where(value == 0, torch.ones_like(value), value).view(1)


@dataclass(frozen=True)
class Shape(Codec):
    """Keeps nothing, decodes to zeros: for operations that ask a saved tensor for its shape."""

    flat = True

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        return (torch.empty(0, dtype=torch.uint8, device=tensor.device),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        return torch.zeros(spec.shape, dtype=spec.dtype, device=parts[0].device)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((0,), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        return 0

    def refusal(self, spec: TensorSpec) -> str | None:
        return None

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().double().abs()
