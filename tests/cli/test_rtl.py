"""``rtl``: Verilog that runs, the table, and what it refuses."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Run


def test_the_report_is_the_shipped_table(run: Run) -> None:
    done = run("rtl", "--report")
    assert done.code == 0, done
    assert "paper's encoder" in done.out
    assert "fewbits rtl --report --fresh" in done.out
    found = json.loads(run("rtl", "--report", "--json").out)
    assert {"name", "area_ge", "area_m2", "clock_hz", "energy_j"} <= set(found[0])


def test_an_engine_comes_with_a_testbench_that_passes(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("pyosys")
    build = tmp_path / "build"
    done = run(
        "rtl", "engine", "-o", build, "--lanes", 3, "--stages", 2, "--rows", 8, "--count", 40
    )
    assert done.code == 0, done
    assert (build / "encoder_engine.v").read_text().count("fewbits_encoder_lane ") == 3
    again = run("rtl", "engine", "-o", build)
    assert again.code == 1
    assert "is not empty; --force writes into it" in again.err
    if shutil.which("iverilog"):
        printed = subprocess.run(
            [build / "run.sh"], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        assert printed.count("PASS") == 2, printed
        # A testbench that cannot fail proves nothing: spoil one expected value.
        values = (build / "values.hex").read_text().split()
        values[50] = f"{int(values[50], 16) ^ 1:x}"
        (build / "values.hex").write_text("\n".join(values))
        spoiled = subprocess.run(
            [build / "run.sh"], capture_output=True, text=True, check=False, timeout=120
        ).stdout
        assert "FAIL" in spoiled
    if shutil.which("verilator"):
        for side in ("encoder", "decoder"):
            top = f"fewbits_{side}_engine"
            lint = subprocess.run(
                ["verilator", "--lint-only", "--top-module", top, f"{side}_engine.v"],
                cwd=build,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert (lint.returncode, lint.stderr) == (0, "")


def test_a_unit_is_written_and_measured(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("pyosys")
    done = run("rtl", "shapeshifter-decoder", "-o", tmp_path / "x", "--report", "--json")
    assert done.code == 0, done
    assert (
        "module fewbits_shapeshifter_decoder"
        in (tmp_path / "x" / "shapeshifter_decoder.v").read_text()
    )
    found = json.loads(done.out)
    assert 500 < found["shapeshifter_decoder"]["area_ge"] < 3000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a UNIT, or --report"),
        (("engine",), "give -o DIR, or --report"),
        (("encoder", "--rows", 12, "-o", "x"), "rows=12 is not a power of two"),
        (("--report", "--liberty", "x.lib"), "add --fresh"),
        (("encoder", "--clock-ns", 0, "--report"), "is no time of a clock"),
        (("engine", "--count", 0, "-o", "x"), "--count 0 is not in 1.."),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[object, ...], message: str, run: Run
) -> None:
    done = run("rtl", *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("engine", "--lanes", 0, "-o", "{tmp}/x"), "lanes=0 is not in 1..1024"),
        (("engine", "--window-bits", 20, "-o", "{tmp}/x"), "whose window has 16 bits, not 20"),
        (("shapeshifter-encoder", "--width", 16, "-o", "{tmp}/x"), "values of 4 to 8 bits"),
        (("rans-decoder", "--rows", 8, "-o", "{tmp}/x"), "at least 16 buckets"),
    ],
)
def test_what_cannot_be_built_is_refused(
    arguments: tuple[object, ...], message: str, tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("amaranth")
    done = run("rtl", *(str(a).replace("{tmp}", str(tmp_path)) for a in arguments))
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "x").exists()
