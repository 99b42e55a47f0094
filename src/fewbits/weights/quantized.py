"""Weights as scaled integers or 8-bit floats, packed losslessly on top.

A run of ``group`` elements of a row (all of it for 8 bits) shares a scale, which takes its largest
magnitude to the largest code: code = round(w / scale), w' = code * scale, in float32 and then
rounded to the weight's own dtype. Int8 and int4 codes are symmetric, -127..127 and -7..7.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from fewbits.errors import CorruptError
from fewbits.frame import PackedTensor, pack
from fewbits.frameworks import as_array, to_torch
from fewbits.lossless.choose import Lossless
from fewbits.weights.packed import Packed, naming, packed_of
from fewbits.weights.scratch import Scratch


@dataclass(frozen=True)
class Scheme:
    """A way to quantize: NumPy's dtype of the codes, the largest one, elements to a scale."""

    name: str
    dtype: np.dtype
    largest: float
    group: int | None  # None: a row


SCHEMES = {
    "int8": Scheme("int8", np.dtype(np.int8), 127.0, None),
    "int4": Scheme("int4", np.dtype(ml_dtypes.int4), 7.0, 32),
    "fp8": Scheme("fp8", np.dtype(ml_dtypes.float8_e4m3fn), 448.0, None),
}

# Numbers that are in float32 at a time, on their way to codes or back.
_FLOATS = 1 << 18
# In a file the scales stand beside the codes, under this ending, and the metadata say of which
# weights: {"layer.weight": ["int8", "bfloat16"]}.
SCALES = ".fewbits_scales"
SCHEMES_KEY = "quantized_weights"


def scheme_named(name: str) -> Scheme:
    """The scheme of this name; `ValueError` if there is none."""
    if name not in SCHEMES:
        raise ValueError(f"unknown scheme {name!r}: there are {', '.join(SCHEMES)}")
    return SCHEMES[name]


