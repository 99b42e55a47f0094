"""Deltas: what changed since another checkpoint comes back bit for bit, or is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbits
import independent_reader as reader
from fewbits import CorruptError, FewbitsError, bases, container, delta, files
from fewbits.delta import Base, DeltaTensor, Kind, Mark
from fewbits.values.types import LAYOUTS, dtype_named, from_storage, storage_bytes, to_storage
from test_hostile import rewritten

OTHERS = (">f4", ">i2", "|S3", "<U2", "[('a', '<i4'), ('b', '|u1')]")
DTYPES = [dtype_named(name) for name in (*LAYOUTS, *OTHERS)]


def arrays(dtype, data, elements):
    """Two arrays of any bits, NaN payloads and negative zeros among them; often much alike."""
    size = storage_bytes(dtype, elements)
    before = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8).copy()
    if dtype.name.endswith("int4") and elements % 2:
        before[-1] &= 15
    after = before.copy()
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, size - 1))
        after[at] = data.draw(st.sampled_from([0, 0x7F, 0x80, 0xFF, int(after[at]) ^ 1]))
    if dtype.name.endswith("int4") and elements % 2:
        after[-1] &= 15
    return (from_storage(x, dtype, elements).copy() for x in (before, after))


def bits(array):
    return to_storage(np.asarray(array)).tobytes()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_changes_of_any_bits_come_back(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    before, after = arrays(dtype, data, data.draw(st.integers(1, 70)))
    packed = delta.pack_changes(after, Base.of(before))
    if packed is None:
        return
    parts, mark = packed
    tensor = DeltaTensor.of_parts(parts, mark, Base.of(before))
    assert (tensor.dtype, tensor.shape) == (after.dtype, after.shape)
    assert bits(tensor.unpack()) == bits(after)
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, after.size)] * 2)))
    assert bits(tensor[low:high]) == bits(after[low:high])
    out = np.zeros_like(after)
    tensor.unpack_into(out)
    assert bits(out) == bits(after)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_each_kind_undoes_itself_on_any_bits(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    before, after = (to_storage(x) for x in arrays(dtype, data, data.draw(st.integers(1, 40))))
    sizes = [e for e in (1, 2, 4, 8) if not before.size % e]
    kind, element = data.draw(st.sampled_from(list(Kind))), data.draw(st.sampled_from(sizes))
    changed = delta.changes(kind, dtype, after, before, element).copy()
    delta.apply(kind, dtype, changed, before, element)
    assert changed.tobytes() == after.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_difference_of_floats_counts_the_values_between_them(dtype):
    whole = np.uint16 if np.dtype(dtype).itemsize == 2 else np.dtype(f"u{np.dtype(dtype).itemsize}")
    steps = np.array([0, 1, 2], whole).view(dtype)  # 0 and the two smallest above it
    before = np.concatenate([-steps, steps, np.array([1, -1, np.inf], dtype)])
    after = np.concatenate([steps, -steps, np.array([-1, -1, np.inf], dtype)])
    size = np.dtype(dtype).itemsize
    changed = delta.changes(Kind.DIFFERENCE, before.dtype, *map(to_storage, (after, before)), size)
    found = changed.view(f"<i{size}").tolist()
    assert found[:6] == [1, 3, 5, -1, -3, -5]  # -0 and +0 are neighbours
    assert found[7:] == [0, 0]


def step(tensors, seed):
    """The tensors a little later: most moved, some as they were, one new."""
    rng = np.random.default_rng(seed)
    moved = {
        name: (a + rng.normal(0, 1e-4, a.shape)).astype(a.dtype) if "w" in name else a
        for name, a in tensors.items()
    }
    return {**moved, f"new{seed}": rng.integers(0, 9, 300)}


def first():
    rng = np.random.default_rng(0)
    return {
        "w.bf16": rng.normal(0, 0.02, (120, 64)).astype(ml_dtypes.bfloat16),
        "w.fp32": rng.normal(0, 0.02, (60, 50)).astype(np.float32),
        "frozen": rng.normal(0, 0.02, (300, 400)).astype(np.float16),
        "codes": rng.integers(0, 255, 700).astype(np.uint8),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }


def write_plain(tensors, path):
    safetensors.numpy.save_file({n: np.ascontiguousarray(a) for n, a in tensors.items()}, path)
    return path


@pytest.fixture
def chain(tmp_path):
    """Three steps as plain files a, b, c; b packed against a as pb, c against pb as pc."""
    steps = [first()]
    for seed in (1, 2):
        steps.append(step(steps[-1], seed))
    for name, tensors in zip("abc", steps, strict=True):
        write_plain(tensors, tmp_path / name)
    files.pack_path(tmp_path / "b", tmp_path / "pb", base=tmp_path / "a")
    files.pack_path(tmp_path / "c", tmp_path / "pc", base=tmp_path / "pb")
    return tmp_path


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        tensor = np.asarray(found[name])
        assert (tensor.dtype, tensor.shape) == (array.dtype, array.shape), name
        assert bits(tensor) == bits(array), name


def test_chain_is_restored_to_the_byte_and_follows_names_by_itself(chain):
    for name in "bc":
        totals = files.unpack_path(chain / f"p{name}", chain / f"back{name}")
        assert (chain / f"back{name}").read_bytes() == (chain / name).read_bytes()
        assert totals.deltas == totals.tensors - 3  # not: empty, scalar, new
    assert files.verify_path(chain / "pc").deltas == 5
    with fewbits.open(chain / "pc") as opened:
        kinds = {n: t.kind for n, t in opened.items() if isinstance(t, DeltaTensor)}
        assert opened.base_name == "pb"
        assert repr(opened["w.fp32"]).startswith("DeltaTensor(difference, float32[60, 50], ")
    assert kinds["w.bf16"] is Kind.DIFFERENCE and kinds["frozen"] is Kind.XOR
    assert "empty" not in kinds and "new2" not in kinds
    assert (chain / "pb").stat().st_size < (chain / "b").stat().st_size / 2


def wide_and_narrow_rows():
    """Rows of scales so different that they get tables of their own."""
    rng = np.random.default_rng(6)
    scales = np.exp2(rng.integers(-12, 1, (256, 1)))
    return (rng.normal(0, 1, (256, 512)) * scales).astype(np.float32)


def test_changes_in_classes_of_rows_come_back_whole_and_in_slices(tmp_path):
    before = wide_and_narrow_rows()
    noise = np.random.default_rng(7).normal(0, 1e-4, before.shape).astype(np.float32)
    after = before + noise  # large changes in narrow rows, small ones in wide rows
    fewbits.save({"w": before}, tmp_path / "a")
    fewbits.save({"w": after}, tmp_path / "b", base=tmp_path / "a")
    with fewbits.open(tmp_path / "b") as opened:
        tensor = opened["w"]
        assert isinstance(tensor, DeltaTensor) and tensor.header.plan.classes is not None
        for key in (slice(None), slice(100, 103), 17, slice(-1, None, -50), slice(3, 250, 7)):
            assert bits(tensor[key]) == bits(after[key])
        out = np.zeros_like(after)
        tensor.unpack_into(out)
    assert bits(out) == bits(after)


def test_workers_and_runs_that_go_on_give_the_same_deltas(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, tensors in ((one, first()), (two, step(first(), 1))):
        folder.mkdir()
        for index in range(3):
            write_plain(tensors, folder / f"{index}.safetensors")
    alone = files.pack_path(two, tmp_path / "p", base=one)
    assert files.pack_path(two, tmp_path / "q", base=one, workers=2) == alone
    monkeypatch.setattr(files, "GROUP_BYTES", 5000)  # tensors of a file are shared out
    names = [f"{index}.safetensors" for index in range(3)]
    of_one = files.pack_path(two / names[0], tmp_path / "r", base=one / names[0], workers=2)
    assert of_one.deltas * 3 == alone.deltas > 0
    expected = {name: (tmp_path / "p" / name).read_bytes() for name in names}
    assert {name: (tmp_path / "q" / name).read_bytes() for name in names} == expected
    assert (tmp_path / "r").read_bytes() == expected[names[0]]
    assert files.verify_path(tmp_path / "q", base=one, workers=2).deltas == alone.deltas
    (one / names[1]).rename(tmp_path / "kept")
    (one / names[1]).write_bytes((two / names[1]).read_bytes())
    checked = list(files.verify_each(tmp_path / "q", base=one, workers=2))
    assert [file.error is None for file in checked] == [True, False, True]
    with pytest.raises(FewbitsError, match=f"{names[1]} is not the base"):
        files.unpack_path(tmp_path / "q", tmp_path / "back", base=one, workers=2)
    (tmp_path / "kept").rename(one / names[1])
    assert files.unpack_path(tmp_path / "q", tmp_path / "back", base=one).deltas == alone.deltas
    assert (tmp_path / "back" / names[1]).read_bytes() == (two / names[1]).read_bytes()


def test_a_base_that_changed_between_two_runs_is_noticed(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, tensors in ((one, first()), (two, step(first(), 1))):
        folder.mkdir()
        for index in range(3):
            write_plain(tensors, folder / f"{index}.safetensors")
    begun, pack = [], files._pack_file

    def stopping(inputs, *arguments, **options):
        begun.append([Path(path).name for path in inputs])
        if len(begun) == 3:
            raise MemoryError
        return pack(inputs, *arguments, **options)

    monkeypatch.setattr(files, "_pack_file", stopping)
    with pytest.raises(MemoryError):
        files.pack_path(two, tmp_path / "p", base=one)
    write_plain(step(first(), 3), one / "1.safetensors")
    totals = files.pack_path(two, tmp_path / "p", base=one)
    assert begun[3:] == [["1.safetensors"] * 2, ["2.safetensors"] * 2]
    assert totals.deltas == files.verify_path(tmp_path / "p", base=one).deltas > 0


def test_slices_decode_only_what_they_need(tmp_path):
    rng = np.random.default_rng(3)
    before = rng.normal(0, 1, (6000, 300)).astype(np.float32)  # 7.2 MB
    after = (before + rng.normal(0, 1e-4, before.shape)).astype(np.float32)
    write_plain({"w": before}, tmp_path / "a")
    fewbits.save({"w": before}, tmp_path / "pa")
    fewbits.save({"w": after}, tmp_path / "d", base=tmp_path / "a")
    for base in ("a", "pa"):
        with fewbits.open(tmp_path / base) as base_file:
            reads = []
            source = base_file._source
            original = source.read
            source.read = lambda a, b, r=reads, o=original: r.append(b - a) or o(a, b)
            with fewbits.open(tmp_path / "d", base=base_file) as opened:
                tensor = opened["w"]
                for key in (slice(100, 130), 5999, slice(3000, 10, -7), slice(5, 5)):
                    assert (tensor[key] == after[key]).all()
                reads.clear()
                assert (tensor[4000:4100] == after[4000:4100]).all()
            assert 0 < sum(reads) < 2.2 * 2**20
            assert (base_file["w"][:3] == before[:3]).all()  # still open: it was given open


def test_equal_tensors_cost_next_to_nothing(tmp_path):
    tensors = {"w": np.random.default_rng(0).integers(0, 2**32, 1 << 20, np.uint32)}  # 4 MiB
    fewbits.save(tensors, tmp_path / "a")
    fewbits.save(tensors, tmp_path / "d", base=tmp_path / "a")
    assert (tmp_path / "d").stat().st_size < 1000
    assert_same(fewbits.load(tmp_path / "d"), tensors)


def test_constant_tensors_do_not_need_the_base(tmp_path):
    fewbits.save({"bias": np.zeros(5000, np.float32)}, tmp_path / "a")
    fewbits.save({"bias": np.zeros(5000, np.float32)}, tmp_path / "d", base=tmp_path / "a")
    (tmp_path / "a").unlink()
    assert_same(fewbits.load(tmp_path / "d"), {"bias": np.zeros(5000, np.float32)})


def test_base_that_is_no_file_is_told_by_its_type(tmp_path):
    with pytest.raises(TypeError, match="base is a dict, not a path or an open archive"):
        fewbits.save(first(), tmp_path / "d", base=first())
    assert os.listdir(tmp_path) == []


def test_base_may_be_packed_differently_than_when_it_was_used(chain):
    files.pack_path(chain / "a", chain / "pa", codec=fewbits.Lossless(coder="arithmetic"))
    (chain / "a").unlink()
    expected = fewbits.load(chain / "c")
    assert_same(fewbits.load(chain / "pb", base=chain / "pa"), fewbits.load(chain / "b"))
    assert_same(fewbits.load(chain / "pc", base=[chain / "pb", chain / "pa"]), expected)
    with fewbits.open(chain / "pb", base=str(chain / "pa")) as middle:
        assert_same(fewbits.load(chain / "pc", base=middle), expected)
        assert_same(fewbits.load(chain / "pc", base=chain / "b"), expected)


def test_missing_and_wrong_bases_are_named(chain, tmp_path):
    with pytest.raises(FewbitsError, match=r"tensor 'w\.\w+': .*/c is not the base .*checksum"):
        fewbits.load(chain / "pb", base=chain / "c")
    with pytest.raises(FileNotFoundError):
        fewbits.open(chain / "pb", base=chain / "gone")
    (chain / "a").rename(chain / "moved")
    with pytest.raises(FewbitsError, match=r"pb: .* since 'a', which is not beside it"):
        fewbits.load(chain / "pb")
    with pytest.raises(FewbitsError, match=r"pb: .* since 'a'"):
        files.unpack_path(chain / "pc", chain / "out")
    with pytest.raises(FewbitsError, match="the base"):
        files.unpack_path(chain / "pb", chain / "out", base=chain / "gone")
    assert not (chain / "out").exists()
    assert_same(fewbits.load(chain / "pc", base=[chain / "pb", chain / "moved"]),
                fewbits.load(chain / "c"))  # fmt: skip
    with fewbits.open(chain / "pb") as opened:  # what is no delta needs no base
        assert opened["new1"].unpack().shape == (300,)
        assert opened["w.fp32"].shape == (60, 50)
        with pytest.raises(FewbitsError, match="say where"):
            opened["w.fp32"].unpack()


def test_one_changed_bit_in_a_plain_base_is_found(chain):
    raw = bytearray((chain / "a").read_bytes())
    raw[-1] ^= 1
    (chain / "a").write_bytes(raw)
    with pytest.raises(FewbitsError, match="is not the base that this was packed with"):
        files.verify_path(chain / "pb")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("w.bf16"), r"/x has no such tensor"),
        (lambda t: t.update({"w.bf16": t["w.bf16"].T}), r"bfloat16\[120, 64\], but bfloat16\[64,"),
        (lambda t: t.update({"w.bf16": t["w.bf16"].view(np.int16)}), r"but int16\[120, 64\] in"),
    ],
)
def test_base_tensors_of_another_form_are_refused(chain, change, fault):
    other = first()
    change(other)
    write_plain(other, chain / "x")
    with pytest.raises(FewbitsError, match=rf"pb: tensor 'w\.bf16': .*{fault}"):
        fewbits.load(chain / "pb", base=chain / "x")


def test_tensors_that_have_no_match_in_the_base_are_packed_as_usual(tmp_path):
    a, b = first(), first()
    b["w.bf16"] = b["w.bf16"].reshape(64, 120)
    b["w.fp32"] = b["w.fp32"].view(np.int32)
    fewbits.save(a, tmp_path / "a")
    fewbits.save({n: b[n] for n in ("w.bf16", "w.fp32")}, tmp_path / "d", base=tmp_path / "a")
    fewbits.save({n: b[n] for n in ("w.bf16", "w.fp32")}, tmp_path / "p")
    (tmp_path / "a").unlink()  # no tensor is a delta, so no base is needed
    assert_same(fewbits.load(tmp_path / "d"), {n: b[n] for n in ("w.bf16", "w.fp32")})
    with fewbits.open(tmp_path / "d") as opened:
        assert opened.container.metadata["fewbits.version"] == "1"


def test_archives_of_deltas_have_a_version_that_older_readers_refuse(chain):
    with safetensors.safe_open(chain / "pb", "np") as file:
        assert file.metadata()["fewbits.version"] == "2"
        assert file.metadata()["fewbits.base"] == "a"


def test_cycles_and_long_chains_are_refused(chain, monkeypatch):
    swapped = chain / "swapped"
    swapped.mkdir()
    # Two files, each of which says that the other is its base.
    (swapped / "a").write_bytes(rewritten((chain / "pb").read_bytes(), b'"a"', b'"b"'))
    (swapped / "b").write_bytes((chain / "pb").read_bytes())
    with pytest.raises(FewbitsError, match="chain of bases comes back to"):
        fewbits.load(swapped / "a")
    shutil.copy(chain / "pb", swapped / "pb")
    (swapped / "a").write_bytes(rewritten((chain / "pb").read_bytes(), b'"a"', b'"a"'))
    with pytest.raises(FewbitsError, match="not beside it"):
        fewbits.load(swapped / "a")  # it cannot have meant itself
    with pytest.raises(FewbitsError, match="comes back to"):
        fewbits.load(swapped / "a", base=swapped / "a")
    monkeypatch.setattr(bases, "MAX_CHAIN", 1)
    assert_same(fewbits.load(chain / "pb"), fewbits.load(chain / "b"))
    with pytest.raises(FewbitsError, match="more than 1 bases"):
        fewbits.load(chain / "pc")


def test_a_chain_as_long_as_allowed_decodes():
    w, url = np.arange(50, dtype=np.int32), "memory://chain/"
    fewbits.save({"w": w}, f"{url}0")
    for i in range(1, bases.MAX_CHAIN + 1):
        fewbits.save({"w": w + i}, f"{url}{i}", base=f"{url}{i - 1}")
    assert_same(fewbits.load(f"{url}{bases.MAX_CHAIN}"), {"w": w + bases.MAX_CHAIN})
    with pytest.raises(FewbitsError, match="more than 64 bases"):
        fewbits.save({"w": w}, f"{url}next", base=f"{url}{bases.MAX_CHAIN}")
    assert not fsspec.filesystem("memory").exists("/chain/next")


def test_result_may_not_replace_what_it_needs(chain):
    before = {name: (chain / name).read_bytes() for name in ("a", "pb")}
    with pytest.raises(FewbitsError, match="is the base"):
        files.pack_path(chain / "c", chain / "pb", base=chain / "pb", force=True)
    with pytest.raises(FewbitsError, match="comes back to"):
        files.pack_path(chain / "c", chain / "a", base=chain / "pb", force=True)
    with pytest.raises(FewbitsError, match="comes back to"):
        fewbits.save(first(), chain / "a", base=chain / "a")
    assert {name: (chain / name).read_bytes() for name in before} == before


def test_folders_take_the_files_of_the_same_names(tmp_path):
    def checkpoint(name, tensors):
        (tmp_path / name / "sub").mkdir(parents=True)
        write_plain({"w": tensors["w.bf16"]}, tmp_path / name / "x-1.safetensors")
        write_plain({"v": tensors["w.fp32"]}, tmp_path / name / "sub" / "x.safetensors")
        (tmp_path / name / "config.json").write_text(name)
        index = {"weight_map": {"w": "x-1.safetensors"}}
        (tmp_path / name / "m.safetensors.index.json").write_text(json.dumps(index))
        return tmp_path / name

    one, two = checkpoint("one", first()), checkpoint("two", step(first(), 1))
    write_plain({"more": np.arange(100)}, two / "x-2.safetensors")
    totals = files.pack_path(two, tmp_path / "p", base=one)
    assert (totals.files, totals.deltas) == (3, 2)
    files.pack_path(one, tmp_path / "pone")
    for base in (one, tmp_path / "pone", one / "m.safetensors.index.json"):
        files.unpack_path(tmp_path / "p", tmp_path / "back", base=base, force=True)
        for name in ("x-1.safetensors", "x-2.safetensors", "sub/x.safetensors", "config.json"):
            assert (tmp_path / "back" / name).read_bytes() == (two / name).read_bytes()
        assert files.verify_path(tmp_path / "p", base=base).deltas == 2
    with pytest.raises(FewbitsError, match=r"not beside it"):
        files.verify_path(tmp_path / "p")
    index = "m.safetensors.index.json"
    assert files.pack_path(two / index, tmp_path / "q", base=one / index).deltas == 1
    for base, fault in [
        (tmp_path / "nothing", "no such"),
        (one / "config.json", "is not a folder"),
        (one / "sub", "no file of the same name"),
    ]:
        with pytest.raises(FewbitsError, match=fault):
            files.pack_path(two, tmp_path / "r", base=base)
    with pytest.raises(FewbitsError, match="is not a file"):
        files.pack_path(two / "x-1.safetensors", tmp_path / "r", base=one)
    with pytest.raises(FewbitsError, match="is the base"):
        files.pack_path(two, one, base=one, force=True)
    assert sorted(os.listdir(tmp_path)) == ["back", "one", "p", "pone", "q", "two"]


HINTS = [
    "../a",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a\\\\b",
    "c:a",
    "a\\u0000",
    "*",
    "\\ud800",
    "x" * 300,
]


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: hint[:12])
def test_hints_that_are_no_plain_name_are_refused(chain, hint):
    old = b'"fewbits.base":"a"'
    data = rewritten((chain / "pb").read_bytes(), old, f'"fewbits.base":"{hint}"'.encode())
    (chain / "pb").write_bytes(data)
    with pytest.raises(CorruptError, match=r"not the name of a file in the same folder|Unicode"):
        fewbits.open(chain / "pb")
    with pytest.raises(reader.Refused, match="base"):
        reader.read_archive((chain / "pb").read_bytes(), as_read(first()))


def test_only_a_regular_file_beside_the_archive_is_followed(chain):
    data = (chain / "pb").read_bytes()
    os.mkfifo(chain / "pipe")  # opening it would wait forever
    (chain / "pb").write_bytes(rewritten(data, b'"fewbits.base":"a"', b'"fewbits.base":"pipe"'))
    with pytest.raises(FewbitsError, match="'pipe', which is not beside it"):
        fewbits.load(chain / "pb")


def marks(path):
    with safetensors.safe_open(path, "np") as file:
        return file.metadata()["fewbits.deltas"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: m + " -", "8 marks of deltas for 7 tensors"),
        (lambda m: "", "1 marks of deltas for 7 tensors"),
        (lambda m: m.replace("d", "q", 1), "unknown kind of delta: 'q'"),
        (lambda m: m.replace("x", "x0"), "not the mark of a delta"),
        (lambda m: m.replace("x", "xg" + 15 * "0"), "not the mark of a delta"),
        (lambda m: m.replace("x", "x+" + 15 * "0"), "not the mark of a delta"),
        (lambda m: m.replace("x", "x" + 16 * "0"), "2 checksums for"),
        (lambda m: m.replace("-", "x"), "0 checksums for"),
    ],
)
def test_marks_that_lie_are_refused(chain, change, fault):
    text = marks(chain / "pb")
    data = rewritten((chain / "pb").read_bytes(), text.encode(), change(text).encode())
    (chain / "pb").write_bytes(data)
    with pytest.raises(CorruptError, match=fault):
        fewbits.load(chain / "pb")
    with pytest.raises(reader.Refused, match=r"mark|multiple of 64"):
        reader.read_archive(data, as_read(first()))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"fewbits.version":"2"', b'"fewbits.version":"1"'), (b"fewbits.deltas", b"fewbits.other")],
)
def test_version_and_deltas_must_agree(chain, old, new):
    (chain / "pb").write_bytes(rewritten((chain / "pb").read_bytes(), old, new))
    with pytest.raises(CorruptError, match=r"does not go with its deltas|does not know"):
        fewbits.open(chain / "pb")
    with pytest.raises(reader.Refused, match=r"do not agree|unknown key"):
        reader.read_archive((chain / "pb").read_bytes(), as_read(first()))


def test_no_single_byte_of_an_archive_of_deltas_can_change_unnoticed(tmp_path):
    before = {"w": np.arange(300, dtype=np.float32), "v": np.arange(200, dtype=np.int16)}
    after = {"w": before["w"] * np.float32(1.001), "v": before["v"]}
    write_plain(before, tmp_path / "a")
    fewbits.save(after, tmp_path / "d", base=tmp_path / "a")
    data = (tmp_path / "d").read_bytes()
    assert marks(tmp_path / "d").count("-") == 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 33
        (tmp_path / "d").write_bytes(damaged)
        with pytest.raises(CorruptError):
            fewbits.load(tmp_path / "d")


@given(st.text(max_size=60))
def test_marks_are_read_as_written_or_refused(text):
    try:
        assert str(Mark.parse(text)) == text
    except ValueError:
        return


def as_read(tensors):
    """Tensors as the independent reader gives them."""
    return {name: (a.dtype.name, a.shape, bits(a)) for name, a in tensors.items()}


def test_page_is_enough_to_read_deltas(tmp_path):
    rng = np.random.default_rng(5)
    a, b = {}, {}
    for dtype in map(dtype_named, LAYOUTS):
        if dtype.kind in "biu" or dtype.name in ("int4", "uint4"):
            a[dtype.name] = rng.integers(0, 2, 301).astype(dtype)
            b[dtype.name] = (a[dtype.name] ^ (rng.random(301) < 0.02)).astype(dtype)
        else:
            a[dtype.name] = rng.normal(0, 1, 301).astype(dtype)
            b[dtype.name] = (a[dtype.name] * 1.001).astype(dtype)
    a["classes"] = classed = wide_and_narrow_rows()
    b["classes"] = np.nextafter(classed, np.roll(classed, 1, axis=1))
    fewbits.save(a, tmp_path / "a")
    fewbits.save(b, tmp_path / "b", base=tmp_path / "a")
    data, base = (tmp_path / "b").read_bytes(), as_read(a)
    assert {mark[0] for mark in marks(tmp_path / "b").split(" ")} >= {"d", "x"}
    assert reader.read_archive(data, base) == as_read(b)
    with pytest.raises(reader.Refused, match="no such tensor"):
        reader.read_archive(data)
    with pytest.raises(reader.Refused, match="another base"):
        reader.read_archive(data, as_read(b))


def test_every_type_of_a_safetensors_file_may_be_a_delta(tmp_path):
    text = '{"f4":{"dtype":"F4","shape":[400],"data_offsets":[0,200]}}'
    data = np.random.default_rng(0).integers(0, 256, 200, np.uint8).tobytes()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(container.with_prefix(text.encode()) + data)
    assert files.pack_path(tmp_path / "b", tmp_path / "p", base=tmp_path / "a").deltas == 1
    files.unpack_path(tmp_path / "p", tmp_path / "u")
    assert (tmp_path / "u").read_bytes() == (tmp_path / "b").read_bytes()


def test_remote_archives_find_a_remote_base():
    before = {"w": np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)}
    after = {"w": before["w"] * np.float32(1.0001)}
    fewbits.save(before, "memory://deltas/a")
    fewbits.save(after, "memory://deltas/d", base="memory://deltas/a")
    assert_same(fewbits.load("memory://deltas/d"), after)
    fsspec.filesystem("memory").rm("/deltas/a")
    with pytest.raises(FewbitsError, match="deltas/d: holds what changed since 'a', which is not"):
        fewbits.load("memory://deltas/d")


def test_unpacked_values_without_checks_need_a_base_of_the_same_form_still(chain):
    with fewbits.open(chain / "pb", base=chain / "c", verify=False) as opened:
        assert opened["w.bf16"].unpack().shape == (120, 64)  # wrong values, as asked
        assert opened["w.bf16"][3:5].shape == (2, 64)


def test_a_profile_has_no_tables_for_changes(tmp_path):
    before = np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32)
    fewbits.save({"w": before}, tmp_path / "a")
    with pytest.raises(ValueError, match="no tables for what changed"):
        profile = fewbits.profile([before])
        fewbits.save({"w": before + 1}, tmp_path / "b", codec=profile, base=tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_what_reads_safetensors_files_finds_a_base_beside_them(chain, monkeypatch):
    monkeypatch.chdir(chain)
    for name in ("a", "pb"):
        (chain / name).rename(chain / f"{name}.safetensors")
    hint = b'"fewbits.base":"a"'
    data = (chain / "pb.safetensors").read_bytes()
    data = rewritten(data, hint, b'"fewbits.base":"a.safetensors"')
    (chain / "pb.safetensors").write_bytes(data)
    with fewbits.install():
        found = safetensors.numpy.load_file(chain / "pb.safetensors")
        assert_same(found, safetensors.numpy.load_file(chain / "b"))
        # Bytes lie beside nothing, so that no file of that name is read for them.
        with pytest.raises(FewbitsError, match="holds what changed since another file"):
            safetensors.numpy.load(data)


def test_closed_archive_closes_the_base_that_it_opened(chain):
    with fewbits.open(chain / "pb") as opened:
        tensor = opened["w.bf16"]
        tensor.unpack()
    with pytest.raises(ValueError, match="closed"):
        tensor.unpack()


def test_memory_is_bounded_by_the_largest_tensor_not_by_the_files(tmp_path):
    rng = np.random.default_rng(4)
    tensor = rng.standard_normal(1 << 19).astype(np.float32)  # 2 MiB
    write_plain({f"w{i}": tensor for i in range(32)}, tmp_path / "a")  # 64 MiB in all
    later = tensor * np.float32(1.0001)
    write_plain({f"w{i}": later for i in range(32)}, tmp_path / "b")
    code = (
        "import resource, sys, numpy\n"
        "from fewbits import files, pack\n"
        "pack(numpy.ones(9))  # everything is imported\n"
        "status = open('/proc/self/status').read()\n"
        "data = int(status.split('VmData:')[1].split()[0])\n"
        "limit = data * 1024 + (56 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "a, b, p, u = sys.argv[1:]\n"
        "files.pack_path(b, p, threads=1, base=a)\n"
        "files.unpack_path(p, u, threads=1, base=a)\n"
    )
    paths = [str(tmp_path / name) for name in "abpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "u").read_bytes() == (tmp_path / "b").read_bytes()
