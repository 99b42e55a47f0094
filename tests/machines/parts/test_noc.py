from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
nx = pytest.importorskip("networkx")

from fewbits.machines.parts.noc import (  # noqa: E402
    Flows,
    Network,
    Wires,
    anynet,
    curve,
    grid,
    mesh,
    virtual_layers,
)

WIRES = Wires(256, 1e9, 2, 1, 1, 2e-3, 0.08e-12, 80e-12, 0.015e-12)

stacks = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)).filter(
    lambda shape: shape[0] * shape[1] * shape[2] > 1
)


def uniform(count, bits=256.0):
    return Flows.of({(a, b): bits for a in range(count) for b in range(count)})


@given(stacks)
@settings(max_examples=30, deadline=None)
def test_hops_in_a_mesh_are_manhattan_distances(shape):
    net = mesh(*shape)
    places = np.array(net.places)
    wanted = np.abs(places[:, None] - places[None]).sum(2)
    assert (net.hops() == wanted).all()


def test_curves_save_links():
    # 3 tiers of a chain of 15 links, one mesh of 24, and 48 between tiers
    assert len(mesh(4, 4, 4, curves=(0, 1, 2)).links) == 3 * 15 + 24 + 48 == 117
    assert len(mesh(4, 4, 4).links) == 4 * 24 + 48 == 144


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 4), (8, 8), (3, 5), (4, 2)])
def test_a_curve_visits_all_in_single_steps(shape):
    walk = curve(*shape)
    assert sorted(walk) == [(r, c) for r in range(shape[0]) for c in range(shape[1])]
    steps = np.abs(np.diff(np.array(walk), axis=0)).sum(1)
    assert (steps == 1).all()


def test_hilberts_curve_keeps_near_what_is_near():
    walk = np.array(curve(8, 8))
    far = np.abs(walk[4:] - walk[:-4]).sum(1).max()
    snake = np.array([(r, c if r % 2 == 0 else 7 - c) for r in range(8) for c in range(8)])
    assert far <= np.abs(snake[4:] - snake[:-4]).sum(1).max()
    assert [tuple(p) for p in walk[:4]] == [(0, 0), (0, 1), (1, 1), (1, 0)]


def test_a_line_of_three_by_hand():
    net = mesh(1, 1, 3)
    load = net.routes(WIRES).load(Flows.of({(0, 2): 512.0, (1, 2): 256.0, (2, 0): 128.0}), WIRES)
    assert load.link_bits.tolist() == [[512, 768], [128, 128]]
    assert load.port_bits.tolist() == [[512, 256, 128], [128, 0, 768]]
    assert load.fullest_bits == 768
    assert load.mean_hops == pytest.approx((2 * 512 + 256 + 2 * 128) / 896)
    # two hops of a router and a pitch, and the last router: 2 * 3 + 2
    assert load.longest_cycles == 8
    assert load.time_s == pytest.approx((3 + 8) / 1e9)
    routers = (3 * 512 + 2 * 256 + 3 * 128) * 0.08e-12
    wires = (512 + 768 + 128 + 128) * 2e-3 * 80e-12
    assert load.energy_j == pytest.approx(routers + wires)


@given(stacks, st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_bits_are_conserved(shape, seed):
    net = mesh(*shape)
    count = len(net.places)
    rng = np.random.default_rng(seed)
    table = {
        (int(a), int(b)): float(x)
        for a, b, x in zip(
            rng.integers(count, size=12), rng.integers(count, size=12), rng.random(12), strict=True
        )
    }
    flows = Flows.of(table)
    routes = net.routes(WIRES)
    load = routes.load(flows, WIRES)
    assert load.link_bits.sum() == pytest.approx(load.mean_hops * flows.bits.sum())
    passed = routes.router_bits(load, flows)
    assert passed.sum() == pytest.approx((load.mean_hops + 1) * flows.bits.sum())
    assert load.port_bits.sum(1) == pytest.approx([flows.bits.sum()] * 2)


def test_a_shortcut_never_makes_a_way_longer():
    base = mesh(2, 3, 3)
    before = base.routes(WIRES).delay
    number = {place: index for index, place in enumerate(base.places)}
    extra = (number[0, 0, 0], number[0, 2, 2])
    after = Network(base.places, (*base.links, extra)).routes(WIRES).delay
    assert (after <= before).all()
    assert after[extra] < before[extra]


def test_long_links_take_longer_and_more_energy():
    places = grid(1, 1, 3)
    net = Network(places, ((0, 1), (0, 2)))
    assert net.pitches.tolist() == [1, 2]
    assert net.cycles(WIRES).tolist() == [1, 2]
    one = net.routes(WIRES).load(Flows.of({(0, 1): 256.0}), WIRES).energy_j
    two = net.routes(WIRES).load(Flows.of({(0, 2): 256.0}), WIRES).energy_j
    assert two - one == pytest.approx(256 * 2e-3 * 80e-12)


def test_booksim_reads_back_the_links():
    net = mesh(2, 2, 3, curves=(1,))
    found = set()
    for line in anynet(net).splitlines():
        words = line.split()
        assert words[0] == "router" and words[2] == "node" and words[3] == words[1]
        found |= {(int(words[1]), int(other)) for other in words[5::2]}
        assert set(words[4::2]) <= {"router"}
    assert found == set(net.links)
    timed = anynet(net, WIRES).splitlines()[0]
    assert timed == "router 0 node 0 router 1 1 router 3 1 router 6 1"


def test_routes_of_a_ring_need_a_second_layer_and_a_lines_do_not():
    ring = Network(grid(1, 2, 2), ((0, 1), (0, 2), (1, 3), (2, 3)))
    # Clockwise all round, two hops each: they wait for each other in a circle.
    around = [(0, 3), (1, 2), (3, 0), (2, 1)]
    routes = ring.routes()
    layers = virtual_layers(routes, around)
    graphs = {}
    for (source, target), layer in zip(around, layers, strict=True):
        path = routes.path(source, target)
        hops = list(pairwise(path))
        graphs.setdefault(layer, nx.DiGraph()).add_edges_from(pairwise(hops))
    assert all(nx.is_directed_acyclic_graph(graph) for graph in graphs.values())
    line = mesh(1, 1, 5).routes()
    assert set(virtual_layers(line, [(a, b) for a in range(5) for b in range(5) if a != b])) == {0}


def test_networks_that_cannot_be_are_named():
    places = grid(2, 1, 2)
    for links, fault in (
        (((0, 3),), r"no wire runs from \(0, 0, 0\) to \(1, 0, 1\)"),
        (((0, 9),), "a link from router 0 to 9 of 4"),
        (((1, 0),), "a link from router 1 to 0"),
        (((0, 1), (0, 1)), "twice"),
    ):
        with pytest.raises(ValueError, match=fault):
            Network(places, links)
    with pytest.raises(ValueError, match="two routers stand in one place"):
        Network(((0, 0, 0), (0, 0, 0)), ())
    with pytest.raises(ValueError, match="no floor plan of 0 tiers of 2x2"):
        grid(0, 2, 2)
    apart = Network(places, ((0, 1),))
    assert not apart.connected()
    with pytest.raises(ValueError, match="no way leads from router 0 to 3"):
        apart.routes().path(0, 3)
    with pytest.raises(ValueError, match="no way leads from router 0 to 3"):
        apart.routes(WIRES).load(Flows.of({(0, 3): 1.0}), WIRES)
