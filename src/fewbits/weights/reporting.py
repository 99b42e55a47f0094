"""What a packed model takes and what unpacking costs."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from fewbits.quantities import size
from fewbits.weights.attaching import packed_weights, parameters_of
from fewbits.weights.tensor import PackedWeight
from fewbits.weights.unpacker import Counts, Unpacker


@dataclass(frozen=True)
class Row:
    """One packed weight: bytes unpacked and at rest."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    codec: str
    unpacked_bytes: int
    packed_bytes: int


@dataclass(frozen=True)
class Report:
    """Bytes that a model takes now, and what its unpacker has done.

    ``scratch_bytes``: memory of weights that are unpacked now or will be, the cache included;
    ``most_scratch_bytes``: the most of it so far. ``device_bytes``: frames that rest on a GPU as
    well, besides those in the CPU's memory. ``waited_s`` is the part of ``unpack_s`` (on all
    threads) for which the computation stood still.
    """

    rows: tuple[Row, ...]
    plain_bytes: int
    scratch_bytes: int
    most_scratch_bytes: int
    cached_bytes: int
    device_bytes: int
    counts: Counts

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that the packed weights would take unpacked."""
        return sum(row.unpacked_bytes for row in self.rows)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weights at rest."""
        return sum(row.packed_bytes for row in self.rows)

    @property
    def resident_bytes(self) -> int:
        """All that the model takes: packed weights, plain tensors, scratch and cache."""
        return self.packed_bytes + self.plain_bytes + self.scratch_bytes

    @property
    def unpack_s(self) -> float:
        """Seconds spent unpacking, on whichever thread."""
        return self.counts.unpack_s

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers and text."""
        sums = ("unpacked_bytes", "packed_bytes", "resident_bytes")
        return asdict(self) | {name: getattr(self, name) for name in sums}

    def __str__(self) -> str:
        plain_model = self.unpacked_bytes + self.plain_bytes
        counts = self.counts
        lines = [
            f"{len(self.rows)} packed weights: {size(self.unpacked_bytes)} at rest in "
            f"{size(self.packed_bytes)}",
            f"plain parameters and buffers: {size(self.plain_bytes)}",
            f"scratch: {size(self.scratch_bytes)} ({size(self.cached_bytes)} of it cache), "
            f"{size(self.most_scratch_bytes)} at most",
            f"resident: {size(self.resident_bytes)}, "
            f"{self.resident_bytes / max(plain_model, 1):.1%} of the plain model",
            f"unpacked {counts.unpacked} times, {size(counts.unpacked_bytes)} in "
            f"{counts.unpack_s:.2f} s, of which the computation waited {counts.waited_s:.2f} s; "
            f"{counts.prefetched} ahead of time, {counts.kept} from the cache, "
            f"{counts.fused} fused",
        ]
        return "\n".join(lines)


def report(model: torch.nn.Module) -> Report:
    """What a model that packed weights are attached to takes now."""
    weights = packed_weights(model)
    unpackers: dict[int, Unpacker] = {id(w.unpacker): w.unpacker for w in weights}
    counts = Counts()
    for unpacker in unpackers.values():
        for name, value in vars(unpacker.counts).items():
            setattr(counts, name, getattr(counts, name) + value)
    plain = [p for _, p, _ in parameters_of(model) if not isinstance(p, PackedWeight)]
    tensors = {id(t): t for t in (*plain, *model.buffers())}
    return Report(
        rows=tuple(
            Row(
                weight.packed.name,
                tuple(weight.packed.shape),
                str(weight.dtype).removeprefix("torch."),
                weight.packed.codec,
                weight.packed.nbytes,
                weight.packed.packed_bytes,
            )
            for weight in weights
        ),
        plain_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        scratch_bytes=sum(u.scratch.held_bytes() + u.cached_bytes for u in unpackers.values()),
        most_scratch_bytes=sum(u.scratch.most_bytes + u.cached_bytes for u in unpackers.values()),
        cached_bytes=sum(u.cached_bytes for u in unpackers.values()),
        device_bytes=sum(u.device_bytes for u in unpackers.values()),
        counts=counts,
    )
