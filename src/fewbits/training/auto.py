"""``"auto"`` by name: an `Adaptive` for each model, kept for as long as the model lives.

A policy that learns must outlive the ``with`` block that it is named in. So it is kept beside the
model whose forward pass came first in the block, and found again in the next step, wherever in the
program that is. Whoever wants settings, or to keep the policy in their own hands, makes an
`Adaptive`.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch

from fewbits.lossy.codec import Codec
from fewbits.lossy.policy import Chooser, SavedTensor
from fewbits.training.adaptive import Adaptive

_OF_MODEL: WeakKeyDictionary[torch.nn.Module, Adaptive] = WeakKeyDictionary()
_WITHOUT_MODEL = Adaptive()


def policy_of(model: torch.nn.Module | None) -> Adaptive:
    """What ``"auto"`` means for this outermost module; None is code outside of all modules."""
    if model is None:
        return _WITHOUT_MODEL
    return _OF_MODEL.setdefault(model, Adaptive())


class Auto(Chooser):
    """The `Adaptive` of the model that runs; knows it once the first tensor was saved."""

    def __init__(self) -> None:
        self._policy: Adaptive | None = None

    def begin(self) -> None:
        """Another model may come."""
        self._policy = None

    def choose(self, saved: SavedTensor) -> Codec:
        """As the model's policy chooses."""
        if self._policy is None:
            self._policy = policy_of(saved.root)
            self._policy.begin()
        return self._policy.choose(saved)

    def rebuilds(self, saved: SavedTensor, sources: tuple[Codec, ...]) -> bool:
        """As any `Adaptive`."""
        return _WITHOUT_MODEL.rebuilds(saved, sources)

    def traced(self) -> Chooser:
        """As any `Adaptive` with its default target."""
        return _WITHOUT_MODEL.traced()

    def held(self, nbytes: int) -> None:
        """For the model's policy."""
        if self._policy is not None:
            self._policy.held(nbytes)

    def backward(self, loss: torch.Tensor, model: torch.nn.Module | None = None) -> None:
        """``loss.backward()``, and now and then a check of the gradients: `Adaptive.backward`."""
        if self._policy is None:
            loss.backward()
        else:
            self._policy.backward(loss, model)

    def __getattr__(self, name: str) -> Any:
        """``log``, ``history`` and all else of the policy of the model that ran last."""
        if self._policy is None:
            raise AttributeError(f"{name}: no step was packed yet")
        return getattr(self._policy, name)

    def __str__(self) -> str:
        return "auto, before its first step" if self._policy is None else str(self._policy)
