"""A workload from any ``nn.Module``, on PyTorch's meta device: no weights, no time.

The operations are those that PyTorch runs, so their MACs are what its ``FlopCounterMode`` counts.

>>> import torch
>>> layer = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
>>> net = of_module(layer, torch.empty(2, 8), name="two samples")
>>> net.macs, net.operations[0].name, net.operations[0].saved
(64, '0', 24)
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fewbits.errors import FewbitsError
from fewbits.machines.workload import (
    Convolution,
    Operation,
    Workload,
    convolution,
    embedding,
    linear,
    product,
)

_aten = torch.ops.aten


def of_module(
    module: torch.nn.Module,
    *inputs: Any,
    name: str = "",
    batch: int = 1,
    **keywords: Any,
) -> Workload:
    """The forward pass of ``module`` with these inputs, of which only shapes and dtypes matter.

    ``batch``: how many samples the inputs hold; the workload can then be scaled to other batches.
    The module itself is not changed. An operation's ``saved`` counts what autograd keeps from it
    and from what runs before the next one, each tensor once.

    Raises:
        FewbitsError: The module cannot run without values, or multiplies nothing.
    """
    name = name or type(module).__name__
    module = _on_meta(module)
    inputs, keywords = tree_map(_to_meta, (inputs, keywords))
    recorder = _Recorder(module)
    with ExitStack() as stack:
        stack.callback(recorder.forget_module)
        # Attention as plain products: of other forms, other operations would be seen.
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(recorder.save, lambda x: x))
        stack.enter_context(recorder)
        try:
            module(*inputs, **keywords)
        except (NotImplementedError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            raise FewbitsError(f"{name}: cannot run on shapes alone: {line}") from error
    if not recorder.operations:
        raise FewbitsError(f"{name}: multiplies nothing")
    operations = (replace(op, batch=batch) for op in _unique(recorder.operations))
    return Workload(name, tuple(operations))


def _on_meta(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of a module on the meta device, made without copying a weight."""
    known: dict[int, Any] = {
        id(p): torch.nn.Parameter(p.detach().to("meta"), p.requires_grad)
        for p in module.parameters()
    }
    known |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, known)


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _unique(operations: list[Operation]) -> list[Operation]:
    """A module that runs several operations, or several times, names them ``name``, ``name:2``."""
    seen: dict[str, int] = {}
    found = []
    for operation in operations:
        count = seen[operation.name] = seen.get(operation.name, 0) + 1
        name = operation.name if count == 1 else f"{operation.name}:{count}"
        found.append(replace(operation, name=name))
    return found


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd; knows which module runs."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._parameters = {_place(p) for p in module.parameters()}
        self._parameters |= {_place(b) for b in module.buffers()}
        self._saved_before = 0  # before the first operation, whose input that is
        self._kept: set[int] = set()
        self._alive: list[torch.Tensor] = []
        self._path: list[str] = [""]
        self._handles = []
        for name, child in module.named_modules():
            self._handles += [
                child.register_forward_pre_hook(self._enter(name)),
                child.register_forward_hook(self._leave, always_call=True),
            ]

    def forget_module(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda *_: self._path.append(name)

    def _leave(self, *_: Any) -> None:
        self._path.pop()

    def save(self, tensor: torch.Tensor) -> torch.Tensor:
        """What autograd keeps: counted once, and for the operation that ran last."""
        if _place(tensor) not in self._kept and _place(tensor) not in self._parameters:
            self._kept.add(_place(tensor))
            self._alive.append(tensor)
            if self.operations:
                last = self.operations[-1]
                self.operations[-1] = replace(last, saved=(last.saved or 0) + tensor.numel())
            else:
                self._saved_before += tensor.numel()
        return tensor

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        handler = _HANDLERS.get(func.overloadpacket)
        if handler is not None:
            self._alive += [t for t in tree_leaves(args) if isinstance(t, torch.Tensor)]
            name = self._path[-1] or str(func.overloadpacket).removeprefix("aten.")
            made = handler(self, name, args, result)
            if made is not None:
                self.operations.append(replace(made, saved=self._saved_before))
                self._saved_before = 0
        return result

    def is_weight(self, tensor: torch.Tensor) -> bool:
        return _place(tensor) in self._parameters

    def convolution(self, name: str, args: tuple[Any, ...], out: torch.Tensor) -> Operation:
        x, weight, _, stride, _, dilation, transposed, _, groups = args[:9]
        rank = weight.dim() - 2
        if rank > 2 or not self.is_weight(weight):
            raise FewbitsError(f"{name}: convolutions of {rank} dimensions are not known here")

        def pair(values: Any) -> tuple[int, int]:
            values = tuple(values) * (rank if len(values) == 1 else 1)
            return values if rank == 2 else (1, values[0])

        size, sizes_out = pair(x.shape[2:]), pair(out.shape[2:])
        # A transposed convolution multiplies for every element of its input, not of its output.
        channels, filters = x.shape[1], out.shape[1]
        window = Convolution(
            channels, filters, size, sizes_out, pair(weight.shape[2:]), pair(stride),
            pair(dilation), groups,
        )  # fmt: skip
        made = convolution(name, window, trained_before=x.requires_grad)
        if transposed:
            taps = window.kernel[0] * window.kernel[1]
            n, k = filters // groups * taps, channels // groups
            made = replace(made, kind="transposed", m=size[0] * size[1], n=n, k=k, window=None)
        return replace(made, m=made.m * x.shape[0], inputs=x.numel(), outputs=out.numel())

    def product(self, name: str, left: torch.Tensor, right: torch.Tensor) -> Operation:
        """A product of matrices, or of batches of them."""
        groups = left.shape[0] if left.dim() == 3 else 1
        m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
        for weight, other, rows, columns in ((right, left, m, n), (left, right, n, m)):
            if self.is_weight(weight):
                made = linear(name, rows, k, columns, trained_before=other.requires_grad)
                if groups > 1:
                    made = replace(made, groups=groups, weights=weight.numel(),
                                   inputs=other.numel(), outputs=groups * m * n)  # fmt: skip
                return made
        return product(name, groups, m, n, k)

    def embedding(self, name: str, args: tuple[Any, ...], out: torch.Tensor) -> Operation:
        rows, width = args[0].shape
        return embedding(name, out.numel() // width, rows, width)


def _place(tensor: torch.Tensor) -> int:
    """Which storage a tensor looks at: views of one share it."""
    return int(tensor.untyped_storage()._cdata)


_HANDLERS: dict[Any, Callable[[_Recorder, str, tuple[Any, ...], Any], Operation | None]] = {
    _aten.convolution: _Recorder.convolution,
    _aten._convolution: _Recorder.convolution,
    _aten.mm: lambda r, name, args, out: r.product(name, args[0], args[1]),
    _aten.addmm: lambda r, name, args, out: r.product(name, args[1], args[2]),
    _aten.bmm: lambda r, name, args, out: r.product(name, args[0], args[1]),
    _aten.baddbmm: lambda r, name, args, out: r.product(name, args[1], args[2]),
    _aten.embedding: _Recorder.embedding,
}
