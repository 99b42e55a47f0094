"""Plans of graph networks: memory and time by hand, limits, what is picked and why."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines.wafer import (
    DEVICES,
    FORMULATIONS,
    Layers,
    device,
    make_plan,
    memory,
    most_nodes,
    shape,
    simulate,
)
from fewbits.machines.wafer.plans import operator_bytes, product

GOLDEN = Path(__file__).with_name("golden_wafer.json")
ARXIV = (169_343, 2 * 1_166_243 + 169_343)  # nodes, entries of ogbn-arxiv made symmetric


def test_bytes_by_hand() -> None:
    graph = shape(1000, 9000, tile=10)
    assert operator_bytes("dense-linear", graph, 4) == 4e6
    assert operator_bytes("csr", graph, 4) == 9000 * 8 + 1001 * 4
    assert operator_bytes("gather", graph, 4) == 9000 * 20
    assert operator_bytes("blocked", graph, 2) == pytest.approx(graph.tiles * (200 + 16))
    needs = memory("gather", graph, Layers(features=16, count=3), 4)
    strip = 1000 * 16 * 4
    assert needs.activations == 4 * strip and needs.work == 2 * strip + 2 * 9000 * 16 * 4
    assert needs.total == needs.operator + needs.activations + needs.work + needs.weights


def test_products_by_hand() -> None:
    graph = shape(1000, 9000, tile=10)
    assert product("dense-matmul", graph, 16, 4).flop == 2 * 1000 * 1000 * 16
    assert product("csr", graph, 16, 4).flop == 2 * 9000 * 16
    assert product("csr", graph, 16, 4).scattered == 9000 * 64
    assert product("blocked", graph, 16, 4).flop == pytest.approx(2 * graph.tiles * 100 * 16)


def test_a_step_by_hand() -> None:
    known = device("cs2").with_values(
        {"efficiency": 1, "flop_per_s": 1e9, "bandwidth_bytes_per_s": 1e18, "launch_s": 0,
         "load_bytes_per_s": 1e9, "steps": 10}
    )  # fmt: skip
    graph, layers = shape(100, 1000), Layers(features=8, count=2)
    compute_s = (4 * 2 * 100 * 100 * 8 + 6 * 2 * 100 * 8 * 8) / 1e9
    matmul = simulate("dense-matmul", graph, layers, known)
    linear = simulate("dense-linear", graph, layers, known)
    assert matmul.total_latency_s == pytest.approx(compute_s + 4e4 / 1e9)
    assert linear.total_latency_s == pytest.approx(compute_s + 4e4 / 1e9 / 10)
    assert matmul.traffic_bytes["load"].sum() == 10 * linear.traffic_bytes["load"].sum() == 4e4
    assert matmul.total_energy_j == pytest.approx(15e3 * matmul.total_latency_s)


def test_dense_storage_ends_at_a_hundred_thousand_nodes() -> None:
    limit = most_nodes("dense-linear", Layers(), device("cs2"))
    assert limit == pytest.approx(1e5, rel=0.01)
    # Capacity alone: the root of bytes over 4.
    bare = device("cs2").with_values({"capacity_bytes": 4e10})
    assert limit <= (bare["capacity_bytes"] / 4) ** 0.5 == 1e5
    assert most_nodes("csr", Layers(), device("cs2")) > 100 * limit


def test_known_graphs() -> None:
    layers = Layers()
    dense, rows = (
        memory(name, shape(*ARXIV), layers, 4).operator / 1e6 for name in ("dense-linear", "csr")
    )
    assert dense == pytest.approx(114_708, rel=1e-3) and rows == pytest.approx(20.7, rel=0.01)


def test_what_is_picked() -> None:
    assert make_plan(shape(5000, 5000**2 // 2), Layers(), device("a100")).best == "dense-matmul"
    large = make_plan(shape(10**6, 11 * 10**6), Layers(), device("a100"), name="a100")
    assert large.best == "csr" and "0.0011 % of the matrix is not zero" in large.reason
    assert large.faults["dense-linear"] == "needs 4,001.3 GB of 80.0 GB"
    wafer = make_plan(shape(5000, 5000**2 // 2), Layers(), device("cs2"), name="cs2")
    assert wafer.best == "dense-linear" and wafer.faults["csr"] == "is not taken by its compiler"
    with pytest.raises(FewbitsError, match=r"fits nowhere on cs2: dense-matmul needs 4,001\.3 GB"):
        make_plan(shape(10**6, 11 * 10**6), Layers(), device("cs2"), name="cs2")
    with pytest.raises(FewbitsError, match="did you mean 'cs2'"):
        device("cs3")


graphs = st.builds(
    lambda nodes, degree: shape(nodes, min(nodes**2, round(nodes * degree) + 1)),
    st.integers(2, 10**6),
    st.floats(0.1, 200),
)
ANY = (st.sampled_from(sorted(DEVICES)), st.sampled_from(FORMULATIONS), graphs)


@given(*ANY, st.sampled_from(["flop_per_s", "bandwidth_bytes_per_s", "load_bytes_per_s"]))
def test_more_of_it_is_never_slower(name, formulation, graph, constant) -> None:
    known = device(name)
    more = known.with_values({constant: 1.5 * known[constant]})
    before = simulate(formulation, graph, Layers(), known).total_latency_s
    assert simulate(formulation, graph, Layers(), more).total_latency_s <= before


@given(*ANY)
def test_rows_add_up(name, formulation, graph) -> None:
    result = simulate(formulation, graph, Layers(), device(name), device=name)
    assert result.total_latency_s == pytest.approx(result.latency_s.sum())
    longest = [max(busy[i] for busy in result.busy_s.values()) for i in range(5)]
    assert (result.latency_s >= longest).all()
    loaded = result.traffic_bytes["load"].sum()
    assert loaded in (pytest.approx(result.extra["matrix_bytes"]),
                      pytest.approx(result.extra["matrix_bytes"] / 100))  # fmt: skip


@given(graphs, st.integers(1, 10**5))
def test_more_entries_need_more(graph, more) -> None:
    larger = shape(graph.nodes, min(graph.entries + more, graph.nodes**2))
    for name in FORMULATIONS:
        needs = (memory(name, one, Layers(), 4).total for one in (graph, larger))
        assert next(needs) <= next(needs) * (1 + 1e-12)


def golden() -> dict[str, dict[str, float]]:
    found = {}
    for name in DEVICES:
        for graph in (shape(1000, 11_000), shape(30_000, 330_000)):
            plan = make_plan(graph, Layers(), device(name), name=name)
            found[f"{name}, {graph.name}"] = {
                key: float(f"{result.total_latency_s:.9g}") for key, result in plan.results.items()
            }
    return found


def test_golden_results() -> None:
    kept = json.loads(GOLDEN.read_text())
    assert golden() == {name: pytest.approx(row) for name, row in kept.items()}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
