"""The study of graph networks on a wafer: statements in their bands, and times beside plans."""

import pytest

pytest.importorskip("scipy")
pytest.importorskip("networkx")

from fewbits.machines.wafer import device
from fewbits.studies import Table, wafer


def test_the_posters_statements_hold(monkeypatch) -> None:
    monkeypatch.setattr(wafer, "MEASURED", (200,))
    monkeypatch.setattr(wafer, "STEPS", 3 + 1 + 2)
    done = []
    study = wafer.study(done.append)
    assert study.holds and sum(done) == wafer.STEPS
    limit, *ratios = [claim.ours for claim in study.claims]
    assert limit == 99_840 and ratios == pytest.approx([9.43, 9.76, 9.77], abs=0.01)
    tables = {part.title: part for part in study.parts if isinstance(part, Table)}
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
    picks = {tuple(row[:2]): row[2] for row in tables["What the planner takes"].rows}
    assert picks["1,000,000", "cs2"] == "none fits" and picks["1,000,000", "h100"] == "csr"
    kinds = {constant.name: constant.kind for constant in study.constants}
    assert kinds["efficiency"] == "assumed" and kinds["capacity_bytes"] == "cited"


def test_the_ratio_leaves_its_band_where_loading_is_free() -> None:
    moved = device("cs2").with_values({"load_bytes_per_s": 1e15})
    assert wafer.faster(50_000, moved) < wafer.DECADE[0]
    bound = device("cs2").with_values({"steps": 4, "efficiency": 1})
    assert wafer.faster(50_000, bound) < 4
