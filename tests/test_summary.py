"""The figures of a packed tensor: counted in full, and from headers alone."""

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import fewbits
from fewbits.frame import PackedTensor
from fewbits.lossless.histogram import entropy, histogram
from fewbits.summary import codec_name, summarize, total_ratio


def packed(array: NDArray, **settings: object) -> PackedTensor:
    return PackedTensor.of(fewbits.pack(array, fewbits.Lossless(**settings)))  # type: ignore[arg-type]


def skewed(shape: tuple[int, ...] = (100, 100)) -> NDArray[np.int8]:
    return np.rint(np.random.default_rng(3).normal(0, 9, shape)).astype(np.int8)


def test_every_byte_is_counted() -> None:
    array = skewed()
    frame = fewbits.pack(array)
    row = summarize("w", PackedTensor.of(frame))
    assert (row.name, row.dtype, row.shape, row.elements) == ("w", "int8", (100, 100), 10_000)
    assert row.plain_bytes == array.nbytes and row.packed_bytes == len(frame)
    assert row.header_bytes + row.payload_bytes == row.packed_bytes
    assert 0 < row.table_bytes < row.header_bytes
    assert row.ratio == array.nbytes / len(frame)
    assert row.bits == 8 * len(frame) / array.size


def test_entropy_is_the_one_of_the_values() -> None:
    array = skewed()
    exact = entropy(histogram(array.view(np.uint8), 8))
    assert summarize("w", packed(array)).entropy_bits == pytest.approx(exact, rel=1e-6)


def test_bits_are_near_the_entropy_and_not_below() -> None:
    row = summarize("w", packed(skewed((1000, 1000))))
    assert row.entropy_bits < row.bits < row.entropy_bits * 1.01


def test_an_empty_tensor_has_no_strange_figures() -> None:
    row = summarize("e", packed(np.zeros((3, 0), np.float32)))
    assert (row.codec, row.elements, row.ratio, row.bits) == ("empty", 0, 1.0, 0.0)
    assert row.entropy_bits == 0.0 and row.packed_bytes > 0


def test_four_bit_elements_are_counted_by_element() -> None:
    array = np.random.default_rng(0).integers(-8, 8, 100_000).astype(ml_dtypes.int4)
    row = summarize("q", packed(array))
    assert row.elements == 100_000 and row.plain_bytes == 50_000
    assert row.entropy_bits == pytest.approx(4.0, abs=0.01)
    assert row.bits == pytest.approx(4.0, abs=0.05)


def test_codec_names() -> None:
    rng = np.random.default_rng(1)
    assert codec_name(packed(np.full(1000, 3.0, np.float32))) == "constant"
    assert codec_name(packed(rng.integers(0, 256, 9999, np.uint8))) == "raw"
    assert codec_name(packed(np.zeros((0,), np.int16))) == "empty"
    assert "arithmetic 16x" in codec_name(packed(skewed(), coder="arithmetic"))
    assert "rANS 8x12" in codec_name(packed(skewed(), rows=8, count_bits=12))
    weights = rng.normal(0, 0.02, (300, 300)).astype(np.float32)
    assert codec_name(packed(weights)).startswith("sign to LSB, rANS 1")
    assert codec_name(packed(weights)).endswith(" | 2 x raw")
    nibbles = rng.integers(0, 4, (2, 5000)).astype(np.uint8)
    assert "nibbles" in codec_name(packed(nibbles[0] | nibbles[1] << 4))


def test_total_ratio_weighs_by_size() -> None:
    rows = [summarize("a", packed(skewed())), summarize("b", packed(np.zeros(100_000, np.int8)))]
    plain, small = sum(r.plain_bytes for r in rows), sum(r.packed_bytes for r in rows)
    assert total_ratio(rows) == plain / small
    assert total_ratio(iter(rows)) == plain / small
    assert total_ratio([]) == 1.0
