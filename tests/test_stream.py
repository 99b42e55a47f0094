"""Streams: arrays come out as they went in, one by one, and nothing goes missing unnoticed."""

import io
import itertools
import math
import os
import re
import socket
import struct
import threading
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbits
import independent_reader
from fewbits import CorruptError, Lossless, StreamReader, StreamWriter
from fewbits.values.types import LAYOUTS, dtype_named
from independent_xxh3 import xxh3

PREFIX = 13  # bytes of a record before its body


def laplace(seed, *shape, scale=4):
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.int8)


def written(arrays, codec=None, dtype=None):
    """The bytes of a stream of these arrays."""
    file = io.BytesIO()
    with StreamWriter(file, dtype or arrays[0].dtype, codec) as writer:
        for array in arrays:
            writer.append(array)
    assert writer.packed_bytes == len(file.getvalue())
    assert writer.arrays == len(arrays)
    return file.getvalue()


def read(data):
    return list(StreamReader(io.BytesIO(data)))


def same(found, arrays):
    return [(a.dtype, a.shape, a.tobytes()) for a in found] == [
        (a.dtype, a.shape, a.tobytes()) for a in arrays
    ]


def bodies(data):
    """(kind, body, payload) of each record, by what the page says; the last is the end."""
    planes, at = 0, 8
    while at < len(data):
        kind, size = struct.unpack_from("<BI", data, at + 8)
        body = data[at + PREFIX : at + PREFIX + size]
        at += PREFIX + size
        if kind == 1:
            planes, block, dtype = plan_of(body)[2:]
        payload = 0
        if kind == 2:
            bits = independent_reader.Bits(body)
            shape = tuple(bits.varint() for _ in range(bits.take(8)))
            blocks = -(-math.prod(shape) * dtype_named(dtype).itemsize // block)
            bits.raw(blocks * len(planes))
            payload = sum(bits.take(32) for _ in range(blocks * len(planes)))
        yield kind, body, data[at : at + payload]
        at += payload


def chained(records, start=b"FEWS\1\0\0\0"):
    """A stream of these records, with checksums as they should be."""
    out, previous = start, start
    for kind, body, payload in records:
        rest = struct.pack("<BI", kind, len(body)) + body
        previous = xxh3(previous + rest).to_bytes(8, "little")
        out += previous + rest + payload
    return out


def plan_of(body):
    """Remap, element size, planes, bytes of a block, and dtype of a plan's frame."""
    bits, size = independent_reader.frame_header(body)
    assert size == len(body)
    name = bits.raw(bits.take(16)).decode()
    assert [bits.varint() for _ in range(bits.take(8))] == [0]
    block = bits.varint() * body[6]
    assert body[4] == 1 or bits.take(8) == 0  # no classes
    planes = [independent_reader.read_plane(bits, body[6], body[4]) for _ in range(body[7])]
    return body[5], body[6], planes, block, name


def read_independently(data):
    """The arrays of a stream as bytes, decoded by the second reader, from the page alone."""
    for kind, body, payload in bodies(data):
        if kind == 1:
            remap, element, planes, block, _ = plan_of(body)
        elif kind == 2:
            bits, left = independent_reader.Bits(body), independent_reader.Bits(payload)
            total = math.prod(bits.varint() for _ in range(bits.take(8))) * element
            blocks = -(-total // block)
            modes = independent_reader.Bits(bits.raw(blocks * len(planes)))
            lengths = independent_reader.Bits(bits.raw(4 * blocks * len(planes)))
            raw = b""
            for start in range(0, total, block):
                n = min(block, total - start) // element
                elements = [0] * n
                for plane in planes:
                    part = left.raw(lengths.take(32))
                    values = independent_reader.decode_plane(part, plane, modes.take(8), [0] * n, 0)
                    shifted = [value << (8 * plane.offset) for value in values]
                    elements = [x | y for x, y in zip(elements, shifted, strict=True)]
                undone = [independent_reader.undo_remap(x, remap, 8 * element) for x in elements]
                decoded = b"".join(x.to_bytes(element, "little") for x in undone)
                assert xxh3(decoded) == bits.take(64)
                raw += decoded
            assert bits.left() == left.left() == 0
            yield raw


PROFILE = fewbits.profile([laplace(0, 5000)])
ARITHMETIC = Lossless(coder="arithmetic", count_bits=10)
SMALL = [laplace(1, 10, 20), laplace(2, 1, 20), np.zeros((2, 3), np.int8), laplace(3, 0, 4)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_cutting_gives_the_same_data(data):
    whole = laplace(
        data.draw(st.integers(0, 9)), 3000, scale=data.draw(st.sampled_from([0.2, 5, 99]))
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, whole.size), max_size=12)))
    codec = data.draw(st.sampled_from([None, ARITHMETIC, PROFILE]))
    arrays = np.split(whole, cuts)
    found = read(written(arrays, codec))
    assert same(found, arrays)


