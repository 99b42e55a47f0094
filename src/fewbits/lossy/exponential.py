"""Logarithms packed as what they are the logarithms of."""

from dataclasses import dataclass

import torch

from fewbits.lossy.codec import Codec, Parts, TensorSpec


@dataclass(frozen=True)
class Exp(Codec):
    """The exponential, so that what follows loses evenly in it: for logarithms of probabilities.

    The gradient of a log-softmax uses ``exp(x)`` only. Rounded as they are, logarithms between -12
    and 0 would have their probabilities off by a factor; rounded as probabilities, by a step.
    """

    flat = True

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        return (tensor.exp(),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        return parts[0].clamp(min=0).log()

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return spec

    def nbytes(self, spec: TensorSpec) -> int:
        return spec.nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        return None if spec.dtype.is_floating_point else f"{spec.dtype} is no float"
