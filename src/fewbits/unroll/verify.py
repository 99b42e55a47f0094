"""Runs a generated step against autograd of its own plain forward.

Twice: with nothing compressed and in float64, where the gradients must agree to 1e-5, which shows
that the formulas are right; and as generated, in float32, where each parameter's gradient is
compared with the exact one by its cosine, which shows what the codecs cost.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fewbits.errors import FewbitsError
from fewbits.unroll.generate import Unrolled
from fewbits.unroll.graph import Graph
from fewbits.unroll.weights import fits

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Report:
    """What a check found: the worst relative error, and the cosine for each parameter."""

    error: float
    worst: str
    cosines: dict[str, float]
    sizes: Mapping[str, int]

    @property
    def fine(self) -> bool:
        """Do the gradients agree with autograd's?"""
        return self.error <= TOLERANCE


def load(source: str) -> dict[str, Any]:
    """The names that a generated file defines."""
    names: dict[str, Any] = {"__name__": "generated"}
    exec(compile(source, "<generated step>", "exec"), names)
    return names


def example(graph: Graph, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Random inputs of a model: even integers, normal floats, and maps that are smooth.

    A map, of 4 dimensions, is noise of a quarter of its size, interpolated: pictures are smooth,
    and noise would say of a DCT that it loses everything.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(tensor.below, tensor.shape, generator=generator)
        if tensor.below is not None
        else _floats(tensor.shape, generator).to(dtype)
        for tensor in graph.inputs
    ]


def _floats(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(shape) != 4 or min(shape[2:]) < 8:
        return torch.randn(shape, generator=generator)
    small = (*shape[:2], shape[2] // 4, shape[3] // 4)
    noise = torch.randn(small, generator=generator)
    return torch.nn.functional.interpolate(noise, shape[2:], mode="bilinear")


def gradients(
    made: Unrolled,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Gradients of the generated step and of autograd, on random inputs; random parameters, too,
    unless there are weights."""
    names = load(made.source)
    generator = torch.Generator().manual_seed(seed + 1)
    noise = 0.1 if weights is None else 0.0  # so that zeros and ones at the start hide no mistake
    parameters = {
        name: (p + noise * torch.randn(p.shape, generator=generator)).to(dtype)
        for name, p in (weights or names["new_parameters"](seed)).items()
    }
    inputs = example(made.graph, seed, dtype)
    extra = [7] if made.planned.schedule.program.seeded else []
    loss, found = names["training_step"](parameters, *inputs, *extra)
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    chance = extra if "seed" in inspect.signature(names["forward"]).parameters else []
    *_, exact_loss = names["forward"](leaves, *inputs, *chance)
    exact_loss.backward()
    ours, plain = float(loss), float(exact_loss.detach())
    if not math.isclose(ours, plain, rel_tol=1e-4, abs_tol=1e-6):
        raise FewbitsError(f"the step's loss is {ours}, and that of forward {plain}")
    exact = {
        name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in leaves.items()
    }
    return {name: found.get(name, torch.zeros_like(p)) for name, p in exact.items()}, exact


def relative_errors(
    found: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Norm of the difference by the norm of the exact gradient, for each parameter.

    What should vanish, such as the gradient of a bias before a normalization, is measured by the
    largest of all.
    """
    largest = max((float(g.norm()) for g in exact.values()), default=1.0)
    return {
        name: float((found[name] - g).norm()) / max(float(g.norm()), 1e-6 * largest, 1e-300)
        for name, g in exact.items()
    }


def cosines(
    found: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Cosine between found and exact gradient, for each parameter whose gradient is not nothing."""
    largest = max((float(g.norm()) for g in exact.values()), default=1.0)
    return {
        name: float(
            torch.nn.functional.cosine_similarity(found[name].flatten(), g.flatten(), dim=0)
        )
        for name, g in exact.items()
        if float(g.norm()) > 1e-6 * largest
    }


def check(made: Unrolled, weights: Mapping[str, torch.Tensor] | None = None) -> Report:
    """Compare a step with autograd, at the sizes that its ``let`` lines give to ``check``.

    With ``weights``, they stand in for random parameters, and those sizes are used only where all
    parameters keep their shapes.
    """
    sizes = made.small
    if weights is not None and not fits(weights, made.resized(sizes, codec="none").graph):
        sizes = {}
    exact_step = made.resized(sizes, codec="none")
    errors = relative_errors(*gradients(exact_step, torch.float64, weights=weights))
    worst = max(errors, key=lambda name: errors[name] if errors[name] == errors[name] else math.inf)
    found: dict[str, float] = {}
    if any(rest.codec for rest in made.planned.schedule.plan.values()):
        found = cosines(*gradients(made.resized(sizes), weights=weights))
    return Report(errors[worst], worst, found, sizes)