@pytest.mark.parametrize("name", [*LAYOUTS, ">f4", ">i2", "|S5", "<M8[ns]"])
def test_every_dtype_and_any_shape(name):
    dtype, rng = dtype_named(name), np.random.default_rng(0)
    arrays = []
    for shape in ((), (7, 300), (0, 3), (2, 1, 5), (1,) * 64):
        raw = rng.laplace(0, 6, math.prod(shape) * dtype.itemsize).astype(np.int64).astype(np.uint8)
        if name in ("int4", "uint4", "bool"):
            raw &= 15 if name != "bool" else 1
        arrays.append(raw.view(dtype).reshape(shape))
    arrays.append(arrays[1][::-1, ::2])  # not contiguous
    data = written(arrays)
    assert same(read(data), arrays)
    reader = StreamReader(io.BytesIO(data))
    assert reader.dtype == dtype
    for array in arrays:
        assert reader.next_shape() == reader.next_shape() == array.shape
        out = np.empty(array.shape, dtype)
        assert reader.read_into(out)
        assert out.tobytes() == array.tobytes()
    assert not reader.read_into(np.empty(0, dtype))
    assert reader.next_shape() is reader.read() is None


@pytest.mark.parametrize(
    "codec", [None, ARITHMETIC, PROFILE], ids=["rans", "arithmetic", "profile"]
)
def test_second_reader_agrees(codec):
    arrays = [laplace(seed, n) for seed, n in enumerate((3000, 40, 1500))]
    found = list(read_independently(written(arrays, codec)))
    assert found == [a.tobytes() for a in arrays]
    floats = [np.random.default_rng(0).normal(0, 1, (2, 900)).astype(np.float32)]
    assert list(read_independently(written(floats))) == [floats[0].tobytes()]


def test_checksums_are_chained_as_the_page_says():
    data = written(SMALL, PROFILE)
    assert chained(bodies(data)) == data


# Written by the first version; must be read for ever.
GOLDEN = bytes.fromhex(
    "46455753010000009f0a627d960b19ba01800000004645574201000101800000000000000080000000000000"
    "005a77e4ea7c7eaf950400696e743801008080200100010001080b0b0000a15104026b109400e82801d05302"
    "a0ab04405f0980ce1200bd2500ba4b00f403a3f00f7902000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000c516f0e03a8012d10210000000020a1402490000004f82e4af036b"
    "17b0004055834c13db067f891e0f1735dfe91978628109ed832a45bd300dd51676e0d58f153d911b0a0f0276"
    "d52984ce230ddd1adf1bad8195e09acce65151d008f030560b0f9d58ded1bc7b8e1e63f457a13e0210000000"
    "0203140219000000472c66003c02615f001a4c8600e18fac9aed13f9597a5b51ed9d8dadec607e474a735875"
    "fd7bdadfc10203000000020200a981e6f3f23cdcfd0000000000"
)
GOLDEN_ARRAYS = [(np.arange(200) * 37 % 19 % 7 - 3).astype(np.int8).reshape(10, 20)]
GOLDEN_ARRAYS += [GOLDEN_ARRAYS[0][:3], np.zeros((2, 0), np.int8)]


def test_first_streams_stay_readable():
    assert same(read(GOLDEN), GOLDEN_ARRAYS)


@pytest.mark.parametrize("codec", [None, PROFILE], ids=["fitted", "profile"])
def test_no_single_byte_can_change_unnoticed(codec):
    data = written(SMALL, codec)
    for at in range(len(data)):
        for flip in (1, 128, 255):
            damaged = bytearray(data)
            damaged[at] ^= flip
            with pytest.raises(CorruptError):
                read(damaged)


