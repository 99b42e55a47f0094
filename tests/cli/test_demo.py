"""``demo``: the numbers of a model that is known, and nothing left behind."""

import json
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fewbits import demo

from .conftest import Run, tensors


def test_a_file_of_the_user(model: Path, run: Run, tmp_path: Path) -> None:
    result = run("demo", model)
    assert result.code == 0
    for words in ("as it is", "fp32", "int8", "order-0", "MB/s", "bytes went to", "absmax/127"):
        assert words in result.out
    assert "came back bit for bit" in result.out and "NO" not in result.out.split()
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert list(tmp_path.iterdir()) == [model]


def test_json_adds_up(
    model: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    document = json.loads(run("demo", model, "--json", "--threads", 1).out)
    assert document["ok"] is True and document["threads"] == 1 and document["simd"]
    assert [one["variant"].split(",")[0] for one in document["outcomes"]] == [
        "as it is", "fp32", "int8",
    ]  # fmt: skip
    first = document["outcomes"][0]
    assert first["plain_bytes"] == model.stat().st_size
    for one in document["outcomes"]:
        assert sum(one["where"].values()) == one["packed_bytes"]
        assert one["ratio"] == one["plain_bytes"] / one["packed_bytes"]
        assert one["elements"] == sum(tensor.size for tensor in tensors().values())
        assert one["verified"] is True and one["unpack_bytes_per_s"] > 0
    assert not list(work.iterdir())


def test_a_folder(model: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "copy.safetensors").write_bytes(model.read_bytes())
    model.rename(folder / "model.safetensors")
    document = json.loads(run("demo", folder, "--json").out)
    assert document["ok"] is True
    assert document["outcomes"][0]["tensors"] == 2 * len(tensors())


def test_a_large_model_is_sampled(model: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(demo, "BUDGET_BYTES", 20_000)
    taken = demo.read_model(str(model))
    assert 0 < sum(tensor.nbytes for tensor in taken.tensors.values()) <= 20_000
    assert not taken.whole and taken.file is None
    assert "a selection" in run("demo", model).out


def test_a_difference_is_reported(model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_same", lambda tensors, loaded: False)
    result = run("demo", model)
    assert result.code == 1 and "NO" in result.out.split()
    assert "came back bit for bit" not in result.out


def test_comparison_sees_a_single_bit() -> None:
    array = np.array([1.0, np.nan], np.float32)
    other = array.copy()
    other.view(np.uint32)[1] ^= 1  # another NaN
    assert demo._same({"a": array}, {"a": array.copy()})
    assert not demo._same({"a": array}, {"a": other})
    assert not demo._same({"a": array}, {"b": array})


def test_fp32_is_exact() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    wide = demo.to_fp32(halves)
    assert wide.dtype == np.float32
    assert np.array_equal(wide.view(np.uint32) >> 16, halves.view(np.uint16))


def test_int8_rounds_to_the_nearest_of_absmax_over_127() -> None:
    weights = np.array([[0.5, -1.27], [0.014, 0.016]], np.float32)
    assert demo.to_int8(weights).tolist() == [[50, -127], [1, 2]]
    assert demo.to_int8(weights[0]) is not None and demo.to_int8(weights[0]).dtype == np.float32
    odd = np.array([[np.nan, np.inf], [-np.inf, 2.0]], np.float32)
    assert demo.to_int8(odd).tolist() == [[0, 127], [-127, 127]]
    assert demo.to_int8(np.zeros((2, 2), np.float16)).tolist() == [[0, 0], [0, 0]]
    tiny = np.full((1, 2), 1e-45, np.float32)
    assert demo.to_int8(tiny).tolist() == [[127, 127]]


def test_the_embedded_model_is_there() -> None:
    assert demo.EMBEDDED.is_file()
    found = demo.models(None)
    assert found[0].whole and found[0].file == demo.EMBEDDED
    assert 1_000_000 < sum(tensor.size for tensor in found[0].tensors.values()) < 4_000_000
