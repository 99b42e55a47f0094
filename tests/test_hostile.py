"""A packed file from a stranger: it decodes to what was packed or is refused, and costs little."""

import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbits
from fewbits import CorruptError, Lossless, _kernels, container, frame_header
from fewbits.archive import _with_checksum

CHECKSUM = slice(24, 32)


def sealed(frame):
    """The frame with its header's checksum made right again, as an attacker would."""
    frame = bytearray(frame)
    size = struct.unpack_from("<I", frame, 8)[0]
    frame[CHECKSUM] = bytes(8)
    digest = _kernels.xxh3(np.frombuffer(frame, np.uint8)[:size])
    frame[CHECKSUM] = digest.to_bytes(8, "little")
    return bytes(frame)


def small_tensors():
    rng = np.random.default_rng(0)
    return {
        "w": (rng.standard_normal((9, 20)) * 0.1).astype(ml_dtypes.bfloat16),
        "q": rng.laplace(0, 3, 400).astype(np.int8),
        "c": np.full(30, 1.5, np.float32),
    }


FRAMES = {
    f"{name} {codec.coder}": (array, fewbits.pack(array, codec))
    for codec in (Lossless(), Lossless(coder="arithmetic"))
    for name, array in small_tensors().items()
}


def decode_or_refuse(data):
    """The array, or None where the bytes are refused; anything else fails the test."""
    try:
        return fewbits.unpack(data)
    except CorruptError:
        return None


def same(found, array):
    return (found.dtype, found.shape, found.tobytes()) == (
        array.dtype, array.shape, array.tobytes()
    )  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_no_single_byte_of_a_frame_can_change_unnoticed(name):
    array, frame = FRAMES[name]
    for at in range(len(frame)):
        for flip in (1, 128, 255):
            damaged = bytearray(frame)
            damaged[at] ^= flip
            assert decode_or_refuse(bytes(damaged)) is None, (at, flip)
    assert same(fewbits.unpack(frame), array)


@pytest.mark.parametrize("name", FRAMES)
def test_no_single_byte_of_a_header_crashes_even_if_resealed(name):
    _, frame = FRAMES[name]
    size = struct.unpack_from("<I", frame, 8)[0]
    for at in range(size):
        if at in range(CHECKSUM.start, CHECKSUM.stop):
            continue
        for flip in (1, 2, 16, 64, 128, 255):
            damaged = bytearray(frame)
            damaged[at] ^= flip
            found = decode_or_refuse(sealed(damaged) if at not in range(8, 12) else damaged)
            # Some header bytes (a dtype's name, a shape) may become another valid header.
            assert found is None or found.nbytes <= 1 << 20


@pytest.mark.parametrize("name", FRAMES)
def test_every_truncation_and_any_tail_is_refused(name):
    _, frame = FRAMES[name]
    assert all(decode_or_refuse(frame[:size]) is None for size in range(len(frame)))
    assert decode_or_refuse(frame + b"\0") is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    assert decode_or_refuse(data) is None
    assert decode_or_refuse(b"FEWB\1" + data) is None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_payloads_under_a_valid_header_decode_right_or_are_refused(data):
    array, frame = FRAMES[data.draw(st.sampled_from(sorted(FRAMES)))]
    size = struct.unpack_from("<I", frame, 8)[0]
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(size, len(frame) - 1))] = data.draw(st.integers(0, 255))
    found = decode_or_refuse(bytes(damaged))
    assert found is None or same(found, array)


