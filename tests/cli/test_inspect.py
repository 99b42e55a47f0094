"""``inspect``: figures from headers, and the picture of a table."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fewbits
from fewbits import archive
from fewbits.cli import inspect as inspect_module
from fewbits.demo import write_plain

from .conftest import Run, tensors


def test_one_line_a_tensor_with_its_figures(packed: Path, run: Run) -> None:
    lines = run("inspect", packed).out.splitlines()
    assert lines[1].split() == [
        "tensor", "dtype", "shape", "size", "ratio", "bits", "entropy", "codec",
    ]  # fmt: skip
    by_name = {line.split()[0]: line for line in lines[2:-1]}
    assert by_name.keys() == tensors().keys()
    assert "bf16" in by_name["layer.0.weight"] and "96x64" in by_name["layer.0.weight"]
    assert "rANS" in by_name["layer.0.weight"]
    assert "scalar" in by_name["scalar"] and by_name["nothing"].split()[-1] == "empty"
    assert lines[-1].startswith("the whole file")


def test_json_adds_up(packed: Path, run: Run) -> None:
    document = json.loads(run("inspect", packed, "--json").out)
    assert document["packed"] is True and document["bytes"] == packed.stat().st_size
    assert document["plain_bytes"] == sum(tensor.nbytes for tensor in tensors().values())
    assert document["ratio"] == document["plain_bytes"] / document["bytes"]
    by_name = {row["name"]: row for row in document["tensors"]}
    weight = by_name["layer.0.weight"]
    assert weight["dtype"] == "bfloat16" and weight["shape"] == [96, 64]
    assert weight["ratio"] == weight["plain_bytes"] / weight["packed_bytes"]
    assert weight["bits"] == 8 * weight["packed_bytes"] / (96 * 64)
    assert weight["packed_bytes"] == weight["header_bytes"] + weight["payload_bytes"]


def test_a_tensor_that_is_stored_under_another_name_says_so(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "tied.safetensors"
    noise = np.random.default_rng(0).standard_normal((200, 30)).astype(np.float16)
    fewbits.save({"embed": noise, "head": noise.copy()}, path)
    lines = run("inspect", path).out.splitlines()
    assert lines[3].endswith("same as embed") and not lines[2].endswith("same as embed")
    document = json.loads(run("inspect", path, "--json").out)
    assert [row["same_as"] for row in document["tensors"]] == [None, "embed"]
    assert document["ratio"] == 2 * noise.nbytes / path.stat().st_size


@pytest.mark.parametrize(
    ("order", "key", "descending"),
    [("name", "name", False), ("size", "plain_bytes", True), ("ratio", "ratio", True)],
)
def test_sort(order: str, key: str, descending: bool, packed: Path, run: Run) -> None:
    document = json.loads(run("inspect", packed, "--sort", order, "--json").out)
    values = [row[key] for row in document["tensors"]]
    assert values == sorted(values, reverse=descending)


def test_headers_alone_are_read(packed: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*arguments: object) -> None:
        raise AssertionError("a tensor was decoded")

    monkeypatch.setattr("fewbits.frame.PackedTensor._decode_blocks", decode)
    assert run("inspect", packed).code == 0


def test_a_plain_file_is_listed_as_such(model: Path, run: Run) -> None:
    result = run("inspect", model)
    assert result.code == 0 and "not packed" in result.out.splitlines()[0]
    assert len(result.out.splitlines()) == 2 + len(tensors())
    document = json.loads(run("inspect", model, "--json").out)
    assert document["packed"] is False
    assert document["tensors"][0]["entropy_bits"] is None  # unknown, and NaN is no JSON


def test_table_is_drawn_with_its_rows(packed: Path, run: Run) -> None:
    result = run("inspect", packed, "--table", "quantized")
    assert result.code == 0
    with archive.open(packed) as opened:
        tensor = opened["quantized"]
        table = tensor.header.plan.planes[0].tables[0]  # type: ignore[union-attr]
    for line in str(table).splitlines():
        assert line in result.out
    assert "█" in result.out and "order-0 entropy" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())


@pytest.mark.parametrize("name", sorted(tensors()))
def test_every_tensor_can_be_drawn(name: str, packed: Path, run: Run) -> None:
    assert run("inspect", packed, "--table", name).out.startswith(f"{name}  ")
    document = json.loads(run("inspect", packed, "--table", name, "--json").out)
    assert document["name"] == name and document["entropy_bits"] >= 0


def test_a_plane_can_be_chosen(packed: Path, run: Run, fails: Callable[..., str]) -> None:
    assert "plane 2 of 3" in run("inspect", packed, "--table", "layer.0.bias", "--plane", 2).out
    assert "has 3 planes" in fails("inspect", packed, "--table", "layer.0.bias", "--plane", 3)


def test_an_unknown_tensor_gets_a_suggestion(packed: Path, fails: Callable[..., str]) -> None:
    message = fails("inspect", packed, "--table", "layer.0.wieght")
    assert str(packed) in message
    assert message.endswith("no tensor 'layer.0.wieght'; did you mean 'layer.0.weight'?")


def test_a_plain_file_has_no_tables(model: Path, fails: Callable[..., str]) -> None:
    assert "is not packed" in fails("inspect", model, "--table", "quantized")


def test_lines_fit_a_narrow_terminal() -> None:
    titles = ("tensor", "dtype", "shape", "size", "ratio", "bits", "entropy", "codec")
    name = "encoder.layer.0.attention.output.dense.weight"
    codec = "sign to LSB, rANS 16x12 + 8 raw bits | 2 x raw"
    line = [name, "fp32", "384x1536", "2.4 MB", "1.202", "26.62", "26.52", codec]
    fitted_titles, fitted = inspect_module._fitted(titles, [line], 80)
    assert "size" not in fitted_titles
    assert sum(map(len, fitted[0])) + 2 * (len(fitted[0]) - 1) <= 80
    assert fitted[0][0].endswith("dense.weight") and ".0." in fitted[0][0]
    assert fitted[0][-1].startswith("rANS 16x12+8")
    assert inspect_module._fitted(titles, [line], 300) == (titles, [line])


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, "encoder.layer.0.attention.output.dense.weight"),
        (40, "en.layer.0.attention.output.dense.weight"),
        (27, "e.l.0.a.output.dense.weight"),
        (20, "e.l.0.a.o.den.weight"),
        (9, "e.l…eight"),
    ],
)
def test_long_names_keep_what_tells_them_apart(width: int, expected: str) -> None:
    name = "encoder.layer.0.attention.output.dense.weight"
    assert inspect_module._shortened(name, width) == expected


def test_changes_are_listed_without_their_base(model: Path, run: Run, tmp_path: Path) -> None:
    moved = tensors()
    moved["quantized"] = moved["quantized"] + np.int8(1)
    write_plain(moved, tmp_path / "later")
    run("pack", tmp_path / "later", "--base", model, "-o", tmp_path / "d")
    model.unlink()
    shown = run("inspect", tmp_path / "d").out
    assert "8 tensors as changes since model.safetensors" in shown
    assert re.search(r"quantized .* difference: ", shown) and "  xor: constant" in shown
    rows = {
        row["name"]: row
        for row in json.loads(run("inspect", tmp_path / "d", "--json").out)["tensors"]
    }
    assert rows["quantized"]["delta"] == "difference" and rows["half"]["delta"] == "xor"
    assert rows["half"]["base"] == "model.safetensors" and rows["nothing"]["base"] is None
    table = run("inspect", tmp_path / "d", "--table", "quantized").out
    assert "difference: " in table
