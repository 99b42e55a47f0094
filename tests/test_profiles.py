"""Profiles: what is packed with tables from samples comes back, and hardly takes more."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbits
from fewbits import CorruptError, Lossless, PackedTensor, Profile, RangeTable
from fewbits.lossless.plan import Coder, Mode
from fewbits.values.types import LAYOUTS, Remap, dtype_named

PAPER = Lossless(coder="arithmetic", search="paper", count_bits=10)
OTHERS = [
    Lossless(rows=40),
    Lossless(count_bits=12),
    Lossless(coder="arithmetic"),
]


def of_dtype(name, raw):
    """An array of this dtype over raw bytes; 4-bit types keep to their low half."""
    dtype = dtype_named(name)
    if name in ("int4", "uint4"):
        return (raw & 15).view(dtype)
    if name == "bool":
        return (raw & 1).view(bool)
    return raw[: raw.size // dtype.itemsize * dtype.itemsize].view(dtype)


def laplace(seed, n=20_000, scale=4):
    return np.random.default_rng(seed).laplace(0, scale, n).astype(np.int8)


def same(found, array):
    return (found.dtype, found.shape, found.tobytes()) == (
        array.dtype, array.shape, array.tobytes()
    )  # fmt: skip


def tables(profile):
    return [table for plane in profile.plan.planes for table in plane.tables]


def test_name_stays_a_function_once_its_module_is_loaded():
    import fewbits.profiles

    assert callable(fewbits.profile)


@pytest.mark.parametrize(
    ("name", "codec"),
    [(name, Lossless()) for name in (*LAYOUTS, ">f4", "|S5")]
    + [(name, PAPER) for name in ("int8", "int4", "int32")]
    + [(name, codec) for name in ("uint8", "bfloat16", "float32") for codec in OTHERS],
    ids=str,
)
def test_whatever_comes_later_comes_back(name, codec):
    rng = np.random.default_rng(5)
    sample = of_dtype(name, rng.laplace(0, 6, 4000).astype(np.int64).astype(np.uint8))
    profile = fewbits.profile([sample], codec)
    assert all(table.covering for table in tables(profile))
    for later in (rng.integers(0, 256, 4000), np.zeros(4000), np.arange(4000) == 3):
        array = of_dtype(name, later.astype(np.uint8))
        frame = fewbits.pack(array, profile)
        assert same(fewbits.unpack(frame), array)
        assert PackedTensor.of(frame).header.plan == profile.plan
        assert len(frame) <= len(profile.to_bytes()) + array.nbytes + 320  # blocks stored as is


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_sample_packs_any_data(data):
    name = data.draw(st.sampled_from(["int8", "int4", "bfloat16", "float32", "int32"]))
    raw = [np.frombuffer(data.draw(st.binary(min_size=8, max_size=200)), np.uint8) for _ in "ab"]
    sample, array = (of_dtype(name, part.copy()) for part in raw)
    coder = data.draw(st.sampled_from(["rans", "arithmetic"]))
    profile = fewbits.profile([sample], Lossless(coder=coder))
    assert same(fewbits.unpack(fewbits.pack(array, profile)), array)


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.bfloat16, np.float32, np.float16])
def test_table_of_one_sample_is_nearly_as_good_as_one_of_the_data(dtype):
    normal = np.random.default_rng(1).normal(0, 1, (5, 100_000))
    sample, *later = (normal * (16 if dtype is np.int8 else 1)).astype(dtype)
    profile = fewbits.profile([sample])
    own = sum(len(fewbits.pack(array)) for array in later)
    given = sum(len(fewbits.pack(array, profile)) for array in later)
    assert own * 0.99 < given < own * 1.01


def test_samples_add_up():
    parts = [laplace(seed, n) for seed, n in enumerate((5000, 1, 7000))]
    assert fewbits.profile(parts) == fewbits.profile([np.concatenate(parts)])
    assert fewbits.profile(iter(parts)) == fewbits.profile(np.concatenate(parts).reshape(-1, 1))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_floats_of_one_sign_keep_it_on_top(dtype):
    values = np.random.default_rng(3).normal(0, 1, 50_000)
    assert fewbits.profile([np.abs(values).astype(dtype)]).plan.remap == Remap.IDENTITY
    assert fewbits.profile([values.astype(dtype)]).plan.remap == Remap.SIGN_TO_LSB


def test_ordinary_data_get_tables_that_decode_fast():
    values = np.random.default_rng(4).normal(0, 1, 50_000)
    for array in (values.astype(ml_dtypes.bfloat16), (values * 20).astype(np.int8)):
        (plane,) = fewbits.profile([array]).plan.planes
        (table,) = plane.tables
        assert plane.coder == Coder.RANS
        assert table.rows <= 16
        assert max(table.offset_lengths) <= plane.verbatim_bits + 16 - table.count_bits


def test_profile_as_the_paper_makes_it():
    table = fewbits.profile([laplace(0), laplace(1)], PAPER).table
    assert (table.width, table.rows, sum(table.counts), table.covering) == (8, 16, 1023, True)


def test_samples_are_not_kept():
    def samples():
        for seed in range(20):
            yield np.random.default_rng(seed).normal(0, 9, 1 << 20).astype(np.int8)

    tracemalloc.start()
    try:
        fewbits.profile(samples())
        # One sample while it is made, in float64, and the one before it.
        assert tracemalloc.get_traced_memory()[1] < 13 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        ([], "no elements"),
        ([np.empty(0, np.int8)], "no elements"),
        ([laplace(0), laplace(0).astype(np.int16)], "sample 1 is int16, those before it are int8"),
    ],
)
def test_samples_that_make_no_profile(samples, fault):
    with pytest.raises(ValueError, match=fault):
        fewbits.profile(samples)
    with pytest.raises(TypeError, match="a mapping"):
        fewbits.profile({"layer": laplace(0)})
    with pytest.raises(TypeError, match="Python objects"):
        fewbits.profile([np.array([None])])


def test_arrays_of_another_dtype_are_refused(tmp_path):
    profile = fewbits.profile([laplace(0)])
    with pytest.raises(ValueError, match="profile is for int8, the array is float32"):
        fewbits.pack(np.ones(3, np.float32), profile)
    with pytest.raises(ValueError, match="tensor 'b': the profile is for int8"):
        fewbits.save({"a": laplace(1), "b": np.ones(3)}, tmp_path / "m", codec=profile)


def test_archive_of_profiled_tensors(tmp_path):
    tensors = {str(seed): laplace(seed) for seed in range(3)}
    fewbits.save(tensors, tmp_path / "m", codec=fewbits.profile([laplace(9)]))
    found = fewbits.load(tmp_path / "m")
    assert all(same(found[name], array) for name, array in tensors.items())


@pytest.mark.parametrize("name", ["int8", "int4", "bfloat16", "float32", ">f4", "|S5"])
def test_profile_travels_as_bytes(name):
    raw = np.random.default_rng(0).laplace(0, 6, 4000).astype(np.int8).view(np.uint8)
    profile = fewbits.profile([of_dtype(name, raw)])
    data = profile.to_bytes()
    assert Profile.from_bytes(data) == profile
    assert Profile.from_bytes(bytearray(data)).to_bytes() == data
    assert fewbits.unpack(data).shape == (0,)


def test_damaged_profile_is_refused():
    data = fewbits.profile([laplace(0)]).to_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(CorruptError):
            Profile.from_bytes(damaged)
        with pytest.raises(CorruptError):
            Profile.from_bytes(data[:at])
    with pytest.raises(CorruptError, match="not a profile: it holds a tensor"):
        Profile.from_bytes(fewbits.pack(laplace(0)))


UNIFORM = RangeTable(8, 10, tuple(range(0, 256, 16)), (4,) * 16, (64,) * 16)
LOW_ONLY = RangeTable(8, 10, (0, 4), (2, 3), (1000, 24))


@pytest.mark.parametrize("codec", [None, Lossless(coder="arithmetic")], ids=str)
def test_table_that_is_there_already(codec):
    profile = Profile.of_table(LOW_ONLY, "uint8", codec)
    assert profile.table == LOW_ONLY
    inside = np.random.default_rng(0).integers(0, 5, 5000).astype(np.uint8)
    for array, mode in ((inside, Mode.TABLE), (np.append(np.uint8(200), inside), Mode.RAW)):
        frame = fewbits.pack(array, profile)
        assert PackedTensor.of(frame).header.modes.tolist() == [mode]
        assert same(fewbits.unpack(frame), array)


def test_table_and_dtype_must_suit_each_other():
    nibbles = RangeTable(4, 10, tuple(range(16)), (0,) * 16, (64,) * 16)
    assert Profile.of_table(nibbles, "int4").plan.planes[0].width == 4
    assert Profile.of_table(nibbles, "uint8").plan.planes[0].width == 4
    assert Profile.of_table(UNIFORM, "int8", remap=Remap.ZIGZAG).plan.remap == Remap.ZIGZAG
    with pytest.raises(ValueError, match="table of another width"):
        Profile.of_table(UNIFORM, "int16")
    with pytest.raises(ValueError, match="more than one table"):
        Profile.of_table(UNIFORM, "float32")


def test_several_tables_are_not_one():
    steps = (np.random.default_rng(0).normal(0, 200, 9000).astype(np.int32)) * 16
    with pytest.raises(ValueError, match="2 tables"):
        fewbits.profile([steps]).table  # noqa: B018
    with pytest.raises(ValueError, match="0 tables"):
        fewbits.profile([np.zeros(50, np.int8)]).table  # noqa: B018
