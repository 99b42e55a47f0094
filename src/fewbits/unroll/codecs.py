"""Codecs of ``fewbits.lossy`` as lines of generated source.

Which codec an activation gets is asked of the same policies as in training. What a generated step
can carry has a fixed size; the others are refused by name.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbits.errors import FewbitsError
from fewbits.unroll.operations.base import Profile, Shape

if TYPE_CHECKING:
    from fewbits.lossy.codec import Codec


@dataclass(frozen=True)
class Emitted:
    """A codec as functions ``compress_NAME`` and ``decompress_NAME``."""

    codec: "Codec"
    name: str

    @cached_property
    def stages(self) -> tuple[Any, ...]:
        """The codec's stages; masks are the model's own business and left out."""
        from fewbits.lossy.mask import Mask

        stages = getattr(self.codec, "stages", (self.codec,))
        return tuple(stage for stage in stages if not isinstance(stage, Mask))

    @property
    def seeded(self) -> bool:
        """Does it round by chance, from the step's seed?"""
        return any(getattr(stage, "rounding", "nearest") == "stochastic" for stage in self.stages)

    def nbytes(self, shape: Shape) -> int:
        """Bytes of the parts of a float32 tensor."""
        total = self._chain().nbytes(_spec(shape))
        assert total is not None
        return int(total)

    def splits(self, shape: Shape) -> bool:
        """Are the parts of a tensor its examples' one after another?"""
        (first, *more) = self.stages
        grouped = type(first).__name__ == "Quantize" and not more
        return grouped and math.prod(shape[1:]) % first.group == 0

    def source(self) -> str:
        """The two functions."""
        encode, decode = "x", "parts"
        lines = []
        for stage in self.stages:
            encode = _encoding(stage, encode)
        shapes = [f"shape{index}" for index in range(len(self.stages))]
        shapes[0] = "shape"
        for index, stage in reversed(list(enumerate(self.stages))):
            decode = _decoding(stage, decode, shapes[index])
        for index, stage in enumerate(self.stages[:-1]):
            lines.append(f"    {shapes[index + 1]} = {_payload_shape(stage, shapes[index])}")
        from fewbits.lossy.names import name_of

        about = name_of(self._chain())
        return "\n".join(
            [
                f"def compress_{self.name}(x{', seed' if self.seeded else ''}):",
                f'    """x packed by {about}."""',
                f"    return {encode}",
                "",
                "",
                f"def decompress_{self.name}(parts, shape):",
                f'    """What compress_{self.name} packed."""',
                *lines,
                f"    return {decode}",
            ]
        )

    def _chain(self) -> "Codec":
        from fewbits.lossy.chain import chain

        return chain(*self.stages)


def _spec(shape: Shape) -> Any:
    import torch

    from fewbits.lossy.codec import TensorSpec

    return TensorSpec(shape, torch.float32)


def _settings(stage: Any) -> str:
    zeros = ", zeros=True" if stage.zeros else ""
    return f"bits={stage.bits}{_group(stage)}{zeros}"


def _group(stage: Any) -> str:
    return f", group={stage.group}" if stage.group != 256 else ""


def _float8(stage: Any) -> str:
    return f"torch.{'float8_e4m3fn' if stage.to == 'fp8_e4m3' else 'float8_e5m2'}{_group(stage)}"


def _encoding(stage: Any, inner: str) -> str:
    kind = type(stage).__name__
    if kind == "Quantize":
        seed = ", seed=seed" if stage.rounding == "stochastic" else ""
        return f"quantize({inner}, {_settings(stage)}{seed})"
    if kind == "FixedRate":
        return f"fixed_rate({inner}, bits={stage.bits}, dims={stage.dims})"
    if kind == "DCT":
        return f"chop({inner}, {stage.frequencies})"
    if stage.to.startswith("fp8"):
        return f"to_float8({inner}, {_float8(stage)})"
    if stage.to == "bf16":  # which has the range of float32
        return f"{inner}.to(torch.bfloat16)"
    return f"saturated({inner}, torch.float16, 65504.0)"


