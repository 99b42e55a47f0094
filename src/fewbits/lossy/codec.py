"""What every codec is: a pair of functions, an exact size, and a contract about the error.

A codec turns a tensor into **parts**, a tuple of tensors whose bytes are all that is kept, and
back. The first part is the **payload**, the one that another codec can be put on top of: ``DCT(4) +
Quantize(8)`` quantizes the coefficients. What is not in the parts but needed to decode, the shape
and the dtype, is a `TensorSpec`; whoever keeps the parts keeps the spec.

Codecs are frozen dataclasses: their repr rebuilds them, equal settings compare equal, and they hold
no state. Chance comes in as a seed, never from a global generator, so that packing does not disturb
a model's random numbers and two ranks can be told apart or kept alike on purpose.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

Parts = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Self:
        """The spec of a tensor."""
        return cls(tuple(tensor.shape), tensor.dtype)

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor when it is not packed."""
        return self.numel * int(self.dtype.itemsize)


class Codec(ABC):
    """Encode and decode one tensor; see the module's text for what parts and payload are."""

    #: Does the decoded tensor equal the encoded one bit by bit, whatever the values?
    exact: ClassVar[bool] = False
    #: Does the codec see a tensor as a plain run of elements? Then its shape is free to change
    #: before `encode`, and whoever packs a strided tensor may hand it over in memory order.
    flat: ClassVar[bool] = False
    #: Must it come first in a chain, because it keeps something of the tensor as it was?
    sees_original: ClassVar[bool] = False
    #: Parts that `encode` returns, payload included.
    part_count: ClassVar[int] = 1

    @abstractmethod
    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        """The parts of a tensor of any strides, payload first; ``seed`` drives random rounding."""

    @abstractmethod
    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        """A contiguous tensor of the spec's shape and dtype, on the device of the parts."""

    @abstractmethod
    def payload(self, spec: TensorSpec) -> TensorSpec | None:
        """What the first part of such a tensor will be; None where that depends on the values."""

    @abstractmethod
    def nbytes(self, spec: TensorSpec) -> int | None:
        """Bytes of all parts of such a tensor, exactly; None where they depend on the values."""

    @abstractmethod
    def refusal(self, spec: TensorSpec) -> str | None:
        """Why a tensor of this spec cannot be held, in a few words, or None if it can."""

    def insist(self, tensor: torch.Tensor) -> None:
        """``TypeError`` with the reason where `refusal` has one."""
        why = self.refusal(TensorSpec.of(tensor))
        if why is not None:
            raise TypeError(f"{self!r} cannot hold this tensor: {why}")

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The most that each decoded element may differ, broadcastable to the tensor, in float64.

        None where the contract is not one of single elements (a chopped transform promises the
        energy of what it dropped, see the codec). Exact codecs allow 0.
        """
        return torch.zeros((), dtype=torch.float64) if self.exact else None

    def __add__(self, other: "Codec") -> "Codec":
        from fewbits.lossy.chain import chain

        return chain(self, other)


def packed_nbytes(parts: Parts) -> int:
    """Bytes that the parts hold, counted by their storage: a view pays for all it keeps alive."""
    storages = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts
    }
    return sum(storages.values())
