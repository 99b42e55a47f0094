"""A graph network: scikit-learn's handwritten digits, each joined to its eight nearest."""

import functools
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training_bench.task import Batch, Blocks, Size, Task, accuracy

NEIGHBOURS, LABELLED = 8, 3


@functools.cache
def graph() -> tuple[torch.Tensor, ...]:
    """1797 images of 8 x 8 pixels, their digits, the edges (from, to), and which have a label."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    digits = load_digits()
    pixels = digits.data / 16
    joined = kneighbors_graph(pixels, NEIGHBOURS)
    edges = torch.tensor(np.stack(joined.maximum(joined.T).nonzero()))
    labels = torch.tensor(digits.target)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    chosen = [shuffled[labels[shuffled] == digit][:LABELLED] for digit in range(10)]
    return torch.tensor(pixels, dtype=torch.float32), labels, edges, torch.cat(chosen)


class Sage(nn.Module):
    """A node's own features and the mean of its neighbours', each times a matrix.

    W. Hamilton, R. Ying and J. Leskovec, Inductive Representation Learning on Large Graphs, 2017.
    """

    def __init__(self, before: int, after: int, edges: torch.Tensor) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(before, after), nn.Linear(before, after, bias=False)
        self.norm = nn.BatchNorm1d(after)
        self.register_buffer("edges", edges)
        self.register_buffer("degree", torch.bincount(edges[1])[:, None].float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x).index_add(0, self.edges[1], x[self.edges[0]])
        mixed = self.norm(self.own(x) + self.near(total / self.degree))
        return F.dropout(F.relu(mixed), 0.5, self.training)


class Network(nn.Module):
    """All nodes at once: graph layers, and a score for each digit."""

    def __init__(self, size: Size, recompute: bool) -> None:
        super().__init__()
        pixels, _, edges, _ = graph()
        self.register_buffer("pixels", pixels)
        widths = [pixels.shape[1]] + [size.width] * size.depth
        layers = [Sage(*pair, edges) for pair in pairwise(widths)]
        self.layers = Blocks(*layers, recompute=recompute)
        self.head = nn.Linear(size.width, 10)

    def forward(self, chosen: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.pixels))[chosen]


class Graph(Task):
    name, metric = "gnn", "accuracy"
    small = Size(batch=0, width=64, depth=3)
    large = Size(batch=0, width=384, depth=4)
    steps, rate = 100, 5e-3

    def model(self, size: Size, *, recompute: bool = False) -> nn.Module:
        return Network(size, recompute)

    def batch(self, size: Size, generator: torch.Generator) -> Batch:
        return (graph()[3],)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]), graph()[1][batch[0]])

    def score(self, model: nn.Module) -> float:
        _, labels, _, chosen = graph()
        rest = torch.ones(len(labels), dtype=torch.bool)
        rest[chosen] = False
        nodes = rest.nonzero().flatten()
        return accuracy(model(nodes), labels[nodes])