@dataclass(frozen=True, eq=False)
class Quantized(Packed):
    """Codes in a frame (``tensor``) and their scales, float32, one row of them for each row."""

    scheme: Scheme = SCHEMES["int8"]
    scales: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    to: torch.dtype = torch.float32

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the weight had before it was quantized."""
        return self.to

    @property
    def nbytes(self) -> int:
        """Bytes of the weight unpacked and scaled."""
        return prod(self.shape) * int(self.to.itemsize)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the frame and the scales."""
        return self.tensor.packed_bytes + int(self.scales.nbytes)

    @property
    def codec(self) -> str:
        """Codec and scheme."""
        return f"{self.scheme.name}, lossless"

    def unpack(self, scratch: Scratch, threads: int | None, verify: bool) -> torch.Tensor:
        """The weight, scaled."""
        return self._scaled(0, self.shape[0], scratch, threads, verify)

    def rows(
        self, low: int, high: int, scratch: Scratch, threads: int | None, verify: bool
    ) -> torch.Tensor:
        """Some rows, scaled."""
        return self._scaled(low, high, scratch, threads, verify)

    def _scaled(
        self, low: int, high: int, scratch: Scratch, threads: int | None, verify: bool
    ) -> torch.Tensor:
        packed = replace(self.tensor, threads=threads, verify=verify)
        shape = (high - low, *self.shape[1:])
        with naming(self.name):
            codes = packed[low:high] if (low, high) != (0, self.shape[0]) else packed.unpack()
        number = codes.astype(np.int8) if self.scheme.name == "int4" else codes
        _, out = scratch.take(shape, _carrier(self.to))
        out = out.view(self.to).view(shape)
        flat, target = to_torch(number).reshape(high - low, -1), out.view(high - low, -1)
        # Some rows at a time, so that float32 in between stays small.
        step = max(1, _FLOATS // max(flat.shape[1], 1))
        for first in range(0, high - low, step):
            part = slice(first, first + step)
            scales = self.scales[low + first : min(low + first + step, high)]
            target[part] = _times(flat[part].to(torch.float32), scales, self.scheme.group or 0)
        return out

    def again(self, weight: torch.Tensor, threads: int | None) -> Packed:
        """Another weight, quantized in the same way."""
        return quantize_weight(self.name, weight, self.scheme, threads)

    def __reduce__(self) -> tuple[Any, ...]:
        mark = [self.scheme.name, str(self.to).removeprefix("torch.")]
        return quantized_of, (self.name, bytes(self.frame()), mark, self.scales)


def quantized_of(name: str, frame: bytes, mark: list[str], scales: torch.Tensor) -> Quantized:
    """A weight from its parts; `CorruptError` if they do not fit together."""
    return of_mark(packed_of(name, frame), mark, scales)


def quantize_weight(
    name: str, weight: torch.Tensor, scheme: Scheme, threads: int | None
) -> Quantized:
    """Quantize and pack a float weight of two or more dimensions, by rows of its first.

    ``ValueError`` for a weight that holds NaN or infinity, which no scale brings back.
    """
    matrix = weight.detach().cpu().reshape(weight.shape[0], -1)
    rows, columns = matrix.shape
    group = scheme.group or max(1, columns)
    codes = np.empty((rows, columns), scheme.dtype)
    scales = torch.empty(rows, -(-columns // group))
    # Some rows at a time, so that float32 in between stays small.
    step = max(1, _FLOATS // max(columns, 1))
    for low in range(0, rows, step):
        part = slice(low, low + step)
        codes[part], scales[part] = _coded(matrix[part].to(torch.float32), scheme, group, name)
    frame = pack(codes.reshape(weight.shape), Lossless(), threads=threads)
    return Quantized(name, PackedTensor.of(frame), scheme, scales, weight.dtype)


def _coded(
    matrix: torch.Tensor, scheme: Scheme, group: int, name: str
) -> tuple[NDArray[Any], torch.Tensor]:
    """Codes and scales of some rows."""
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"weight {name!r} holds NaN or infinity and cannot be quantized")
    padded = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % group))
    grouped = padded.view(len(matrix), -1, group)
    scales = grouped.abs().amax(-1) / scheme.largest
    safe = torch.where(scales > 0, scales, 1.0)
    codes = (grouped / safe[..., None]).view(len(matrix), -1)[:, : matrix.shape[1]]
    if scheme.name == "fp8":
        return as_array(codes.clamp(-448, 448).to(torch.float8_e4m3fn)), scales
    whole = codes.round().clamp(-scheme.largest, scheme.largest)
    return whole.to(torch.int8).numpy().astype(scheme.dtype), scales


def marks_of(weights: Mapping[str, "Quantized"]) -> str:
    """What the metadata of a file with these weights say of them."""
    return json.dumps(
        {
            name: [weight.scheme.name, str(weight.to).removeprefix("torch.")]
            for name, weight in weights.items()
        }
    )


def of_mark(packed: Packed, mark: list[str], scales: torch.Tensor) -> Quantized:
    """The weight whose codes are in a file; `CorruptError` if its parts do not fit together."""
    scheme, to = SCHEMES.get(mark[0]), getattr(torch, mark[1], None)
    codes = packed.tensor
    if scheme is None or codes.dtype != scheme.dtype or not isinstance(to, torch.dtype):
        raise CorruptError(f"weight {packed.name!r}: unknown scheme {mark!r}")
    columns = prod(codes.shape[1:])
    groups = -(-columns // scheme.group) if scheme.group else 1
    if tuple(scales.shape) != (codes.shape[0], groups) or scales.dtype != torch.float32:
        raise CorruptError(f"weight {packed.name!r}: its scales do not fit")
    return Quantized(packed.name, codes, scheme, scales, to)


def _times(codes: torch.Tensor, scales: torch.Tensor, group: int) -> torch.Tensor:
    """Codes (rows, columns) times the scale of each row or group."""
    if scales.shape[1] == 1:
        return codes * scales
    return codes * scales.repeat_interleave(group, dim=1)[:, : codes.shape[1]]


def _carrier(dtype: torch.dtype) -> np.dtype:
    """An integer dtype of the same size, for scratch."""
    return np.dtype(f"i{dtype.itemsize}")
