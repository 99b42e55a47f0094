"""Puts packed weights into a model in place of its parameters, and takes them out again."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from fewbits.errors import FewbitsError
from fewbits.lossless.choose import Lossless
from fewbits.weights.files import Weights, open_weights
from fewbits.weights.packed import Packed, pack_weight
from fewbits.weights.quantized import Scheme, quantize_weight, scheme_named
from fewbits.weights.settings import Settings, settings_of
from fewbits.weights.tensor import PackedWeight, as_parameter
from fewbits.weights.unpacker import Unpacker

Model = TypeVar("Model", bound=torch.nn.Module)
Choice = Callable[[str, torch.Tensor], bool]

# Smaller parameters are left alone: a frame's header would be a good part of them.
LEAST_BYTES = 1 << 14
# So much must be saved, or a parameter is left as it is.
WORTH = 0.97


def attach(
    model: Model,
    source: str | Path | Sequence[str | Path] | None = None,
    settings: Settings | None = None,
    *,
    quantize: str | None = None,
    only: Choice | None = None,
    strict: bool = True,
    **options: Any,
) -> Model:
    """Let a model's weights rest packed; returns the model, which is changed in place.

    Without ``source``, parameters are packed where they are, one after another. With it, they come
    from a packed file, a folder of them or a list, and stay packed on their way: the model may be
    on the ``meta`` device, where it takes no memory. Local files are mapped, so that their bytes
    are in memory once for all processes that use them. Buffers in the file are read as well.

    Packed parameters are frozen. Buffers, parameters below 16 KiB and those that packing does not
    make smaller stay plain. ``only(name, parameter)`` picks which ones to pack. ``quantize``:
    "int8", "int4" or "fp8" rounds weights of two dimensions and more to scaled integers or floats
    of 8 bits before they are packed (lossy). Other options are those of `Settings`.

    Raises:
        FewbitsError: The source does not match the model: everything missing, left over, or of
            another shape or dtype is listed. With ``strict=False`` what is missing (and not on
            the meta device) or left over is let be. Nothing was changed.
        CorruptError: A file is damaged, where that shows before its weights are unpacked.
        ValueError: A memory limit that is too low, or an unknown option.
    """
    if settings is not None and options:
        raise ValueError("give settings or options, not both")
    settings = settings or settings_of(options)
    scheme = scheme_named(quantize) if quantize is not None else None
    unpacker = Unpacker(settings)
    chosen = only or (lambda name, parameter: True)
    if source is not None:
        with open_weights(source, settings) as weights:
            _from_files(model, weights, unpacker, chosen, strict)
    for name, parameter, places in list(parameters_of(model)):
        rests = isinstance(parameter, PackedWeight)
        if rests and not parameter.is_cast and scheme is None:
            if parameter.unpacker is not unpacker:
                _put(places, as_parameter(parameter.on(unpacker)))
            continue
        if not rests and not chosen(name, parameter):
            continue
        if not rests and parameter.is_meta:
            raise FewbitsError(
                f"parameter {name!r} is on the meta device: nothing is there to pack"
            )
        made = packed_or_plain(name, parameter, unpacker, scheme)
        if isinstance(made, PackedWeight):
            _put(places, as_parameter(made))
        elif rests:
            _put(places, torch.nn.Parameter(made.clone(), requires_grad=False))
        del parameter, made
    unpacker.release()  # of what was unpacked to be packed in another way, and of its order
    unpacker.plan({weight.packed for weight in packed_weights(model)})
    return model


def detach(model: Model) -> Model:
    """Make all weights plain again, frozen as they were; returns the model, changed in place."""
    for _, parameter, places in list(parameters_of(model)):
        if isinstance(parameter, PackedWeight):
            plain = torch.nn.Parameter(parameter.unpack(), requires_grad=parameter.requires_grad)
            parameter.unpacker.release()
            _put(places, plain)
    return model


Places = list[tuple[torch.nn.Module, str]]


def parameters_of(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter, Places]]:
    """Each parameter once, with its first name and all places in modules that hold it."""
    found: dict[int, tuple[str, torch.nn.Parameter, Places]] = {}
    for prefix, module in model.named_modules():
        for local, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = f"{prefix}.{local}" if prefix else local
            entry = found.setdefault(id(parameter), (name, parameter, []))
            entry[2].append((module, local))
    yield from found.values()


def packed_weights(model: torch.nn.Module) -> list[PackedWeight]:
    """The packed parameters of a model, each once."""
    return [p for _, p, _ in parameters_of(model) if isinstance(p, PackedWeight)]


def packed_or_plain(
    name: str, weight: torch.Tensor, unpacker: Unpacker, scheme: Scheme | None
) -> torch.Tensor:
    """The weight packed, if it is large enough and that makes it smaller; else as it is."""
    plain = weight.in_scratch() if isinstance(weight, PackedWeight) else weight.detach()
    if plain.nbytes < LEAST_BYTES:
        return plain
    threads = unpacker.settings.threads
    if scheme is not None and plain.dim() >= 2 and plain.is_floating_point():
        packed: Packed = quantize_weight(name, plain, scheme, threads)
    else:
        packed = pack_weight(name, plain, Lossless(), threads)
    if not is_worth(packed):
        return plain
    return PackedWeight(packed, unpacker, device=weight.device)


def is_worth(packed: Packed) -> bool:
    """Whether a weight is large enough to rest packed, and smaller that way."""
    return packed.nbytes >= LEAST_BYTES and packed.packed_bytes <= WORTH * packed.nbytes


def _put(places: Places, parameter: torch.Tensor) -> None:
    for module, local in places:
        setattr(module, local, parameter)


def _from_files(
    model: torch.nn.Module, weights: Weights, unpacker: Unpacker, chosen: Choice, strict: bool
) -> None:
    """Take parameters and buffers from packed files, once all of them are known to fit."""
    weights.check(model, strict)
    for name, parameter, places in list(parameters_of(model)):
        held = next((n for n in _names(model, places) if n in weights), None)
        if held is None:
            continue
        packed = weights.packed(held)
        device = "cpu" if parameter.is_meta else parameter.device
        if is_worth(packed) and chosen(name, parameter):
            _put(places, as_parameter(PackedWeight(packed, unpacker, device=device)))
        else:
            plain = torch.nn.Parameter(
                weights.plain(held).to(device), requires_grad=parameter.requires_grad
            )
            _put(places, plain)
    for prefix, module in model.named_modules():
        for local, buffer in module._buffers.items():
            name = f"{prefix}.{local}" if prefix else local
            if buffer is not None and name in weights:
                device = "cpu" if buffer.is_meta else buffer.device
                module._buffers[local] = weights.plain(name).to(device)


def _names(model: torch.nn.Module, places: Places) -> list[str]:
    """All names of a parameter."""
    wanted = {(id(module), local) for module, local in places}
    return [
        f"{prefix}.{local}" if prefix else local
        for prefix, module in model.named_modules()
        for local in module._parameters
        if (id(module), local) in wanted
    ]
