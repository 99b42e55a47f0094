"""Traffic measured by packing a trace: weights as they are, activations with tables made before.

>>> import numpy as np
>>> from fewbits.traces.trace import Trace
>>> rng = np.random.default_rng(0)
>>> samples = [rng.laplace(0, 6, 4000).astype(np.int8) for _ in range(4)]
>>> trace = Trace({"layer": samples[0]}, {"layer": samples})
>>> found = measure(trace, "apack")
>>> round(found.weights, 2), round(found.activations, 2)
(0.67, 0.66)

As in the paper (VI, VII): a table for a layer's weights is made from these weights; one for its
activations from the first samples, and it then packs the others, which it has not seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.frame import pack
from fewbits.lossless.choose import Lossless
from fewbits.lossless.runlength import RLE, RLEZ
from fewbits.lossless.shapeshifter import ShapeShifter
from fewbits.machines.traffic import Traffic
from fewbits.machines.workload import Workload
from fewbits.profiles import profile
from fewbits.traces.trace import Trace

Array = NDArray[Any]

#: ``apack``: the paper's search, 16 rows, 10-bit counts and coder. ``fewbits``: our own codec.
PACKED = {
    "apack": Lossless(coder="arithmetic", search="paper", count_bits=10),
    "fewbits": Lossless(),
}
_SHAPESHIFTERS = [
    ShapeShifter(form, zero_vector)
    for form in ("twos_complement", "unsigned")
    for zero_vector in (False, True)
]
#: Baselines that need no tables, for values of 8 bits; of ShapeShifter's forms the smallest.
BASELINES: dict[str, Callable[[NDArray[np.uint8]], int]] = {
    "shapeshifter": lambda values: min(codec.size_bits(values) for codec in _SHAPESHIFTERS),
    "rle": RLE.size_bits,
    "rlez": RLEZ.size_bits,
}
CODECS = (*PACKED, *BASELINES)


def measure(
    trace: Trace,
    codec: str = "apack",
    *,
    profiled: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Traffic:
    """The share of its bytes that each tensor of a trace takes when packed.

    ``profiled``: how many samples of activations the tables are made from (default: half, rounded
    up); the others are measured. With one sample, tables are made from what they pack. Everything
    in a frame counts, with tables and headers. Layers without a sample take the mean, by bytes, of
    those with one. ``advance`` is told bytes that are done.

    Raises:
        FewbitsError: An unknown codec, or one that does not know these values.
    """
    if codec not in CODECS:
        hint = did_you_mean(codec, CODECS)
        raise FewbitsError(f"no codec is called {codec!r}{hint}; known: {', '.join(CODECS)}")
    weights, inputs = _Sizes(), _Sizes()
    for name, array in trace.weights.items():
        weights.add(name, array.nbytes, packed_bytes(array, codec))
        advance(array.nbytes)
    for name, samples in trace.inputs.items():
        first = profiled or -(-len(samples) // 2)
        held_out = samples[first:] or samples
        plain = sum(array.nbytes for array in held_out)
        inputs.add(name, plain, _packed_samples(samples[:first], held_out, codec))
        advance(sum(array.nbytes for array in samples))
    return Traffic(
        codec,
        weights.share,
        inputs.share,
        weights.by_name,
        inputs.by_name,
        origin="measured",
    )


class _Sizes:
    """Shares by name, and over all."""

    def __init__(self) -> None:
        self.by_name: dict[str, float] = {}
        self._plain = self._packed = 0

    def add(self, name: str, plain: int, packed: int) -> None:
        if plain:
            self.by_name[name] = packed / plain
            self._plain, self._packed = self._plain + plain, self._packed + packed

    @property
    def share(self) -> float:
        return self._packed / self._plain if self._plain else 1.0


def packed_bytes(array: Array, codec: str) -> int:
    """Bytes of a tensor that is known, tables and headers included."""
    if codec in BASELINES:
        return -(-BASELINES[codec](_bytes(array, codec)) // 8)
    return len(pack(array, PACKED[codec]))


def _packed_samples(known: Sequence[Array], new: Sequence[Array], codec: str) -> int:
    if codec in BASELINES:
        return sum(packed_bytes(array, codec) for array in new)
    fitted = profile(known, PACKED[codec])
    return sum(len(pack(array, fitted)) for array in new)


def _bytes(array: Array, codec: str) -> NDArray[np.uint8]:
    if array.dtype.itemsize != 1:
        raise FewbitsError(f"{codec} packs values of 8 bits, not {array.dtype}")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def matched(traffic: Traffic, trace: Trace, net: Workload) -> Traffic:
    """The same for a network whose operations are named otherwise: layers are taken in order.

    Where no name of the trace is an operation's, its weights go to the operations with as many, in
    order. ``FewbitsError`` if that leaves weights over: they are of another network.
    """
    names = set(net.names)
    if names & (set(trace.weights) | set(trace.inputs)):
        return traffic
    found: dict[str, float] = {}
    operations = iter(op for op in net.operations if op.weights)
    for name, array in trace.weights.items():
        match = next((op for op in operations if op.weights == array.size), None)
        if match is None:
            raise FewbitsError(f"{name} with {array.size} weights has no place in {net.name}")
        found[match.name] = traffic.weights_by_name[name]
    return Traffic(
        traffic.codec, traffic.weights, traffic.activations, found, {}, "measured", traffic.note
    )
