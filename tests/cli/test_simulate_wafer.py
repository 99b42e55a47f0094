"""``simulate wafer``: what it picks, what it measures, and what it refuses."""

import csv
import json

import pytest

pytest.importorskip("scipy")


def test_a_graph_by_size(run) -> None:
    done = run("simulate", "wafer", "--nodes", 20000, "--device", "a100")
    assert done.code == 0, done
    assert "csr: 0.055 % of the matrix is not zero; gather takes" in done.out
    rows = {line.split()[0]: line.split() for line in done.out.split("\n\n")[1].split("\n") if line}
    assert rows["dense-linear"][1:3] == ["1.6", "GB"] and rows["csr"][1:3] == ["1.8", "MB"]


def test_what_does_not_fit_is_told(run) -> None:
    done = run("simulate", "wafer", "--nodes", 1_000_000, "--device", "h100")
    assert done.code == 0 and "needs 4,001.3 GB of 80.0 GB" in done.out


def test_a_real_graph_is_measured(run) -> None:
    pytest.importorskip("networkx")
    pytest.importorskip("torch")
    done = run("simulate", "wafer", "--graph", "karate", "--device", "cpu", "--features", 4,
               "--measure", "--json")  # fmt: skip
    found = json.loads(done.out)["results"]
    assert len(found) == 5 and found["csr"]["extra"]["matrix_bytes"] == 1660
    assert all(one["extra"]["measured_here_s"] > 0 for one in found.values())


def test_a_file_of_edges(run, tmp_path) -> None:
    (tmp_path / "ring.txt").write_text("0 1\n1 2\n2 0\n")
    done = run("simulate", "wafer", "--graph", tmp_path / "ring.txt", "--device", "cpu")
    assert done.code == 0 and "100 % of the matrix is not zero" in done.out


def test_a_sweep_over_nodes(run, tmp_path) -> None:
    table = tmp_path / "sweep.csv"
    done = run("simulate", "wafer", "--nodes", 1000, "--sweep", "nodes=1000..16000*2", "-o", table)
    assert done.code == 0, done
    rows = [row for row in csv.DictReader(table.open()) if row["variant"] == "dense-linear"]
    times = [float(row["latency_s"]) for row in rows]
    assert len(rows) == 5 and times == sorted(times)


@pytest.mark.parametrize(
    ("wrong", "message", "code"),
    [
        ([], "give one of --nodes and --graph", 2),
        (["--nodes", "5", "--graph", "karate"], "give one of --nodes and --graph", 2),
        (["--graph", "karate", "--degree", "3"], "--degree goes with --nodes", 2),
        (["--graph", "none.txt"], "none.txt: No such file or directory", 1),
        (["--graph", "/"], "/: ", 1),
        (["--graph", "karat"], "did you mean 'karate'", 1),
        (["--nodes", "100", "--device", "cs3"], "did you mean 'cs2'", 1),
        (["--nodes", "0"], "nodes: 0 must be at least 1", 1),
        (["--nodes", "1000000"], "fits nowhere on cs2: dense-matmul needs 4,001.3 GB", 1),
        (["--nodes", "100", "--set", "nodes=2.5"], "nodes 2.5: must be a whole number", 1),
        (["--nodes", "100", "--set", "features=0"], "features: 0 must be at least 1", 1),
    ],
)
def test_wrong_use(fails, wrong, message, code) -> None:
    assert message in fails("simulate", "wafer", *wrong, code=code)
