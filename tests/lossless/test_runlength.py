"""The run-length baselines: round trips, exact sizes, and the figures on real weights."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fewbits.errors import CorruptError
from fewbits.lossless import runlength
from fewbits.lossless.runlength import RLE, RLEZ, RunLength

WEIGHTS = Path(__file__).resolve().parents[2].parent / "shared" / "data"

codecs = st.builds(RunLength, zeros_only=st.booleans(), width=st.integers(4, 8))


@st.composite
def runs(draw: st.DrawFn) -> np.ndarray:
    """Values of at most 4 bits in runs of any length, with many zeros."""
    pieces = draw(st.lists(st.tuples(st.sampled_from((0, 0, 1, 9, 15)), st.integers(1, 50))))
    return np.array([value for value, n in pieces for _ in range(n)], np.uint8)


@given(codecs, runs())
@settings(max_examples=200, deadline=None)
def test_runs_round_trip_and_their_size_is_that_of_the_encoding(codec, values):
    encoded = codec.encode(values)
    np.testing.assert_array_equal(codec.decode(encoded, values.size), values)
    assert len(encoded) == -(-codec.size_bits(values) // 8)


@given(codecs, runs())
@settings(max_examples=100, deadline=None)
def test_size_is_that_of_tuples_counted_one_by_one(codec, values):
    tuples, i = 0, 0
    while i < values.size:
        repeated = 0 if codec.zeros_only else values[i]
        distance = 0
        while distance < 15 and i + distance + 1 < values.size:
            if values[i + distance + 1] != repeated:
                break
            distance += 1
        i += 1 + distance
        tuples += 1
    assert codec.size_bits(values) == tuples * (codec.width + 4)


@pytest.mark.parametrize("codec", [RLE, RLEZ])
def test_every_value_round_trips_at_one_and_a_half_times_its_size(codec):
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(codec.decode(codec.encode(values), 256), values)
    assert codec.size_bits(values[1:]) == 255 * 12


@pytest.mark.parametrize(
    ("codec", "values", "encoded"),
    [
        (RLE, [7] * 16, "07F"),
        (RLE, [7] * 17, "07F 070"),
        (RLE, [7] * 33, "07F 07F 070"),
        (RLE, [0, 0, 7], "001 070"),
        (RLEZ, [7] + [0] * 15, "07F"),
        (RLEZ, [7] + [0] * 16, "07F 000"),
        (RLEZ, [7] + [0] * 15 + [7], "07F 070"),
        (RLEZ, [0, 0, 7], "001 070"),  # zeros at the beginning
        (RLEZ, [0] * 17 + [7], "00F 000 070"),
    ],
)
def test_tuples_are_as_the_docstring_says(codec, values, encoded):
    digits = encoded.replace(" ", "")
    expected = bytes.fromhex(digits + "0" * (len(digits) % 2))
    assert codec.encode(np.array(values, np.uint8)) == expected


def test_nothing_encodes_to_nothing():
    empty = np.array([], np.uint8)
    assert RLE.encode(empty) == RLEZ.encode(empty) == b""
    assert RLE.size_bits(empty) == 0
    assert RLEZ.decode(b"", 0).size == 0


@pytest.mark.parametrize("codec", [RLE, RLEZ])
def test_data_of_another_length_are_refused(codec):
    values = np.array([1, 1, 0, 0, 0, 3, 4], np.uint8)
    encoded = codec.encode(values)
    for damaged, n in (
        (encoded[:-1], 7), (encoded + b"\0", 7), (encoded + encoded, 7), (encoded, 6),
        (encoded, 8), (b"", 7), (encoded, 0),
    ):  # fmt: skip
        with pytest.raises(CorruptError, match=f"do not hold {n} values"):
            codec.decode(damaged, n)


def test_set_padding_bits_are_refused():
    encoded = RLE.encode(np.array([5], np.uint8))
    with pytest.raises(CorruptError):
        RLE.decode(encoded[:1] + bytes((encoded[1] | 1,)), 1)


def test_foreign_arrays_and_widths_are_refused():
    with pytest.raises(ValueError, match="1-d array of uint8"):
        RLE.encode(np.array([1], np.int8))
    with pytest.raises(ValueError, match="1-d array of uint8"):
        RLE.encode(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="16 does not fit 4 bits"):
        RunLength(width=4).encode(np.array([16], np.uint8))
    with pytest.raises(ValueError, match="width 9"):
        RunLength(width=9)


@pytest.mark.parametrize(
    ("model", "rle", "rlez"),
    [("mobilenet_v3_large-int8", 1.407, 1.359), ("resnet18-int8", 1.460, 1.469)],
)
def test_run_lengths_expand_real_weights_as_measured(model, rle, rlez):
    path = WEIGHTS / f"{model}.safetensors"
    if not path.exists():
        pytest.skip(f"real int8 weights are not at {path}")
    tensors = [tensor.ravel().view(np.uint8) for tensor in load_file(path).values()]
    bits = 8 * sum(tensor.size for tensor in tensors)
    assert sum(map(RLE.size_bits, tensors)) / bits == pytest.approx(rle, abs=0.0005)
    assert sum(map(RLEZ.size_bits, tensors)) / bits == pytest.approx(rlez, abs=0.0005)


def test_the_example_in_the_module_runs():
    results = doctest.testmod(runlength)
    assert results.attempted > 0
    assert results.failed == 0