def test_stream_cut_anywhere_gives_what_is_whole():
    data = written(SMALL, PROFILE)
    ends = []  # where each array's record ends
    at = 8
    for kind, body, payload in bodies(data):
        at += PREFIX + len(body) + len(payload)
        ends += [at] * (kind == 2)
    for size in range(len(data)):
        found = []
        with pytest.raises(CorruptError) as error:
            found.extend(reader := StreamReader(io.BytesIO(data[:size])))
        assert same(found, SMALL[: sum(end <= size for end in ends)])
        assert "\n" not in str(error.value)
        if size >= ends[0]:
            assert f"cut short after {len(found)} arrays" in str(error.value)
            with pytest.raises(CorruptError, match="cut short"):
                reader.read()


def test_arrays_that_are_missing_or_out_of_place_are_noticed():
    def records(data):
        at = 8
        for _, body, payload in bodies(data):
            size = PREFIX + len(body) + len(payload)
            yield data[at : at + size]
            at += size

    stream = written([laplace(seed, 5, 8) for seed in range(4)], PROFILE)
    plan, a, b, c, d, end = records(stream)
    assert b"".join([stream[:8], plan, a, b, c, d, end]) == stream
    # Of another stream, with the same plan and an array in common.
    _, other_a, other_b, *_ = records(written([laplace(9, 5, 8), laplace(1, 5, 8)], PROFILE))
    for changed in (
        [plan, a, c, d, end],
        [plan, a, c, b, d, end],
        [plan, a, a, b, c, d, end],
        [plan, a, b, c, end],
        [plan, a, other_b, c, d, end],
        [plan, other_a, b, c, d, end],
        [a, b, c, d, end],
    ):
        with pytest.raises(CorruptError, match="damaged, missing or out of place"):
            read(b"".join([stream[:8], *changed]))


def test_reading_goes_on_behind_a_damaged_array():
    arrays = [laplace(seed, 40, 50) for seed in range(3)]
    data = bytearray(written(arrays, PROFILE))
    payloads = [payload for kind, _, payload in bodies(bytes(data)) if kind == 2]
    data[bytes(data).index(payloads[1]) + 900] ^= 8
    reader = StreamReader(io.BytesIO(data))
    assert same([reader.read()], arrays[:1])
    with pytest.raises(CorruptError, match="array 1 of the stream: block 0 is damaged"):
        reader.read()
    assert same([reader.read()], arrays[2:])
    assert reader.read() is None


def test_records_that_lie_are_refused():
    records = list(bodies(written(SMALL, PROFILE)))
    plan, array, *_, end = records
    other = fewbits.profile([np.arange(9.0)]).to_bytes()
    huge = b"".join([b"\2", b"\xff" * 9 + b"\1", b"\1"])  # of 2^64 - 1 elements
    for changed, fault in [
        ([], "cut short after 0"),
        ([array, end], "start with a plan"),
        ([end], "start with a plan"),
        ([plan, (3, b"", b""), end], "unknown kind 3"),
        ([plan, (0, b"x", b"")], "kind 0"),
        ([plan, (1, other, b""), end], "a plan is for float64"),
        ([plan, (1, fewbits.pack(laplace(0, 9)), b""), end], "it holds a tensor"),
        ([plan, (2, array[1] + b"\0", array[2]), end], "too long"),
        ([plan, (2, array[1][:-1], array[2]), end], "cut short"),
        ([plan, (2, b"", b""), end], "cut short"),
        ([plan, (2, b"\xff" + bytes(255), b""), end], "255 dimensions"),
        ([plan, (2, huge, b""), end], "overflows"),
        ([plan, (2, b"\1\x80\x00", b""), end], "too long"),
        ([plan, (2, b"\1" + b"\xff" * 7 + b"\x7f", b""), end], "overflows|cut short"),
        ([plan, (2, array[1], b"")], "cut short"),
    ]:
        tracemalloc.start()
        try:
            with pytest.raises(CorruptError, match=fault):
                read(chained(changed))
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
    assert same(read(chained([plan, plan, array, plan, end])), SMALL[:1])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data):
    for start in (b"", b"FEWS\1\0\0\0"):
        with pytest.raises(CorruptError):
            read(start + data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "cut short"),
        (b"FEWS\2\0\0\0" + bytes(50), "version 2"),
        (b"FEWB\1\0\0\0" + bytes(50), "not a Fewbits stream"),
    ],
)
def test_what_is_no_stream_is_refused(data, fault):
    with pytest.raises(CorruptError, match=fault):
        read(data)


def test_reader_leaves_alone_what_follows():
    file = io.BytesIO(written(SMALL) + written(SMALL[::-1], PROFILE) + b"tail")
    assert same(list(StreamReader(file)), SMALL)
    assert same(list(StreamReader(file)), SMALL[::-1])
    assert file.read() == b"tail"


