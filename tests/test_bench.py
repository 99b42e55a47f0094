"""The comparison: what it selects, what it says of wrong peers, and that it harms nobody."""

import math
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bench_fakes import CRASHING, FAKES, LOSSY, RIGHT, fake
from fewbits.bench import data, measure, plot
from fewbits.bench.data import Dataset
from fewbits.bench.measure import Comparison, compare, pareto
from fewbits.bench.peers import PEERS, Peer, installed
from fewbits.demo import write_plain
from fewbits.errors import FewbitsError

RNG = np.random.default_rng(3)
DTYPES = "bfloat16 float16 float32 float64 int8 uint8 float8_e4m3fn float8_e5m2 int16 int64 bool"


def dataset(dtype: str = "bfloat16") -> Dataset:
    parts = [RNG.normal(0, 20, shape) for shape in ((40, 50), (7,), (), (300, 3))]
    return Dataset("some", tuple(part.astype(np.dtype(dtype)) for part in map(np.asarray, parts)))


def compared(some: Dataset, peers: tuple[Peer, ...] = FAKES, runs: int = 2) -> Comparison:
    return compare(some, peers, runs=runs, advance=lambda count: None)


def test_rows_say_who_is_right() -> None:
    some = dataset()
    before = [tensor.tobytes() for tensor in some.tensors]
    found = compared(some)
    assert [tensor.tobytes() for tensor in some.tensors] == before
    assert found.lossless and found.plain_bytes == some.nbytes and found.tensors == 4
    rows = {row.codec: row for row in found.rows}
    assert list(rows)[:2] == ["fewbits (tensors)", "fewbits (flat)"]
    assert [row.ours for row in found.rows] == [True, True] + [False] * 5
    faults = {name: row.fault for name, row in rows.items() if row.fault}
    assert faults == {
        "lossy": "not lossless",
        "crashing": "failed: RuntimeError: out of luck",
        "panicking": "failed: Panic: index out of range",
    }
    assert rows["right"].note == "" and rows["rewriting"].note == "rewrites its caller's buffer"
    assert rows["right"].packed_bytes == rows["rewriting"].packed_bytes
    for name in faults:
        assert math.isnan(rows[name].ratio) and rows[name].packed_bytes == 0
    for name in ("fewbits (tensors)", "fewbits (flat)", "right", "rewriting"):
        row = rows[name]
        assert row.ratio == some.nbytes / row.packed_bytes
        assert row.compress_mb_per_s > 0 and row.decompress_mb_per_s > 0
        assert row.vs_compress > 0 and row.vs_decompress > 0
        assert (row.into_mb_per_s is not None) == row.ours
    ours, right = rows["fewbits (tensors)"], rows["right"]
    assert ours.vs_ratio == ours.vs_compress == ours.vs_decompress == 1
    assert right.vs_ratio == pytest.approx(ours.ratio / right.ratio)


def test_every_step_is_counted() -> None:
    some, taken = dataset(), []
    compare(some, FAKES, runs=3, advance=taken.append)
    assert sum(taken) == measure.steps(some, FAKES, 3) == 3 * (2 + len(FAKES))


def test_one_tensor_is_one_row_of_ours() -> None:
    found = compared(Dataset("one", (np.arange(1000, dtype=np.int16),)), ())
    assert [row.codec for row in found.rows] == ["fewbits"]


def test_interrupts_pass() -> None:
    def interrupted(_: bytearray) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(dataset(), (fake("interrupted", interrupted),))


@pytest.mark.parametrize("dtype", DTYPES.split())
def test_peers_that_are_here_are_lossless(dtype: str) -> None:
    light = [peer for peer in PEERS if peer.name != "zipnn"]  # which imports torch
    peers = installed(light)
    if not peers:
        pytest.skip("no other compressor is installed (extra bench)")
    found = compared(dataset(dtype), tuple(peers), runs=1)
    assert not [(row.codec, row.fault) for row in found.rows if row.fault]


def test_a_peer_that_cannot_be_imported_is_a_row() -> None:
    def broken(peer: Peer, dtype: object) -> object:
        raise ImportError("no torch")

    peer = Peer("broken", "broken", "zlib", broken)  # type: ignore[arg-type]
    assert compared(dataset(), (peer,)).rows[-1].fault == "failed: ImportError: no torch"


def test_only_what_can_be_found_counts_as_installed() -> None:
    absent = Peer("a", "a", "fewbits_no_such_module", lambda peer, dtype: None)  # type: ignore
    inside = Peer("b", "b", "fewbits_no_such_module.part", lambda peer, dtype: None)  # type: ignore
    assert installed([absent, inside, RIGHT]) == [RIGHT] and absent.version == "?"
    assert {peer.name for peer in installed()} <= {peer.name for peer in PEERS}


def test_the_largest_tensors_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {
        "small": np.zeros(100, np.float32),
        "largest": RNG.normal(size=(100, 100)).astype(np.float32),
        "brains": RNG.normal(size=(80, 90)).astype(ml_dtypes.bfloat16),
        "none": np.zeros(0, np.int8),
        "tiny": np.zeros(9, np.int8),
    }
    write_plain(tensors, path)
    every = data.selection(str(path), 10**6)
    assert [(d.name, len(d.tensors)) for d in every.datasets] == [
        ("m.safetensors, fp32", 2),
        ("m.safetensors, bf16", 1),
    ]
    assert (every.tensors, every.of_tensors, every.left_out) == (3, 5, ("int8",))
    assert every.datasets[0].flat.tobytes() == (
        tensors["largest"].tobytes() + tensors["small"].tobytes()
    )
    some = data.selection(str(path), 4000)
    assert [(d.dtype.name, d.nbytes) for d in some.datasets] == [("float32", 4000)]
    assert some.datasets[0].flat.tobytes() == tensors["largest"].tobytes()[:4000]


def test_nothing_to_compare(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_plain({"none": np.zeros(0, np.int8)}, path)
    with pytest.raises(FewbitsError, match="holds no tensors"):
        data.selection(str(path), 10**6)


def test_without_a_path_something_is_found() -> None:
    found = data.selection(None, 200_000)
    assert found.datasets[0].dtype == ml_dtypes.bfloat16
    assert 0 < found.datasets[0].nbytes <= 200_000


def test_the_front_is_what_nobody_beats() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (1.5, 2.0), (9.0, 1.0), (0.5, 5.0)]
    assert [points[i] for i in pareto(points)] == [(1.0, 5.0), (2.0, 4.0), (9.0, 1.0)]
    assert pareto([]) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra bench)")
    path = tmp_path / f"out{suffix}"
    plot.check(path, force=False)
    found = compared(dataset(), runs=1)
    plot.draw([found, found], path, footer="here")
    written = path.read_bytes()
    assert len(written) > 5000 and written[:4] in (b"\x89PNG", b"<?xm")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    if suffix == ".svg":
        assert b"<!-- fewbits (flat) -->" in written and b"<!-- lossy -->" not in written
    with pytest.raises(FewbitsError, match="exists already"):
        plot.check(path, force=False)
    plot.check(path, force=True)


def test_what_saves_little_is_named_not_drawn() -> None:
    rows = compared(Dataset("one", (np.zeros(5000, np.int16),)), (RIGHT, LOSSY, CRASHING)).rows
    idle = replace(rows[1], codec="idle", ratio=1.0)
    drawn, beneath = plot.shown([*rows, idle])
    assert [row.codec for row in drawn] == ["fewbits", "right"] and beneath == [idle]
