"""What each candidate codec would make of a tensor: bytes and fidelity, measured on a sample."""

from collections.abc import Sequence

import torch

from fewbits.lossy.codec import Codec, TensorSpec, packed_nbytes
from fewbits.lossy.fidelity import fidelity
from fewbits.lossy.lossless import Exact
from fewbits.training.budget import Curve, Option

#: Elements that a measurement looks at, and how long the runs are that it takes them in.
SAMPLE, RUN = 1 << 14, 1 << 10


def measure(tensor: torch.Tensor, candidates: Sequence[Codec], floor: float) -> Curve:
    """The curve of a tensor over the candidates that can hold it, and of leaving it as it is."""
    spec = TensorSpec.of(tensor)
    options = [Option(Exact(), spec.nbytes, 1.0)]
    if not spec.numel:
        return Curve.of(0, options, floor)
    samples: dict[bool, torch.Tensor] = {}
    for codec in candidates:
        if codec.refusal(spec) is not None:
            continue
        if codec.flat not in samples:
            samples[codec.flat] = runs_of(tensor) if codec.flat else maps_of(tensor)
        options.append(_try(codec, samples[codec.flat], spec))
    return Curve.of(spec.nbytes, options, floor)


def _try(codec: Codec, sample: torch.Tensor, spec: TensorSpec) -> Option:
    seen = TensorSpec.of(sample)
    parts = codec.encode(sample)
    exactly = codec.nbytes(spec)
    nbytes = packed_nbytes(parts) * spec.numel / seen.numel if exactly is None else exactly
    return Option(codec, nbytes, fidelity(sample, codec.decode(parts, seen)))


def runs_of(tensor: torch.Tensor) -> torch.Tensor:
    """At most `SAMPLE` elements, in runs of neighbours from all over the tensor, in one dimension.

    For codecs to which a tensor is a run of elements.
    """
    flat = tensor.detach().reshape(-1)
    if flat.numel() <= SAMPLE:
        return flat
    rows = flat[: flat.numel() // RUN * RUN].view(-1, RUN)
    return rows[:: -(-len(rows) * RUN // SAMPLE)].reshape(-1)


def maps_of(tensor: torch.Tensor) -> torch.Tensor:
    """Some of the maps of a tensor's last two dimensions, as (maps, 1, height, width)."""
    tensor = tensor.detach()
    maps = tensor.reshape(-1, 1, *tensor.shape[-2:])
    return maps[:: -(-maps.numel() // SAMPLE)].contiguous()
