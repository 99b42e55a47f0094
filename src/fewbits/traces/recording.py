"""Recording a trace: hooks on the layers of a PyTorch model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.frameworks import as_array
from fewbits.traces.trace import Array, Trace

if TYPE_CHECKING:
    import torch

#: As many as the paper's (APack, VI): the rest of the data is not needed.
SAMPLES = 9


def record(
    module: "torch.nn.Module",
    batches: Iterable[Any],
    *,
    samples: int = SAMPLES,
    int8: bool = False,
    name: str = "",
    advance: Callable[[int], None] = lambda count: None,
) -> Trace:
    """Run a model on up to ``samples`` batches and keep what its layers hold and read.

    ``batches``: each a tensor, a tuple of arguments, or a dict of keyword arguments. Layers are
    modules with weights of two or more dimensions: convolutions, linear layers, embeddings (of
    which no inputs are kept, being indices). ``int8`` quantizes what is in floating point: weights
    symmetric with a scale a layer, activations to ``uint8`` with a scale and a zero point a layer,
    both from all samples. ``advance`` is told when a batch is done.

    Raises:
        FewbitsError: No batches, or a model in which no layer has weights or runs.
    """
    import torch

    from fewbits.machines.modules import of_module

    layers = {key: layer for key, layer in module.named_modules() if _has_weights(layer)}
    kept: dict[str, list[Array]] = {}
    seen: set[str] = set()

    def hook(key: str) -> Callable[..., None]:
        def keep(layer: Any, arguments: tuple[Any, ...]) -> None:
            # A layer that runs several times in a batch is sampled once.
            if key in seen or not arguments or not arguments[0].is_floating_point():
                return
            seen.add(key)
            kept.setdefault(key, []).append(as_array(arguments[0].detach().clone()))

        return keep

    handles = [layer.register_forward_pre_hook(hook(key)) for key, layer in layers.items()]
    first: Any = None
    count = 0
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                if count == samples:
                    break
                seen.clear()
                arguments, keywords = _arguments(batch)
                module(*arguments, **keywords)
                first = first or (arguments, keywords)
                count += 1
                advance(1)
    finally:
        for part, mode in modes.items():
            part.training = mode
        for handle in handles:
            handle.remove()
    if not count:
        raise FewbitsError("a trace needs at least one batch")
    if not kept:
        raise FewbitsError("no layer with weights has run on floating-point values")
    arguments, keywords = first
    net = of_module(module, *arguments, name=name, batch=_batch(first), **keywords)
    weights = {key: as_array(layer.weight.detach()) for key, layer in layers.items()}
    if int8:
        weights = {key: _signed(array) for key, array in weights.items()}
        kept = {key: _unsigned(arrays) for key, arrays in kept.items()}
    return Trace(weights, kept, net)


def _has_weights(layer: Any) -> bool:
    import torch

    weight = getattr(layer, "weight", None)
    return isinstance(weight, torch.Tensor) and bool(weight.dim() >= 2)


def _arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch) if isinstance(batch, list | tuple) else (batch,)), {}


def _batch(first: Any) -> int:
    """Samples in a batch: the first size of its first tensor."""
    from torch.utils._pytree import tree_leaves

    shapes = (leaf.shape for leaf in tree_leaves(first) if hasattr(leaf, "shape"))
    return next((int(shape[0]) for shape in shapes if len(shape)), 1)


def _signed(array: Array) -> Array:
    """int8, symmetric, the largest magnitude at 127."""
    values = array.astype(np.float32)
    scale = float(np.abs(values).max(initial=0.0)) / 127 or 1.0
    return np.asarray(np.rint(values / scale).astype(np.int8))


def _unsigned(arrays: Sequence[Array]) -> list[Array]:
    """uint8, from the least to the largest value of all arrays; zero is a value of its own."""
    floats = [array.astype(np.float32) for array in arrays]
    low = min(0.0, *(float(a.min(initial=0.0)) for a in floats))
    high = max(0.0, *(float(a.max(initial=0.0)) for a in floats))
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    return [np.clip(np.rint(a / scale) + zero, 0, 255).astype(np.uint8) for a in floats]
