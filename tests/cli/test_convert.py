"""``pack``, ``unpack`` and ``verify``: files come back as they were, or nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewbits.demo import write_plain

from .conftest import Run, tensors


def test_pack_and_unpack_give_the_same_file_under_default_names(
    model: Path, run: Run, tmp_path: Path
) -> None:
    before = model.read_bytes()
    done = run("pack", model)
    assert done.code == 0 and done.err == ""
    assert "1 file, 10 tensors" in done.out and "mean of the tensors' ratios" in done.out
    packed = tmp_path / "model.fewbits.safetensors"
    assert packed.stat().st_size < len(before)
    model.unlink()
    assert run("unpack", packed).code == 0
    assert model.read_bytes() == before


def test_a_folder_keeps_its_other_files(model: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    (folder / "sub").mkdir(parents=True)
    model.rename(folder / "sub" / "model.safetensors")
    (folder / "config.json").write_text("{}")
    before = (folder / "sub" / "model.safetensors").read_bytes()
    assert run("pack", folder).code == 0
    assert (tmp_path / "whole.fewbits" / "config.json").read_text() == "{}"
    assert run("unpack", tmp_path / "whole.fewbits", "-o", tmp_path / "again").code == 0
    assert (tmp_path / "again" / "sub" / "model.safetensors").read_bytes() == before


def test_pack_json(model: Path, run: Run) -> None:
    document = json.loads(run("pack", model, "--json").out)
    assert document["files"] == 1 and document["tensors"] == 10
    assert document["bytes_before"] == model.stat().st_size
    assert document["bytes_after"] == Path(document["destination"]).stat().st_size
    assert document["ratio"] == document["bytes_before"] / document["bytes_after"]
    assert document["mean_ratio"] > 0 and document["seconds"] > 0


def test_unpack_json(packed: Path, run: Run, tmp_path: Path) -> None:
    document = json.loads(run("unpack", packed, "-o", tmp_path / "x", "--json").out)
    assert document["bytes_after"] == (tmp_path / "x").stat().st_size
    assert document["bytes_before"] == packed.stat().st_size


@pytest.mark.parametrize(
    "options",
    [
        ("--coder", "arithmetic"),
        ("--search", "paper", "--rows", "8"),
        ("--count-bits", "8", "--threads", "1"),
    ],
)
def test_options_reach_the_codec(
    model: Path, run: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    default, chosen, back = (tmp_path / name for name in ("default", "chosen", "back"))
    assert run("pack", model, "-o", default).code == 0
    assert run("pack", model, "-o", chosen, *options).code == 0
    assert chosen.read_bytes() != default.read_bytes()
    assert run("unpack", chosen, "-o", back).code == 0
    assert back.read_bytes() == model.read_bytes()


def test_quiet_prints_nothing(model: Path, run: Run, tmp_path: Path) -> None:
    result = run("pack", model, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_force_replaces(model: Path, packed: Path, run: Run) -> None:
    packed.write_bytes(b"old")
    assert run("pack", model, "--force").code == 0
    assert run("verify", packed).code == 0


def test_verify_says_ok_a_file(packed: Path, run: Run) -> None:
    result = run("verify", packed)
    assert result.code == 0 and result.out.startswith(f"OK  {packed}: 10 tensors")


def test_verify_goes_on_after_a_damaged_file(packed: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    data = bytearray(packed.read_bytes())
    (folder / "b.safetensors").write_bytes(data)
    data[-5] ^= 1
    (folder / "a.safetensors").write_bytes(data)
    result = run("verify", folder)
    assert result.code == 1
    assert result.out.count("OK") == 1 and "b.safetensors" in result.out
    assert result.err.count("\n") == 1 and "a.safetensors: tensor" in result.err
    document = json.loads(run("verify", folder, "--json").out)
    assert document["ok"] is False
    assert [found["ok"] for found in document["files"]] == [False, True]
    assert "tensor" in document["files"][0]["error"]


def test_an_index_packs_its_shards(run: Run, tmp_path: Path) -> None:
    shards = {"a": "m-1.safetensors", "b": "m-2.safetensors"}
    for (name, file), tensor in zip(shards.items(), tensors().values(), strict=False):
        write_plain({name: tensor}, tmp_path / file)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert run("pack", index).code == 0
    assert run("verify", tmp_path / "m.fewbits" / index.name).out.count("OK") == 2


@pytest.fixture
def later(model: Path) -> Path:
    """The model a step of training later."""
    path = model.with_name("later.safetensors")
    moved = tensors()
    weight = moved["layer.0.weight"]
    moved["layer.0.weight"] = (weight.astype("f4") * 1.01).astype(weight.dtype)
    write_plain(moved, path)
    return path


def test_changes_since_a_base_come_back(model: Path, later: Path, run: Run, tmp_path: Path) -> None:
    done = run("pack", later, "--base", model)
    packed = tmp_path / "later.fewbits.safetensors"
    assert done.code == 0 and "10 tensors (8 deltas)" in done.out
    back = tmp_path / "back"
    assert run("unpack", packed, "-o", back).code == 0
    assert back.read_bytes() == later.read_bytes()
    document = json.loads(run("verify", packed, "--json").out)
    assert document["files"][0]["deltas"] == 8
    assert run("pack", model, "-o", tmp_path / "base").code == 0
    model.unlink()
    assert run("unpack", packed, "-o", back, "--force", "--base", tmp_path / "base").code == 0
    assert back.read_bytes() == later.read_bytes()
    # A chain whose files have all moved is named from the nearest on.
    assert run("pack", later, "-o", tmp_path / "end", "--base", packed, "--base",
               tmp_path / "base").code == 0  # fmt: skip
    bases = ("--base", packed, "--base", tmp_path / "base")
    assert run("verify", tmp_path / "end", *bases).code == 0


def test_missing_and_wrong_bases_are_one_line(
    model: Path, later: Path, run: Run, fails: Callable[..., str], tmp_path: Path
) -> None:
    run("pack", later, "--base", model, "-o", tmp_path / "d")
    assert "is not the base" in fails(
        "unpack", tmp_path / "d", "-o", tmp_path / "x", "--base", later
    )
    assert "path is empty" in fails("pack", later, "--base", "", code=2)
    assert "(the base)" in fails("pack", later, "--base", tmp_path / "gone")
    assert "is the base" in fails("pack", later, "-o", model, "--base", model, "--force")
    model.unlink()
    for command in (("unpack", "-o", tmp_path / "x"), ("verify",)):
        error = fails(command[0], tmp_path / "d", *command[1:])
        assert "'model.safetensors', which is not beside it; say where that is (--base" in error
    assert not (tmp_path / "x").exists()
