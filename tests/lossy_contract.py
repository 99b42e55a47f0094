"""What every codec promises, checked on one tensor; what its GPU kernels may be compiled to."""

import os
import subprocess
import sys

import torch

from fewbits.lossy import TensorSpec


def bits(tensor):
    """The bits of a tensor's elements, so that NaNs compare."""
    names = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
    return tensor.contiguous().view(getattr(torch, names[tensor.dtype.itemsize]))


def check(codec, tensor, seed=0):
    """Encodes and decodes a tensor of finite elements; returns the decoded one."""
    spec, before = TensorSpec.of(tensor), tensor.clone()
    assert codec.refusal(spec) is None
    parts = codec.encode(tensor, seed=seed)
    assert (bits(tensor) == bits(before)).all(), "encode changed the tensor"
    assert len(parts) == codec.part_count
    assert not any(part.requires_grad for part in parts)
    size, payload = codec.nbytes(spec), codec.payload(spec)
    assert size is None or size == sum(part.nbytes for part in parts)
    assert payload is None or payload == TensorSpec.of(parts[0])
    decoded = codec.decode(parts, spec)
    assert TensorSpec.of(decoded) == spec
    assert decoded.is_contiguous()
    allowed = codec.allowed_error(tensor)
    if codec.exact:
        assert (bits(decoded) == bits(tensor.detach())).all()
    elif allowed is not None:
        error = (decoded.double() - tensor.detach().double()).abs()
        assert (error <= allowed).all(), f"{codec} is off by up to {(error - allowed).max()} more"
    return decoded


def compiles_without_fusing(code):
    """Runs a script that counts what a GPU would round otherwise than the plain form does.

    In a process of its own, as this one may have been asked to interpret Triton's kernels.
    """
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["fused", "0", "flushing", "0", "approximate", "0"]
