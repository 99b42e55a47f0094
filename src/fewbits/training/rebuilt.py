"""An activation that is not held: when backward asks for it, it is computed from others that are.

It takes no bytes, and is as far from what it was as those it is computed from make it.
"""

from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakValueDictionary

import torch

from fewbits.lossy.codec import Codec
from fewbits.training.layout import Key, key_of
from fewbits.training.recipes import Recipe, Recipes
from fewbits.training.report import Row

#: So many functions in a row from so many tensors are still cheaper than what is saved is worth.
#: Without a limit, a residual stream would be computed from its beginning.
MOST_FUNCTIONS, MOST_TENSORS = 8, 2


class Held(Protocol):
    """What has a run of memory to give: a packed tensor, one left alone, or one rebuilt."""

    waiting: int

    @property
    def row(self) -> Row:
        """Of the report."""

    @property
    def wanted(self) -> Codec:
        """The codec that the policy chose."""

    def run(self) -> torch.Tensor:
        """The run of memory, one dimension."""


Keep = Callable[["Held | Rebuilt", torch.Tensor], None]


class Rebuilt:
    """A recipe, and what holds its sources."""

    __slots__ = ("__weakref__", "_decoded", "_keep", "_recipe", "device", "inputs", "waiting")
    masked = False

    def __init__(
        self, recipe: Recipe, inputs: "tuple[Held | Rebuilt, ...]", device: torch.device, keep: Keep
    ) -> None:
        self.inputs, self.device = inputs, device
        self.waiting = 0
        self._recipe, self._keep = recipe, keep
        self._decoded: torch.Tensor | None = None

    @property
    def functions(self) -> int:
        """How many functions are run."""
        return 1 + sum(x.functions for x in self.inputs if isinstance(x, Rebuilt))

    @property
    def tensors(self) -> dict[int, Held]:
        """What must be decoded, each once, by its id."""
        found: dict[int, Held] = {}
        for x in self.inputs:
            found |= x.tensors if isinstance(x, Rebuilt) else {id(x): x}
        return found

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The codecs that the policy chose for those."""
        return tuple(x.wanted for x in self.tensors.values())

    @property
    def cheap(self) -> bool:
        """Is it within the limits? An attention is: its backward computes it again anyway."""
        whole = self._recipe.node is not None or len(self.tensors) <= MOST_TENSORS
        return whole and self.functions <= MOST_FUNCTIONS

    def run(self) -> torch.Tensor:
        """The run of memory, one dimension.

        Raises:
            ModifiedError: A parameter or so was modified in place since.
        """
        if self._decoded is not None:
            return self._decoded
        return self._recipe.run(self._runs(), all(codec.exact for codec in self.codecs))

    def keep(self, run: torch.Tensor) -> None:
        """Keep the run for the next who asks."""
        self._decoded = run

    def forget(self) -> None:
        """Let go of it."""
        self._decoded = None

    def _runs(self) -> Iterator[torch.Tensor]:
        for held in self.inputs:
            run = held.run()
            if held.waiting > 0:  # most often the next that backward asks for
                self._keep(held, run)
            yield run


class Rebuilder:
    """Finds what can be rebuilt: from recipes, and from ``find``, which knows what is held."""

    def __init__(self, recipes: Recipes, find: Callable[[Key], Held | None], keep: Keep) -> None:
        self._recipes, self._find, self._keep = recipes, find, keep
        self._known: WeakValueDictionary[Key, Rebuilt] = WeakValueDictionary()

    def of(self, tensor: torch.Tensor, original: torch.Tensor | None) -> Rebuilt | None:
        """What rebuilds a tensor: None if it is held, or that cannot be done, or not cheaply.

        ``original``: what autocast made the tensor of, in another dtype.
        """
        key = key_of(tensor)
        if self._find(key) is not None:
            return None
        if original is not None:
            self._recipes.add_cast(original, tensor)
        return self._of(key, tensor.device)

    def _of(self, key: Key, device: torch.device) -> Rebuilt | None:
        # What is asked for twice is the same, so that it can be kept in between.
        known = self._known.get(key)
        if known is not None:
            return known
        recipe = self._recipes.of(key)
        if recipe is None:
            return None
        inputs: list[Held | Rebuilt] = []
        for source in recipe.sources:
            held = self._find(source.key) or self._of(source.key, device)
            if held is None:
                return None
            inputs.append(held)
        found = Rebuilt(recipe, tuple(inputs), device, self._keep)
        if not found.cheap:
            return None
        self._known[key] = found
        return found
