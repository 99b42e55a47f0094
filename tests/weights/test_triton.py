"""Triton's decoder gives the CPU's bits: in its interpreter, or on a GPU where there is one.

The interpreter takes milliseconds a round, so most frames here are written with more lanes than the
library would give so few values, by the plain form of the coder.
"""

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")

import fewbits  # noqa: E402
from fewbits import _kernels, frame_header  # noqa: E402
from fewbits.frame import PackedTensor  # noqa: E402
from fewbits.frameworks import as_array  # noqa: E402
from fewbits.lossless import ans  # noqa: E402
from fewbits.lossless.plan import Mode  # noqa: E402
from fewbits.values import remaps  # noqa: E402
from fewbits.values.types import to_storage  # noqa: E402
from fewbits.weights.device_frame import stored_rows  # noqa: E402
from fewbits.weights.triton_product import can_multiply, multiply  # noqa: E402
from fewbits.weights.triton_rans import DeviceWeight  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def frame_of(array, lanes, monkeypatch, block=None, **codec):
    """A frame of elements that are one plane each, of so many lanes and elements a block."""
    monkeypatch.setattr(ans, "lanes", lambda values, word_bytes: lanes)
    from dataclasses import replace

    found = PackedTensor.of(fewbits.pack(array, fewbits.Lossless(**codec))).header
    plan = replace(found.plan, block_elements=block or found.plan.block_elements)
    header = replace(found, plan=plan)
    data = to_storage(array).view(f"u{plan.element_bytes}")
    rows = stored_rows(PackedTensor(found, lambda a, b: b""))
    if rows:
        data = data.reshape(-1, rows[0])[rows[1]].reshape(-1)
    values = remaps.remapped(data, plan.remap, 8 * plan.element_bytes)
    (plane,) = plan.planes
    payloads, checksums = [], []
    for number in range(header.blocks):
        first, count = header.arrangement.block_of(number)
        part = values[first : first + count]
        payloads.append(ans.encode(part, plane.tables[0], plane.verbatim_bits))
        block_bytes = np.ascontiguousarray(data[first : first + count]).view(np.uint8)
        checksums.append(_kernels.xxh3(block_bytes))
    whole = header.indexed(
        np.full(header.blocks, Mode.TABLE, np.uint8),
        np.array([len(payload) for payload in payloads], np.uint32),
        np.array(checksums, np.uint64),
    )
    frame = frame_header.to_bytes(whole) + b"".join(payloads)
    assert fewbits.unpack(frame).tobytes() == array.tobytes()
    return PackedTensor.of(frame)


def normal(shape, dtype, scale=0.05):
    return (np.random.default_rng(0).normal(size=shape) * scale).astype(dtype)


def assert_unpacks(tensor):
    found = as_array(DeviceWeight(tensor, DEVICE).unpack())
    expected = tensor.unpack()
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("dtype", "scale", "lanes", "codec"),
    [
        (ml_dtypes.bfloat16, 0.05, 64, {}),
        (ml_dtypes.bfloat16, 0.05, 256, {"count_bits": 14}),
        (np.float16, 0.05, 32, {}),
        (ml_dtypes.float8_e4m3fn, 1, 128, {}),
        (np.int8, 30, 64, {}),
        (np.int8, 30, 16, {"count_bits": 14, "rows": 6}),  # offset bits that spill
        (np.uint16, 900, 64, {}),
    ],
)
def test_streams_are_decoded(dtype, scale, lanes, codec, monkeypatch):
    array = normal((21, 97), np.float32, scale).clip(-127, 127)
    if dtype == np.uint16:
        array = abs(array)
    tensor = frame_of(array.astype(dtype), lanes, monkeypatch, block=1111, classes=1, **codec)
    assert tensor.header.blocks == 2
    assert_unpacks(tensor)


