"""Which function of torch is running: a mode that sees each call and remembers it.

Two kinds of call get more than that. Attention goes to `attention.attend`, which saves less.
``F.multi_head_attention_forward`` is Python that checks for modes once and then hides what it calls
from them; a copy of it whose check says no is run instead, with the mode on, so that its attention,
dropout and products are seen one by one.
"""

import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch.overrides import TorchFunctionMode

from fewbits.training.attention import attend, fused_attention
from fewbits.training.cheap import FUNCTIONS
from fewbits.training.compiled_attention import attend_compiled
from fewbits.training.recipes import Recipes, Saved

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_APPLY = torch.autograd.Function.apply.__func__.__code__
_CHECKPOINT = torch.utils.checkpoint.__file__


@dataclass(frozen=True, slots=True)
class Saving:
    """The operation that saves a tensor, and which of its arguments that is (None: it made it).

    ``custom``: it is a user's `torch.autograd.Function`, or came from where no mode sees it.
    """

    op: str
    position: int | str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    custom: bool = False

    def original(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The argument of which autocast gave the operation this tensor, a copy in its dtype."""
        place = self.position
        given = self.args[place] if isinstance(place, int) and place < len(self.args) else None
        copied = isinstance(given, torch.Tensor) and given.dtype != tensor.dtype
        return given if copied else None

    def casts_parameter(self, tensor: torch.Tensor) -> bool:
        """Is the tensor, as far as one can tell, autocast's copy of a frozen parameter?

        Copies of parameters that train have a history that says so.
        """
        return tensor.grad_fn is None and any(
            isinstance(x, torch.nn.Parameter)
            and x.dtype != tensor.dtype
            and x.numel() == tensor.numel()
            for x in self.args
        )


class Calls(TorchFunctionMode):
    """Remembers the call that runs, and how what it makes could be made again.

    ``mine()`` says whether saved tensors come to us just now; ``saved`` is what the call that runs
    has saved so far.
    """

    def __init__(self, mine: Callable[[], bool], recipes: Recipes | None) -> None:
        super().__init__()
        self.current: Call | None = None
        self.saved: list[Saved] = []
        self._mine = mine
        self._recipes = recipes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return _while_compiling(func, args, kwargs)
        outer = self.current, self.saved
        self.current, self.saved = (func, args, kwargs), []
        recipe, name = None, op_name(func)
        if self._recipes is not None and name in FUNCTIONS and self._mine():
            recipe = self._recipes.before(name, args, kwargs)
        try:
            output = self._run(func, args, kwargs)
            if self._recipes is not None and recipe is not None:
                self._recipes.after(recipe, output, self.saved)
            return output
        finally:
            self.current, self.saved = outer

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.scaled_dot_product_attention and self._mine():
            if not torch._C._are_functorch_transforms_active():
                return attend(*args, **kwargs)
            self.current = (fused_attention, args, kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _transparent(func)(*args, **kwargs)
        return func(*args, **kwargs)

    def saving(self, tensor: torch.Tensor) -> Saving:
        """Who saves this tensor, asked by a hook that packs it."""
        if self.current is not None:
            func, args, kwargs = self.current
            return Saving(op_name(func), _position(tensor, args, kwargs), args, kwargs)
        frame = _saver()
        if frame is not None and frame.f_code is _APPLY:
            function = frame.f_locals["cls"]
            if function.__module__ != torch.utils.checkpoint.__name__:
                return Saving(function.__name__, 0, custom=True)
            return Saving("checkpoint", 0)
        if frame is not None and frame.f_code.co_filename == _CHECKPOINT:
            return Saving("checkpoint", 0)
        return Saving("unknown", custom=True)


def _while_compiling(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What a compiler is to trace for a call: attention is another, the rest as without a mode."""
    if func is F.scaled_dot_product_attention:
        return attend_compiled(*args, **kwargs)
    name = getattr(func, "__name__", "")
    if isinstance(func, types.FunctionType) and getattr(torch.Tensor, name, None) is func:
        # The compiler knows methods of tensors by name, and not their Python code.
        return getattr(args[0], name)(*args[1:], **kwargs)
    return func(*args, **kwargs)


@functools.cache
def _transparent(func: Any) -> Callable[..., Any]:
    """A copy of a Python function of torch that does not hand itself to the mode again."""
    if not isinstance(func, types.FunctionType) or "has_torch_function" not in func.__globals__:
        return func  # type: ignore[no-any-return]
    names = {**func.__globals__, "has_torch_function": lambda tensors: False}
    copy = types.FunctionType(
        func.__code__, names, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _saver() -> FrameType | None:
    """The Python code that saves: the innermost that is neither ours nor keeps ours uncompiled."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("fewbits.training.", "torch._dynamo.")
    ):
        frame = frame.f_back
    return frame


def _position(
    tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int | str | None:
    if tensor.layout is not torch.strided:
        return None
    storage = tensor.untyped_storage()._cdata
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, argument in places:
        for x in argument if isinstance(argument, list | tuple) else (argument,):
            strided = isinstance(x, torch.Tensor) and x.layout is torch.strided
            if strided and x.untyped_storage()._cdata == storage:
                return place
    if tensor.grad_fn is not None and tensor.grad_fn.name() == "ToCopyBackward0":
        for place, x in enumerate(args):  # autocast gave the kernel a copy
            if isinstance(x, torch.Tensor) and x.shape == tensor.shape and x.dtype != tensor.dtype:
                return place
    return None


def op_name(func: Callable[..., Any]) -> str:
    """A function's name as policies use it: ``relu`` for ``relu_`` and ``Tensor.relu`` as well."""
    return str(getattr(func, "__name__", func)).strip("_")
