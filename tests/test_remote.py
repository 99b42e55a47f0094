"""Paths behind fsspec: what works on a local path works there, as far as a store can do it."""

import json
import os
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

import fewbits
from fewbits import archive, files, folders, paths
from fewbits.atomic import atomic_file
from fewbits.demo import write_plain

STORE = "memory://bucket/run"


@pytest.fixture(autouse=True)
def store():
    """The memory of this process as a store, emptied around each test."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem.store
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def shards(folder: str, count: int = 3) -> None:
    rng = np.random.default_rng(1)
    names = [f"model-{i}.safetensors" for i in range(count)]
    for name in names:
        tensors = {f"{name}.{k}": rng.normal(0, 1, 500).astype(np.float16) for k in "ab"}
        write_plain(tensors, Path("one.safetensors"))
        paths.copy("one.safetensors", paths.join(folder, name))
    put(f"{folder}/sub/config.json", b"{}")
    put(
        f"{folder}/m.safetensors.index.json",
        json.dumps({"weight_map": dict(enumerate(names))}).encode(),
    )


def put(url: str, data: bytes) -> None:
    with atomic_file(url) as file:
        file.write(data)


def contents(folder: str) -> dict[str, bytes]:
    return {
        name: bytes(fsspec.open(paths.join(folder, name)).open().read())
        for name in paths.names_in(folder)
    }


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_folders_go_from_store_to_store_and_come_back():
    shards(STORE)
    before = contents(STORE)
    totals = files.pack_path(STORE, "memory://bucket/packed")
    assert (totals.files, totals.tensors) == (3, 6)
    assert totals.bytes_in == sum(len(b) for n, b in before.items() if n.endswith(".safetensors"))
    assert files.verify_path("memory://bucket/packed").tensors == 6
    files.unpack_path("memory://bucket/packed", "memory://bucket/back")
    assert contents("memory://bucket/back") == before


def test_local_and_remote_folders_hold_the_same_bytes():
    shards(STORE)
    files.pack_path(STORE, "here")
    files.pack_path(STORE, "memory://bucket/there")
    assert contents("memory://bucket/there") == contents("here")
    index = f"{STORE}/m.safetensors.index.json"
    files.pack_path(index, "by-index")
    assert sorted(os.listdir("by-index")) == sorted(
        name for name in os.listdir("here") if name != "sub"
    )


def test_a_folder_that_was_cut_short_goes_on(store, monkeypatch):
    shards(STORE)
    calls = []
    write = archive.write_archive

    def fail_at_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(archive, "write_archive", fail_at_third)
    with pytest.raises(OSError, match="No space") as raised:
        files.pack_path(STORE, "memory://bucket/out")
    assert "2 finished files are kept in memory://bucket/out" in raised.value.__notes__[0]
    assert "model-2.safetensors" not in paths.names_in("memory://bucket/out")
    assert "sub/config.json" not in paths.names_in("memory://bucket/out")
    files.pack_path(STORE, "memory://bucket/out")
    assert len(calls) == 4
    files.pack_path(STORE, "here")
    assert contents("memory://bucket/out") == contents("here")


def test_what_would_lose_something_is_refused():
    shards(STORE)
    put("memory://bucket/there", b"precious")
    file = f"{STORE}/model-0.safetensors"
    for src, dst, force, fault in [
        (file, "memory://bucket/there", False, "there: exists already"),
        (file, file, True, "the same"),
        (file, STORE, True, "is a folder"),
        (STORE, "memory://bucket/there", True, "is not a folder"),
        (STORE, f"{STORE}/out", False, "inside the source"),
        (STORE, "memory://bucket", True, "remote folder cannot be replaced"),
        (file, "http://localhost:1/x", True, "http can be read but not written"),
        (file, "nonsense://x", True, "nonsense://x: .*not known"),
        ("memory://bucket/none", "out", False, "No such file .*none"),
        ("memory://bucket/none.safetensors.index.json", "out", False, "no such file"),
    ]:
        with pytest.raises((fewbits.FewbitsError, FileNotFoundError), match=fault) as raised:
            files.pack_path(src, dst, force=force)
        assert "\n" not in str(raised.value)
    assert contents("memory://bucket/")["there"] == b"precious"
    assert os.listdir() == ["one.safetensors"]
    files.pack_path(file, "memory://bucket/there", force=True)
    assert files.verify_path("memory://bucket/there").tensors == 2


def test_workers_do_not_see_the_memory_of_this_process():
    shards(STORE)
    for src, dst in ((STORE, "out"), ("one.safetensors", "memory://bucket/out")):
        with pytest.raises(fewbits.FewbitsError, match="memory is this process's own"):
            files.pack_path(src, dst, workers=2)
    assert os.listdir() == ["one.safetensors"]


def test_an_upload_that_breaks_off_takes_no_name(monkeypatch):
    put("memory://bucket/x", b"old")
    write = MemoryFile.write

    def stop(self, data):
        write(self, data[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(MemoryFile, "write", stop)
    for name in ("x", "y"):
        with pytest.raises(KeyboardInterrupt), atomic_file(f"memory://bucket/{name}") as file:
            file.write(b"new bytes")
    monkeypatch.undo()
    assert contents("memory://bucket") == {"x": b"old"}


def test_urls_of_local_files_make_their_folders(tmp_path):
    write_plain({"a": np.arange(9)}, tmp_path / "m.safetensors")
    files.pack_path(tmp_path / "m.safetensors", f"file://{tmp_path}/new/folder/p.safetensors")
    assert fewbits.load(tmp_path / "new/folder/p.safetensors")["a"].tolist() == list(range(9))
    assert os.listdir(tmp_path / "new/folder") == ["p.safetensors"]


def test_errors_of_a_store_name_the_url(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("token expired\nlong story")

    monkeypatch.setattr(MemoryFileSystem, "_open", fail)
    with pytest.raises(fewbits.FewbitsError, match=r"^memory://bucket/m: token expired$"):
        fewbits.open("memory://bucket/m")


def test_names_in_chained_urls():
    chained = "zip://inside::memory://bucket/a.zip"
    assert paths.join(chained, "x") == "zip://inside/x::memory://bucket/a.zip"
    assert paths.split("zip://inside/x::memory://bucket/a.zip") == (chained, "x")
    cached = "simplecache::memory://bucket/"
    assert paths.join(cached, "x/y") == "simplecache::memory://bucket/x/y"
    shards(STORE)
    for name in paths.names_in(STORE):
        Path("data", name).parent.mkdir(parents=True, exist_ok=True)
        paths.copy(paths.join(STORE, name), Path("data", name))
    with fsspec.open("memory://bucket/a.zip", "wb") as file, zipfile.ZipFile(file, "w") as packed:
        for name in paths.names_in("data"):
            packed.write(Path("data", name), f"inside/{name}")
    assert folders.tensor_files(chained)[0] == (
        "zip://inside/model-0.safetensors::memory://bucket/a.zip"
    )
    files.pack_path(chained, "from-zip")
    files.unpack_path("from-zip", "back")
    assert contents("back") == contents("data")
