"""Packing in a training loop that one does not write oneself.

from fewbits.training import pack_forwards
handle = pack_forwards(model, "int4")
train(model)  # whatever calls the model
handle.remove()
"""

from typing import Any

import torch

from fewbits.lossy.codec import Codec
from fewbits.lossy.policy import Chooser
from fewbits.training.hooks import pack_activations
from fewbits.training.report import Report


class ForwardPacking:
    """Packs every forward pass of one module that autograd follows, until it is removed."""

    def __init__(
        self, model: torch.nn.Module, policy: str | Codec | Chooser, **settings: Any
    ) -> None:
        self._packing = pack_activations(policy, **settings)
        self._depth = 0  # a module may call itself
        self._active = False
        self._handles = (
            model.register_forward_pre_hook(self._enter),
            model.register_forward_hook(self._leave, always_call=True),
        )

    def report(self) -> Report:
        """What happened in the last forward pass."""
        return self._packing.report()

    def remove(self) -> None:
        """Stop to pack. What is packed still unpacks."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self._depth += 1
        if self._depth == 1 and torch.is_grad_enabled():
            self._packing.__enter__()
            self._active = True

    def _leave(self, module: torch.nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._active:
            self._active = False
            self._packing.__exit__(None, None, None)


def pack_forwards(
    model: torch.nn.Module, policy: str | Codec | Chooser, **settings: Any
) -> ForwardPacking:
    """Pack what autograd saves in every forward pass of ``model``, whoever calls it.

    The same as `pack_activations` around each call, with the same ``settings``, for loops that one
    does not write oneself. A loss that is computed outside the model's ``forward`` is not packed.
    A model that ``torch.compile`` returned is given as it is, not the model inside.
    """
    return ForwardPacking(model, policy, **settings)
