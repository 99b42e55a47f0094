"""One codec on top of another: each packs the payload that the one before it left."""

from dataclasses import dataclass
from itertools import accumulate

import torch

from fewbits.lossy.codec import Codec, Parts, TensorSpec

_UNSTACKABLE = "nothing can be packed on top of {!r}: its size depends on the values"


@dataclass(frozen=True)
class Chain(Codec):
    """Codecs one after another, as ``+`` makes them.

    The parts are the last codec's, then what each earlier one left beside its payload, last first.
    """

    stages: tuple[Codec, ...]

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Exact where every stage is."""
        return all(stage.exact for stage in self.stages)

    @property
    def flat(self) -> bool:  # type: ignore[override]
        """Blind to shape where every stage is."""
        return all(stage.flat for stage in self.stages)

    @property
    def part_count(self) -> int:  # type: ignore[override]
        """One payload, and what every stage leaves beside it."""
        return 1 + sum(stage.part_count - 1 for stage in self.stages)

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        payload, beside = tensor, ()
        for stage in self.stages:
            payload, *rest = stage.encode(payload, seed=seed)
            beside = (*rest, *beside)
        return (payload, *beside)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        specs = list(accumulate(self.stages[:-1], _payload, initial=spec))
        payload, *beside = parts
        for stage, seen in zip(reversed(self.stages), reversed(specs), strict=True):
            mine, beside = beside[: stage.part_count - 1], beside[stage.part_count - 1 :]
            payload = stage.decode((payload, *mine), seen)
        return payload

    def payload(self, spec: TensorSpec) -> TensorSpec | None:
        for stage in self.stages:
            after = stage.payload(spec)
            if after is None:
                return None
            spec = after
        return spec

    def nbytes(self, spec: TensorSpec) -> int | None:
        total = 0
        for stage in self.stages:
            size, after = stage.nbytes(spec), stage.payload(spec)
            if size is None or (after is None and stage is not self.stages[-1]):
                return None
            total += size - (after.nbytes if after and stage is not self.stages[-1] else 0)
            spec = after or spec
        return total

    def refusal(self, spec: TensorSpec) -> str | None:
        for stage in self.stages:
            why = stage.refusal(spec)
            if why is not None:
                return why
            after = stage.payload(spec)
            if after is None and stage is not self.stages[-1]:
                return _UNSTACKABLE.format(stage)
            spec = after or spec
        return None

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.stages))


def _payload(spec: TensorSpec, stage: Codec) -> TensorSpec:
    after = stage.payload(spec)
    if after is None:
        raise ValueError(
            f"nothing can be packed on top of {stage!r}: its size depends on the values"
        )
    return after


def chain(*codecs: Codec) -> Codec:
    """The codecs as one, in this order; those that must see the original (masks) come first."""
    stages = [
        stage
        for codec in codecs
        for stage in (codec.stages if isinstance(codec, Chain) else (codec,))
    ]
    stages.sort(key=lambda stage: not stage.sees_original)
    return stages[0] if len(stages) == 1 else Chain(tuple(stages))
