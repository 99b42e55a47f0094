"""Graphs as the matrix that a graph convolution multiplies by.

That matrix is D^-1/2 (A + I) D^-1/2, where A is one where two nodes are joined and D holds the
row sums of A + I (Kipf and Welling, 2017). It is symmetric, and held by its rows (CSR).

>>> graph = named("karate")
>>> graph.nodes, graph.entries, graph.labels.tolist().count(1)
(34, 190, 17)
>>> graph.dense().sum(axis=1).max() < 3
np.True_
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import FewbitsError, did_you_mean

MOST_NODES = 100_000_000
# Of a random graph: 10 GB while it is made.
MOST_ENTRIES = 100_000_000


@dataclass(frozen=True)
class Shape:
    """What planning needs of a graph: ``nodes``, ``entries`` of its matrix that are not zero.

    ``tiles``: of how many square tiles of ``tile`` rows at least one entry is not zero.
    """

    name: str
    nodes: int
    entries: int
    tile: int
    tiles: float

    @property
    def density(self) -> float:
        """Share of the matrix that is not zero."""
        return self.entries / self.nodes**2


def shape(nodes: int, entries: int, *, tile: int = 32, name: str = "") -> Shape:
    """A graph of which only the size is known, entries anywhere: tiles by their expected number."""
    if nodes < 1 or entries < 1 or entries > nodes**2:
        raise FewbitsError(f"a graph of {nodes} nodes and {entries} entries")
    if nodes > MOST_NODES:
        raise FewbitsError(f"{nodes} nodes: at most {MOST_NODES}")
    if tile < 1:
        raise FewbitsError(f"tiles of {tile} rows")
    grid = float(-(-nodes // tile)) ** 2
    tiles = max(1.0, grid * -np.expm1(-entries / grid))
    return Shape(name or f"{nodes} nodes", nodes, entries, tile, tiles)


@dataclass(frozen=True)
class Graph:
    """A graph's matrix in rows: ``starts`` int64 [nodes + 1], ``columns`` int64 and ``values``
    float32 [entries], and the nodes' classes ``labels`` int64 [nodes] where they are known.
    """  # fmt: skip

    name: str
    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None

    @property
    def nodes(self) -> int:
        """Rows of the matrix."""
        return len(self.starts) - 1

    @property
    def entries(self) -> int:
        """Entries that are not zero: two an edge, one a node."""
        return len(self.columns)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The row of each entry."""
        return np.repeat(np.arange(self.nodes), np.diff(self.starts))

    def dense(self) -> NDArray[np.float32]:
        """The whole matrix, float32 [nodes, nodes]."""
        matrix = np.zeros((self.nodes, self.nodes), np.float32)
        matrix[self.rows, self.columns] = self.values
        return matrix

    def tiled(self, tile: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Rows and columns of the tiles that are not zero, and the tiles [tiles, tile, tile]."""
        across = -(-self.nodes // tile)
        keys, where = np.unique(
            self.rows // tile * across + self.columns // tile, return_inverse=True
        )
        tiles = np.zeros((len(keys), tile, tile), np.float32)
        tiles[where, self.rows % tile, self.columns % tile] = self.values
        return keys // across, keys % across, tiles

    def shape(self, tile: int = 32) -> Shape:
        """Its size, with the tiles counted."""
        across = -(-self.nodes // tile)
        ones = np.ones(self.entries, np.int8)
        where = self.rows // tile, self.columns // tile
        tiles = _sparse().csr_array((ones, where), shape=(across, across)).nnz
        return Shape(self.name, self.nodes, self.entries, tile, tiles)


def from_edges(
    name: str,
    nodes: int,
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    labels: NDArray[np.int64] | None = None,
) -> Graph:
    """The normalized matrix of these edges; directions, repeats and loops are dropped."""
    if nodes < 1:
        raise FewbitsError(f"{name}: a graph without nodes")
    if len(source) and not min(source.min(), target.min()) >= 0:
        raise FewbitsError(f"{name}: a node's number is negative")
    if len(source) and max(source.max(), target.max()) >= nodes:
        raise FewbitsError(f"{name}: an edge to a node beyond the last of {nodes}")
    own = np.arange(nodes, dtype=np.int64)
    ends = np.concatenate((source, target, own)), np.concatenate((target, source, own))
    rows = _sparse().coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(nodes, nodes)).tocsr()
    rows.sum_duplicates()
    starts, columns = rows.indptr.astype(np.int64), rows.indices.astype(np.int64)
    counts = np.diff(starts)
    root = (1 / np.sqrt(counts)).astype(np.float32)
    return Graph(name, starts, columns, np.repeat(root, counts) * root[columns], labels)


def _sparse() -> Any:
    try:
        from scipy import sparse
    except ImportError:
        raise FewbitsError("graphs need SciPy: pip install 'fewbits[machines]'") from None
    return sparse


def power_law(nodes: int, *, degree: float = 10.0, exponent: float = 2.5, seed: int = 0) -> Graph:
    """A random graph whose degrees follow a power law, of about ``degree`` edges a node.

    Both ends of each edge are drawn with weights i^(-1 / (exponent - 1)) (Chung and Lu, 2002);
    nodes are numbered at random.
    """
    if not 1 < nodes <= MOST_NODES:
        raise FewbitsError(f"{nodes} nodes: between 2 and {MOST_NODES}")
    if not 0 < degree < nodes or exponent <= 2:
        raise FewbitsError(f"degree {degree:g} and exponent {exponent:g}: above 0 and 2")
    if nodes * (degree + 1) > MOST_ENTRIES:
        raise FewbitsError(
            f"{nodes} nodes of {degree:g} edges are too many to make: at most "
            f"{MOST_ENTRIES:,} entries; plans need no graph"
        )
    rng = np.random.default_rng(seed)
    weights = np.cumsum(np.arange(1, nodes + 1) ** (-1 / (exponent - 1)))
    ends = np.searchsorted(weights, rng.random((2, round(nodes * degree / 2))) * weights[-1])
    source, target = rng.permutation(nodes)[ends]
    return from_edges(f"power law, {nodes} nodes", nodes, source, target)


def _networkx(function: str) -> Callable[[Any], Any]:
    return lambda networkx: getattr(networkx, function)()


#: Graphs that NetworkX ships, by the name they have here, and the attribute that is their class.
NAMED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "karate": (_networkx("karate_club_graph"), "club"),
    "les-miserables": (_networkx("les_miserables_graph"), ""),
    "florentine-families": (_networkx("florentine_families_graph"), ""),
    "southern-women": (_networkx("davis_southern_women_graph"), "bipartite"),
}


def named(name: str) -> Graph:
    """A small real graph; ``FewbitsError`` for one that is not here, or without NetworkX."""
    if name not in NAMED:
        hint = did_you_mean(name, NAMED)
        raise FewbitsError(f"no graph is called {name!r}{hint}; known: {', '.join(NAMED)}")
    try:
        import networkx
    except ImportError:
        raise FewbitsError("real graphs need NetworkX: pip install 'fewbits[machines]'") from None
    make, attribute = NAMED[name]
    made = make(networkx)
    number = {node: index for index, node in enumerate(made)}
    edges = np.array([(number[a], number[b]) for a, b in made.edges], np.int64).reshape(-1, 2)
    labels = None
    if attribute:
        classes = [made.nodes[node][attribute] for node in made]
        labels = np.unique(classes, return_inverse=True)[1].astype(np.int64)
    return from_edges(name, len(number), edges[:, 0], edges[:, 1], labels)


def read(path: Path) -> Graph:
    """A graph from a text file: on each line two node numbers from 0 on; ``#`` begins a comment."""
    try:
        with path.open(encoding="utf-8") as lines, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            edges = np.loadtxt(lines, np.int64, comments="#", usecols=(0, 1), ndmin=2)
    except (ValueError, IndexError) as error:
        raise FewbitsError(f"{path}: not a list of edges: {error}") from None
    if not len(edges):
        raise FewbitsError(f"{path}: no edges")
    nodes = int(edges.max()) + 1
    if nodes > MOST_NODES:
        raise FewbitsError(f"{path}: {nodes} nodes: at most {MOST_NODES}")
    return from_edges(path.stem, nodes, edges[:, 0], edges[:, 1])
