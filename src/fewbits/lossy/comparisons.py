"""One bit for each element: the answer to what the gradient of an activation function asks."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch

from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.mask import Bits, pack_mask, unpack_mask


class _Comparison(Codec):
    """One bit for each element, and two values that stand for the two answers."""

    inside: float
    outside: float

    flat = True

    @abstractmethod
    def _asked(self, tensor: torch.Tensor) -> torch.Tensor: ...

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        return (pack_mask(self._asked(tensor.detach())),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        inside = torch.full((), self.inside, dtype=spec.dtype, device=parts[0].device)
        return torch.where(unpack_mask(parts[0], spec), inside, self.outside)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return Bits().payload(spec)

    def nbytes(self, spec: TensorSpec) -> int:
        return self.payload(spec).nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        return Bits().refusal(spec)


@dataclass(frozen=True)
class Nonzero(_Comparison):
    """Whether elements are not 0: what the backward of a ReLU needs of its output.

    As `Bits`, without looking for the value that stands for them.
    """

    inside: float = 1.0
    outside: float = 0.0

    def _asked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor  # `pack_mask` asks

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        one = torch.ones(1, dtype=spec.dtype, device=parts[0].device)
        return Bits().decode((parts[0], one), spec)


@dataclass(frozen=True)
class Positive(_Comparison):
    """Whether elements are above 0: what the backward of a leaky ReLU needs of its input."""

    inside: float = 1.0
    outside: float = 0.0

    def _asked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor > 0


@dataclass(frozen=True)
class Within(_Comparison):
    """Whether elements lie strictly between ``low`` and ``high``, as a hardtanh's backward asks.

    NaN counts as within: it fails every comparison, and the kernel asks whether it is outside.
    """

    low: float
    high: float
    inside: float
    outside: float

    def _asked(self, tensor: torch.Tensor) -> torch.Tensor:
        return ~((tensor <= self.low) | (tensor >= self.high))


@dataclass(frozen=True)
class Between(_Comparison):
    """Whether elements lie between ``low`` and ``high`` or on them, as a clamp's backward asks.

    A bound that is infinite is none. NaN is not between.
    """

    low: float
    high: float

    @property
    def inside(self) -> float:  # type: ignore[override]
        """A number that is between, rounded to any dtype."""
        if math.isinf(self.low):
            return self.low
        return self.high if math.isinf(self.high) else (self.low + self.high) / 2

    @property
    def outside(self) -> float:  # type: ignore[override]
        """A number that is not."""
        return math.inf if math.isinf(self.low) else -math.inf

    def _asked(self, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor >= self.low) & (tensor <= self.high)
