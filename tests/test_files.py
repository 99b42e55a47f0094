"""Files and folders: packed and unpacked again they are the same, byte for byte."""

import errno
import filecmp
import json
import os
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import fewbits
from fewbits import container, files
from fewbits.container import Entry

TENSORS = {
    "w": (np.random.default_rng(0).standard_normal((50, 40)) * 0.1).astype(np.float32),
    "b": np.zeros(40, np.float16),
    "q": np.random.default_rng(1).laplace(0, 4, 5000).astype(np.int8),
    "none": np.zeros((0, 3), np.int32),
}


def write_plain(path, tensors=TENSORS, metadata=None):
    safetensors.numpy.save_file(tensors, path, metadata=metadata)
    return path


def write_by_hand(path, text, data):
    """A safetensors file with a header as somebody else might write it."""
    path.write_bytes(container.with_prefix(text.encode()) + data)
    return path


def assert_restores(path, tmp_path):
    packed, back = tmp_path / "packed", tmp_path / "back"
    files.pack_path(path, packed)
    files.unpack_path(packed, back)
    assert back.read_bytes() == path.read_bytes()
    return packed


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt", "a": "ä\u2028\U0001f642"}])
def test_reference_files_are_restored_without_keeping_their_header(tmp_path, metadata):
    packed = assert_restores(write_plain(tmp_path / "m", metadata=metadata), tmp_path)
    with fewbits.open(packed) as opened:
        assert "fewbits.header" not in opened.container.metadata
        assert opened.metadata == metadata


