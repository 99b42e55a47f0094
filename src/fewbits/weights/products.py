"""Matrix products with a packed weight: fused, in tiles, or with the unpacked matrix."""

import time
from typing import Any

import numpy as np
import torch

from fewbits.errors import CorruptError
from fewbits.threads import resolve_threads
from fewbits.weights.packed import Packed, naming
from fewbits.weights.quantized import Quantized
from fewbits.weights.tensor import PackedWeight, geometry_of, plain
from fewbits.weights.unpacker import Unpacker

# What the fused kernel multiplies, by the numbers it knows the dtypes under.
_NUMBERS = {"bfloat16": 0, "float32": 1, "int8": 2}


def mm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``vectors @ matrix``, where the matrix is a linear layer's weight transposed."""
    if kwargs or not _is_transposed(args[1]):
        return NotImplemented
    return _product(args[0], args[1], None)


def addmm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``bias + vectors @ matrix``, as a linear layer computes."""
    bias, vectors, matrix = args[:3]
    if kwargs or len(args) > 3 or not _is_transposed(matrix):
        return NotImplemented
    return _product(vectors, matrix, bias)


def linear(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same in inference mode, where the layer comes as a whole."""
    vectors, matrix = args[:2]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    if not isinstance(matrix, PackedWeight) or not matrix.is_whole:
        return NotImplemented
    flat = vectors.reshape(-1, vectors.shape[-1])
    found = _product(flat, matrix, bias)
    if found is NotImplemented:
        return NotImplemented
    return found.view(*vectors.shape[:-1], -1)


def _is_transposed(matrix: Any) -> bool:
    """Whether this is all of a packed matrix, transposed."""
    if not isinstance(matrix, PackedWeight) or len(matrix.packed.shape) != 2:
        return False
    rows, columns = matrix.packed.shape
    return geometry_of(matrix) == ((columns, rows), (1, columns), 0)


def _product(vectors: Any, matrix: PackedWeight, bias: torch.Tensor | None) -> Any:
    """``vectors @ weight.T + bias`` without the whole weight, if settings ask for that."""
    settings, packed = matrix.unpacker.settings, matrix.packed
    if (
        (not settings.fused and settings.tile_bytes is None)
        or isinstance(vectors, PackedWeight)
        or len(packed.shape) != 2
        or matrix.is_cast
        or vectors.device.type != matrix.device.type
    ):
        return NotImplemented
    bias = None if bias is None else plain(bias)
    if settings.fused and len(vectors) <= settings.fused_rows and fusable(packed):
        found = _fused(matrix, vectors.to(torch.float32))
        if found is None:
            return NotImplemented
        if bias is not None:
            found += bias
        return found.to(matrix.dtype)
    tile = settings.tile_bytes if matrix.device.type == "cpu" else None
    if tile is not None and packed.nbytes > tile and packed.tensor.header.plan.classes is None:
        return _in_tiles(vectors, matrix, bias, max(1, tile // (packed.nbytes // packed.shape[0])))
    return NotImplemented


def _fused(matrix: PackedWeight, vectors: torch.Tensor) -> torch.Tensor | None:
    """The product while decoding, in float32; None where the device has no kernel for it."""
    packed, unpacker = matrix.packed, matrix.unpacker
    if matrix.device.type == "cpu":
        return multiplied(packed, unpacker, vectors)
    there = unpacker.on_device(packed, matrix.device)
    if there is None:
        return None
    from fewbits.weights.triton_product import can_multiply, multiply

    if not can_multiply(there):
        return None
    unpacker.counts.fused += 1
    with naming(packed.name):
        return multiply(there, vectors)


def _in_tiles(
    vectors: torch.Tensor, matrix: PackedWeight, bias: torch.Tensor | None, step: int
) -> torch.Tensor:
    """The product by so many rows of the weight at a time."""
    rows = matrix.packed.shape[0]
    out = vectors.new_empty(len(vectors), rows)
    for low in range(0, rows, step):
        tile = matrix.unpacker.rows(matrix.packed, low, min(low + step, rows))
        part = None if bias is None else bias[low : low + step]
        out[:, low : low + step] = torch.nn.functional.linear(vectors, tile, part)
        del tile  # so that the next one takes its scratch
    return out


def fusable(packed: Packed) -> bool:
    """Whether the fused kernel knows the numbers of a weight."""
    quantized = isinstance(packed, Quantized)
    return packed.tensor.header.dtype in _NUMBERS and (
        not quantized or packed.scheme.group is None  # type: ignore[attr-defined]
    )


def multiplied(packed: Packed, unpacker: Unpacker, vectors: torch.Tensor) -> torch.Tensor:
    """``vectors @ weight.T`` for float32 vectors (count, columns), the weight never unpacked.

    Float32 sums; codes of int8 are scaled at the end. `CorruptError` names a damaged weight.
    """
    header = packed.tensor.header
    started = time.perf_counter()
    payload = np.frombuffer(packed.tensor.read(*header.payload_range(0, header.blocks)), np.uint8)
    out = np.empty((len(vectors), packed.shape[0]), np.float32)
    damaged = header.plan.kernel.multiply(
        header.arrangement,
        payload,
        header.modes,
        header.lengths,
        header.checksums,
        _NUMBERS[header.dtype],
        packed.shape[1],
        vectors.contiguous().view(-1).numpy(),
        out.reshape(-1),
        unpacker.verifies(packed),
        resolve_threads(unpacker.settings.threads),
    )
    if damaged >= 0:
        raise CorruptError(f"weight {packed.name!r}: block {damaged} is damaged")
    unpacker.was_read(packed)
    products = torch.from_numpy(out)
    if isinstance(packed, Quantized):
        products *= packed.scales[:, 0]
    unpacker.counts.fused += 1
    unpacker.counts.unpack_s += time.perf_counter() - started
    return products