def test_each_array_can_be_read_as_soon_as_it_is_appended():
    near, far = socket.socketpair()
    with near, far, near.makefile("wb") as out, far.makefile("rb") as into:
        far.settimeout(20)  # so that a reader that waits for more fails the test
        writer = StreamWriter(out, np.int8)
        writer.flush()
        reader = StreamReader(into)
        for seed in range(20):
            writer.append(array := laplace(seed, seed, 64))
            writer.flush()
            assert reader.next_shape() == array.shape
            assert same([reader.read()], [array])
        writer.close()
        assert reader.read() is None


@pytest.mark.parametrize("buffering", [-1, 0])
def test_pipe_with_a_thread_at_each_end(buffering):
    arrays = [laplace(seed, 300, 1000) for seed in range(6)]
    near, far = os.pipe()

    def write():
        with os.fdopen(far, "wb", buffering) as file, StreamWriter(file, np.int8) as writer:
            for array in arrays:
                writer.append(array)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(near, "rb", buffering) as file:
        found = list(StreamReader(file))
    thread.join()
    assert same(found, arrays)


class Trickle(io.RawIOBase):
    """An unbuffered file that takes and gives a few bytes at a time."""

    def __init__(self, data=b""):
        self.data, self.sizes = bytearray(data), itertools.cycle((1, 7, 50))

    def readable(self):
        return True

    def readinto(self, out):
        size = min(next(self.sizes), len(out), len(self.data))
        out[:size] = self.data[:size]
        del self.data[:size]
        return size

    def write(self, data):
        part = bytes(data[: next(self.sizes)])
        self.data += part
        return len(part)


def test_unbuffered_files_that_do_a_little_at_a_time():
    file = Trickle()
    with StreamWriter(file, np.int8, PROFILE) as writer:
        for array in SMALL:
            writer.append(array)
    assert bytes(file.data) == written(SMALL, PROFILE)
    assert same(list(StreamReader(file)), SMALL)


class Bare:
    """Nothing but what is asked for: ``read``, or ``write``."""

    def __init__(self, data=b""):
        file = io.BytesIO(data)
        self.read = file.read
        self.parts = []

    def write(self, data):
        self.parts.append(bytes(data))


def test_files_that_only_read_or_write():
    file = Bare()
    with StreamWriter(file, np.int8, PROFILE) as writer:
        for array in SMALL:
            writer.append(array)
        writer.flush()
    assert b"".join(file.parts) == written(SMALL, PROFILE)
    assert same(list(StreamReader(Bare(written(SMALL)))), SMALL)


def test_files_that_do_not_block_say_so():
    class Empty(Trickle):
        def readinto(self, out):
            return None

        def write(self, data):
            return None

    with pytest.raises(BlockingIOError, match="does not block"):
        StreamReader(Empty())
    with pytest.raises(BlockingIOError, match="does not block"):
        StreamWriter(Empty(), np.int8)


def test_memory_is_that_of_one_array():
    class Endless(io.RawIOBase):
        """Gives a stream of many arrays that is never in memory."""

        def __init__(self):
            self.writer = StreamWriter(self, np.int8, PROFILE)
            self.count = 0

        def write(self, data):
            if not hasattr(self, "data"):
                self.data = b""
            self.data += bytes(data)
            return len(data)

        def readinto(self, out):
            if not self.data and self.count < 40:
                self.count += 1
                self.writer.append(self.array)
            size = min(len(out), len(self.data))
            out[:size], self.data = self.data[:size], self.data[size:]
            return size

    Endless.array = laplace(0, 1 << 20)
    file, out = Endless(), np.empty(1 << 20, np.int8)
    reader = StreamReader(file)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match="cut short after 40 arrays"):
            while reader.read_into(out):
                assert (out == Endless.array).all()
        # Ours: the payload. The file's, above: its data, once more while it is cut.
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_output_must_suit_the_array_and_can_be_tried_again():
    data = written([laplace(0, 4, 5), laplace(1, 4, 5)])
    reader, out = StreamReader(io.BytesIO(data)), np.empty((4, 5), np.int8)
    locked = out.copy()
    locked.flags.writeable = False
    for wrong in (np.empty((5, 4), np.int8), np.empty((4, 5), np.uint8), out.T.copy().T, locked):
        with pytest.raises(ValueError, match="output"):
            reader.read_into(wrong)
    assert reader.read_into(out)
    assert (out == laplace(0, 4, 5)).all()
    assert same([reader.read()], [laplace(1, 4, 5)])


