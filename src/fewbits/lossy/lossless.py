"""Codecs that lose nothing: range tables, and leaving a tensor as it is."""

from dataclasses import dataclass

import numpy as np
import torch

from fewbits.frame import pack, unpack
from fewbits.frameworks import as_array, to_torch
from fewbits.lossy.codec import Codec, Parts, TensorSpec


@dataclass(frozen=True)
class Lossless(Codec):
    """A frame (`fewbits.pack`): exact for every dtype that Fewbits has, integers and bool included.

    The payload is the frame (flat uint8); its size depends on the values. A GPU tensor goes through
    the CPU and its frame back, which waits for the device. On top of ``Quantize`` it codes bytes
    that hold several codes each, which at 1, 2, 4 and 8 bits come out as small as codes in bytes of
    their own, and sooner. Codes of 3 bits, which bytes cut, come out larger.
    """

    exact = True
    flat = True

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        frame = pack(as_array(tensor.detach().contiguous()), threads=torch.get_num_threads())
        return (torch.from_numpy(np.frombuffer(bytearray(frame), np.uint8)).to(tensor.device),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        array = unpack(as_array(parts[0]), threads=torch.get_num_threads())
        return to_torch(array).to(parts[0].device).view(spec.shape)

    def payload(self, spec: TensorSpec) -> None:
        return None

    def nbytes(self, spec: TensorSpec) -> None:
        return None

    def refusal(self, spec: TensorSpec) -> str | None:
        try:
            as_array(torch.empty(0, dtype=spec.dtype))
        except TypeError:
            return f"frames have no {spec.dtype}"
        return None


@dataclass(frozen=True)
class Exact(Codec):
    """The tensor itself, for policies that leave some alone."""

    exact = True
    flat = True

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        return (tensor.detach(),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        return parts[0].contiguous().view(spec.shape)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return spec

    def nbytes(self, spec: TensorSpec) -> int:
        return spec.nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        return None