def _decoding(stage: Any, inner: str, shape: str) -> str:
    kind = type(stage).__name__
    if kind == "Quantize":
        return f"dequantize({inner}, {shape}, {_settings(stage)})"
    if kind == "FixedRate":
        return f"from_fixed_rate({inner}, {shape}, bits={stage.bits}, dims={stage.dims})"
    if kind == "DCT":
        return f"unchop({inner}, {stage.frequencies}, {shape})"
    if stage.to.startswith("fp8"):
        return f"from_float8({inner}, {shape}{_group(stage)})"
    return f"{inner}.to(torch.float32)"


def _payload_shape(stage: Any, shape: str) -> str:
    if type(stage).__name__ != "DCT":
        return shape
    kept = len(stage.frequencies)
    return f"({kept}, *{shape}[:-2], -(-{shape}[-2] // 8), -(-{shape}[-1] // 8))"


_SHIFTS = "its {} take shifts, which the portable profile lacks"
_UNKNOWN_SIZE = "its size depends on the values, and a step's sizes are fixed"
_REASONS = {
    "Bounded": _UNKNOWN_SIZE,
    "Lossless": _UNKNOWN_SIZE,
}


def _refusal(stage: Any, profile: Profile) -> str | None:
    """Why a generated step cannot carry this stage."""
    kind = type(stage).__name__
    if kind == "Quantize":
        if stage.rounding == "stochastic" and profile == "portable":
            return _SHIFTS.format("hashes")
        return "one bit cannot say zero and more" if stage.steps == 0 else None
    if kind == "FixedRate":
        return _SHIFTS.format("codes of many widths") if profile == "portable" else None
    if kind == "Cast":
        is_float8 = stage.to.startswith("fp8") and profile == "portable"
        return "the portable profile has no floats of 8 bits" if is_float8 else None
    return None if kind in ("DCT", "Mask", "Exact") else _REASONS.get(kind, kind)


class CodecChoice:
    """Picks the codec of each resting activation, by a policy of `fewbits.lossy.policy`."""

    def __init__(self, what: str, profile: Profile = "torch") -> None:
        """``what`` is a codec's name, or a policy's TOML file."""
        self.exact = what in ("none", "identity", "exact")
        self._profile = profile
        if self.exact:
            return
        from fewbits.lossy.policy import Policy

        try:
            is_file = what.endswith(".toml")
            self._policy = Policy.from_toml(Path(what)) if is_file else Policy.of(what)
        except ValueError as error:
            raise FewbitsError(str(error)) from error
        for codec in (self._policy.default, *(rule.codec for rule in self._policy.rules)):
            self._check(codec)

    def _check(self, codec: "Codec") -> None:
        from fewbits.lossy.names import name_of

        for stage in getattr(codec, "stages", (codec,)):
            why = _refusal(stage, self._profile)
            if why:
                more = "fixed8, int4-stochastic, fp8, fp8-e5m2, "
                if self._profile == "portable":
                    more = ""
                raise FewbitsError(
                    f"a generated step cannot carry {name_of(codec)}: {why}; it can carry "
                    f"int1 to int8, dct1 to dct8, {more}bf16, fp16, mask, and these joined by +"
                )

    def __call__(self, name: str, operation: str, shape: Shape) -> Emitted | None:
        """The codec of an activation; None where it rests as it is."""
        if self.exact:
            return None
        codec = self._pick(name, operation, shape)
        stages = Emitted(codec, "").stages
        # What cannot hold the tensor is left out: DCT of what is no map.
        while stages and self._chained(stages).refusal(_spec(shape)):
            stages = stages[1:]
        if not stages or type(stages[0]).__name__ == "Exact":
            return None
        chosen = self._chained(stages)
        emitted = Emitted(chosen, _function_name(chosen))
        return emitted if emitted.nbytes(shape) < _spec(shape).nbytes else None

    @staticmethod
    def _chained(stages: tuple[Any, ...]) -> "Codec":
        from fewbits.lossy.chain import chain

        return chain(*stages)

    def _pick(self, name: str, operation: str, shape: Shape) -> "Codec":
        import torch

        from fewbits.lossy.policy import SavedTensor

        stand_in = torch.empty(shape, device="meta")
        saved = SavedTensor(operation, name, shape, torch.float32, name, stand_in)
        return self._policy.choose(saved)


def _function_name(codec: "Codec") -> str:
    from fewbits.lossy.names import name_of

    return re.sub(r"\W+", "_", name_of(codec))


Choose = Callable[[str, str, Shape], Emitted | None]
