"""Packed weights in Transformers: ``from_pretrained`` and ``save_pretrained`` of packed folders.

Importing this module registers the method ``fewbits`` with Transformers.
"""

import json
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps, revert_weight_conversion
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from fewbits import loaders
from fewbits.archive import Archive
from fewbits.container import Entry
from fewbits.quantities import parse_bytes
from fewbits.weights.attaching import LEAST_BYTES, attach, detach, is_worth, packed_or_plain
from fewbits.weights.files import INDEX, Weights
from fewbits.weights.quantized import scheme_named
from fewbits.weights.saving import save
from fewbits.weights.settings import settings_of
from fewbits.weights.tensor import PackedWeight
from fewbits.weights.unpacker import Unpacker

METHOD = "fewbits"
WEIGHTS = "model.safetensors"


@register_quantization_config(METHOD)
class FewbitsConfig(QuantizationConfigMixin):
    """What ``model.config.quantization_config`` says of a packed model.

    ``quantize``: None (lossless), "int8", "int4" or "fp8". Options are those of
    `fewbits.weights.Settings`; they are not stored, since they belong to the machine.
    """

    def __init__(self, quantize: str | None = None, **options: Any) -> None:
        for name in ("quant_method", "dequantize"):
            options.pop(name, None)
        if quantize is not None:
            scheme_named(quantize)
        self.quant_method = METHOD
        self.quantize = quantize
        self.settings = settings_of(options)

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {"quant_method": METHOD, "quantize": self.quantize}

    def to_diff_dict(self) -> dict[str, Any]:
        """The same; there is nothing that goes without saying."""
        return self.to_dict()

    def get_loading_attributes(self) -> dict[str, Any]:
        """What a caller may choose anew for a folder that has a configuration."""
        return {"settings": self.settings}


class _Keeper:
    """Tensors of an archive that stay packed on their way into a model."""

    def __init__(self, archive: Archive, unpacker: Unpacker) -> None:
        self._weights = Weights([archive], unpacker.settings.threads)
        self._unpacker = unpacker

    def entries(self) -> list[Entry]:
        return self._weights.entries()

    def tensor(self, name: str) -> torch.Tensor:
        packed = self._weights.packed(name)
        return (
            PackedWeight(packed, self._unpacker) if is_worth(packed) else self._weights.plain(name)
        )


class _Pack(ConversionOps):
    """Packs a plain checkpoint's tensor as it is loaded."""

    def __init__(self, quantizer: "FewbitsQuantizer") -> None:
        self._quantizer = quantizer

    def convert(self, input_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {
            name: self._quantizer.packed(name, value[0] if isinstance(value, list) else value)
            for name, value in input_dict.items()
        }

    @property
    def reverse_op(self) -> ConversionOps:
        raise NotImplementedError  # packed weights are saved as they are (`_Saving`), not undone


@register_quantizer(METHOD)
class FewbitsQuantizer(HfQuantizer):
    """Keeps the weights of packed files packed, and packs those of plain ones."""

    quantization_config: FewbitsConfig

    def __init__(self, quantization_config: FewbitsConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.unpacker = Unpacker(quantization_config.settings)
        self._end: Any = None

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Reading begins: packed files are found from here on, and give packed tensors."""
        installed = loaders.install()
        unpacker = self.unpacker
        loaders.keeping.set(lambda archive: _Keeper(archive, unpacker))
        # At the latest when a loading that failed is forgotten.
        self._end = weakref.finalize(self, _end_reading, installed)

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        """Whether a tensor of a plain checkpoint is packed as it is loaded."""
        module = model.get_submodule(param_name.rpartition(".")[0])
        parameter = module._parameters.get(param_name.rpartition(".")[2])
        return parameter is not None and parameter.nbytes >= LEAST_BYTES

    def get_quantize_ops(self) -> ConversionOps:
        """What packs it."""
        return _Pack(self)

    def packed(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor packed, if that is worth while."""
        scheme = self.quantization_config.quantize
        if isinstance(tensor, PackedWeight) and not tensor.is_cast and scheme is None:
            return tensor
        known = scheme_named(scheme) if scheme is not None else None
        return packed_or_plain(name, tensor, self.unpacker, known)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        self._end()
        attach(model, settings=self.quantization_config.settings)
        model.save_pretrained = _Saving(model)
        return model

    def get_state_dict_and_metadata(self, model: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """Nothing: weights are written by `_Saving`."""
        return {}, {}

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        del model.save_pretrained
        # A configuration that was saved before calls it by its name.
        return detach(model).to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)

    def is_serializable(self) -> bool:
        """A packed model can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Adapters on top of it can be trained."""
        return True

    def __reduce__(self) -> Any:
        return _quantizer, (self.quantization_config, self.pre_quantized)


def _quantizer(config: FewbitsConfig, pre_quantized: bool) -> FewbitsQuantizer:
    return FewbitsQuantizer(config, pre_quantized=pre_quantized)


def _end_reading(installed: Any) -> None:
    loaders.keeping.set(None)
    installed.close()


class _Saving:
    """A model's ``save_pretrained``: configuration as usual, weights in packed files."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def __call__(
        self,
        save_directory: Any,
        state_dict: dict[str, Any] | None = None,
        max_shard_size: int | str = "50GB",
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        model, folder = self._model, Path(save_directory)
        if getattr(model, "_hf_peft_config_loaded", False):
            type(model).save_pretrained(model, save_directory, push_to_hub=push_to_hub, **kwargs)
            return
        if push_to_hub:
            raise ValueError("save_pretrained writes packed files; upload the folder afterwards")
        type(model).save_pretrained(model, save_directory, state_dict={}, **kwargs)
        for old in folder.glob("model*.safetensors*"):
            if re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?", old.name):
                old.unlink()
        state = model.state_dict() if state_dict is None else state_dict
        for name in model._keys_to_ignore_on_save or ():
            state.pop(name, None)
        for name, source in (model.all_tied_weights_keys or {}).items():
            if source in state:
                state.pop(name, None)
        state = revert_weight_conversion(model, state)
        limit = parse_bytes(max_shard_size)
        shards = list(_shards(state, limit))
        metadata = {"format": "pt"}
        if len(shards) == 1:
            save(shards[0], folder / WEIGHTS, metadata=metadata)
            return
        places: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            save(shard, folder / file, metadata=metadata)
            places |= dict.fromkeys(shard, file)
        total = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _shards(state: dict[str, torch.Tensor], limit: int) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors one after another in files of at most so many bytes, a larger tensor by itself."""
    shard: dict[str, torch.Tensor] = {}
    taken = 0
    for name, tensor in state.items():
        size = tensor.packed.packed_bytes if isinstance(tensor, PackedWeight) else tensor.nbytes
        if shard and taken + size > limit:
            yield shard
            shard, taken = {}, 0
        shard[name] = tensor
        taken += size
    yield shard
