import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("networkx")

from fewbits.machines.parts.flits import Packet, deliver
from fewbits.machines.parts.noc import (
    Flows,
    Network,
    Wires,
    grid,
    mesh,
    virtual_layers,
)

WIRES = Wires(256, 1e9, 2, 1, 1, 2e-3, 0.08e-12, 80e-12, 0.015e-12)


def send(net, packets, wires=WIRES, **settings_):
    return deliver(net, net.routes(wires), wires, packets, **settings_)


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_packet_alone_takes_the_closed_form(source, target, flits, router):
    if source == target:
        return
    wires = Wires(256, 1e9, router, 1, 1, 2e-3, 0.0, 0.0, 0.0)
    net = mesh(1, 4, 4)
    hops = int(net.hops()[source, target])
    got = send(net, [Packet(source, target, flits, 7)], wires, buffer_flits=router + 2).cycles
    assert got == 7 + 1 + (hops + 1) * router + hops + flits
    # ... which is what the loads say, plus a flit in and out
    load = net.routes(wires).load(Flows.of({(source, target): 256.0 * flits}), wires)
    assert got == 7 + load.longest_cycles + flits + 1


def test_two_packets_over_one_link_by_hand():
    # 0 -> 2 and 1 -> 2 on a line, 4 flits each, both from cycle 0. From node 1 the head enters its
    # router in cycle 0, may leave in 3, and is in the link to 2 in cycles 3 to 6. From node 0 it
    # reaches router 1 three cycles later, ready in 6, but the link is taken until 6: cycles 7 to
    # 10. The last flit, over the link in 10, is ready in 13, out in 14.
    done = send(mesh(1, 1, 3), [Packet(0, 2, 4), Packet(1, 2, 4)])
    assert done.finished == (14, 10)
    assert done.link_flits == {(0, 1): 4, (1, 2): 8}


def test_packets_the_other_way_do_not_wait():
    done = send(mesh(1, 1, 2), [Packet(0, 1, 5), Packet(1, 0, 5)])
    assert done.finished == (1 + 4 + 1 + 5,) * 2


def test_a_node_takes_one_flit_a_cycle():
    # Two packets of 6 flits from either side to the middle: 12 flits into one node.
    net = mesh(1, 1, 3)
    done = send(net, [Packet(0, 1, 6), Packet(2, 1, 6)])
    assert done.cycles >= 1 + 4 + 1 + 12


def test_small_buffers_hold_a_worm_back():
    net = mesh(1, 1, 4)
    wide, narrow = (send(net, [Packet(0, 3, 20)], buffer_flits=size).cycles for size in (4, 1))
    assert wide == 1 + 4 * 2 + 3 + 20
    # One place behind each link: a flit every 3 cycles (a link and a router of 2).
    assert narrow > wide + 30


@given(st.sampled_from([(1, 3, 3), (2, 2, 3), (1, 1, 6)]), st.integers(0, 20), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_loads_are_those_of_the_flits_and_bound_their_time(shape, seed, flits):
    net = mesh(*shape)
    routes = net.routes(WIRES)
    rng = np.random.default_rng(seed)
    pairs = [tuple(map(int, rng.choice(len(net.places), 2, replace=False))) for _ in range(30)]
    layers = virtual_layers(routes, pairs)
    packets = [Packet(a, b, flits, 0, layer) for (a, b), layer in zip(pairs, layers, strict=True)]
    table = {}
    for pair in pairs:
        table[pair] = table.get(pair, 0.0) + 256.0 * flits
    load = routes.load(Flows.of(table), WIRES)
    done = send(net, packets)
    assert max(done.link_flits.values()) == load.link_bits.max() / 256
    assert sum(done.link_flits.values()) == load.link_bits.sum() / 256
    busiest = load.fullest_bits / 256
    assert busiest < done.cycles
    # What is left open is waiting for heads of other packets: less than as much again.
    assert done.cycles <= 2 * (busiest + load.longest_cycles + flits)


def test_an_even_load_drains_as_the_analytic_model_says():
    # Each node sends to the next on a line, all links alike: within a tenth.
    net = mesh(1, 1, 8)
    packets = [Packet(n, n + 1, 50) for n in range(7)]
    load = net.routes(WIRES).load(Flows.of({(n, n + 1): 256.0 * 50 for n in range(7)}), WIRES)
    assert send(net, packets).cycles == pytest.approx(load.time_s * 1e9, rel=0.1)


def test_a_circle_deadlocks_on_one_layer_and_not_on_two():
    ring = Network(grid(1, 2, 2), ((0, 1), (0, 2), (1, 3), (2, 3)))
    routes = ring.routes(WIRES)
    around = [(a, d) for a in range(4) for d in range(4) if ring.hops()[a, d] == 2]
    layers = virtual_layers(routes, around)
    if max(layers) == 0:  # the routes chosen make no circle: make one
        before = routes.before.copy()
        for source, middle, target in ((0, 1, 3), (1, 3, 2), (3, 2, 0), (2, 0, 1)):
            before[source, target] = middle
        routes = type(routes)(ring, before, routes.delay)
        layers = virtual_layers(routes, around)
    assert max(layers) == 1
    with pytest.raises(ValueError, match=r"deadlock after .* waits in a circle"):
        deliver(ring, routes, WIRES, [Packet(a, d, 40) for a, d in around], buffer_flits=2)
    apart = [Packet(a, d, 40, 0, layer) for (a, d), layer in zip(around, layers, strict=True)]
    assert deliver(ring, routes, WIRES, apart, buffer_flits=2).cycles > 40


def test_wrong_packets_are_named():
    for bad in ({"flits": 0}, {"start": -1}, {"target": 0}):
        with pytest.raises(ValueError, match="a packet has flits"):
            Packet(**({"source": 0, "target": 1, "flits": 1} | bad))
    with pytest.raises(ValueError, match="a buffer holds 1 flit at least"):
        send(mesh(1, 1, 2), [Packet(0, 1, 1)], buffer_flits=0)
