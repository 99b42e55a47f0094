"""Packed activations in the Trainer of Hugging Face Transformers.

from fewbits.training.for_transformers import PackActivations
trainer = Trainer(model, ..., callbacks=[PackActivations("int4")])
trainer.train()
"""

from typing import Any

from transformers import TrainerCallback

from fewbits.lossy.codec import Codec
from fewbits.lossy.policy import Chooser
from fewbits.training.forwards import ForwardPacking, pack_forwards
from fewbits.training.report import Report


class PackActivations(TrainerCallback):
    """Packs what the model's forward passes save, from the start of training to its end.

    Takes what `fewbits.training.pack_activations` takes. Models of Transformers compute their loss
    in ``forward``, so it is packed too. Not for ``torch_compile=True``, where the Trainer keeps the
    compiled model to itself: set ``pack_activations`` around the steps of a loop of your own.
    """

    def __init__(self, policy: str | Codec | Chooser, **settings: Any) -> None:
        self._policy, self._settings = policy, settings
        self._packing: ForwardPacking | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Starts to pack."""
        if args.torch_compile:
            raise ValueError("PackActivations cannot reach into a Trainer with torch_compile=True")
        self._packing = pack_forwards(model, self._policy, **self._settings)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops."""
        if self._packing is not None:
            self._packing.remove()

    def report(self) -> Report:
        """What happened in the last forward pass."""
        return Report(()) if self._packing is None else self._packing.report()
