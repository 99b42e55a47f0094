"""Which of the equal forms of a codec runs: plain torch operations, the C++ kernels, or Triton.

All give the same bytes. Plain torch is the specification and what a compiler traces; the C++
kernels are for tensors on the CPU, Triton's for those on a GPU. ``FEWBITS_LOSSY=torch`` (or
``native``, ``triton``) forces one, for tests and to find a fault; the Triton kernels run on the CPU
where ``TRITON_INTERPRET=1``.
"""

import functools
import importlib.util
import os
from typing import Literal

import torch

Backend = Literal["torch", "native", "triton"]


@functools.cache
def has_triton() -> bool:
    """Is Triton installed?"""
    return importlib.util.find_spec("triton") is not None


def backend_for(tensor: torch.Tensor) -> Backend:
    """The form to use for this tensor."""
    if torch.compiler.is_compiling() or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return "torch"  # a tracer follows torch operations only
    if tensor.layout is not torch.strided or tensor.is_neg():
        return "torch"  # what lies at its address is not its elements
    asked = os.environ.get("FEWBITS_LOSSY")
    if asked == "torch":
        return "torch"
    if asked == "native" and tensor.device.type == "cpu":
        return "native"
    if asked == "triton" and has_triton():
        return "triton"
    if tensor.device.type == "cpu":
        return "native"
    return "triton" if tensor.device.type == "cuda" and has_triton() else "torch"
