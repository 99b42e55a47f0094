import csv

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("networkx")
pytest.importorskip("pymoo")
pytest.importorskip("matplotlib")

from fewbits.errors import FewbitsError
from fewbits.machines.atleus import traffic
from fewbits.machines.atleus.constants import CONSTANTS
from fewbits.machines.atleus.design import MOST_LINKS, REACH, Space, search
from fewbits.machines.atleus.front import write_front
from fewbits.machines.atleus.machine import build, simulate
from fewbits.machines.parts.noc import mesh

from .jobs import job

WHAT = job("gpt2", 256, batch=8)


@pytest.fixture(scope="module")
def space():
    return Space(build(WHAT, CONSTANTS), CONSTANTS)


@pytest.fixture(scope="module")
def front():
    return search(WHAT, CONSTANTS, generations=12, population=16, seed=1)


def test_rows_are_networks_and_back(space):
    for curves in (False, True):
        net = traffic.network(space.machine.hardware, curves=curves)
        row = space.encode(net)
        assert row.size == space.size
        assert space.network(row) == net
        assert (space.cores_at(row) == np.arange(64)).all()


def test_the_mesh_is_worth_what_the_machine_says(space):
    row = space.encode(traffic.network(space.machine.hardware, curves=True))
    (cycles, fullest, energy, hottest), broken = space.worth(row)
    assert max(broken) <= 0
    result = simulate(WHAT)
    # simulate's network energy is that of all 8 sequences
    assert 8 * energy == pytest.approx(result.energy_j["network"].sum())
    assert hottest - 273.15 == pytest.approx(result.extra["hottest_c"], abs=0.01)
    assert fullest / 256 / 1e9 / 12 == pytest.approx(result.extra["stage_s"]["network"])
    assert cycles > 3


def test_changes_and_mixtures_stay_designs(space):
    rng = np.random.default_rng(0)
    rows = list(space.starts(6, rng))
    for _ in range(60):
        child = space.changed(space.mixed(rows[-1], rows[-2], rng), rng)
        order, stands, links = space.split(child)
        assert sorted(order) == [0, 1, 2, 3]
        assert all(sorted(tier) == list(range(16)) for tier in stands.tolist())
        assert set(np.unique(links)) <= {0, 1}
        rows.append(child)
    assert len({row.tobytes() for row in rows}) > 50


def test_too_much_wire_too_many_ports_and_islands_break_rules(space):
    row = space.encode(mesh(4, 4, 4))
    space.split(row)[2][:] = 1
    _, (wire, ports, lost) = space.worth(row)
    assert wire > 0 and ports > 0 and lost == 0
    space.split(row)[2][:] = 0
    values, (wire, ports, lost) = space.worth(row)
    assert wire < 0 and ports == 0 and lost > 0 and min(values) >= 1e9


def test_moving_cores_moves_their_traffic_and_heat(space):
    rng = np.random.default_rng(1)
    row = space.encode(mesh(4, 4, 4))
    before = space.worth(row)[0]
    order, _, _ = space.split(row)
    order[:] = [3, 0, 1, 2]  # the systolic tier next to the heat sink
    after = space.worth(row)[0]
    assert after[3] != before[3]
    shuffled = space.encode(mesh(4, 4, 4))
    space.split(shuffled)[1][1] = rng.permutation(16)
    assert space.worth(shuffled)[0][0] != before[0]


def test_no_design_of_the_front_beats_another_and_all_keep_the_rules(front):
    values = np.array([design.objectives for design in front.designs])
    for one in values:
        assert not ((values <= one).all(1) & (values < one).any(1)).any()
    for design in front.designs:
        assert design.network.connected()
        assert design.network.degrees().max() <= MOST_LINKS
        assert design.network.pitches.sum() <= front.mesh.network.pitches.sum()
        assert design.network.pitches.max() <= REACH
        assert sorted(design.stands) == list(range(64))


def test_the_front_is_better_than_where_it_began(front):
    values = np.array([design.objectives for design in front.designs])
    for start in (front.mesh, front.curves):
        assert not any(
            (np.array(start.objectives) < np.array(design.objectives)).all()
            for design in front.designs
        )
        assert (values[:, :3].min(0) < np.array(start.objectives[:3])).all()
    assert front.best() in front.designs


def test_a_seed_repeats(front):
    again = search(WHAT, CONSTANTS, generations=12, population=16, seed=1)
    assert [d.objectives for d in again.designs] == [d.objectives for d in front.designs]


def test_files_of_a_front(front, tmp_path):
    steps = []
    few = type(front)(front.designs[:2], front.mesh, front.curves, front.evaluations)
    write_front(few, WHAT, CONSTANTS, tmp_path, steps.append)
    assert steps == [1, 1]
    with (tmp_path / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["mesh", "curves", "network-01", "network-02"]
    assert rows[0]["virtual_channels"] == "1"
    for row in rows:
        assert (tmp_path / f"{row['name']}.png").read_bytes().startswith(b"\x89PNG")
        lines = (tmp_path / f"{row['name']}.anynet").read_text().splitlines()
        assert len(lines) == 64
        assert sum(line.count("router") - 1 for line in lines) == int(row["links"])
    assert (tmp_path / "front.png").exists()


def test_what_cannot_be_searched_is_named():
    with pytest.raises(FewbitsError, match="1 generation and a population of 4"):
        search(WHAT, CONSTANTS, generations=0)
    with pytest.raises(FewbitsError, match="4 tiers of 1x1 cores has no network to design"):
        search(job("minilm"), CONSTANTS.with_values({"core_rows": 1, "core_columns": 1}))
