"""Where in a model the forward pass is, and which tensors live on without it.

Hooks on every module's call, for as long as they are on, keep the path of the innermost one. They
also note, by storage, the parameters and buffers of each module that is called and the tensors that
the outermost one was given: what somebody else holds costs nothing to keep, and packing it would
only add a copy. A storage is known by the address of its `StorageImpl`, which a weak reference
keeps from being used again.
"""

import re
import sys
import threading
import weakref
from collections.abc import Iterable
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as hooks
from torch.utils import _pytree as pytree

PARAMETER = "a parameter or buffer"
INPUT = "an input of the model, held by the caller"
# The functions of PyTorch that run the hooks of a module's call; each names its arguments so.
_CALLS = [
    code
    for code in (
        torch.nn.Module._call_impl.__code__,
        *torch.nn.Module._call_impl.__code__.co_consts,
    )
    if isinstance(code, CodeType) and "kwargs" in (*code.co_varnames, *code.co_freevars)
]
# What torch.compile and data parallelism put before the names of a model's modules.
_WRAPPERS = re.compile(r"\b_orig_mod\.|^module\.")
_KNOWN: WeakKeyDictionary[torch.nn.Module, dict[int, str]] = WeakKeyDictionary()


class Scope:
    """The path of the module that runs, and the storages that others hold."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._stack: list[str] = []
        self._root: dict[int, str] = {}
        self._held: dict[int, tuple[StorageWeakRef, str]] = {}
        self._outermost: weakref.ref[torch.nn.Module] | None = None

    @property
    def path(self) -> str:
        """The innermost running module: its path below the outermost, or that one's class."""
        return self._stack[-1] if self._stack else ""

    @property
    def root(self) -> torch.nn.Module | None:
        """The outermost running module."""
        return self._outermost() if self._outermost and self._stack else None

    def open(self) -> None:
        """Start to watch the modules that this thread calls."""
        self._thread = threading.get_ident()
        _watch(self)

    def close(self) -> None:
        """Stop, and forget the storages."""
        _unwatch(self)
        self._stack.clear()
        self._held.clear()

    def holder(self, tensor: torch.Tensor) -> str | None:
        """Who else holds this tensor's memory: `PARAMETER`, `INPUT`, or None."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is not None:
            return held[1]
        origin = tensor if tensor._base is None else tensor._base
        if origin.requires_grad and origin.is_leaf:
            return PARAMETER
        return PARAMETER if _cast_of_leaf(tensor) else None

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""
        if threading.get_ident() != self._thread:
            return
        if not self._stack:
            self._root, self._outermost = _paths(module), weakref.ref(module)
            given = pytree.tree_leaves((args, _keywords()))
            # What has a history was computed for this call, and its maker may have let go of it.
            self._hold((x for x in given if torch.is_tensor(x) and x.grad_fn is None), INPUT)
            self._hold(module.parameters(), PARAMETER)
            self._hold(module.buffers(), PARAMETER)
        self._stack.append(self._root.get(id(module)) or type(module).__name__)

    def leave(self) -> None:
        """The innermost module's call ends."""
        if threading.get_ident() == self._thread and self._stack:
            self._stack.pop()

    def _hold(self, tensors: Iterable[torch.Tensor], why: str) -> None:
        for tensor in tensors:
            if tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                if storage._cdata not in self._held:
                    self._held[storage._cdata] = (StorageWeakRef(storage), why)


_open: list[Scope] = []
_handles: list[Any] = []


def _watch(scope: Scope) -> None:
    """Have module calls told to a scope.

    Compiled functions are bound to the hooks that were there when they were compiled, and know them
    by their handles' numbers. So the handles are made once, and put back under the same numbers.
    """
    _open.append(scope)
    if len(_open) > 1:
        return
    if not _handles:
        _handles.append(hooks.register_module_forward_pre_hook(_enter))
        _handles.append(hooks.register_module_forward_hook(_leave, always_call=True))
        return
    for handle, hook in zip(_handles, (_enter, _leave), strict=True):
        handle.hooks_dict_ref()[handle.id] = hook
        for options in handle.extra_dict_ref:
            options()[handle.id] = True


def _unwatch(scope: Scope) -> None:
    _open.remove(scope)
    if not _open:
        for handle in _handles:
            handle.remove()


def _enter(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
    if not torch.compiler.is_compiling():
        for scope in tuple(_open):
            scope.enter(module, args)


def _leave(module: torch.nn.Module, args: object, output: object) -> None:
    if not torch.compiler.is_compiling():
        for scope in tuple(_open):
            scope.leave()


def _keywords() -> Any:
    """The keyword arguments of the module's call that runs a hook; hooks are not given them."""
    frame = sys._getframe(3)
    return frame.f_locals.get("kwargs") if frame.f_code in _CALLS else None


def _paths(root: torch.nn.Module) -> dict[int, str]:
    """The path of each module of a model, by its id; kept for the next step."""
    known = _KNOWN.get(root)
    if known is None:
        known = _KNOWN[root] = {id(m): _WRAPPERS.sub("", path) for path, m in root.named_modules()}
    return known


def _cast_of_leaf(tensor: torch.Tensor) -> bool:
    """Is it what autocast makes of a parameter: a cast of a leaf, maybe transposed?"""
    node = tensor.grad_fn
    for _ in range(3):
        if node is None:
            return False
        name = node.name()
        if name == "torch::autograd::AccumulateGrad":
            return True
        if name not in ("ToCopyBackward0", "TBackward0", "ViewBackward0", "TransposeBackward0"):
            return False
        node = node.next_functions[0][0]
    return False
