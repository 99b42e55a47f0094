"""How MiniLM's tensors pack where Atleus moves them: codes on the way to crossbars, activations.

Weights are the whole numbers of the crossbar-wise quantizer, one a byte, packed by range tables and
compared with ``bits`` a weight. Activations are the 8-bit inputs of each product: a table for each
matrix is made from the first half of the sentences and applied to the other half.
"""

from typing import Any

import numpy as np
import torch

import fewbits
from atleus_bench.sentences import embed, matrices, sentences, tokens, weights
from fewbits.lossy import CrossbarQuantize, TensorSpec


def weight_ratios(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Packed bits over plain bits, all matrices together, by bits of a weight; scales counted."""
    found = {}
    for bits in (8, 6, 5, 4):
        plain = packed = 0.0
        for name in matrices(tensors):
            codec, spec = CrossbarQuantize(bits), TensorSpec.of(tensors[name])
            whole, scales = codec.integers(codec.encode(tensors[name]), spec)
            plain += whole.numel() * bits / 8 + 2 * scales.numel()
            packed += len(fewbits.pack(whole.numpy())) + 2 * scales.numel()
        found[str(bits)] = packed / plain
    return found


def activation_ratios(tensors: dict[str, torch.Tensor], count: int) -> dict[str, float]:
    """Packed over plain bytes of the inputs of products, by part, tables from other sentences."""
    lines = sentences(count)
    ids, mask = tokens(lines)
    kept: dict[str, list[np.ndarray]] = {}

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        whole = (x / scale).round()
        real = whole[mask[part].bool()].to(torch.int8).numpy()  # without padding
        kept.setdefault(name, []).append(real)
        return whole * scale @ tensors[name].T

    for part in (slice(0, count // 2), slice(count // 2, count)):
        embed(tensors, ids[part], mask[part], linear)
    plain: dict[str, float] = {}
    packed: dict[str, float] = {}
    for name, (first, other) in kept.items():
        if name.endswith(("key.weight", "value.weight")):
            continue  # the same input as the query's
        kind = next(k for k in ("query", "attention.output", "intermediate", "output") if k in name)
        profile = fewbits.profile([first])
        plain[kind] = plain.get(kind, 0) + other.nbytes
        packed[kind] = packed.get(kind, 0) + len(fewbits.pack(other, profile))
    rows = {kind: packed[kind] / plain[kind] for kind in plain}
    return rows | {"all": sum(packed.values()) / sum(plain.values())}


def study(count: int, few: int) -> dict[str, Any]:
    """Both."""
    tensors = weights()
    found = {"weights": weight_ratios(tensors), "activations": activation_ratios(tensors, count)}
    print(found)
    return found
