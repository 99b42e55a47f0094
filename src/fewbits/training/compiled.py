"""Hooks that a compiler takes into its graphs, so that memory falls under ``torch.compile`` too.

Two twists. A compiled function saves what its own graph makes, all at once, and calls Python hooks
on that only after the fact, when everything has been written in full; but hooks that are
`torch.fx.GraphModule` are traced into the graph (torch 2.13, ``aot_autograd``), and what is saved
is then what they return. And the compiler knows hooks by identity: other hooks mean another
compilation, so there is one pair for each policy that is in use, made once and never freed.

While a compiler traces, there are no values, no modules and no operations to ask about, only sizes:
a policy is asked for an operation ``"compiled"``, small tensors and those with a last dimension of
1 (the statistics of norms and softmaxes) stay as they are, and so does what has a dynamic size, or
what the policy would hold in a size that depends on the values. Zeros always stay zeros, as some of
the tensors are masks.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensor

from fewbits.lossy.codec import Codec, TensorSpec
from fewbits.lossy.mask import Bits
from fewbits.lossy.policy import Chooser, SavedTensor
from fewbits.training.report import Row
from fewbits.training.store import keeping_zeros

# Our hooks on module calls do nothing for a compiled module, so that they run twice for one is no
# matter; and the advice is not for who uses this package.
warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are global")

Hook = Callable[[Any], Any]


class GraphHooks:
    """A pair of hooks for one policy: inlined where a compiler traces, called elsewhere."""

    def __init__(self, policy: Chooser, min_bytes: int) -> None:
        self.eager: tuple[Hook, Hook]
        self.policy = policy
        self.min_bytes = min_bytes
        self._held: list[tuple[Codec, TensorSpec]] = []
        #: What the graphs that were compiled so far hold, tensor by tensor.
        self.rows: list[Row] = []
        self.pack = _graph_module(self._pack)
        self.unpack = _graph_module(self._unpack)

    def _pack(self, tensor: torch.Tensor) -> Any:
        if not torch.compiler.is_compiling():
            return self.eager[0](tensor)
        spec = TensorSpec.of(tensor)
        if not all(isinstance(size, int) for size in spec.shape):
            return tensor  # a dynamic size: its bytes are not known while tracing
        codec = self._codec(spec, tensor)
        if isinstance(tensor, FunctionalTensor):  # each is traced twice; this is the last time
            after = spec.nbytes if codec is None else codec.nbytes(spec)
            row = Row("compiled", "", spec.shape, spec.dtype, spec.nbytes, after or 0, codec)
            self.rows.append(row)
        if codec is None:
            return tensor
        self._held.append((codec, spec))
        return (*codec.encode(tensor), len(self._held) - 1)

    def _unpack(self, held: Any) -> torch.Tensor:
        if isinstance(held, torch.Tensor):
            return held
        if not isinstance(held, tuple):
            unpacked: torch.Tensor = self.eager[1](held)
            return unpacked
        *parts, number = held
        codec, spec = self._held[number]
        return codec.decode(tuple(parts), spec)

    def _codec(self, spec: TensorSpec, tensor: torch.Tensor) -> Codec | None:
        """The codec for a tensor without values, or None if it stays as it is."""
        if spec.nbytes < self.min_bytes or spec.shape[-1:] in ((), (1,)):
            return None
        if spec.dtype is torch.bool:
            return Bits()
        if not spec.dtype.is_floating_point:
            return None
        saved = SavedTensor("compiled", "", spec.shape, spec.dtype, "compiled", tensor)
        codec = keeping_zeros(self.policy.choose(saved))
        fixed = codec.refusal(spec) is None and codec.nbytes(spec) is not None
        return codec if fixed and not codec.exact else None


_POOL: dict[tuple[Chooser, int], list[GraphHooks]] = {}


def borrow(policy: Chooser, min_bytes: int, pack: Hook, unpack: Hook) -> GraphHooks:
    """Hooks for a policy, and what they call in eager code, until they are given back."""
    free = _POOL.setdefault((policy, min_bytes), [])
    hooks = free.pop() if free else GraphHooks(policy, min_bytes)
    hooks.eager = (_untraced(pack), _untraced(unpack))
    return hooks


def give_back(hooks: GraphHooks) -> None:
    """The next one with the same policy may have them."""
    _POOL[(hooks.policy, hooks.min_bytes)].append(hooks)


def _graph_module(function: Hook) -> torch.fx.GraphModule:
    """A graph module that calls a function: what the compiler recognises, and then traces."""
    graph = torch.fx.Graph()
    graph.output(graph.call_function(function, (graph.placeholder("saved"),)))
    module = torch.fx.GraphModule({}, graph)
    # Each graph module has a class of its own; its own call would take longer than the packing.
    type(module).__call__ = lambda _, saved: function(saved)  # type: ignore[misc]
    return module


def _untraced(function: Hook) -> Hook:
    """The function, kept from `torch.compile` if that is in use: it would compile hooks."""
    dynamo = sys.modules.get("torch._dynamo")
    return function if dynamo is None else dynamo.disable(function)
