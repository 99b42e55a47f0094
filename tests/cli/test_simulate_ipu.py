"""``simulate ipu``: what it prints, draws and writes, and what it refuses."""

import csv
import json

import pytest

NET = ("simulate", "ipu", "--network", "resnet50")


def test_with_and_without_packing(run) -> None:
    done = run(*NET, "--devices", 16, "--pipeline", 4, "--ratio", 4)
    assert done.code == 0, done
    assert "not packed" in done.out and "speedup" in done.out and "(activations)" in done.out
    packed = done.out.split("packed, ratio 4: ")[1]
    assert "512 a step" in packed and len([line for line in packed.split("\n") if ">" in line]) == 4


def test_json_has_the_stages(run) -> None:
    done = run(*NET, "--micro-batch", 48, "--ratio", 4, "--json", "--explain")
    found = json.loads(done.out)
    plain, packed = found["results"]["not packed"], found["results"]["packed"]
    assert packed["speedup"] > 3 and plain["extra"]["stages"][0]["spilled"] == ["activations"]
    assert plain["extra"]["samples_per_s"] == pytest.approx(48 / plain["latency_s"])
    kinds = {constant["name"]: constant["kind"] for constant in found["constants"]}
    assert kinds["compute_efficiency"] == "assumed"
    assert packed["extra"]["setting"]["ratio"] == 4


def test_a_plan_says_no(run) -> None:
    done = run(*NET, "--plan", 8)
    assert done.code == 0 and "do not pack: nothing spills" in done.out
    assert "not packed: 1 x 8 samples" in done.out


def test_a_plan_of_whole_batches_says_yes(run) -> None:
    done = run(*NET, "--plan", 48, "--whole")
    assert "pack, 3.23 times faster: it moves fewer bytes to streaming memory" in done.out


def test_ratios_of_a_report(run, fails, tmp_path) -> None:
    report = tmp_path / "report.json"
    rows = [{"module": "conv1", "before": 600, "after": 100}]
    report.write_text(json.dumps({"tensors": rows}))
    done = run(*NET, "--micro-batch", 48, "--report", report, "--json")
    setting = json.loads(done.out)["results"]["packed"]["extra"]["setting"]
    assert setting["ratio"] == pytest.approx(6) and list(setting["ratios"]) == ["conv1"]
    assert "one of --ratio and --report" in fails(*NET, "--report", report, "--ratio", 2, code=2)
    report.write_text("[]")
    assert "no report of fewbits.training" in fails(*NET, "--report", report)


def test_a_sweep_has_a_row_for_each(run, tmp_path) -> None:
    table = tmp_path / "sweep.csv"
    done = run(*NET, "--micro-batch", 48, "--sweep", "ratio=1..4", "--sweep", "devices=1,2",
               "-o", table)  # fmt: skip
    assert done.code == 0, done
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 16
    speedups = [float(row["speedup"]) for row in rows if row["variant"] == "packed"]
    assert speedups[::2] == sorted(speedups[::2]) and speedups[0] == 1


def test_gantt(run, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    done = run(*NET, "--devices", 2, "--pipeline", 2, "--gantt", tmp_path / "g.png")
    assert done.code == 0 and (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("stages", "roofline"), [(1, True), (2, False)])
def test_the_figure_has_a_roofline_where_nothing_waits(run, tmp_path, stages, roofline) -> None:
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "f.svg"
    done = run(*NET, "--devices", stages, "--pipeline", stages, "--figure", drawn)
    assert done.code == 0 and ("MACs a byte" in drawn.read_text()) == roofline


@pytest.mark.parametrize(
    ("wrong", "message", "code"),
    [
        (["--ratio", "0"], "ratio 0: must be positive", 1),
        (["--devices", "6", "--pipeline", "4"], "6 devices do not divide into pipelines of 4", 1),
        (["--devices", "65"], "devices 65: at most 64", 1),
        (["--micro-batch", "4000"], "does not fit: resnet50 holds", 1),
        (["--plan", "0"], "batch: 0 must be at least 1", 1),
        (["--plan", "8", "--pipeline", "2"], "--plan chooses pipeline", 2),
        (["--whole"], "--whole goes with --plan", 2),
        (["--set", "devices=2.5"], "devices 2.5: must be a whole number", 1),
        (["--set", "tile=3"], "did you mean 'tiles'", 1),
        (["--gantt", "g.txt"], "must end in .png", 2),
    ],
)
def test_wrong_use(fails, wrong, message, code) -> None:
    assert message in fails(*NET, *wrong, code=code)


def test_unknown_network(fails) -> None:
    assert "did you mean 'resnet50'" in fails("simulate", "ipu", "--network", "resnet51")
