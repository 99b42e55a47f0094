"""The ShapeShifter baseline: round trips, exact sizes, and the figures on real weights."""

import doctest
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fewbits.errors import CorruptError
from fewbits.lossless import shapeshifter
from fewbits.lossless.shapeshifter import ShapeShifter

WEIGHTS = Path(__file__).resolve().parents[2].parent / "shared" / "data"

FORMS = ("twos_complement", "sign_magnitude", "unsigned")
ALL_CODECS = [ShapeShifter(form, vector) for form, vector in product(FORMS, (False, True))]
codecs = st.builds(ShapeShifter, st.sampled_from(FORMS), st.booleans(), st.integers(4, 8))


@st.composite
def codecs_and_values(draw: st.DrawFn) -> tuple[ShapeShifter, np.ndarray]:
    """A codec and values that fit it: small numbers of either sign, zeros and extremes."""
    codec = draw(codecs)
    low, high = -(1 << (codec.width - 1)), (1 << (codec.width - 1)) - 1
    number = st.one_of(st.just(0), st.integers(-2, 2), st.integers(low, high), st.just(low))
    numbers = draw(st.lists(number, max_size=60))
    return codec, (np.array(numbers, np.int64) & ((1 << codec.width) - 1)).astype(np.uint8)


@given(codecs_and_values())
@settings(max_examples=300, deadline=None)
def test_values_round_trip_and_their_size_is_that_of_the_encoding(case):
    codec, values = case
    encoded = codec.encode(values)
    np.testing.assert_array_equal(codec.decode(encoded, values.size), values)
    assert len(encoded) == -(-codec.size_bits(values) // 8)


def precision(codec: ShapeShifter, group: list[int]) -> int:
    """Bits of a value in this group, sign included, found by trying."""
    half = 1 << (codec.width - 1)
    for bits in range(1, codec.width + 1):
        if codec.form == "unsigned":
            fits = all(v < 1 << bits for v in group)
        else:
            signed = [v - 2 * half if v >= half else v for v in group]
            reach = 1 << (bits - 1)
            if codec.form == "twos_complement":
                fits = all(-reach <= v < reach for v in signed)
            else:
                fits = all(abs(v) < reach or v == -half for v in signed)
        if fits:
            return bits
    raise AssertionError("a value does not fit its width")


@given(codecs_and_values())
@settings(max_examples=200, deadline=None)
def test_size_counts_vector_prefix_and_values_of_every_group(case):
    codec, values = case
    bits = 0
    for begin in range(0, values.size, 8):
        group = values[begin : begin + 8].tolist()
        written = [v for v in group if v] if codec.zero_vector else group
        bits += len(group) if codec.zero_vector else 0
        bits += {4: 2, 5: 3, 6: 3, 7: 3, 8: 3}[codec.width]
        bits += len(written) * precision(codec, group)
    assert codec.size_bits(values) == bits


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_every_byte_round_trips_alone_and_among_zeros(codec):
    for value in range(256):
        for size in (1, 7, 8, 9):
            values = np.zeros(size, np.uint8)
            values[-1] = value
            np.testing.assert_array_equal(codec.decode(codec.encode(values), size), values)


@pytest.mark.parametrize(
    ("codec", "numbers", "bits"),
    [
        (ShapeShifter(), [1, -1], "001 01 11"),
        (ShapeShifter(), [-128, 127], "111 10000000 01111111"),
        (ShapeShifter(zero_vector=True), [0, -2, 1], "011 001 10 01"),
        (ShapeShifter(zero_vector=True), [0, 0], "00 000"),
        (ShapeShifter("sign_magnitude", True), [-128, 0, -3], "101 010 100 111"),
        (ShapeShifter("sign_magnitude", True), [-128], "1 000 1"),
        (ShapeShifter("unsigned"), [5, 0], "010 101 000"),
        (ShapeShifter("unsigned", width=4), [9], "11 1001"),
    ],
)
def test_bits_are_as_the_docstring_says(codec, numbers, bits):
    values = np.array(numbers, np.int8).view(np.uint8)
    digits = bits.replace(" ", "")
    assert codec.size_bits(values) == len(digits)
    encoded = codec.encode(values)
    assert "".join(f"{byte:08b}" for byte in encoded) == digits + "0" * (-len(digits) % 8)


def test_most_negative_value_costs_a_full_precision_only_in_twos_complement():
    values = np.array([-128] * 8, np.int8).view(np.uint8)
    assert ShapeShifter("twos_complement").size_bits(values) == 3 + 8 * 8
    assert ShapeShifter("sign_magnitude").size_bits(values) == 3 + 8 * 1


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_nothing_encodes_to_nothing(codec):
    empty = np.array([], np.uint8)
    assert codec.encode(empty) == b""
    assert codec.size_bits(empty) == 0
    assert codec.decode(b"", 0).size == 0


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_truncated_or_longer_data_are_refused(codec):
    values = np.random.default_rng(0).integers(0, 256, 50).astype(np.uint8)
    encoded = codec.encode(values)
    for size in range(len(encoded)):
        with pytest.raises(CorruptError):
            codec.decode(encoded[:size], 50)
    for damaged in (encoded + b"\0", b""):
        with pytest.raises(CorruptError):
            codec.decode(damaged, 50)
    with pytest.raises(CorruptError):
        codec.decode(encoded, 10)


def test_set_padding_bits_and_impossible_precisions_are_refused():
    with pytest.raises(CorruptError, match="do not hold 1 values"):
        ShapeShifter().decode(b"\x01", 1)
    with pytest.raises(CorruptError, match="a precision exceeds 5 bits"):
        ShapeShifter(width=5).decode(b"\xff\xff", 1)


@given(codecs, st.binary(max_size=40), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_decode_to_values_of_the_width_or_are_refused(codec, noise, n):
    try:
        values = codec.decode(noise, n)
    except CorruptError:
        return
    assert values.size == n
    assert not (values >> codec.width if codec.width < 8 else np.zeros(0)).any()


def test_foreign_arrays_and_settings_are_refused():
    with pytest.raises(ValueError, match="1-d array of uint8"):
        ShapeShifter().encode(np.array([1], np.int8))
    with pytest.raises(ValueError, match="16 does not fit 4 bits"):
        ShapeShifter(width=4).encode(np.array([16], np.uint8))
    with pytest.raises(ValueError, match="width 3"):
        ShapeShifter(width=3)
    with pytest.raises(ValueError, match="unknown form"):
        ShapeShifter("zigzag")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "form", "with_vector", "without"),
    [
        ("mobilenet_v3_large-int8", "twos_complement", 0.787, 0.712),
        ("mobilenet_v3_large-int8", "sign_magnitude", 0.794, 0.720),
        ("resnet18-int8", "twos_complement", 0.973, 0.864),
        ("resnet18-int8", "sign_magnitude", 0.977, 0.867),
    ],
)
def test_real_weights_shrink_as_measured(model, form, with_vector, without):
    path = WEIGHTS / f"{model}.safetensors"
    if not path.exists():
        pytest.skip(f"real int8 weights are not at {path}")
    tensors = [tensor.ravel().view(np.uint8) for tensor in load_file(path).values()]
    bits = 8 * sum(tensor.size for tensor in tensors)
    for codec, expected in ((ShapeShifter(form, True), with_vector), (ShapeShifter(form), without)):
        measured = sum(map(codec.size_bits, tensors)) / bits
        assert measured == pytest.approx(expected, abs=0.0006)


def test_the_example_in_the_module_runs():
    results = doctest.testmod(shapeshifter)
    assert results.attempted > 0
    assert results.failed == 0
