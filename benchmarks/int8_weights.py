"""Sizes of int8 weights under our codecs, the paper's searches and its baselines, as one table.

    python benchmarks/int8_weights.py model-int8.safetensors [more.safetensors ...]

Every size is measured on encoded bytes that were decoded again, tensor by tensor, as a share of
the original: size-weighted, and as the mean over tensors. "Streams" counts coded bits and tables,
as the paper does; "frames" everything in the file but the padding between tensors.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits import Lossless, PackedTensor
from fewbits.lossless.histogram import entropy, histogram
from fewbits.lossless.runlength import RLE, RLEZ
from fewbits.lossless.shapeshifter import ShapeShifter

Values = NDArray[np.uint8]
PAPER = {"rows": 16, "count_bits": 10}
CODECS = {
    "Listing 1, arithmetic": Lossless(coder="arithmetic", search="paper", **PAPER),
    "optimal, arithmetic": Lossless(coder="arithmetic", **PAPER),
    "optimal, rANS": Lossless(**PAPER),
    "optimal, rANS, default": Lossless(),
    "optimal, rANS, 8 rows": Lossless(rows=8, count_bits=10),
    "optimal, rANS, 32 rows": Lossless(rows=32, count_bits=12),
}
BASELINES = {
    "RLE": RLE,
    "RLEZ": RLEZ,
    "ShapeShifter, zero vector": ShapeShifter(zero_vector=True),
    "ShapeShifter, none": ShapeShifter(),
}


def packed_sizes(codec: Lossless) -> Callable[[Values], tuple[int, int]]:
    """Measures bytes of streams with tables, and of the whole frame."""

    def measure(values: Values) -> tuple[int, int]:
        frame = fewbits.pack(values.view(np.int8), codec)
        assert fewbits.unpack(frame).tobytes() == values.tobytes()
        header = PackedTensor.of(frame).header
        tables = sum(len(t.to_bytes()) for plane in header.plan.planes for t in plane.tables)
        return int(header.lengths.sum()) + tables, len(frame)

    return measure


def rows(tensors: dict[str, Values]) -> Iterator[tuple[str, list[float], list[float]]]:
    """Name, bytes of streams and bytes of frames for each tensor."""
    arrays = list(tensors.values())
    limits = [entropy(histogram(a, 8)) * a.size / 8 for a in arrays]
    yield "order-0 entropy", limits, limits
    for name, codec in CODECS.items():
        measure = packed_sizes(codec)
        streams, frames = zip(*(measure(a) for a in arrays), strict=True)
        yield name, list(streams), list(frames)
    for name, baseline in BASELINES.items():
        sizes = []
        for a in arrays:
            assert (baseline.decode(baseline.encode(a), a.size) == a).all()
            sizes.append(baseline.size_bits(a) / 8)
        yield name, sizes, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        loaded = fewbits.load(path)
        tensors = {n: a.reshape(-1).view(np.uint8) for n, a in loaded.items() if a.dtype == np.int8}
        sizes = np.array([a.size for a in tensors.values()])
        print(f"\n{path.name}: {len(tensors)} int8 tensors, {sizes.sum()} bytes\n")
        print("| codec | streams and tables | frames | mean over tensors |")
        print("|---|---|---|---|")
        for name, streams, frames in rows(tensors):
            weighted = np.sum(streams) / sizes.sum(), np.sum(frames) / sizes.sum()
            mean = np.mean(np.array(frames) / sizes)
            print(f"| {name} | {weighted[0]:.4f} | {weighted[1]:.4f} | {mean:.4f} |")


if __name__ == "__main__":
    main()
