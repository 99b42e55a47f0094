"""Archives: valid safetensors, lazy, ordered, and nothing but what was saved."""

import json
import os
from pathlib import Path

import fsspec
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import fewbits
import independent_reader as reader
from fewbits import container
from fewbits.delta import DeltaTensor, Kind
from fewbits.lossless.plan import Mode
from fewbits.originals import original_header
from fewbits.values.types import from_storage, to_storage


def model():
    rng = np.random.default_rng(0)
    return {
        "z.weight": (rng.standard_normal((64, 48)) * 0.02).astype(ml_dtypes.bfloat16),
        "a.weight": rng.laplace(0, 9, (300, 20)).astype(np.int8),
        "a.bias": np.zeros(20, np.float32),
        "step": np.array(7),
        "empty": np.zeros((0, 5), np.float16),
        'nested/ünïcode "quoted"': np.arange(12, dtype=np.uint16).reshape(3, 4),
        "complex": (rng.standard_normal(9) + 1j).astype(np.complex64),
        "int4": np.arange(-8, 8).astype(ml_dtypes.int4),
        "names": np.array(["a", "bc"]),
    }


def assert_same(tensors, expected):
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        found = np.asarray(tensors[name])
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == np.ascontiguousarray(array).tobytes(), name


def test_saved_mapping_loads_with_its_order_dtypes_and_bits(tmp_path):
    path = tmp_path / "m.safetensors"
    fewbits.save(model(), path, metadata={"made": "here"})
    assert_same(fewbits.load(path), model())
    with fewbits.open(path) as opened:
        assert opened.metadata == {"made": "here"}
        assert_same(opened, model())
        assert len(opened) == len(model())
        assert opened.packed
        assert repr(opened) == f"Archive({str(path)!r}, {len(model())} packed tensors)"


def test_archive_is_a_safetensors_file_with_aligned_frames(tmp_path):
    path = tmp_path / "m.safetensors"
    fewbits.save(model(), path)
    with safetensors.safe_open(path, "np") as file:
        assert set(file.keys()) == set(model())
        assert file.metadata()["fewbits.version"] == "1"
        for name in file.keys():  # noqa: SIM118  (safe_open does not iterate)
            frame = file.get_tensor(name)
            assert frame.dtype == np.uint8
            assert frame.tobytes()[:4] == b"FEWB"
    raw = path.read_bytes()
    header_size = int.from_bytes(raw[:8], "little")
    assert (8 + header_size) % 64 == 0
    fields = json.loads(raw[8 : 8 + header_size])
    fields.pop("__metadata__")
    assert all(start % 64 == 0 for start, _ in (f["data_offsets"] for f in fields.values()))


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt", "ключ": "знач\n"}])
def test_metadata_is_kept_apart_from_the_archives_own(tmp_path, metadata):
    path = tmp_path / "m.safetensors"
    fewbits.save({"w": np.ones(3)}, path, metadata=metadata)
    with fewbits.open(path) as opened:
        assert opened.metadata == metadata


def test_metadata_keys_of_the_archive_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"fewbits\.version"):
        fewbits.save({}, tmp_path / "m", metadata={"fewbits.version": "9"})
    assert os.listdir(tmp_path) == []


def test_names_that_a_safetensors_file_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not a tensor name"):
        fewbits.save({"__metadata__": np.ones(2)}, tmp_path / "m")
    with pytest.raises(TypeError, match=r"tensor 'o': .*Python objects"):
        fewbits.save({"o": np.array([None])}, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_empty_mapping_round_trips(tmp_path):
    fewbits.save({}, tmp_path / "m.safetensors")
    assert fewbits.load(tmp_path / "m.safetensors") == {}


def test_plain_safetensors_files_open_the_same_way(tmp_path):
    path = tmp_path / "plain.safetensors"
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "e": np.zeros((0,), np.int8)}
    safetensors.numpy.save_file(tensors, path, metadata={"k": "v"})
    loaded = fewbits.load(path)
    assert set(loaded) == set(tensors)
    assert (loaded["w"] == tensors["w"]).all()
    loaded["w"][0] = 1  # an array of its own, not a view of the file
    with fewbits.open(path) as opened:
        assert not opened.packed
        assert opened.metadata == {"k": "v"}
        assert (opened["w"][1] == [3, 4, 5]).all()
        assert not opened["w"].flags.writeable


