"""Axes, grids, and one pass over many settings."""

from pathlib import Path

import numpy as np
import pytest

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.result import Result
from fewbits.machines.sweep import axis, grid, sweep, write


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("n=1..4", [1, 2, 3, 4]),
        ("n=16..128*2", [16, 32, 64, 128]),
        ("n=0.5..1/3", [0.5, 0.75, 1.0]),
        ("n=1,2.5,9", [1, 2.5, 9]),
        ("n=1e-3,1e3", [0.001, 1000]),
        ("n=3", [3]),
        ("n=1..2/3", [1, 1.5, 2]),
    ],
)
def test_axes(text: str, values: list[float]) -> None:
    name, found = axis(text)
    assert name == "n"
    np.testing.assert_allclose(found, values)


def test_fractions_get_fifty_steps() -> None:
    _, found = axis("ratio=0.25..1")
    assert found.size == 51 and found[0] == 0.25 and found[-1] == 1


@pytest.mark.parametrize(
    "text",
    ["", "n", "n=", "n=a", "n=1..", "n=..3", "n=4..1", "n=1..9*1", "n=0..9*2", "=1", "n=1..9..3"],
)
def test_wrong_axes(text: str) -> None:
    with pytest.raises(FewbitsError):
        axis(text)


def test_grids_are_bounded() -> None:
    with pytest.raises(FewbitsError, match="configurations"):
        grid({name: np.zeros(1000) for name in "abc"})


CONSTANTS = Constants(
    Constant("width_m", 2, "m", "test", "assumed"), Constant("height_m", 3, "m", "test", "assumed")
)


def area(constants: Constants) -> dict[str, Result]:
    found = {}
    for name, factor in (("once", 1.0), ("half", 0.5)):
        layers = np.array([1.0, 2.0])
        value = factor * layers * constants["width_m"] * constants["height_m"]
        found[name] = Result("m", "w", ("a", "b"), value, {"all": value}, {}, {"x": value})
    return found


def test_one_pass_equals_one_by_one() -> None:
    axes = {"width_m": np.array([1.0, 2.0, 5.0]), "height_m": np.array([1.0, 4.0])}
    done: list[int] = []
    together = sweep(area, CONSTANTS, axes, chunk=4)
    alone = sweep(area, CONSTANTS, axes, vectorised=False, advance=done.append)
    assert sum(done) == 6
    assert together.keys() == alone.keys()
    for name, column in together.items():
        assert column.tolist() == alone[name].tolist(), name
    assert together["variant"].tolist() == ["once", "half"] * 6
    assert together["latency_s"][:4].tolist() == [3.0, 1.5, 12.0, 6.0]
    assert together["speedup"].tolist() == [1.0, 2.0] * 6


def test_tables_are_written(tmp_path: Path) -> None:
    table = sweep(area, CONSTANTS, {"width_m": np.array([1.0, 2.0])})
    write(table, tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].startswith("width_m,variant,latency_s") and len(lines) == 5
    pq = pytest.importorskip("pyarrow.parquet")
    write(table, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").to_pydict() == {
        name: column.tolist() for name, column in table.items()
    }
    with pytest.raises(FewbitsError, match=r"\.csv or \.parquet"):
        write(table, tmp_path / "t.xls")
