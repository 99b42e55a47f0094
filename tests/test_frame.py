"""Frames: any array comes back with the same dtype, shape and bits."""

import ml_dtypes
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fewbits
from fewbits import Lossless, PackedTensor, _kernels
from fewbits.lossless.plan import Coder, Mode
from fewbits.values.types import LAYOUTS, dtype_named

CODECS = [
    Lossless(),
    Lossless(coder="arithmetic"),
    Lossless(rows=40, count_bits=16),
    Lossless(rows=4, count_bits=8, search="paper"),
    Lossless(coder="arithmetic", search="paper", count_bits=10),
]


def bits_of(array):
    """The array's own bytes, whatever its dtype, in C order."""
    return np.ascontiguousarray(array).tobytes()


def assert_round_trip(array, codec=None):
    before = array.tobytes()
    frame = fewbits.pack(array, codec)
    back = fewbits.unpack(frame)
    assert array.tobytes() == before, "packing changed its input"
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert bits_of(back) == bits_of(array)
    return frame


def distributed(kind, n, rng):
    """Bytes with the shapes that tensors have, and some they should not."""
    draws = {
        "random": lambda: rng.integers(0, 256, n),
        "constant": lambda: np.full(n, rng.integers(256)),
        "one odd one": lambda: np.arange(n) == n // 2,
        "laplace": lambda: rng.laplace(0, 6, n).astype(np.int64),
        "sparse": lambda: np.where(rng.random(n) < 0.99, 0, rng.integers(0, 256, n)),
        "ramp": lambda: np.arange(n),
        "two values": lambda: rng.integers(0, 2, n) * 255,
    }
    return (draws[kind]() & 255).astype(np.uint8)


KINDS = ["random", "constant", "one odd one", "laplace", "sparse", "ramp", "two values"]


