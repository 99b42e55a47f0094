"""The five formulations: the same numbers, the same training, the bytes that are planned."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
torch.set_num_threads(1)

from fewbits.machines.wafer import FORMULATIONS, Layers, named, power_law  # noqa: E402
from fewbits.machines.wafer.formulations import (  # noqa: E402
    FORMULATIONS as MODULES,
)
from fewbits.machines.wafer.formulations import (  # noqa: E402
    Blocked,
    GraphConvolution,
    GraphNetwork,
)
from fewbits.machines.wafer.measure import calibrate, measure  # noqa: E402
from fewbits.machines.wafer.plans import operator_bytes  # noqa: E402


def test_names_agree() -> None:
    assert tuple(MODULES) == FORMULATIONS


@pytest.mark.parametrize("name", FORMULATIONS)
@pytest.mark.parametrize("nodes", [2, 31, 32, 150])
def test_products_and_gradients_are_those_of_the_matrix(name, nodes) -> None:
    graph = power_law(nodes, degree=min(6, nodes - 1), seed=nodes)
    matrix = torch.from_numpy(graph.dense())
    torch.manual_seed(0)
    y, grad = torch.randn(nodes, 5, requires_grad=True), torch.randn(nodes, 5)
    made = MODULES[name](graph)(y)
    made.backward(grad)
    torch.testing.assert_close(made, matrix @ y)
    torch.testing.assert_close(y.grad, matrix.T @ grad)


def trained(aggregate, graph, steps=60):
    """Losses and classes of a network that sees the class of two members only."""
    torch.manual_seed(1)
    network = GraphNetwork(graph.nodes, 8, 2, aggregate)
    features, known = torch.eye(graph.nodes), torch.tensor([0, 33])
    labels = torch.from_numpy(graph.labels)
    trained_ones = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained_ones, 0.02)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(features)[known], labels[known])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, network(features).argmax(1), len(trained_ones)


def test_all_train_alike_on_the_karate_club() -> None:
    pytest.importorskip("networkx")
    graph = named("karate")
    runs = {name: trained(module(graph), graph) for name, module in MODULES.items()}
    first, classes, count = runs["dense-matmul"]
    assert first[-1] < 0.1 * first[0] and count == 4
    assert (classes.numpy() == graph.labels).mean() > 0.85
    for losses, _, trained_ones in runs.values():
        assert losses == pytest.approx(first, rel=1e-3, abs=1e-5) and trained_ones == 4


def test_the_matrix_is_held_in_the_bytes_that_are_planned() -> None:
    graph = power_law(300)
    found = measure(graph, Layers(features=8, count=1), most_bytes=1e9)
    for name, one in found.items():
        assert one.operator_bytes == operator_bytes(name, graph.shape(), 4)
        assert one.step_s > 0


def test_what_would_not_fit_is_not_tried() -> None:
    graph = power_law(2000)
    found = measure(graph, Layers(features=4, count=1), most_bytes=10e6)
    assert found["dense-matmul"] == found["dense-linear"] == "needs 0.0 GB"
    assert found["csr"].formulation == "csr"


@pytest.mark.slow
def test_a_million_nodes_train_in_rows_and_nothing_else_is_tried() -> None:
    graph = power_law(1_000_000)
    found = measure(graph, Layers(features=16))
    assert found["csr"].operator_bytes == operator_bytes("csr", graph.shape(), 4) < 1e8
    others = {name: one for name, one in found.items() if name not in ("csr", "gather")}
    assert all(isinstance(one, str) and "needs" in one for one in others.values())


def test_the_matrix_is_no_part_of_what_is_saved() -> None:
    graph = power_law(64)
    for name in ("dense-matmul", "csr", "blocked", "gather"):
        layer = GraphConvolution(3, 3, MODULES[name](graph))
        assert set(layer.state_dict()) == {"weight", "bias"}, name


def test_tiles_of_any_size() -> None:
    graph = power_law(50)
    y = torch.randn(50, 3)
    whole = torch.from_numpy(graph.dense()) @ y
    for tile in (1, 7, 50, 64):
        torch.testing.assert_close(Blocked(graph, tile)(y), whole)


def test_csr_moves_with_its_module() -> None:
    layer = MODULES["csr"](power_law(20)).to(torch.float64)
    made = layer(torch.ones(20, 2, dtype=torch.float64))
    assert made.dtype == torch.float64 and np.isfinite(made.numpy()).all()


def test_this_machine_has_constants() -> None:
    known = calibrate(features=16)
    assert 1e8 < known["flop_per_s"] < 1e13 and 1e8 < known["bandwidth_bytes_per_s"] < 1e12
    assert 0 < known["row_share"] <= 1 and 0 < known["tile_share"] <= 1
    assert known.describe("flop_per_s").kind == "given"