def test_unknown_name_is_a_key_error(tmp_path):
    fewbits.save({"w": np.ones(3)}, tmp_path / "m")
    with fewbits.open(tmp_path / "m") as opened, pytest.raises(KeyError, match="nothing"):
        opened["nothing"]


def test_closed_archive_does_not_read(tmp_path):
    fewbits.save({"w": np.ones(3)}, tmp_path / "m")
    with fewbits.open(tmp_path / "m") as opened:
        tensor = opened["w"]
    with pytest.raises(ValueError, match="closed"):
        tensor.unpack()


def test_remote_paths_read_only_what_a_slice_needs():
    big = np.random.default_rng(1).standard_normal((4000, 500)).astype(np.float32)
    url = "memory://bucket/m.safetensors"
    fewbits.save({"w": big, "other": big[:7]}, url)
    assert (fewbits.load(url)["other"] == big[:7]).all()
    with fewbits.open(url) as opened:
        reads = []
        source = opened._source
        original = source.read
        source.read = lambda start, stop: reads.append(stop - start) or original(start, stop)
        assert (opened["w"][100:150] == big[100:150]).all()
        assert sum(reads) < opened.size / 6
    assert fsspec.filesystem("memory").exists("/bucket/m.safetensors")


def test_saving_over_a_file_replaces_it_only_when_complete(tmp_path):
    path = tmp_path / "m.safetensors"
    fewbits.save({"w": np.ones(3)}, path)
    before = path.read_bytes()

    class Failing(dict):
        def items(self):
            yield "w", np.zeros(1000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fewbits.save(Failing(w=None), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_new_file_has_the_permissions_of_any_new_file(tmp_path):
    fewbits.save({}, tmp_path / "packed")
    (tmp_path / "plain").touch()
    assert (tmp_path / "packed").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_header_place_is_filled_however_long_names_are(tmp_path):
    tensors = {f"{'x' * 400}.{i}": np.full(3, i % 251, np.uint8) for i in range(300)}
    fewbits.save(tensors, tmp_path / "m")
    assert_same(fewbits.load(tmp_path / "m"), tensors)


def test_reference_header_is_reproduced(tmp_path):
    path = tmp_path / "plain.safetensors"
    tensors = {n: a for n, a in model().items() if n not in ("int4", "names", "complex")}
    safetensors.numpy.save_file(tensors, path, metadata={"format": "np"})
    raw = path.read_bytes()
    found = container.parse(lambda start, stop: raw[start:stop], len(raw))
    assert original_header(found) is None


GOLDEN = Path(__file__).parent / "golden"


def golden_model():
    """Small tensors that use every remap, coder, mode and kind of plane."""
    n = np.arange(3000)
    wave = ((n * 7919 % 211 - 105) >> n % 7) / 128  # exact in every float type it is cast to
    nibbles = (np.round(wave * 9).astype(np.int8).view(np.uint8)) & 15
    return {
        "bfloat16": wave.astype(ml_dtypes.bfloat16),
        "float32": wave.astype(np.float32).reshape(30, 100),
        "float16": wave.astype(np.float16),
        "int8": np.round(wave * 128).astype(np.int8),
        "int4": nibbles.view(ml_dtypes.int4),
        "packed nibbles": nibbles[::2] | nibbles[1::2] << 4,
        "fp8": wave.astype(ml_dtypes.float8_e4m3fn),
        "int64": n * n,
        "constant": np.full((7, 9), 2.5),
        "noise": (n * 2654435761 >> 7 & 255).astype(np.uint8),
        "sparse": np.where(n % 251 == 0, wave, 0).astype(np.float16),
        "empty": np.zeros((3, 0), np.int16),
        "scalar": np.array(np.pi),
        "big-endian": wave.astype(">f4"),
        "text": np.array([b"ab", b"c"]),
    }


def golden_model_2():
    """What version 2 added: rows in classes, groups of them, and sparse planes."""
    n = np.arange(20_000)
    wave = ((n * 7919 % 211 - 105) / 128) * np.exp2(-(n // 400 * 37 % 5)).astype(np.float32)
    widened = wave.astype(np.float32) * np.float32(1.0001)
    rows = widened.reshape(50, 400)
    rows[::3] = rows[::3].astype(np.float16)
    return golden_model() | {
        "classes of bfloat16": wave.astype(ml_dtypes.bfloat16).reshape(50, 400),
        "classes of int8": np.round(wave * 127).astype(np.int8),
        "groups": rows,
        "a short row": widened[:-7],
        "sparse plane": np.where(n % 997 == 5, n, 77).astype(np.int16),
        "sparse nibbles": np.where(n % 997 == 5, 3, 0).astype(np.uint8).view(ml_dtypes.int4),
    }


def golden_deltas():
    """What became of some of these tensors: numbers moved up, bits flipped, one as it was."""
    model = golden_model()
    after = {"noise": model["noise"], "new": np.arange(500)}
    for name in ("bfloat16", "float32", "float16", "int8", "int64", "fp8", "int4"):
        stored = to_storage(model[name]).copy()
        if name == "int4":
            stored[::19] ^= 0x41
        else:
            whole = stored.view(f"<u{model[name].itemsize}")
            whole += np.arange(whole.size).astype(whole.dtype) % 3
        after[name] = from_storage(stored, model[name].dtype, model[name].size)
        after[name] = after[name].reshape(model[name].shape)
    return after


CODECS = {
    "rans": fewbits.Lossless(),
    "arithmetic": fewbits.Lossless(coder="arithmetic"),
    "rans-many-rows": fewbits.Lossless(rows=64, count_bits=14),
}


@pytest.mark.parametrize("name", CODECS)
def test_files_of_the_first_version_stay_readable(name):
    assert_same(fewbits.load(GOLDEN / f"v1-{name}.safetensors"), golden_model())


@pytest.mark.parametrize("name", CODECS)
def test_files_of_the_second_version_stay_readable(name):
    model = golden_model_2() if name == "rans" else golden_model()
    assert_same(fewbits.load(GOLDEN / f"v2-{name}.safetensors"), model)


def test_archives_of_deltas_stay_readable():
    path, after = GOLDEN / "archive-v2.safetensors", golden_deltas()
    assert_same(fewbits.load(path), after)  # the base lies beside it
    before = golden_model()
    base = {name: (a.dtype.name, a.shape, to_storage(a).tobytes()) for name, a in before.items()}
    found = reader.read_archive(path.read_bytes(), base)
    assert {name: raw for name, (_, _, raw) in found.items()} == {
        name: to_storage(array).tobytes() for name, array in after.items()
    }
    with fewbits.open(path) as opened:
        kinds = {tensor.kind for tensor in opened.values() if isinstance(tensor, DeltaTensor)}
        assert kinds == set(Kind) and not isinstance(opened["new"], DeltaTensor)


def test_golden_files_use_all_that_the_second_version_added():
    with fewbits.open(GOLDEN / "v2-rans.safetensors") as archive:
        headers = [tensor.header for tensor in archive.values()]
    modes = {int(mode) for header in headers for mode in header.modes}
    assert modes >= {Mode.RAW, Mode.CONSTANT, Mode.TABLE, Mode.SPARSE, Mode.BY_CLASS}
    classes = [header.plan.classes for header in headers if header.plan.classes]
    assert any(any(found.starts_group[1:]) for found in classes)


if __name__ == "__main__":  # writes golden files; only for a new version of the format
    for codec_name, codec in CODECS.items():
        model = golden_model_2() if codec_name == "rans" else golden_model()
        fewbits.save(model, GOLDEN / f"v2-{codec_name}.safetensors", codec=codec)
    fewbits.save(
        golden_deltas(), GOLDEN / "archive-v2.safetensors", base=GOLDEN / "v1-rans.safetensors"
    )