def of_dtype(dtype, raw):
    """An array of this dtype over raw bytes; 4-bit types keep to their low half."""
    if dtype.name in ("int4", "uint4"):
        return (raw & 15).view(dtype)
    if dtype.name == "bool":
        return (raw & 1).view(bool)
    return raw[: raw.size // dtype.itemsize * dtype.itemsize].view(dtype)


@pytest.mark.parametrize("name", [*LAYOUTS, ">f4", ">i2", ">c8", ">u8", "|S5", "<U3", "<M8[ns]"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_and_distribution_round_trips(name, kind):
    dtype = dtype_named(name)
    raw = distributed(kind, 24000, np.random.default_rng(7))
    array = of_dtype(dtype, raw)
    frame = assert_round_trip(array)
    header = PackedTensor.of(frame).header
    assert len(frame) <= header.storage_bytes + header.header_bytes


@pytest.mark.parametrize("codec", CODECS, ids=str)
@given(
    array=st.sampled_from(
        ["int4", "int8", "uint8", "int16", "float8_e4m3fn", "float8_e5m2", "bfloat16", "float16",
         "float32", "int64", "float64", "complex64", "bool"]
    ).flatmap(
        lambda name: hnp.arrays(
            np.uint8,
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9).map(
                lambda shape: (*shape, dtype_named(name).itemsize)
            ),
            elements=st.sampled_from([0, 1, 2, 63, 127, 128, 255]) | st.integers(0, 255),
        ).map(lambda raw: of_dtype(dtype_named(name), raw).reshape(raw.shape[:-1]))
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_adversarial_shapes_and_bits_round_trip(codec, array):
    assert_round_trip(array, codec)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_special_floats_keep_their_bits(dtype):
    dtype = np.dtype(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    top = 8 * dtype.itemsize - 1
    patterns = [0, 1, (1 << top), (1 << top) | 1, (1 << top) - 1, (1 << (top + 1)) - 1]
    info = ml_dtypes.finfo(dtype)
    infinity = np.array(np.inf, dtype).view(unsigned)
    payloads = [int(infinity) | bit for bit in (0, 1, 1 << (info.nmant - 1), 3)]
    bits = np.array(patterns + payloads, unsigned)
    for repeats in (1, 5000):
        assert_round_trip(np.tile(bits, repeats).view(dtype))


def test_arrays_in_any_memory_order_round_trip():
    base = np.random.default_rng(0).standard_normal((20, 30, 5)).astype(np.float32)
    for array in (base.T, base[::2, ::-3], np.asfortranarray(base), base.transpose(1, 0, 2)):
        assert not array.flags.c_contiguous
        assert_round_trip(array)


def test_read_only_arrays_round_trip():
    array = np.arange(100, dtype=np.int16)
    array.flags.writeable = False
    assert_round_trip(array)
    assert fewbits.unpack(fewbits.pack(array)).flags.writeable


def test_structured_and_long_double_arrays_round_trip():
    record = np.zeros(9, dtype=[("a", "<i4"), ("b", ">f8", (2,)), ("c", "S3")])
    record["a"], record["c"] = np.arange(9), b"xyz"
    assert_round_trip(record)
    assert_round_trip(np.arange(12, dtype=np.longdouble).reshape(3, 4))
    assert_round_trip(np.zeros(4, "V0"))


def test_python_objects_are_refused_by_name():
    with pytest.raises(TypeError, match="Python objects"):
        fewbits.pack(np.array([{}, None], dtype=object))


def test_what_does_not_compress_is_stored_as_it_is():
    raw = np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8)
    header = PackedTensor.of(fewbits.pack(raw)).header
    assert set(header.modes) == {Mode.RAW}
    assert header.frame_bytes == raw.nbytes + header.header_bytes


def test_tensor_that_is_skewed_only_in_parts_is_coded_part_by_part():
    rng = np.random.default_rng(2)
    block = 1 << 19
    parts = [rng.integers(0, 256, block), np.zeros(block), rng.laplace(0, 2, block), [3] * 9]
    array = np.concatenate(parts).astype(np.int64).astype(np.uint8)
    frame = assert_round_trip(array)
    assert len(frame) < 1.45 * block  # noise as it is, zeros for nothing, 3.4 bits for Laplace's


def test_packed_nibbles_are_found_in_bytes():
    nibbles = np.clip(np.random.default_rng(3).normal(0, 1.5, 400_000).round(), -8, 7)
    low = nibbles.astype(np.int8).view(np.uint8) & 15
    packed = low[::2] | low[1::2] << 4
    frame = assert_round_trip(packed)
    as_int4 = fewbits.pack(nibbles.astype(ml_dtypes.int4))
    assert PackedTensor.of(frame).header.plan.planes[0].width == 4
    assert abs(len(frame) - len(as_int4)) < 64


@pytest.mark.parametrize("n", [0, 1, 2, 3, 255, 1001])
def test_int4_arrays_of_odd_and_even_length(n):
    array = (np.arange(n) % 16).astype(np.uint8).view(ml_dtypes.int4)
    assert_round_trip(array)


def test_number_of_threads_does_not_change_the_bytes():
    array = np.random.default_rng(4).standard_normal(1_500_000).astype(np.float32)
    frames = {fewbits.pack(array, threads=threads) for threads in (1, 2, 5)}
    assert len(frames) == 1
    frame = frames.pop()
    for threads in (1, 3):
        assert bits_of(fewbits.unpack(frame, threads=threads)) == bits_of(array)


def test_instruction_sets_read_each_others_frames():
    array = (np.random.default_rng(5).standard_normal(600_000) * 0.02).astype(ml_dtypes.bfloat16)
    before = _kernels.simd()
    try:
        frames = set()
        for name in _kernels.available_simd():
            _kernels.set_simd(name)
            frames.add(fewbits.pack(array))
            assert all(bits_of(fewbits.unpack(frame)) == bits_of(array) for frame in frames)
    finally:
        _kernels.set_simd(before)
    assert len(frames) == 1


def test_unpack_into_fills_the_given_array_only_if_it_fits():
    array = np.random.default_rng(6).integers(-5, 5, (300, 70)).astype(np.int16)
    frame = fewbits.pack(array)
    out = np.empty_like(array)
    fewbits.unpack_into(frame, out)
    assert (out == array).all()
    for wrong in (out.astype(np.int32), out[:-1], out.reshape(-1)):
        with pytest.raises(ValueError, match="output is"):
            fewbits.unpack_into(frame, wrong)
    locked = out.copy()
    locked.flags.writeable = False
    for wrong in (np.empty((70, 300), np.int16).T, locked):
        with pytest.raises(ValueError, match="contiguous"):
            fewbits.unpack_into(frame, wrong)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ">f4"])
def test_unpack_into_converts_forms_that_frames_do_not_hold(dtype):
    array = (np.arange(21) % 7).astype(dtype)
    out = np.zeros(21, dtype)
    fewbits.unpack_into(fewbits.pack(array), out)
    assert out.tobytes() == array.tobytes()


SLICED = {
    "blocks": np.random.default_rng(8).standard_normal((1400, 1000)).astype(np.float32),
    "int4": (np.arange(33 * 7) % 13).astype(np.uint8).view(ml_dtypes.int4).reshape(33, 7),
    "flat": np.arange(50, dtype=np.int64),
}
SLICED_FRAMES = {name: PackedTensor.of(fewbits.pack(a)) for name, a in SLICED.items()}


@given(name=st.sampled_from(sorted(SLICED)), data=st.data())
@settings(max_examples=150, deadline=None)
def test_indexing_is_numpys(name, data):
    array, tensor = SLICED[name], SLICED_FRAMES[name]
    key = data.draw(
        hnp.basic_indices(array.shape, allow_ellipsis=True, allow_newaxis=True)
        | st.slices(array.shape[0])
        | st.integers(-array.shape[0], array.shape[0] - 1)
    )
    expected = array[key]
    found = tensor[key]
    assert np.shape(found) == np.shape(expected)
    assert bits_of(found) == bits_of(expected)


def test_slice_reads_only_the_blocks_it_needs():
    array = SLICED["blocks"]
    frame = bytearray(fewbits.pack(array))
    whole = PackedTensor.of(bytes(frame))
    reads = []

    def recording(start, stop):
        reads.append(stop - start)
        return whole.read(start, stop)

    tensor = PackedTensor(whole.header, recording)
    assert (tensor[300:310] == array[300:310]).all()
    assert sum(reads) < len(frame) / 3
    assert whole.header.blocks > 3
    frame[-1] ^= 1  # damage in the last block does not concern the first
    damaged = PackedTensor.of(bytes(frame))
    assert (damaged[:100] == array[:100]).all()
    with pytest.raises(fewbits.CorruptError, match="block"):
        damaged.unpack()


@pytest.mark.parametrize("key", [True, False, None, ..., [1, 3], (slice(2, 9), [0, 0, 3])])
def test_indexing_with_what_is_no_row_is_numpys_too(key):
    for array, name in ((SLICED["int4"], "int4"), (SLICED["flat"].reshape(10, 5), "")):
        tensor = SLICED_FRAMES[name] if name else PackedTensor.of(fewbits.pack(array))
        assert np.shape(tensor[key]) == np.shape(array[key])
        assert bits_of(tensor[key]) == bits_of(array[key])


def test_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError, match="out of bounds"):
        SLICED_FRAMES["flat"][50]
    with pytest.raises(TypeError, match="0-d"):
        len(PackedTensor.of(fewbits.pack(np.float32(3))))


def test_packed_tensor_turns_into_an_array_and_describes_itself():
    tensor = SLICED_FRAMES["flat"]
    assert (np.asarray(tensor) == np.arange(50)).all()
    assert np.asarray(tensor, dtype=np.float32).dtype == np.float32
    assert repr(tensor).startswith("PackedTensor(int64[50], ")
    with pytest.raises(ValueError, match="unpacked"):
        np.array(tensor, copy=False)


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"coder": "zip"}, {"rows": 0}, {"count_bits": 7}, {"count_bits": 17},
        {"coder": "arithmetic", "count_bits": 15}, {"search": "luck"}, {"rows": 5000},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"rows|count bits|unknown"):
            Lossless(**wrong)
    with pytest.raises(ValueError, match="threads"):
        fewbits.pack(np.zeros(3), threads=0)


def test_coder_and_settings_are_recorded_in_the_frame():
    array = np.random.default_rng(9).laplace(0, 5, 100_000).astype(np.int8)
    for codec, coder in (
        (Lossless(), Coder.RANS),
        (Lossless(coder="arithmetic"), Coder.ARITHMETIC),
    ):
        plan = PackedTensor.of(fewbits.pack(array, codec)).header.plan
        assert plan.planes[0].coder == coder
        assert plan.planes[0].tables[0].rows == 16


@pytest.mark.parametrize("simd", _kernels.available_simd())
@given(
    size=st.integers(0, 300) | st.integers(0, 5000), skip=st.integers(0, 7), seed=st.integers(0, 99)
)
def test_checksum_is_xxh3(simd, size, skip, seed):
    data = np.random.default_rng(seed).integers(0, 256, size + skip, dtype=np.uint8)[skip:]
    before = _kernels.simd()
    try:
        _kernels.set_simd(simd)
        assert _kernels.xxh3(data) == xxhash.xxh3_64_intdigest(data.tobytes())
    finally:
        _kernels.set_simd(before)
