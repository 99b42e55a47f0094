"""How far packing turns the gradients of a model: each parameter's, against exact ones."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fewbits.lossy.codec import Codec
from fewbits.lossy.policy import Chooser
from fewbits.training.gradients import ALARM, NEGLIGIBLE
from fewbits.training.hooks import pack_activations
from fewbits.training.report import Report

#: No gradient may be this many times as long as it was.
GROWN = 3.0


@dataclass(frozen=True)
class Turned:
    """One parameter's gradient: its cosine with the exact one, and the ratio of their norms."""

    parameter: str
    cosine: float
    growth: float
    share: float  # of the norm of the model's gradient


@dataclass(frozen=True)
class Checked:
    """What `check` found, worst first."""

    rows: tuple[Turned, ...]
    cosine: float  # of all gradients as one vector
    report: Report

    @property
    def suggestion(self) -> str:
        """What to do about it, in a sentence."""
        bad = [
            row
            for row in self.rows
            if (row.cosine < ALARM or row.growth > GROWN) and row.share > NEGLIGIBLE
        ]
        if not bad:
            return f"No cosine is below {ALARM}, no norm above {GROWN:g}: fine for this batch."
        weighty = sum(row.share > NEGLIGIBLE for row in self.rows)
        if 2 * len(bad) > weighty:
            return f"{len(bad)} of {weighty} gradients are off: take a finer codec for all."
        modules = sorted({row.parameter.rpartition(".")[0] for row in bad})
        named = ", ".join(f'module = "{module}*"' for module in modules[:4])
        return f"Some are off: give a finer codec to {named}, or to the layers that follow them."

    def __str__(self) -> str:
        width = max([len("parameter"), *(len(row.parameter) for row in self.rows)])
        lines = [f"{'parameter':{width}}  cosine  norm    of all"]
        lines += [
            f"{row.parameter:{width}}  {row.cosine:6.3f}  {row.growth:5.3f}  {row.share:7.1e}"
            for row in self.rows
        ]
        total = f"all: cosine {self.cosine:.3f} at {self.report.ratio:.2f}x less memory"
        return "\n".join((*lines, total, self.suggestion))


def check(
    model: torch.nn.Module,
    batch: Any,
    policy: str | Codec | Chooser,
    loss: Callable[[torch.nn.Module, Any], torch.Tensor] | None = None,
    **settings: Any,
) -> Checked:
    """Compare one step's gradients, packed by ``policy``, with exact ones.

    ``loss(model, batch)`` gives the loss, a scalar. Without it the model is called with the batch
    (a mapping by name, a list or tuple by position), and returns the loss or has it as ``.loss``.
    ``settings`` go to `pack_activations`.

    Both passes draw the same random numbers. Gradients, buffers and random state are then put back.

    Raises:
        TypeError: What came is no loss.
        ValueError: No parameter got a gradient.
    """
    with _restored(model):
        exact = _gradients(model, batch, loss, contextlib.nullcontext())
    packing = pack_activations(policy, **settings)
    with _restored(model):
        packed = _gradients(model, batch, loss, packing)
    if not exact:
        raise ValueError("no parameter got a gradient")
    whole = _norm(exact)
    rows = [
        Turned(name, _cosine(packed[name], g), *_sizes(packed[name], g, whole))
        for name, g in exact.items()
    ]
    rows.sort(key=lambda row: (row.share <= NEGLIGIBLE, row.cosine))
    dot = sum(float((packed[n].double() * g.double()).sum()) for n, g in exact.items())
    return Checked(tuple(rows), dot / max(whole * _norm(packed), 1e-300), packing.report())


def _gradients(
    model: torch.nn.Module, batch: Any, loss: Any, context: Any
) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        with context:
            value = _loss(model, batch) if loss is None else loss(model, batch)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            what = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"the loss must be a tensor of one element, not {what}: give loss=")
        value.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _loss(model: torch.nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        output = model(**batch)
    else:
        output = model(*batch) if isinstance(batch, list | tuple) else model(batch)
    return getattr(output, "loss", output)


@contextlib.contextmanager
def _restored(model: torch.nn.Module) -> Iterator[None]:
    """Gradients, buffers and random state as they were, afterwards."""
    gradients = [(p, p.grad) for p in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}
    kind = next(iter(devices)).type if devices else "cuda"
    try:
        with torch.random.fork_rng(list(devices), device_type=kind):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _norm(gradients: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    norms = float(a.norm() * b.norm())
    if norms == 0:
        return 1.0 if torch.equal(a, b) else 0.0
    return float(a @ b) / norms


def _sizes(packed: torch.Tensor, exact: torch.Tensor, whole: float) -> tuple[float, float]:
    """The ratio of the two norms, and the exact one's share of the model's."""
    norm, other = float(exact.double().norm()), float(packed.double().norm())
    growth = other / norm if norm else float(other == 0)
    return growth, norm / whole if whole else 0.0
