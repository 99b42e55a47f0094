"""One weight at rest: a frame, and what it unpacks to."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fewbits.errors import CorruptError
from fewbits.frame import PackedTensor, pack
from fewbits.frameworks import as_array
from fewbits.lossless.choose import Lossless
from fewbits.weights.scratch import Scratch, torch_dtype


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight in a frame, which may lie in memory or in a mapped file.

    ``name`` is how errors call it. Never changed, so copies of a model share it.
    """

    name: str
    tensor: PackedTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """PyTorch's dtype of the weight."""
        return torch_dtype(self.tensor.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the weight unpacked."""
        return self.tensor.nbytes

    @property
    def packed_bytes(self) -> int:
        """Bytes at rest."""
        return self.tensor.packed_bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of the frame."""
        return self.tensor.packed_bytes

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch that unpacking takes."""
        return self.nbytes

    @property
    def codec(self) -> str:
        """What a report calls the way it is packed."""
        return "lossless"

    def unpack(self, scratch: Scratch, threads: int | None, verify: bool) -> torch.Tensor:
        """The weight; `CorruptError` that names it if its frame is damaged."""
        array, tensor = scratch.take(self.shape, self.tensor.dtype)
        with naming(self.name):
            replace(self.tensor, threads=threads, verify=verify).unpack_into(array)
        return tensor

    def rows(
        self, low: int, high: int, scratch: Scratch, threads: int | None, verify: bool
    ) -> torch.Tensor:
        """Rows low..high of the first axis, from the blocks that hold them."""
        row_bytes = self.nbytes // self.shape[0]
        array, tensor = scratch.take((high - low, *self.shape[1:]), self.tensor.dtype)
        with naming(self.name):
            packed = replace(self.tensor, threads=threads, verify=verify)
            packed.storage_into(low * row_bytes, array.reshape(-1).view(np.uint8))
        return tensor

    def again(self, weight: torch.Tensor, threads: int | None) -> "Packed":
        """Another weight, packed in the same way."""
        return pack_weight(self.name, weight, Lossless(), threads)

    def frame(self) -> memoryview:
        """All bytes of the frame."""
        return memoryview(np.frombuffer(self.tensor.read(0, self.frame_bytes), np.uint8).data)

    def __reduce__(self) -> tuple[Any, ...]:
        return packed_of, (self.name, bytes(self.frame()))

    def __deepcopy__(self, memo: object) -> "Packed":
        return self


def packed_of(name: str, frame: bytes) -> Packed:
    """A weight from its frame; `CorruptError` if the frame's header is damaged."""
    return Packed(name, PackedTensor.of(frame))


class naming:
    """Puts a weight's name before the text of a `CorruptError`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, CorruptError):
            raise CorruptError(f"weight {self.name!r}: {error}") from None


def pack_weight(name: str, weight: torch.Tensor, codec: Lossless, threads: int | None) -> Packed:
    """Pack a weight losslessly; `TypeError` for a dtype that frames do not know."""
    frame = pack(as_array(weight.detach()), codec, threads=threads)
    return Packed(name, PackedTensor.of(frame))
