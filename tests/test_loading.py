"""Loading whole files: tensors side by side, read ahead, and errors that do not depend on luck."""

import errno

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import fewbits
from fewbits import CorruptError, container, loading
from fewbits.files import pack_path
from fewbits.sources import RemoteFile


def model(count=12):
    rng = np.random.default_rng(0)
    return {
        f"t{index}": (rng.standard_normal((20 + 30 * (index % 5), 64)) * 0.1).astype(
            ml_dtypes.bfloat16
        )
        for index in range(count)
    }


@pytest.fixture(params=[1, 1 << 12, 1 << 24], ids=lambda size: f"groups of {size}")
def groups(request, monkeypatch):
    """Few or many tensors at a time."""
    monkeypatch.setattr(loading, "GROUP_BYTES", request.param)


@pytest.mark.parametrize("threads", [1, 3, 100])
@pytest.mark.parametrize("kind", ["packed", "plain"])
@pytest.mark.parametrize("where", ["local", "remote"])
def test_all_tensors_come_whatever_the_threads(tmp_path, groups, kind, where, threads):
    path = tmp_path / "m" if where == "local" else f"memory://loading/{kind}"
    if kind == "packed":
        fewbits.save(model(), path)
    else:
        save_file(model(), tmp_path / "m")
        if where == "remote":
            path = (tmp_path / "m").as_uri()
    loaded = fewbits.load(path, threads=threads)
    for name, array in model().items():
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable
    assert set(loaded) == set(model())


def test_names_are_in_the_order_of_the_header(tmp_path):
    entries = [container.Entry(name, "U8", (9,), at, at + 9) for name, at in (("b", 9), ("a", 0))]
    text = container.header_text(entries, None)
    (tmp_path / "plain").write_bytes(container.with_prefix(text) + b"a" * 9 + b"b" * 9)
    pack_path(tmp_path / "plain", tmp_path / "packed")
    loaded = fewbits.load(tmp_path / "packed")
    assert {name: bytes(array[:1]) for name, array in loaded.items()} == {"b": b"b", "a": b"a"}
    assert list(loaded) == ["b", "a"]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_damaged_tensor_is_the_one_that_is_named(tmp_path, groups, threads):
    path = tmp_path / "m"
    fewbits.save(model(), path)
    raw = bytearray(path.read_bytes())
    with fewbits.open(path) as archive:
        base, entries = archive.container.data_start, archive.container.in_file_order
    for entry in entries[3:]:
        raw[base + (entry.start + entry.stop) // 2] ^= 255
    path.write_bytes(raw)
    for _ in range(5):
        with pytest.raises(CorruptError, match=f"tensor '{entries[3].name}'"):
            fewbits.load(path, threads=threads)


def test_remote_files_are_read_once_and_ahead_by_no_more_than_two_groups(monkeypatch):
    url = "memory://loading/ahead"
    fewbits.save(model(), url)
    monkeypatch.setattr(loading, "GROUP_BYTES", 1 << 12)
    fetched, kept, original = [], [], RemoteFile._fetch

    def fetch(self, start, stop):
        fetched.append(stop - start)
        kept.append(sum(end - begin for begin, end, _ in self._ahead))
        return original(self, start, stop)

    monkeypatch.setattr(RemoteFile, "_fetch", fetch)
    fewbits.load(url, threads=1)
    with fewbits.open(url) as archive:
        size = archive.size
        assert archive._source._ahead.maxlen == 2
    assert sum(fetched) < 1.2 * size
    assert max(kept) < size / 2


def test_what_cannot_be_read_ahead_is_an_error_when_it_is_needed(monkeypatch):
    url = "memory://loading/broken"
    fewbits.save(model(), url)
    with fewbits.open(url) as archive:
        entries = archive.container.in_file_order
        source = archive._source

        def fail(size=-1):
            raise OSError(errno.EIO, "the store is gone", url)

        monkeypatch.setattr(source._file, "read", fail)
        archive.expect(entries[:2])
        with pytest.raises(OSError, match="the store is gone"):
            archive[entries[0].name]