HAND_WRITTEN = {
    "spaces": '{ "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} }   ',
    "fields in another order": '{"a":{"shape":[2,2],"data_offsets":[0,4],"dtype":"I8"}}',
    "metadata last": '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
    '"__metadata__":{"x":"y"}}',
    "empty metadata": '{"__metadata__":{},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    "no padding": '{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
    "escapes": '{"\\u0061\\/b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
    "data in another order": '{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},'
    '"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
    "empty tensors between": '{"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},'
    '"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
    '"c":{"dtype":"F64","shape":[0,3],"data_offsets":[2,2]},'
    '"d":{"dtype":"I16","shape":[1],"data_offsets":[2,4]}}',
    "types NumPy lacks": '{"f4":{"dtype":"F4","shape":[6],"data_offsets":[0,3]},'
    '"new":{"dtype":"X9","shape":[1,5],"data_offsets":[3,4]}}',
}


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_headers_of_any_layout_are_restored_to_the_byte(tmp_path, kind):
    path = write_by_hand(tmp_path / "m", HAND_WRITTEN[kind], bytes([1, 2, 3, 255]))
    packed = assert_restores(path, tmp_path)
    names = [n for n in json.loads(HAND_WRITTEN[kind]) if n != "__metadata__"]
    assert list(fewbits.load(packed)) == names


def test_every_safetensors_dtype_is_restored(tmp_path):
    data = np.random.default_rng(2).integers(0, 256, 64, dtype=np.uint8).tobytes()
    entries, reached = [], 0
    for dtype, name in container.DTYPES.items():
        size = np.dtype(getattr(ml_dtypes, name, None) or name).itemsize
        entries.append(Entry(dtype.lower(), dtype, (64 // size,), reached, reached + 64))
        reached += 64
    text = container.header_text(entries, None).decode()
    assert_restores(write_by_hand(tmp_path / "m", text, data * len(entries)), tmp_path)


def make_checkpoint(folder):
    """A sharded checkpoint with the files that go with one."""
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "x"}')
    (folder / "tokenizer" / "vocab.txt").write_bytes(b"a\r\nb\n\xff")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    write_plain(folder / shards[0], {"w": TENSORS["w"]}, {"format": "pt"})
    write_plain(folder / shards[1], {"q": TENSORS["q"], "b": TENSORS["b"]}, {"format": "pt"})
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {"w": shards[0], "q": shards[1], "b": shards[1]},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def same_trees(left, right):
    compared = filecmp.dircmp(left, right)
    if compared.left_only or compared.right_only or compared.funny_files:
        return False
    _, different, errors = filecmp.cmpfiles(left, right, compared.common_files, shallow=False)
    inside = [same_trees(left / d, right / d) for d in compared.common_dirs]
    return not different and not errors and all(inside)


def test_folder_with_shards_is_packed_and_restored_whole(tmp_path):
    source = make_checkpoint(tmp_path / "checkpoint")
    totals = files.pack_path(source, tmp_path / "packed")
    assert (totals.files, totals.tensors) == (2, 3)
    assert totals.bytes_out < totals.bytes_in
    assert (tmp_path / "packed" / "tokenizer" / "vocab.txt").read_bytes() == b"a\r\nb\n\xff"
    files.unpack_path(tmp_path / "packed", tmp_path / "back")
    assert same_trees(source, tmp_path / "back")


def test_index_stands_for_its_shards(tmp_path):
    source = make_checkpoint(tmp_path / "checkpoint")
    index = source / "model.safetensors.index.json"
    files.pack_path(index, tmp_path / "packed")
    assert sorted(os.listdir(tmp_path / "packed")) == sorted(
        name for name in os.listdir(source) if name.startswith("model")
    )
    files.unpack_path(tmp_path / "packed" / index.name, tmp_path / "back")
    for name in os.listdir(tmp_path / "back"):
        assert filecmp.cmp(tmp_path / "back" / name, source / name, shallow=False)


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ("{", "not an index"),
        ("[]", "not an index"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "beside the index"),
        ('{"weight_map": {"a": 3}}', "beside the index"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "is missing"),
    ],
)
def test_bad_index_is_named(tmp_path, index, fault):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(fewbits.FewbitsError, match=fault):
        files.pack_path(path, tmp_path / "out")
    assert os.listdir(tmp_path) == [path.name]


def test_targets_that_would_lose_something_are_refused(tmp_path):
    source = write_plain(tmp_path / "m")
    folder = make_checkpoint(tmp_path / "folder")
    (tmp_path / "there").write_text("precious")
    for src, dst, force, fault in [
        (source, source, True, "the same"),
        (source, tmp_path / "there", False, "exists already"),
        (source, folder, True, "is a folder"),
        (folder, tmp_path / "there", True, "not a folder"),
        (folder, folder / "inside", False, "inside the source"),
        (source, tmp_path / "no" / "such", False, "no such folder"),
        (tmp_path / "gone", tmp_path / "out", False, "no such file"),
        (folder / "tokenizer", tmp_path / "out", False, "no .safetensors file"),
    ]:
        with pytest.raises(fewbits.FewbitsError, match=fault):
            files.pack_path(src, dst, force=force)
    assert (tmp_path / "there").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["folder", "m", "there"]


def test_force_replaces_files_and_folders(tmp_path):
    source, folder = write_plain(tmp_path / "m"), make_checkpoint(tmp_path / "folder")
    (tmp_path / "file").write_text("old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    files.pack_path(source, tmp_path / "file", force=True)
    files.pack_path(folder, tmp_path / "out", force=True)
    assert fewbits.load(tmp_path / "file").keys() == TENSORS.keys()
    assert not (tmp_path / "out" / "old").exists()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "m", "out"]


def test_packing_twice_and_unpacking_plain_files_are_refused(tmp_path):
    source = write_plain(tmp_path / "m")
    files.pack_path(source, tmp_path / "p")
    with pytest.raises(fewbits.FewbitsError, match="packed already"):
        files.pack_path(tmp_path / "p", tmp_path / "q")
    for operation in (lambda: files.unpack_path(source, tmp_path / "q"),
                      lambda: files.verify_path(source)):  # fmt: skip
        with pytest.raises(fewbits.FewbitsError, match="plain safetensors"):
            operation()
    assert sorted(os.listdir(tmp_path)) == ["m", "p"]


def test_archive_of_types_that_safetensors_lacks_does_not_unpack_to_a_file(tmp_path):
    fewbits.save({"x": np.ones(4, ml_dtypes.int4)}, tmp_path / "p")
    with pytest.raises(fewbits.FewbitsError, match=r"tensor 'x': .*int4"):
        files.unpack_path(tmp_path / "p", tmp_path / "out")
    assert os.listdir(tmp_path) == ["p"]


def test_kept_header_that_does_not_fit_its_tensors_is_refused(tmp_path):
    text = HAND_WRITTEN["spaces"]
    path = write_by_hand(tmp_path / "m", text, b"abcd")
    found = container.parse(lambda a, b: path.read_bytes()[a:b], path.stat().st_size)
    for wrong in (text.replace('"a"', '"b"'), text.replace("U8", "I8"), text[:-9], "{}"):
        frames = [fewbits.frame.pack_parts(np.frombuffer(b"abcd", np.uint8))]
        with (tmp_path / "p").open("w+b") as file:
            fewbits.archive.write_archive(file, ["a"], ["a"], frames, found.metadata, wrong)
        with pytest.raises(fewbits.CorruptError, match="kept header"):
            files.unpack_path(tmp_path / "p", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["m", "p"]


def test_verify_counts_what_it_checked_and_finds_damage(tmp_path):
    files.pack_path(write_plain(tmp_path / "m"), tmp_path / "p")
    seen = []
    totals = files.verify_path(tmp_path / "p", progress=lambda *step: seen.append(step[1]))
    assert totals.tensors == 4
    assert seen == list(TENSORS) or sorted(seen) == sorted(TENSORS)
    raw = bytearray((tmp_path / "p").read_bytes())
    raw[-70] ^= 4
    (tmp_path / "p").write_bytes(raw)
    with pytest.raises(fewbits.CorruptError, match=r"p: tensor '\w+': "):
        files.verify_path(tmp_path / "p")


def test_disk_that_fills_up_leaves_what_was_there(tmp_path, monkeypatch):
    source = write_plain(tmp_path / "m")
    (tmp_path / "p").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.pack_path(source, tmp_path / "p", force=True)
    assert (tmp_path / "p").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["m", "p"]


def test_file_size_limit_of_the_system_leaves_nothing(tmp_path):
    source = write_plain(tmp_path / "m", {"w": np.random.default_rng(3).random(50_000)})
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from fewbits import files; files.pack_path(sys.argv[1], sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "p"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == ["m"]


def test_interrupt_leaves_nothing_half_written(tmp_path):
    source = write_plain(tmp_path / "m")

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    # Whoever runs the tests in the background may have handed down an ignored Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            files.pack_path(source, tmp_path / "p", progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.listdir(tmp_path) == ["m"]


def test_memory_is_bounded_by_the_largest_tensor_not_by_the_file(tmp_path):
    tensor = np.random.default_rng(4).standard_normal(1 << 19).astype(np.float32)  # 2 MiB
    write_plain(tmp_path / "m", {f"w{i}": tensor for i in range(64)})  # 128 MiB in all
    code = (
        "import resource, sys\n"
        "from fewbits import files, pack\n"
        "pack([1.0])  # everything is imported\n"
        "status = open('/proc/self/status').read()\n"
        "data = int(status.split('VmData:')[1].split()[0])\n"
        "limit = data * 1024 + (40 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "files.pack_path(sys.argv[1], sys.argv[2], threads=1)\n"
        "files.unpack_path(sys.argv[2], sys.argv[3], threads=1)\n"
    )
    paths = [str(tmp_path / name) for name in ("m", "p", "u")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert filecmp.cmp(paths[0], paths[2], shallow=False)
