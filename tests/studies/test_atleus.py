"""The study of Atleus: its claims, where the paper's pair is reached, and where Atleus loses."""

import json

import pytest

pytest.importorskip("scipy")
pytest.importorskip("networkx")

from fewbits.studies import Table
from fewbits.studies.atleus import STEPS, study
from fewbits.studies.atleus.cases import measured


@pytest.fixture(scope="module")
def found():
    steps = []
    made = study(steps.append)
    assert sum(steps) == STEPS
    return made


def table(found, title):
    return next(part for part in found.parts if isinstance(part, Table) and title in part.title)


def test_the_claims_are_as_they_were(found):
    ours = {claim.what: claim.ours for claim in found.claims}
    assert found.holds, [claim for claim in found.claims if not claim.holds]
    assert ours["operations on ReRAM, GPT-2 Medium, 1024 tokens"] == pytest.approx(91.87, abs=0.01)
    assert ours["24 layers on three tiers at 8 bits"] == 1.0
    assert ours["speedup over a GPU"] == pytest.approx(64.5, abs=0.5)
    assert ours["energy efficiency over a GPU"] == pytest.approx(65.0, abs=0.5)
    assert ours["energy of M8F4 over M4F8"] == pytest.approx(0.872, abs=0.005)
    assert {constant.kind for constant in found.constants} == {"cited", "derived", "assumed"}


def test_the_pair_is_reached_beside_one_baseline_in_one_setting_only(found):
    rows = table(found, "With which baseline").rows
    assert len(rows) == 20
    assert [(row[0], row[1]) for row in rows if row[-1] == "yes"] == [
        ("Jetson TX2", "one sequence")
    ]


def test_the_table_says_where_an_all_digital_stack_wins(found):
    lost = {row[0]: row[1] for row in table(found, "Where Atleus loses").rows}
    assert "4 systolic tiers, 16 bits" in lost["bert_large prefill 512"]
    assert "HAIMA-like" in lost["gpt2_medium decode 512"]
    read = table(found, "How the read time decides")
    ten = {(row[0], row[1]): row[4] for row in read.rows}
    assert ten["bert_large prefill 512", "4 systolic tiers, 16 bits"] > 5 * next(
        row[2] for row in read.rows if row[0] == "bert_large prefill 512"
    )


def test_everything_can_be_written_down(found):
    parts = [part.to_dict() for part in found.parts if isinstance(part, Table)]
    assert len(json.dumps([parts, [claim.to_dict() for claim in found.claims]])) > 1000
    names = [constant.name for constant in found.constants]
    assert len(set(names)) == len(names)


def test_packing_buys_links_first(found):
    for row in table(found, "What packing buys").rows:
        faster, energy, links = row[1:4]
        assert 1 <= faster < links and 1 <= energy < links


def test_what_was_measured_is_plausible():
    rows = measured()["minilm"]["rows"]
    cosine = {label: row["cosine"] for label, row in rows.items()}
    assert cosine["crossbar-wise 8"] > 0.995 > cosine["crossbar-wise 6"] > cosine["crossbar-wise 4"]
    for bits in ("8", "6", "4"):  # a crossbar's scale is better than a matrix's, not than a group's
        assert cosine[f"one scale a matrix, {bits}"] < cosine[f"crossbar-wise {bits}"]
        assert cosine[f"crossbar-wise {bits}"] < cosine[f"groups of 64, {bits}"]
    exact = cosine["8 bits computed directly"]
    assert cosine["bit by bit, 8-bit converter"] == pytest.approx(exact, abs=1e-4)
    assert cosine["bit by bit, thermal noise of 85 C"] == pytest.approx(exact, abs=1e-4)
    lora = measured()["lora"]["rows"]
    ideal = lora["ideal: adapters in fp32, no noise"]
    for noise in ("1", "2"):
        best = max(lora[f"cell noise {noise} %, {way}"] for way in ("aware", "chip"))
        assert ideal - best < 0.5
        assert best > lora[f"cell noise {noise} %, no adapters"]
    packing = measured()["packing"]
    assert packing["weights"]["4"] < packing["weights"]["8"] < 1
    assert packing["activations"]["all"] < 1
