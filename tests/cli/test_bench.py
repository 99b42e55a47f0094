"""``bench``: the table, the document and the plot, with peers that are not the real ones."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench_fakes import FAKES
from fewbits.bench import peers
from fewbits.bench.codecs import Codec
from fewbits.bench.measure import Row
from fewbits.demo import write_plain

from .conftest import Run

Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", FAKES)


def test_table(model: Path, run: Run, tmp_path: Path) -> None:
    before = model.read_bytes()
    result = run("bench", model, "--runs", 1)
    assert result.code == 0 and result.err == ""
    for words in ("model.safetensors, bf16", "fewbits", "right", "lossy: not lossless",
                  "crashing: failed: RuntimeError: out of luck", "one thread", "CPU time",
                  "rewriting: rewrites its caller's buffer"):  # fmt: skip
        assert words in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines()), result.out
    assert model.read_bytes() == before and list(tmp_path.iterdir()) == [model]


def test_json(model: Path, run: Run) -> None:
    document = json.loads(run("bench", model, "--json", "--runs", 2).out)
    assert document["ok"] is True and document["runs"] == 2 and document["threads"] == 1
    assert document["cpu"] and document["simd"] and document["of_tensors"] == 10
    dtypes = {one["dtype"]: one for one in document["datasets"]}
    assert {"bfloat16", "int8", "float8_e4m3fn"} <= dtypes.keys()
    rows = {row["codec"]: row for row in dtypes["bfloat16"]["rows"]}
    assert set(rows["right"]) == set(Row.__dataclass_fields__)
    assert rows["fewbits"]["ours"] and rows["fewbits"]["vs_ratio"] == 1
    assert rows["right"]["fault"] == "" and rows["right"]["ratio"] > 1
    assert rows["lossy"]["ratio"] is None and rows["lossy"]["fault"] == "not lossless"


def test_without_a_file(run: Run) -> None:
    document = json.loads(run("bench", "--json", "--runs", 1, "--megabytes", 1).out)
    assert [one["dtype"] for one in document["datasets"]] == ["bfloat16"]


def test_no_peers(model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", ())
    assert "pip install 'fewbits[bench]'" in run("bench", model, "--runs", 1).out


def test_plot(model: Path, run: Run, fails: Fails, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra bench)")
    target = tmp_path / "bench.png"
    result = run("bench", model, "--runs", 1, "--plot", target)
    assert result.code == 0 and f"{target}: ratio against speed" in result.out
    assert target.read_bytes().startswith(b"\x89PNG") and target.stat().st_size > 5000
    assert "exists already" in fails("bench", model, "--plot", target)
    assert run("bench", model, "--runs", 1, "--plot", target, "--force", "--json").code == 0


def test_what_is_asked_wrongly(
    model: Path, packed: Path, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unpack it first" in fails("bench", packed)
    assert "missing.safetensors" in fails("bench", tmp_path / "missing.safetensors")
    assert "must end in" in fails("bench", model, "--plot", "bench.txt", code=2)
    assert "--runs" in fails("bench", model, "--runs", 0, code=2)
    empty = tmp_path / "empty.safetensors"
    write_plain({"none": np.zeros(0, np.int8)}, empty)
    assert "holds no tensors" in fails("bench", empty)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = fails("bench", model, "--plot", tmp_path / "out.png")
    assert "--plot needs matplotlib: pip install 'fewbits[bench]'" in line


def test_a_loss_of_our_own_is_a_failure(
    model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewbits.bench import measure

    wrong = Codec("fewbits", "0", bytes, lambda packed: packed[:-1] + b"?", ours=True)
    monkeypatch.setattr(measure, "ours", lambda data: [wrong])
    result = run("bench", model, "--runs", 1)
    assert result.code == 1 and "fewbits: not lossless" in result.out
