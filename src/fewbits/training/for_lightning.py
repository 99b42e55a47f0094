"""Packed activations in the Trainer of Lightning.

from fewbits.training.for_lightning import PackActivations
trainer = Trainer(..., callbacks=[PackActivations("int4")])
"""

from typing import Any

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    from pytorch_lightning import Callback

from fewbits.lossy.codec import Codec
from fewbits.lossy.policy import Chooser
from fewbits.training.hooks import pack_activations
from fewbits.training.report import Report


class PackActivations(Callback):
    """Packs what ``training_step`` saves, the loss included.

    Takes what `fewbits.training.pack_activations` takes. With manual optimization, packs up to the
    first backward pass of each batch; `fewbits.training.pack_forwards` serves such loops better.
    """

    def __init__(self, policy: str | Codec | Chooser, **settings: Any) -> None:
        self._packing = pack_activations(policy, **settings)
        self._active = False

    def on_train_batch_start(self, *args: Any) -> None:
        """Starts to pack."""
        self._packing.__enter__()
        self._active = True

    def on_before_backward(self, *args: Any) -> None:
        """Stops: what autograd saved is packed."""
        self._stop()

    def on_train_batch_end(self, *args: Any) -> None:
        """Stops, where there was no backward pass."""
        self._stop()

    def on_exception(self, *args: Any) -> None:
        """Stops, so that what comes after the failure is not packed."""
        self._stop()

    def report(self) -> Report:
        """What happened in the last step."""
        return self._packing.report()

    def _stop(self) -> None:
        if self._active:
            self._active = False
            self._packing.__exit__(None, None, None)