def test_other_modes_are_unpacked():
    sparse = np.zeros(30_000, np.int8)
    sparse[[5, 29_999, 777]] = 3, -4, 9
    for array in (
        np.full((7, 300), 1.5, np.float32),
        np.random.default_rng(0).integers(0, 256, 999).astype(np.uint8),
        sparse,
        np.zeros(100, np.float64),
    ):
        tensor = PackedTensor.of(fewbits.pack(array))
        assert not {int(mode) for mode in tensor.header.modes} & {2, 255}
        assert_unpacks(tensor)


def test_planes_of_wide_elements_are_joined():
    for array in (normal(90, np.float32), (normal(90, np.float32) * 4000).astype(np.int32)):
        assert_unpacks(PackedTensor.of(fewbits.pack(array)))


@pytest.mark.slow
def test_classes_of_rows_and_tables_by_class():
    rng = np.random.default_rng(0)
    scales = rng.permutation(np.repeat([0.5, 40], 32))
    array = (rng.normal(size=(64, 320)) * scales[:, None]).clip(-127, 127).astype(np.int8)
    tensor = PackedTensor.of(fewbits.pack(array))
    assert tensor.header.plan.classes is not None and Mode.BY_CLASS in tensor.header.modes
    assert_unpacks(tensor)
    nibbles = (rng.normal(size=700) * 2).clip(-8, 7).astype(ml_dtypes.int4)
    widened = nibbles.astype(np.int8)
    assert_unpacks(PackedTensor.of(fewbits.pack(widened)))


def test_a_damaged_stream_is_refused(monkeypatch):
    tensor = frame_of(normal((16, 64), ml_dtypes.bfloat16), 64, monkeypatch, classes=1)
    frame = bytearray(tensor.read(0, tensor.packed_bytes))
    frame[-400:-300] = bytes(100)  # words; of a single bit only a checksum tells
    with pytest.raises(fewbits.CorruptError, match="block 0 is damaged"):
        DeviceWeight(PackedTensor.of(bytes(frame)), DEVICE).unpack()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int8])
def test_products_never_unpack(dtype, monkeypatch):
    array = normal((24, 128), np.float32, 20 if dtype == np.int8 else 0.05).astype(dtype)
    tensor = frame_of(array, 64, monkeypatch, block=1600, classes=1)  # rows across blocks
    assert tensor.header.blocks == 2
    weight = DeviceWeight(tensor, DEVICE)
    assert can_multiply(weight)
    vectors = torch.randn(2, 128, device=DEVICE)
    found = multiply(weight, vectors).cpu().double().numpy()
    numbers = array.astype(np.float64)
    expected = vectors.cpu().double().numpy() @ numbers.T
    bound = abs(vectors.cpu().double().numpy()) @ abs(numbers).T * 2.0**-20
    assert (abs(found - expected) <= bound).all()


def test_matrices_whose_rows_end_within_a_round_are_left_to_others(monkeypatch):
    tensor = frame_of(normal((24, 100), ml_dtypes.bfloat16), 64, monkeypatch, classes=1)
    assert not can_multiply(DeviceWeight(tensor, DEVICE))


def test_an_unpacker_decodes_on_the_device_what_the_cpu_has_checked(monkeypatch):
    from fewbits.weights import unpacker as home
    from fewbits.weights.packed import Packed

    tensor = frame_of(normal((16, 64), ml_dtypes.bfloat16), 64, monkeypatch, classes=1)
    packed, unpacker = Packed("w", tensor), home.unpacker_of({})
    unpacker._devices[packed, DEVICE] = home._on_device(packed, DEVICE)
    found = unpacker.unpacked_on(packed, DEVICE)
    assert as_array(found).tobytes() == tensor.unpack().tobytes()
    assert unpacker.device_bytes > 1000 and unpacker.on_device(packed, DEVICE) is not None
    unpacker.release()
    assert unpacker.device_bytes == 0
    # What Triton cannot decode comes from the CPU.
    unpacker._devices[packed, DEVICE] = None
    assert torch.equal(unpacker.unpacked_on(packed, DEVICE).cpu(), found.cpu())
