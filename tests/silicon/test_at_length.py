"""A million values through Verilog, and every combination that the page lists. All slow."""

import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth")

from fewbits.silicon.settings import Settings
from silicon_reference import encode_bits
from silicon_units import decode, encode

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DATA = ROOT / ".." / "shared" / "data" / "resnet18-int8.safetensors"
LANES, VALUES = 4, 1_000_000
# What docs/guide/silicon.md lists.
WIDTHS, ROWS, COUNT_BITS, WINDOW_BITS = (4, 8, 16), (8, 16, 32), (8, 10, 12, 14), (16, 20)
LOOKUPS, DATAPATHS, STAGES = ("parallel", "binary", "divider"), ("range", "paper"), (1, 2, 4)


def million() -> np.ndarray:
    """A million int8 weights: real ones where they are at hand."""
    if DATA.exists():
        from safetensors.numpy import load_file

        tensors = [t.ravel() for t in load_file(DATA).values() if t.dtype == np.int8]
        return np.concatenate(tensors)[:VALUES].view(np.uint8)
    rng = np.random.default_rng(0)
    return np.round(rng.laplace(0, 12, VALUES)).clip(-128, 127).astype(np.int8).view(np.uint8)


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(stages=4, lookup="divider", datapath="paper")], ids=str
)
def test_a_million_values_through_verilog(settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("pyosys")
    if not shutil.which("verilator"):
        pytest.skip("verilator is not installed")
    from fewbits.silicon import export

    tensors = np.array_split(million(), LANES * settings.stages)
    export.engine(settings, LANES, 2, tmp_path, tensors=tensors)
    for side in ("encoder", "decoder"):
        subprocess.run(
            [
                *("verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-O3"),
                *("--top-module", "tb", "--Mdir", side),
                *(f"{side}_engine.v", f"{side}_engine_tb.v"),
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        for option in ("+full", "+stalls"):
            printed = subprocess.run(
                [tmp_path / side / "Vtb", option],
                cwd=tmp_path,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            found = re.search(rf"PASS {side}: (\d+) values in (\d+) cycles", printed)
            assert found, printed
            values, cycles = map(int, found.groups())
            assert values == VALUES
            print(f"{side} {option}: {values / cycles / LANES:.4f} values a cycle and lane")
            if option == "+full":
                assert values / cycles / LANES > 0.99


def combinations() -> list[Settings]:
    found = []
    for width, rows, count_bits, window_bits, lookup, datapath, stages in product(
        WIDTHS, ROWS, COUNT_BITS, WINDOW_BITS, LOOKUPS, DATAPATHS, STAGES
    ):
        if width == 4 and rows > 16:
            continue  # there are no more values
        # Rows, counts and windows change nothing about turns: each with one stage, all with more.
        plain = (rows, count_bits, window_bits) == (16, 10, 16)
        if stages == 1 or plain:
            found.append(
                Settings(
                    width=width,
                    rows=rows,
                    count_bits=count_bits,
                    window_bits=window_bits,
                    lookup=lookup,
                    datapath=datapath,
                    stages=stages,
                )
            )
    return found


def test_the_page_lists_these() -> None:
    page = (ROOT / "docs" / "guide" / "silicon.md").read_text("utf-8")
    for name, values in (
        ("width", WIDTHS),
        ("rows", ROWS),
        ("count_bits", COUNT_BITS),
        ("window_bits", WINDOW_BITS),
        ("lookup", LOOKUPS),
        ("datapath", DATAPATHS),
        ("stages", STAGES),
    ):
        listed = ", ".join(f"`{value}`" for value in values)
        assert re.search(rf"^\| `{name}` \| {listed} \|", page, re.MULTILINE), name


@pytest.mark.parametrize("settings", combinations(), ids=str)
def test_every_combination(settings: Settings) -> None:
    rng = np.random.default_rng(settings.rows + settings.count_bits)
    top = 1 << settings.width
    tensors = [
        (np.round(rng.laplace(0, max(0.7, 0.04 * top), 60)).astype(np.int64) % top).astype(
            np.uint8 if settings.width <= 8 else np.uint16
        )
        for _ in range(settings.stages)
    ]
    table = settings.table_for(np.concatenate(tensors))
    streams, overflow = encode(settings, table, tensors)
    assert not overflow
    for stream, tensor in zip(streams, tensors, strict=True):
        symbols, offsets, _ = encode_bits(tensor, table, settings.window_bits)
        assert (stream.symbols, stream.offsets) == (symbols, offsets)
    values, _, fault = decode(settings, table, streams, [t.size for t in tensors])
    assert not fault
    assert values == [t.tolist() for t in tensors]
