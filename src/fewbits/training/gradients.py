"""How much packing turns gradients: one step's, from exact and from packed activations.

In a step that is to be compared, each saved tensor is kept twice, packed and as it is. The backward
pass then runs twice over the same graph, so randomness in the model makes no difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fewbits.lossy.codec import Codec, Parts, TensorSpec

#: Assumed: below this mean cosine every run of a prototype, a small convolutional network, went
#: wrong, and none above.
ALARM = 0.7
#: Gradients this much smaller than all together are rounding's, as of a bias before a batch norm.
NEGLIGIBLE = 1e-5


@dataclass(eq=False)  # two switches are never the same
class Switch:
    """Which of the two the tensors decode to."""

    exact: bool = False


@dataclass(frozen=True)
class Witness(Codec):
    """A codec that keeps the tensor as well, and decodes to it while the switch says so."""

    codec: Codec
    switch: Switch

    @property
    def flat(self) -> bool:  # type: ignore[override]
        """As the codec."""
        return self.codec.flat

    @property
    def part_count(self) -> int:  # type: ignore[override]
        """The codec's, and the tensor."""
        return self.codec.part_count + 1

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        """As the codec, and the tensor."""
        return (*self.codec.encode(tensor, seed=seed), tensor.detach().clone())

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        """As the codec, or the tensor."""
        if self.switch.exact:
            return parts[-1].view(spec.shape)
        return self.codec.decode(parts[:-1], spec)

    def payload(self, spec: TensorSpec) -> None:
        """Nothing goes on top."""
        return None

    def nbytes(self, spec: TensorSpec) -> int | None:
        """Of both."""
        packed = self.codec.nbytes(spec)
        return None if packed is None else packed + spec.nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        """As the codec."""
        return self.codec.refusal(spec)


def leaves(loss: torch.Tensor) -> list[torch.Tensor]:
    """The tensors whose ``.grad`` a backward pass of the loss fills, each once."""
    seen, found, waiting = set(), {}, [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        waiting += [parent for parent, _ in node.next_functions]
    return list(found.values())


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Cosine of the angle between two tensors; 1 if both are zero, 0 if one is or holds NaN."""
    x, y = a.double().flatten(), b.double().flatten()
    lengths = float(x.norm() * y.norm())
    if lengths == 0.0:
        return float(not bool(x.any() or y.any()))
    found = float(x @ y) / lengths
    return found if found == found else 0.0


def backward_twice(loss: torch.Tensor, switch: Switch) -> Iterator[tuple[torch.Tensor, float]]:
    """``loss.backward()`` from packed activations, and the cosine to the exact gradient.

    Of each leaf whose gradient is not negligible; what was in ``.grad`` before stays in it.
    """
    parameters = leaves(loss)
    switch.exact = True
    try:
        exact = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    finally:
        switch.exact = False
    norms = [0.0 if grad is None else float(grad.double().norm()) for grad in exact]
    least = NEGLIGIBLE * sum(norm * norm for norm in norms) ** 0.5
    before = [None if p.grad is None else p.grad.clone() for p in parameters]
    loss.backward()
    for parameter, wanted, norm, old in zip(parameters, exact, norms, before, strict=True):
        if norm > least and parameter.grad is not None:
            packed = parameter.grad if old is None else parameter.grad - old
            yield parameter, cosine(wanted, packed)
