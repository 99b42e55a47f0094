"""The study of APack: where its numbers are from, and what it finds."""

import pytest

from fewbits.machines import networks
from fewbits.studies.apack import REFERENCE, STEPS, study
from fewbits.studies.apack.settings import Setting, outcome, settings
from fewbits.studies.apack.shares import measured, share, traffic


def test_measured_comes_before_said_comes_before_average() -> None:
    assert share("resnet18", "weights", "apack").origin == "measured"
    assert share("resnet18", "activations", "apack").origin == "paper, average"
    assert share("mobilenet_v1", "weights", "apack").value == 0.86
    assert share("mobilenet_v3", "weights", "apack").value == pytest.approx(0.654, abs=0.002)
    assert share("ncf", "weights", "shapeshifter").value == pytest.approx(1 + 3 / 64)


@pytest.mark.parametrize("name", networks.of_paper())
def test_shapeshifter_never_beats_apack(name: str) -> None:
    for what in ("weights", "activations"):
        apack, other = (share(name, what, c).value for c in ("apack", "shapeshifter"))
        assert 0 < apack < other <= 1 + 3 / 64
    assert traffic(name, "apack", averages=True).weights == 0.60


def test_what_was_measured_is_plausible() -> None:
    for found in measured().values():
        for shares in found["shares"].values():
            if shares:
                assert shares["fewbits"] < shares["apack"] < shares["shapeshifter"] < 1
    # Weights that are not pruned have no runs; activations after ReLU have.
    assert measured()["resnet18"]["shares"]["weights"]["rle"] > 1.4
    assert measured()["convolutions"]["shares"]["activations"]["rlez"] < 1


def test_means_are_of_the_networks() -> None:
    found = outcome(Setting("two", networks=("alexnet", "resnet18")))
    speedups = found.speedup["apack"]
    assert set(speedups) == {"alexnet", "resnet18"}
    assert found.mean("speedup", "apack") == pytest.approx(sum(speedups.values()) / 2)


def test_slow_engines_cost_the_speedup() -> None:
    reference, slow = outcome(REFERENCE), outcome(settings()[1])
    assert slow.setting.label.startswith("64 engines of a value a cycle")
    assert slow.mean("speedup", "apack") < 1.25 < 1.35 < reference.mean("speedup", "apack")


def test_the_study_is_as_it_was_and_tells_how_far_it_is() -> None:
    steps: list[int] = []
    found = study(steps.append)
    assert len(steps) == STEPS
    ours = {claim.what: claim.ours for claim in found.claims}
    assert ours["APack: mean speedup"] == pytest.approx(1.385, abs=0.005)
    assert ours["APack: mean efficiency"] == pytest.approx(1.320, abs=0.005)
    assert ours["ShapeShifter: mean speedup"] == pytest.approx(1.302, abs=0.005)
    assert ours["ShapeShifter: mean efficiency"] == pytest.approx(1.250, abs=0.005)
    assert found.holds
    tables = {part.title: part for part in found.parts}
    rows = tables["Every codec where real tensors were measured"].rows
    speedups = {(row[0], row[1]): row[3] for row in rows}
    assert speedups["ResNet-18", "rle"] < 1 < speedups["ResNet-18", "shapeshifter"]
    assert speedups["ResNet-18", "shapeshifter"] < speedups["ResNet-18", "apack"]
    assert {constant.kind for constant in found.constants} >= {"paper", "cited", "assumed"}
