"""Graphs: the real ones, the random ones, those from files, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines.wafer import NAMED, from_edges, named, power_law, shape
from fewbits.machines.wafer.graphs import read

pytest.importorskip("scipy")


@pytest.mark.parametrize("name", NAMED)
def test_real_graphs_are_networkx_ones(name) -> None:
    networkx = pytest.importorskip("networkx")
    make = {
        "karate": networkx.karate_club_graph,
        "les-miserables": networkx.les_miserables_graph,
        "florentine-families": networkx.florentine_families_graph,
        "southern-women": networkx.davis_southern_women_graph,
    }
    theirs, graph = make[name](), named(name)
    joined = networkx.to_numpy_array(theirs, weight=None) + np.eye(len(theirs))
    root = 1 / np.sqrt(joined.sum(axis=1))
    assert graph.dense() == pytest.approx(root[:, None] * joined * root, rel=1e-6)


def test_labels_of_the_karate_club() -> None:
    pytest.importorskip("networkx")
    graph = named("karate")
    assert graph.labels.tolist()[0] != graph.labels.tolist()[33]
    assert named("les-miserables").labels is None


edges = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40)


@given(edges, st.integers(1, 14))
def test_tiles_and_rows_hold_the_matrix(pairs, tile) -> None:
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    graph = from_edges("any", 12, ends[:, 0], ends[:, 1])
    matrix = graph.dense()
    assert (matrix == matrix.T).all() and (matrix.diagonal() > 0).all()
    assert graph.entries == np.count_nonzero(matrix) == graph.shape(tile).entries
    rows, columns, tiles = graph.tiled(tile)
    assert len(rows) == graph.shape(tile).tiles and all(part.any() for part in tiles)
    whole = np.zeros((12 + tile, 12 + tile), np.float32)
    for row, column, part in zip(rows, columns, tiles, strict=True):
        whole[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] += part
    assert (whole[:12, :12] == matrix).all()


def test_power_law() -> None:
    graph = power_law(20_000, degree=8, seed=3)
    degrees = np.diff(graph.starts) - 1
    assert 6.5 < degrees.mean() <= 8  # some edges are drawn twice
    assert degrees.max() > 50 * np.median(degrees)
    # Of a power law of 2.5, the share of nodes above a degree falls with its power of -1.5.
    tail = [np.mean(degrees > d) for d in (16, 64, 256)]
    slopes = -np.diff(np.log(tail)) / np.log(4)
    assert slopes == pytest.approx([1.5, 1.5], abs=0.35)
    again = power_law(20_000, degree=8, seed=3)
    assert (again.columns == graph.columns).all()
    assert power_law(100, seed=4).entries != power_law(100, seed=5).entries


def test_tiles_of_a_graph_of_known_size_only() -> None:
    rng = np.random.default_rng(0)
    graph = from_edges("any", 4000, *rng.integers(0, 4000, (2, 20_000)))
    counted = graph.shape(32)
    assert shape(4000, graph.entries, tile=32).tiles == pytest.approx(counted.tiles, rel=0.03)
    assert shape(10, 100).tiles == 1 and shape(10, 100).density == 1


def test_a_file_of_edges(tmp_path) -> None:
    (tmp_path / "ring.txt").write_text("# three nodes\n0 1\n1 2 0.5\n2 0\n")
    graph = read(tmp_path / "ring.txt")
    assert graph.name == "ring" and graph.nodes == 3
    assert graph.dense() == pytest.approx(np.full((3, 3), 1 / 3))


def test_what_is_no_graph(tmp_path) -> None:
    one = np.array([0])
    with pytest.raises(FewbitsError, match="did you mean 'karate'"):
        named("karat")
    with pytest.raises(FewbitsError, match="node beyond the last of 3"):
        from_edges("x", 3, one, one + 3)
    with pytest.raises(FewbitsError, match="number is negative"):
        from_edges("x", 3, one, one - 1)
    with pytest.raises(FewbitsError, match="without nodes"):
        from_edges("x", 0, one[:0], one[:0])
    with pytest.raises(FewbitsError, match="5 nodes and 26 entries"):
        shape(5, 26)
    with pytest.raises(FewbitsError, match="1 nodes: between 2"):
        power_law(1)
    with pytest.raises(FewbitsError, match="too many to make"):
        power_law(50_000_000)
    with pytest.raises(FewbitsError, match="degree 0"):
        power_law(10, degree=0)
    for text, message in (("a b\n", "not a list of edges"), ("1\n", "not a list of edges")):
        (tmp_path / "g.txt").write_text(text)
        with pytest.raises(FewbitsError, match=message):
            read(tmp_path / "g.txt")


def test_a_file_without_edges(tmp_path) -> None:
    (tmp_path / "g.txt").write_text("# nothing\n")
    with pytest.raises(FewbitsError, match="no edges"):
        read(tmp_path / "g.txt")
