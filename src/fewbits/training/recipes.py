"""How the outputs of cheap functions came about, so that they need not be held.

A network saves the input of each of its functions, and so the output of the one before: of
``down(gelu(up(x)))`` autograd keeps both what goes into the GELU and what comes out. The second can
be computed again from the first when backward asks for it (`rebuilt`). While the forward pass runs,
`Recipes` remembers for each output of such a function the arguments; of tensors among them only
which run of memory they were (`layout`), so that nothing is kept alive.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree

from fewbits.training.attention import autocast_now, node_of, output_again
from fewbits.training.cheap import FUNCTIONS, Later
from fewbits.training.faults import ModifiedError
from fewbits.training.layout import Key, Keys, View, in_memory_order, key_of, view_of
from fewbits.training.report import Row

_PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that a function was given: the key of its run of memory, and how it looked at it."""

    key: Key
    view: View


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that is there anyway, such as a parameter, and its version."""

    tensor: torch.Tensor
    version: int

    def get(self) -> torch.Tensor:
        """The tensor, if it is what it was."""
        if self.tensor._version != self.version:
            raise ModifiedError(
                f"a tensor of shape {tuple(self.tensor.shape)}, from which an activation is "
                f"computed again, was modified in place before backward (version "
                f"{self.tensor._version}, used at {self.version}); rebuild=False holds it instead"
            )
        return self.tensor


class Saved(Protocol):
    """What a function saved, as it is held."""

    @property
    def row(self) -> Row:
        """Of the report."""

    @property
    def masked(self) -> bool:
        """Is it held as a mask only?"""

    def peek(self) -> torch.Tensor:
        """The tensor; who saved it may still ask for it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A function and its arguments, flat and with their structure, and the output's strides.

    ``saved``: those arguments that the function saved itself. ``node``: the autograd node of an
    attention, which is asked for its output instead.
    """

    function: Callable[..., torch.Tensor]
    leaves: tuple[Any, ...]
    spec: Any
    autocast: Any = None
    strides: tuple[int, ...] = ()
    saved: tuple[tuple[Later, Saved | None], ...] = ()
    node: Any = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The tensors that must be held for this."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Source))

    def run(self, runs: Iterator[torch.Tensor], exact: bool) -> torch.Tensor:
        """The output as a run of memory; ``runs`` are those of the sources in their order.

        ``exact``: they have lost nothing, and neither may the output.
        """
        if self.node is not None:
            output = output_again(self.node)
        else:
            known = {Later.EXACT: exact} | {place: x and x.peek() for place, x in self.saved}
            leaves = [
                x.view.of(next(runs)) if isinstance(x, Source)
                else x.get() if isinstance(x, Constant)
                else known[x] if isinstance(x, Later)
                else x
                for x in self.leaves
            ]  # fmt: skip
            args, kwargs = pytree.tree_unflatten(leaves, self.spec)
            with self.autocast:
                output = self.function(*args, **kwargs)
        if output.stride() != self.strides:
            other = torch.empty_strided(
                output.shape, self.strides, dtype=output.dtype, device=output.device
            )
            output = other.copy_(output)
        return in_memory_order(output).reshape(-1)


class Recipes:
    """The recipes of one forward pass, by the key of what they make.

    ``there(tensor)`` says whether somebody else holds a tensor, so that a recipe may.
    """

    def __init__(self, there: Callable[[torch.Tensor], bool]) -> None:
        self._there = there
        self._found: dict[Key, Recipe] = {}
        self._keys = Keys()

    def clear(self) -> None:
        """The forward is over."""
        self._found.clear()
        self._keys.clear()

    def of(self, key: Key) -> Recipe | None:
        """How the tensor with this key came about."""
        return self._found.get(key)

    def before(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recipe | None:
        """What there is to know before a function runs and perhaps writes over its arguments."""
        if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return None
        try:
            function, args, kwargs = FUNCTIONS[name](*args, **kwargs)
        except TypeError:  # called in a form that the table does not know
            return None
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        if not tensors or not all(map(_ordinary, tensors)):
            return None
        held = tuple(self._place(x) if isinstance(x, torch.Tensor) else x for x in leaves)
        if not any(isinstance(x, Source) for x in held):
            return None  # what is made of parameters and inputs alone may outlive a change of them
        return Recipe(function, held, spec, autocast_now(tensors[0].device))

    def after(self, recipe: Recipe, output: Any, saved: Sequence[Saved] = ()) -> None:
        """The function is done: it made this, and saved that."""
        if not isinstance(output, torch.Tensor) or not _ordinary(output):
            return
        key = key_of(output)
        if any(source.key == key for source in recipe.sources):
            return  # it had nothing to do, like a dropout in evaluation
        parts: tuple[tuple[Later, Saved | None], ...] = ()
        if Later.MASK in recipe.leaves:
            mask = next((x for x in saved if x.masked), None)
            if mask is None:
                return
            parts = ((Later.MASK, mask),)
        if Later.MEAN in recipe.leaves:
            made = [x for x in saved if x.row.after and len(x.row.shape) == 1]
            mean, inverse = made if len(made) == 2 else (None, None)
            parts = (Later.MEAN, mean), (Later.INVERSE, inverse)
        strides = view_of(output).strides
        if 0 not in strides:
            self._keys.of(output)
            found = replace(recipe, strides=strides, saved=parts, node=node_of(output))
            self._found[key] = found

    def add_cast(self, tensor: torch.Tensor, copy: torch.Tensor) -> None:
        """Autocast made a copy of a tensor in another dtype."""
        recipe = self.before("to", (tensor, copy.dtype), {})
        if recipe is not None:
            self.after(recipe, copy)

    def _place(self, tensor: torch.Tensor) -> Source | Constant:
        if self._there(tensor):
            return Constant(tensor.detach(), tensor._version)
        return Source(self._keys.of(tensor), view_of(tensor))


def _ordinary(tensor: torch.Tensor) -> bool:
    return type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_complex()
