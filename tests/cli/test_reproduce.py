"""``fewbits reproduce``: pages that stand alone, and exit codes that tell."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fewbits import studies

from .conftest import Run

pytest.importorskip("plotly")


def test_the_page_stands_alone(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "apack.html"
    found = run("reproduce", "apack", "-o", page)
    assert found.code == 0, found
    assert "APack: mean speedup" in found.out and "OUTSIDE" not in found.out
    html = page.read_text()
    assert html.startswith("<!doctype html>") and "Plotly.newPlot" in html
    assert not re.search(r'<(script|link|img)[^>]+(src|href)=["\']', html)
    assert "dram_idd4r_a" in html and "paper, average" in html
    found = json.loads(run("reproduce", "apack", "-o", page, "--force", "--json").out)
    assert found["holds"] and all(claim["holds"] for claim in found["claims"])
    assert {"What each assumption moves", "Measured here on real tensors"} <= {
        table["title"] for table in found["tables"]
    }


def test_a_figure_outside_its_band_is_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = studies.Claim("one", "2x", 2.0, (1.9, 2.1))
    study = studies.Study("s", "S & <T>", "source", ["text"], [claim], [])
    entry = studies.Entry("apack", 1, lambda advance: replace(study, claims=[claim, broken]))
    broken = replace(claim, what="<two>", ours=3.0)
    monkeypatch.setattr(studies, "load", lambda name: entry)
    found = run("reproduce", "apack", "-o", tmp_path / "p.html")
    assert found.code == 1 and found.out.count("OUTSIDE") == 1
    html = (tmp_path / "p.html").read_text()
    assert "S &amp; &lt;T&gt;" in html and "<two>" not in html


def test_none_lists_them(run: Run) -> None:
    assert "apack" in run("reproduce").out.split()


def test_wrong_requests(fails: Callable[..., str], tmp_path: Path) -> None:
    assert "did you mean 'apack'" in fails("reproduce", "apak")
    assert "must end in .html" in fails("reproduce", "apack", "-o", "x.pdf", code=2)
    page = tmp_path / "p.html"
    page.write_text("mine")
    assert "exists; --force replaces it" in fails("reproduce", "apack", "-o", page)
    assert page.read_text() == "mine"
