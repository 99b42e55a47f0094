"""Shorter floats: 16 bits, or 8 bits with an exponent for each group of elements."""

from dataclasses import dataclass
from typing import Literal

import torch

from fewbits.lossy.bitpack import joined, rows_of
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.torch_quantize import FLOAT_TYPES

_TYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Cast(Codec):
    """To ``"bf16"``, ``"fp16"``, ``"fp8_e4m3"`` or ``"fp8_e5m2"``, rounded to the nearest.

    Finite elements stay finite: what is too large becomes the largest number of the type. Elements
    of fp8 are first multiplied by a power of two that is chosen for each ``group`` of them, such
    that the largest comes near the largest of the type; its exponent is kept (one int8 for each
    group; the second part, which 16-bit types do not have). Infinities stay, but in e4m3, which
    has none: there they become NaN. A NaN stays one.
    """

    to: Literal["bf16", "fp16", "fp8_e4m3", "fp8_e5m2"]
    group: int = 256

    flat = True

    def __post_init__(self) -> None:
        if self.to not in _TYPES:
            raise ValueError(f"a cast is to {', '.join(_TYPES)}, not to {self.to!r}")
        if not 1 <= self.group <= 1 << 16:
            raise ValueError(f"a group has 1 to 65536 elements, not {self.group}")

    @property
    def _scaled(self) -> bool:
        return self.to.startswith("fp8")

    @property
    def part_count(self) -> int:  # type: ignore[override]
        """One part, and for fp8 another of exponents."""
        return 2 if self._scaled else 1

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        tensor, dtype = tensor.detach(), _TYPES[self.to]
        if not self._scaled:
            return (_saturated(tensor, dtype),)
        codes, exponents = [], []
        for rows in rows_of(_saturated(tensor, torch.float32).reshape(-1), self.group):
            exponent = _exponents(rows, dtype)
            scaled = rows * _power(exponent)
            if dtype == torch.float8_e4m3fn:
                scaled = torch.where(scaled.isinf(), torch.nan, scaled)
            codes.append(scaled.to(dtype).view(torch.uint8))
            exponents.append(exponent.to(torch.int8))
        payload = joined(codes, torch.uint8, tensor.device).view(dtype).view(tensor.shape)
        return payload, joined(exponents, torch.int8, tensor.device)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        payload = parts[0].reshape(-1)
        if not self._scaled:
            return _saturated(payload, spec.dtype).view(spec.shape)
        values, first = [], 0
        for rows in rows_of(payload, self.group):
            exponent = parts[1][first : first + len(rows), None].to(torch.int32)
            first += len(rows)
            values.append(_saturated(rows.to(torch.float32) * _power(-exponent), spec.dtype))
        return joined(values, spec.dtype, payload.device).view(spec.shape)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.shape, _TYPES[self.to])

    def nbytes(self, spec: TensorSpec) -> int:
        groups = -(-spec.numel // self.group) if self._scaled else 0
        return self.payload(spec).nbytes + groups

    def refusal(self, spec: TensorSpec) -> str | None:
        return None if spec.dtype in FLOAT_TYPES else f"{spec.dtype} is no float of 16 to 64 bits"

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        """Half a unit in the last place, or of the smallest number; more where it saturates.

        A cast to fp8 never saturates, but numbers that are much smaller than their group's largest
        lose more of themselves: below 2^-18 of it in e4m3, 2^-32 in e5m2, all.
        """
        info, exact = torch.finfo(_TYPES[self.to]), tensor.detach().double().abs()
        smallest = torch.full_like(exact, float(info.smallest_normal) * info.eps)
        if self._scaled:
            single = _saturated(tensor.detach(), torch.float32).reshape(-1)
            rows = [
                (2.0 ** -_exponents(rows, _TYPES[self.to]).double()).expand(rows.shape)
                for rows in rows_of(single, self.group)
            ]
            smallest *= joined(rows, torch.float64, tensor.device).view(tensor.shape)
            above = torch.zeros_like(exact)
        else:
            above = torch.where(exact.isinf(), 0.0, exact - float(info.max)).clamp(min=0)
        own = torch.finfo(tensor.dtype)  # what comes back is rounded to the tensor's type again
        again = exact * max(own.eps, 2.0**-23) + float(own.smallest_normal) * own.eps
        return exact * (info.eps / 2) + smallest / 2 + above + again + 2.0**-149


def _saturated(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in another type; what is finite stays so."""
    largest = torch.finfo(dtype).max
    if torch.finfo(tensor.dtype).max <= largest:
        return tensor.to(dtype)
    if tensor.device.type == "cpu" and tensor.numel() and not torch.compiler.is_compiling():
        low, high = tensor.aminmax()  # quicker than to cut; on a GPU it would wait
        if -largest <= float(low) and float(high) <= largest:
            return tensor.to(dtype)
    if tensor.dtype == torch.bfloat16:  # has no such number as the largest float16
        tensor = tensor.to(torch.float32)
    return torch.where(tensor.isinf(), tensor, tensor.clamp(-largest, largest)).to(dtype)


def _exponents(rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """For each row k, -126 to 126: the finite elements times 2^k lie within the type.

    As int32 of shape (rows, 1). By the exponents alone: both types hold 1.75 times a power of two,
    448 = 1.75 * 2^8 and 57344 = 1.75 * 2^15, so the largest element goes to between half of that
    power and that power.
    """
    top = 7 if dtype == torch.float8_e4m3fn else 14
    finite = torch.where(torch.isfinite(rows), rows, 0.0).abs().amax(1, keepdim=True)
    exponent = (finite.view(torch.int32) >> 23) - 127
    return (top - exponent).clamp(-126, 126)


def _power(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent, for -126 to 126: a normal float32, and so is its inverse."""
    return ((exponent + 127) << 23).view(torch.float32)
