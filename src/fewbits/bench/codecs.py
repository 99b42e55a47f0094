"""What is compared: a pair of functions over bytes; and Fewbits as such pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits.bench.data import Dataset
from fewbits.frame import pack, unpack, unpack_into


@dataclass(frozen=True)
class Codec:
    """One way to pack a dataset.

    ``compress`` gets a private copy of the dataset's bytes, which it may ruin, and returns a buffer
    or a list of buffers. ``decompress`` returns what its library returns: a buffer or a list.
    ``decompress_into`` fills an array of bytes that is in memory already.
    """

    name: str
    version: str
    compress: Callable[[bytearray], Any]
    decompress: Callable[[Any], Any]
    decompress_into: Callable[[Any, NDArray[np.uint8]], object] | None = None
    ours: bool = False
    note: str = ""


def ours(data: Dataset) -> list[Codec]:
    """Fewbits with a frame for each tensor, and where that differs, one for all of them."""
    flat = Dataset(data.name, (data.flat.view(data.dtype),))
    if len(data.tensors) == 1:
        return [_frames("fewbits", data)]
    return [_frames("fewbits (tensors)", data), _frames("fewbits (flat)", flat)]


def _frames(name: str, data: Dataset) -> Codec:
    """Fewbits on one thread; a list of frames, or one."""
    shapes = [tensor.shape for tensor in data.tensors]
    ends = np.cumsum([tensor.size for tensor in data.tensors]).tolist()
    starts = [0, *ends[:-1]]

    def parts(storage: "NDArray[np.uint8] | bytearray") -> list[NDArray[Any]]:
        values: NDArray[Any] = np.frombuffer(storage, data.dtype)
        cuts = zip(starts, ends, shapes, strict=True)
        return [values[start:end].reshape(shape) for start, end, shape in cuts]

    def compress(storage: bytearray) -> list[bytes]:
        return [pack(part, threads=1) for part in parts(storage)]

    def decompress(frames: list[bytes]) -> list[NDArray[Any]]:
        return [unpack(frame, threads=1) for frame in frames]

    def decompress_into(frames: list[bytes], out: NDArray[np.uint8]) -> None:
        for frame, part in zip(frames, parts(out), strict=True):
            unpack_into(frame, part, threads=1)

    return Codec(name, fewbits.__version__, compress, decompress, decompress_into, ours=True)