def test_writer_refuses_what_does_not_belong():
    file = io.BytesIO()
    with pytest.raises(ValueError, match="profile is for int8"):
        StreamWriter(file, np.int16, PROFILE)
    with pytest.raises(TypeError, match="Python objects"):
        StreamWriter(file, object)
    assert not file.getvalue()
    with StreamWriter(file, np.int8) as writer:
        for wrong in (np.ones(3), np.ones(3, np.uint8), [1, 2]):
            with pytest.raises(ValueError, match="the stream is of int8, the array of"):
                writer.append(wrong)
        writer.append(laplace(0, 9))
    with pytest.raises(ValueError, match="closed"):
        writer.append(laplace(0, 9))
    writer.close()
    assert same(read(file.getvalue()), [laplace(0, 9)])


def test_stream_whose_writer_failed_has_no_end():
    file = io.BytesIO()
    with pytest.raises(KeyError), StreamWriter(file, np.int8) as writer:
        writer.append(laplace(0, 9))
        raise KeyError("elsewhere")
    writer.close()
    reader = StreamReader(io.BytesIO(file.getvalue()))
    assert same([reader.read()], [laplace(0, 9)])
    with pytest.raises(CorruptError, match="cut short after 1 arrays"):
        reader.read()


def test_record_that_failed_halfway_is_the_last():
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)

    writer = StreamWriter(Full(), np.int8, PROFILE)
    with pytest.raises(OSError, match="No space"):
        for seed in range(9):
            writer.append(laplace(seed, 200))
    with pytest.raises(ValueError, match="broken off"):
        writer.append(laplace(0, 9))
    writer.close()


def test_tables_follow_what_passes():
    arrays = [laplace(seed, 500) for seed in range(100)]
    plans = [kind for kind, *_ in bodies(written(arrays))].count(1)
    assert plans == 2  # that of nothing known, and one fitted when 2 KB have passed
    fitted, profiled = len(written(arrays)), len(written(arrays, PROFILE))
    assert fitted < 1.05 * profiled
    assert profiled < 0.75 * 50_000


def test_array_that_differs_gets_tables_of_its_own():
    narrow, wide = ([laplace(seed, 20_000, scale=s) for seed in range(9)] for s in (2, 20))
    noise = [np.random.default_rng(s).integers(-128, 128, 20_000).astype(np.int8) for s in (0, 1)]
    alternating = [a for pair in zip(narrow, wide, strict=True) for a in pair]
    for arrays in ([*narrow, *wide], alternating, [*narrow, *noise, *narrow]):
        frames = sum(len(fewbits.pack(a)) for a in arrays)
        assert len(written(arrays)) < 1.02 * frames
        assert same(read(written(arrays)), arrays)


def test_small_arrays_cost_little_more_than_their_values():
    arrays = [laplace(seed, 4, 96) for seed in range(200)]
    whole = len(fewbits.pack(np.concatenate(arrays)))
    assert len(written(arrays, PROFILE)) < whole + 200 * 50
    assert sum(len(fewbits.pack(array)) for array in arrays) > whole + 200 * 120


def test_threads_do_not_change_the_bytes():
    array = np.random.default_rng(0).normal(0, 1, 1 << 20).astype(ml_dtypes.bfloat16)
    profile = fewbits.profile([array[:5000]])
    found = []
    for threads in (1, 3):
        file = io.BytesIO()
        with StreamWriter(file, array.dtype, profile, threads=threads) as writer:
            writer.append(array)
        found.append(file.getvalue())
    assert found[0] == found[1]
    assert same(list(StreamReader(io.BytesIO(found[0]), threads=2)), [array])
    with pytest.raises(ValueError, match="threads"):
        StreamReader(io.BytesIO(found[0]), threads=0)


def test_what_they_look_like():
    file = io.BytesIO()
    writer = StreamWriter(file, "bfloat16")
    writer.append(np.ones((2, 8), ml_dtypes.bfloat16))
    assert re.fullmatch(r"StreamWriter\(bfloat16, 1 arrays, \d+ of 32 bytes\)", repr(writer))
    assert (
        repr(StreamReader(io.BytesIO(file.getvalue()))) == "StreamReader(bfloat16, 0 arrays read)"
    )