def with_shape(frame, shape):
    """The frame with another shape in its header, whatever that does to the fields behind."""
    header = fewbits.PackedTensor.of(frame).header
    old = b"".join(frame_header.varint(n) for n in header.shape)
    new = b"".join(frame_header.varint(n) for n in shape)
    at = 32 + 2 + len(header.dtype)
    size = struct.unpack_from("<I", frame, 8)[0]
    body = bytes((len(shape),)) + new + frame[at + 1 + len(old) : size]
    head = (frame[:at] + body).rstrip(b"\0")
    head = head.ljust(-(-len(head) // 64) * 64, b"\0")
    whole = bytearray(head + frame[size:])
    struct.pack_into("<IfQ", whole, 8, len(head), 0.0, len(whole))
    return sealed(whole)


HUGE_SHAPES = [(1 << 40,), (1 << 62,), (1 << 63,), (1 << 32, 1 << 32), (3, 1 << 61), (1,) * 255]


@pytest.mark.parametrize("shape", HUGE_SHAPES, ids=str)
def test_header_that_promises_terabytes_is_refused_at_no_cost(shape):
    frame = with_shape(FRAMES["c rans"][1], shape)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError):
            fewbits.unpack(frame)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_helper_that_rewrites_shapes_makes_valid_frames():
    array, frame = FRAMES["c rans"]
    assert same(fewbits.unpack(with_shape(frame, (5, 6))), array.reshape(5, 6))


@pytest.mark.parametrize(
    ("at", "value", "fault"),
    [
        (4, 3, "version 3"),
        (5, 9, "frame header"),
        (6, 3, "frame header"),
        (7, 0, "frame header"),
        (0, 0, "not a Fewbits frame"),
    ],
)
def test_wrong_fields_are_told_apart(at, value, fault):
    frame = bytearray(FRAMES["c rans"][1])
    frame[at] = value
    with pytest.raises(CorruptError, match=fault):
        fewbits.unpack(sealed(frame))


def test_dtypes_that_are_not_plain_bytes_are_refused():
    frame = fewbits.pack(np.zeros(8, np.dtype("<m8[s]")))
    assert fewbits.unpack(frame).dtype == np.dtype("<m8[s]")
    for name in (b"|O", b"object", b"<m8[?]", b"[('a','|O')]", b"[" * 90, b"f4, f4", b"\xff\xfe"):
        at = frame.index(b"<m8[s]")
        size = struct.unpack_from("<I", frame, 8)[0]
        body = frame[32:size].rstrip(b"\0")
        head = frame[:32] + len(name).to_bytes(2, "little") + name + body[2 + 6 :]
        assert at == 34
        head = head.ljust(-(-len(head) // 64) * 64, b"\0")
        whole = bytearray(head + frame[size:])
        struct.pack_into("<IfQ", whole, 8, len(head), 0.0, len(whole))
        with pytest.raises(CorruptError):
            fewbits.unpack(sealed(whole))


@pytest.fixture(scope="module")
def archive_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "m"
    fewbits.save(small_tensors(), path, metadata={"format": "pt"})
    return path.read_bytes()


def load_or_refuse(path):
    try:
        return fewbits.load(path)
    except CorruptError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("flip", [1, 32, 255])
def test_no_single_byte_of_an_archive_can_change_unnoticed(tmp_path, archive_bytes, flip):
    path = tmp_path / "m"
    for at in range(len(archive_bytes)):
        damaged = bytearray(archive_bytes)
        damaged[at] ^= flip
        path.write_bytes(damaged)
        assert load_or_refuse(path) is None, at


def test_every_truncation_of_an_archive_is_refused(tmp_path, archive_bytes):
    path = tmp_path / "m"
    for size in range(len(archive_bytes)):
        path.write_bytes(archive_bytes[:size])
        assert load_or_refuse(path) is None, size


def rewritten(archive_bytes, old, new):
    """The archive with a resealed header in which ``old`` became ``new``."""
    size = int.from_bytes(archive_bytes[:8], "little")
    text = archive_bytes[8 : 8 + size]
    assert old in text
    text = text.replace(old, new)
    found = fewbits.archive._CHECKSUM.sub(rb"\g<1>" + b"0" * 16 + rb"\g<3>", text, count=1)
    return container.with_prefix(_with_checksum(found)) + archive_bytes[8 + size :]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b'"fewbits.version":"1"', b'"fewbits.version":"7"', "version '7'"),
        (b'"dtype":"U8"', b'"dtype":"I8"', "is not a frame"),
        (b'"q":', b'"w":', "stands twice"),
        (b'"data_offsets":[0,', b'"data_offsets":[1,', "does not take"),
        (b"fewbits.version", b"fewbits.vercion", "version None"),
        (b'"shape":[', b'"shape":[-1,', "no proper"),
        (b'"shape":[', b'"shape":[1e9,', "no proper"),
        (b'"shape":[', b'"shape":[true,', "no proper"),
        (b'"dtype":"U8"', b'"dtype":[[[]]]', "no proper"),
        (b'{"dtype"', b'[{"dtype"', "not a safetensors"),
        (b'"pt"', b"3", "map of strings"),
    ],
)
def test_archive_headers_that_lie_are_refused(tmp_path, archive_bytes, old, new, fault):
    path = tmp_path / "m"
    path.write_bytes(rewritten(archive_bytes, old, new))
    with pytest.raises(CorruptError, match=fault):
        fewbits.load(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        b"\0" * 8,
        b"\xff" * 64,
        (1 << 60).to_bytes(8, "little") + b"{}",
        container.with_prefix(b"{"),
        container.with_prefix(b"[]"),
        container.with_prefix(b"{}") + b"x",
        container.with_prefix(b"[" * 100_000),
        container.with_prefix(b'{"a":' * 50_000),
        container.with_prefix(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b"]}}"),
        container.with_prefix(b"\xff\xff"),
        container.with_prefix(b'{"a":null}'),
        container.with_prefix(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        container.with_prefix(b'{"__metadata__":{"\\udfff":"x"}}'),
        container.with_prefix(b'{"__metadata__":{"x":"\\ud800"}}'),
        container.with_prefix(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}'),
        container.with_prefix(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}') + bytes(8),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, data):
    path = tmp_path / "m"
    path.write_bytes(data)
    assert load_or_refuse(path) is None


def test_frames_may_not_hide_anything_behind_them(tmp_path, archive_bytes):
    size = int.from_bytes(archive_bytes[:8], "little")
    with_tail = bytearray(archive_bytes)
    frame_size = struct.unpack_from("<Q", archive_bytes, 8 + size + 16)[0]
    assert frame_size % 64
    with_tail[8 + size + frame_size] = 1
    path = tmp_path / "m"
    path.write_bytes(with_tail)
    with pytest.raises(CorruptError, match="padding"):
        fewbits.load(path)


def test_skipping_checksums_still_never_leaves_the_buffers():
    array = np.random.default_rng(1).laplace(0, 5, 50_000).astype(np.int8)
    frame = bytearray(fewbits.pack(array))
    rng = np.random.default_rng(2)
    outcomes = set()
    for _ in range(200):
        damaged = bytearray(frame)
        damaged[int(rng.integers(256, len(frame)))] ^= 1 << int(rng.integers(8))
        try:
            outcomes.add(fewbits.unpack(bytes(damaged), verify=False).shape)
        except CorruptError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"refused", array.shape}
