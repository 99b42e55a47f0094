"""Sentence embeddings of MiniLM whose weights stand in crossbars: bits, noise, and both."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from atleus_bench.sentences import embed, matrices, sentences, tokens, weights
from fewbits.lossy import Codec, CrossbarQuantize, Quantize, TensorSpec
from fewbits.machines.atleus.mapping import mixed_bits
from fewbits.machines.parts.analog import Analog, Read

Tensors = dict[str, torch.Tensor]
DRAWS = 3


def quantized(tensors: Tensors, codec: Codec) -> Tensors:
    """The tensors with their layers' matrices through a codec."""
    found = dict(tensors)
    for name in matrices(tensors):
        found[name] = codec.decode(codec.encode(tensors[name]), TensorSpec.of(tensors[name]))
    return found


def programmed(tensors: Tensors, bits: str, noise: float, seed: int) -> Tensors:
    """Crossbar-wise quantized weights with the noise of their cells."""
    attention, feedforward = mixed_bits(bits)
    rng = torch.Generator().manual_seed(seed)
    found = dict(tensors)
    for name, part in matrices(tensors).items():
        codec = CrossbarQuantize(attention if part == "attention" else feedforward)
        spec, parts = TensorSpec.of(tensors[name]), codec.encode(tensors[name])
        whole, scales = codec.integers(parts, spec)
        sigma = Analog(weight_bits=codec.bits, noise=noise).weight_noise
        drawn = whole + sigma * torch.randn(whole.shape, generator=rng)
        found[name] = drawn * codec.spread(scales, whole.shape)
    return found


def whole_inputs(tensors: Tensors) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """Products whose inputs are rounded to 8 bits, a scale for each token."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        return (x / scale).round() * scale @ tensors[name].T

    return linear


def analog_inputs(tensors: Tensors, analog: Analog, seed: int) -> Callable[..., torch.Tensor]:
    """The same on crossbars bit by bit: `fewbits.machines.parts.analog`."""
    rng = np.random.default_rng(seed)
    stored = {}
    for name in matrices(tensors):
        codec = CrossbarQuantize(analog.weight_bits)
        whole, scales = codec.integers(codec.encode(tensors[name]), TensorSpec.of(tensors[name]))
        stored[name] = whole.numpy().T, scales.float().numpy().T

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().amax(-1, keepdim=True) / 127
        flat = (x / scale).round().to(torch.int64).reshape(-1, x.shape[-1]).numpy()
        got = analog.scaled_product(flat, *stored[name], rng)
        return torch.from_numpy(got).float().view(*x.shape[:-1], -1) * scale

    return linear


def closeness(exact: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """Cosines of embeddings, and how many sentences keep their nearest neighbour (percent)."""
    cosine = (exact * other).sum(1)
    near, now = ((e @ e.T - 2 * torch.eye(len(e))).argmax(1) for e in (exact, other))
    kept = 100 * float((near == now).double().mean())
    return {"cosine": float(cosine.mean()), "lowest": float(cosine.min()), "neighbour": kept}


def study(count: int, few: int) -> dict[str, Any]:
    """All rows: label and closeness to fp32."""
    tensors = weights()
    lines = sentences(count)
    ids, mask = tokens(lines)
    exact = embed(tensors, ids, mask)
    rows: dict[str, dict[str, float]] = {}

    def add(label: str, changed: Tensors, whole: bool = True) -> None:
        linear = whole_inputs(changed) if whole else None
        rows[label] = closeness(exact, embed(changed, ids, mask, linear))
        print(f"{label:44} {rows[label]}", flush=True)

    add("fp32 weights, 8-bit inputs", tensors)
    for bits in ("8", "6", "5", "4", "3", "M8F4", "M4F8", "M8F6"):
        add(f"crossbar-wise {bits}", programmed(tensors, bits, 0.0, 0))
    for bits in (8, 6, 4):
        add(
            f"one scale a matrix, {bits}",
            quantized(tensors, CrossbarQuantize(bits, 65536, 65536)),
        )
        add(f"groups of 64, {bits}", quantized(tensors, Quantize(bits, 64)))
    for bits in ("8", "M8F4"):
        for noise in (0.002, 0.005, 0.01, 0.02, 0.05):
            drawn = [
                closeness(exact, embed(w, ids, mask, whole_inputs(w)))
                for w in (programmed(tensors, bits, noise, seed) for seed in range(DRAWS))
            ]
            label = f"crossbar-wise {bits}, cell noise {100 * noise:g} %"
            rows[label] = {key: float(np.mean([d[key] for d in drawn])) for key in drawn[0]}
            print(f"{label:44} {rows[label]}", flush=True)
    # The same products bit by bit, on fewer sentences, against the same rounding computed directly.
    ids, mask, exact = ids[:few], mask[:few], exact[:few]
    length = int(mask.sum(1).max())
    ids, mask = ids[:, :length], mask[:, :length]
    analogs = {
        "bit by bit, 8-bit converter": Analog(),
        "bit by bit, 7-bit converter": Analog(adc_bits=7),
        "bit by bit, 6-bit converter": Analog(adc_bits=6),
        "bit by bit, thermal noise of 85 C": Analog(read=Read(), temperature_k=358.15),
        "bit by bit, cell noise 1 %": Analog(noise=0.01),
    }
    plain = closeness(
        exact, embed(tensors, ids, mask, whole_inputs(programmed(tensors, "8", 0, 0)))
    )
    rows["8 bits computed directly"] = plain
    for label, analog in analogs.items():
        got = embed(tensors, ids, mask, analog_inputs(tensors, analog, 0))
        rows[label] = closeness(exact, got)
        print(f"{label:44} {rows[label]}", flush=True)
    return {"sentences": count, "few": few, "rows": rows}
