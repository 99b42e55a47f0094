"""The IPU study: the figures in their bands, and that they can leave them."""

import math

import pytest

from fewbits.cli.main import main
from fewbits.machines import networks
from fewbits.machines.ipu import constants
from fewbits.studies import Table, ipu, load


@pytest.fixture(scope="module")
def study():
    done = []
    made = ipu.study(done.append)
    assert sum(done) == load("ipu").steps == ipu.STEPS
    return made


def test_all_figures_lie_in_their_bands(study) -> None:
    assert study.holds and len(study.claims) == 6
    ours = {claim.what: claim.ours for claim in study.claims}
    # Golden: what these constants gave when the page was written.
    assert list(ours.values()) == pytest.approx(
        [1.265, 3.228, 16.57, 19.78, 28.22, 187.9], rel=1e-3
    )
    assert all(math.isfinite(value) for value in ours.values())


def test_bands_are_those_that_are_stated() -> None:
    assert ipu.band("two pipelined, most") == (16, 24)
    assert ipu.band("16 mixed") == (185, 370)


def test_tuned_constants_are_called_assumed(study) -> None:
    kinds = {constant.name: constant.kind for constant in study.constants}
    for name in ("compute_efficiency", "usable_share", "port_bytes_per_s"):
        assert kinds[name] == "assumed"
    assert "no source" in " ".join(study.text)


def test_a_slower_device_leaves_the_bands() -> None:
    net = networks.load(ipu.NETWORK)
    moved = ipu.figures(net, constants().with_values({"compute_efficiency": 0.1}))
    low, high = ipu.band("16 mixed")
    assert not low <= moved["16 mixed"] <= high


def test_reproduce_says_by_its_exit_code_whether_they_lie_there(monkeypatch, tmp_path) -> None:
    pytest.importorskip("plotly")
    monkeypatch.setattr(ipu, "DRAWS", 1)
    page = tmp_path / "ipu.html"
    assert main(["reproduce", "ipu", "-o", str(page), "--quiet"]) == 0
    assert "over 185x" in page.read_text()
    monkeypatch.setattr(ipu, "NEAR", 0.01)
    assert main(["reproduce", "ipu", "-o", str(page), "--quiet", "--force"]) == 1


def test_every_constant_that_is_varied_has_a_row_up_and_down(study) -> None:
    table = next(
        part for part in study.parts if isinstance(part, Table) and "carries" in part.title
    )
    assert len(table.rows) == 1 + 2 * len(ipu.VARIED)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_it_says_how_special_the_constants_are(study) -> None:
    table = next(part for part in study.parts if isinstance(part, Table) and "drawn" in part.title)
    held = {name: int(count) for name, count in table.rows}
    assert 0 < held["all of them"] <= min(held.values()) and held["all of them"] < ipu.DRAWS / 4


def test_the_baseline_that_accumulates_is_told(study) -> None:
    table = next(p for p in study.parts if isinstance(p, Table) and "cut into" in p.title)
    (
        whole,
        *_,
    ) = table.rows
    cut = next(row for row in table.rows if row[:3] == ["1", "1", "6 x 8"])
    assert whole[3] == 1 and cut[3] > 10 and cut[4] == "no"
