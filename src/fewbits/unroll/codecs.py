"""Codecs of ``fewbits.lossy`` as lines of generated source.

Which codec an activation gets is asked of the same policies as in training. What a generated step
can carry has a fixed size and is deterministic; the others are refused by name.
"""

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

    def nbytes(self, shape: Shape) -> int:
        """Bytes of the parts of a float32 tensor."""
        total = self._chain().nbytes(_spec(shape))
        assert total is not None
        return int(total)

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
                f"def compress_{self.name}(x):",
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
    group = f", group={stage.group}" if stage.group != 256 else ""
    return f"bits={stage.bits}{group}{', zeros=True' if stage.zeros else ''}"


def _encoding(stage: Any, inner: str) -> str:
    kind = type(stage).__name__
    if kind == "Quantize":
        return f"quantize({inner}, {_settings(stage)})"
    if kind == "DCT":
        return f"chop({inner}, {stage.frequencies})"
    if stage.to == "bf16":  # which has the range of float32
        return f"{inner}.to(torch.bfloat16)"
    return f"saturated({inner}, torch.float16, 65504.0)"


def _decoding(stage: Any, inner: str, shape: str) -> str:
    kind = type(stage).__name__
    if kind == "Quantize":
        return f"dequantize({inner}, {shape}, {_settings(stage)})"
    if kind == "DCT":
        return f"unchop({inner}, {stage.frequencies}, {shape})"
    return f"{inner}.to(torch.float32)"


def _payload_shape(stage: Any, shape: str) -> str:
    if type(stage).__name__ != "DCT":
        return shape
    kept = len(stage.frequencies)
    return f"({kept}, *{shape}[:-2], -(-{shape}[-2] // 8), -(-{shape}[-1] // 8))"


def _refusal(stage: Any) -> str | None:
    """Why a generated step cannot carry this stage."""
    kind = type(stage).__name__
    if kind == "Quantize":
        if stage.rounding != "nearest":
            return "random rounding"
        return "int1-zeros" if stage.steps == 0 else None
    if kind == "Cast":
        return None if stage.to in ("bf16", "fp16") else f"casts to {stage.to}"
    return None if kind in ("DCT", "Mask") else kind


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
        for stage in getattr(codec, "stages", (codec,)):
            why = _refusal(stage)
            if why and why != "Exact":
                raise FewbitsError(
                    f"a generated step cannot carry {codec!r} ({why}); it can carry "
                    "int1 to int8, dct1 to dct8, bf16, fp16, mask, and these joined by +"
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
