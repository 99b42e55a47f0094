"""Equal tensors are stored once, and links to them cannot mislead."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import fewbits
import independent_reader
from fewbits import CorruptError, container, links
from fewbits.archive import _with_checksum
from fewbits.files import pack_path, unpack_path, verify_path


def noise(seed, shape=(120, 50)):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 0.02).astype(ml_dtypes.bfloat16)


TIED = {
    "embed": noise(1),
    "layer": noise(2),
    "head": noise(1),
    "again": noise(1),
    "other shape": noise(1).reshape(50, 120),
    "other dtype": noise(1).view(np.float16),
    "small": np.ones(9, np.int8),
    "small too": np.ones(9, np.int8),
}


def saved(tmp_path, tensors=TIED):
    path = tmp_path / "m.safetensors"
    fewbits.save(tensors, path)
    return path


def entries(raw):
    """The header of an archive's bytes."""
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), 8 + size


def test_equal_tensors_are_stored_once_and_all_are_there(tmp_path):
    path = saved(tmp_path)
    loaded = fewbits.load(path)
    for name, array in TIED.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes(), name
    with fewbits.open(path) as archive:
        holders = {name: archive.frame_entry(name).name for name in archive}
        assert (archive["again"][3:5] == TIED["again"][3:5]).all()
    assert holders == {name: name for name in TIED} | {"head": "embed", "again": "embed"}
    header, _ = entries(path.read_bytes())
    assert header["head"]["shape"] == header["again"]["shape"] == [links.LINK_BYTES]


def test_only_files_with_links_ask_for_a_newer_reader(tmp_path):
    version = {}
    for name, tensors in {"tied": TIED, "plain": {"a": noise(1), "b": noise(2)}}.items():
        header, _ = entries(saved(tmp_path, tensors).read_bytes())
        version[name] = header["__metadata__"]["fewbits.version"]
    assert version == {"tied": "2", "plain": "1"}


def test_frames_that_differ_under_one_header_checksum_are_both_stored(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        written = links.Written(file, 0)
        head, one, two = bytes(64), b"1" * 5000, b"2" * 5000
        assert written.start_of([head, one], 0) == 0
        file.write(head + one)
        assert written.start_of([head, two], file.tell()) == 5064
        assert written.start_of([head, one], file.tell()) == 0
        assert file.tell() == 5064


@pytest.mark.parametrize(
    ("order", "workers"),
    [(list(TIED), None), (list(TIED), 2), (sorted(TIED), None), (sorted(TIED)[::-1], None)],
)
def test_files_come_back_byte_for_byte(tmp_path, order, workers):
    plain, packed, back = (tmp_path / name for name in ("plain", "packed", "back"))
    save_file({name: TIED[name] for name in order}, plain, metadata={"k": "v"})
    pack_path(plain, packed, workers=workers)
    assert verify_path(packed).tensors == len(TIED)
    unpack_path(packed, back)
    assert back.read_bytes() == plain.read_bytes()
    assert independent_reader.restore(packed.read_bytes()) == plain.read_bytes()


def test_names_in_another_order_than_the_data_come_back(tmp_path):
    """Links have a place among the frames, which says where their tensors lie in the original."""
    data = noise(1).tobytes()
    entries_ = [
        container.Entry(name, "BF16", (120, 50), at * len(data), (at + 1) * len(data))
        for name, at in (("c", 2), ("b", 1), ("a", 0))
    ]
    plain, packed, back = (tmp_path / name for name in ("plain", "packed", "back"))
    plain.write_bytes(container.with_prefix(container.header_text(entries_, None)) + 3 * data)
    pack_path(plain, packed)
    unpack_path(packed, back)
    assert back.read_bytes() == plain.read_bytes()
    assert packed.stat().st_size < len(data)


def patched(path: Path, name: str, link: bytes) -> None:
    """Put another link where that of a tensor is."""
    raw = bytearray(path.read_bytes())
    header, start = entries(raw)
    at = start + header[name]["data_offsets"][0]
    raw[at : at + len(link)] = link
    path.write_bytes(raw)


def test_links_that_lead_nowhere_are_refused(tmp_path):
    header, _ = entries(saved(tmp_path).read_bytes())
    starts = {n: e["data_offsets"][0] for n, e in header.items() if n != "__metadata__"}
    faults = {
        starts["head"]: "not a Fewbits frame",  # a link to a link
        starts["again"]: "no frame before it",  # itself
        starts["other shape"]: "no frame before it",  # a frame, but behind
        starts["layer"] + 64: "no frame before it",  # within a frame
        (1 << 64) - 1: "no frame before it",
    }
    for target, fault in faults.items():
        path = saved(tmp_path)
        patched(path, "again", links.to_bytes(target))
        with pytest.raises(CorruptError, match=rf"m\.safetensors: tensor 'again': .*{fault}"):
            fewbits.load(path)
        with pytest.raises(independent_reader.Refused):
            independent_reader.read_archive(path.read_bytes())


@pytest.mark.parametrize("flip", [1, 128])
def test_no_byte_of_a_link_can_change_unnoticed(tmp_path, flip):
    path = saved(tmp_path)
    good = links.to_bytes(0)
    for at in range(links.LINK_BYTES):
        link = bytearray(good)
        link[at] ^= flip
        patched(path, "head", link)
        with fewbits.open(path) as archive, pytest.raises(CorruptError, match="'head'"):
            archive["head"]
    patched(path, "head", good)
    assert (fewbits.load(path)["head"] == TIED["head"]).all()


def test_archives_of_the_first_version_have_no_links(tmp_path):
    path = saved(tmp_path)
    raw = path.read_bytes()
    _, start = entries(raw)
    text = raw[8:start].replace(b'"fewbits.version":"2"', b'"fewbits.version":"1"')
    sum_at = text.index(b'"fewbits.checksum":"') + len(b'"fewbits.checksum":"')
    text = text[:sum_at] + b"0" * 16 + text[sum_at + 16 :]
    path.write_bytes(container.with_prefix(_with_checksum(text)) + raw[start:])
    with pytest.raises(CorruptError, match="'head': not a Fewbits frame"):
        fewbits.load(path)
    with pytest.raises(independent_reader.Refused):
        independent_reader.read_archive(path.read_bytes())
