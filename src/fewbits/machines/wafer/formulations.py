"""Five ways to write a graph convolution in PyTorch; all train, and all give the same numbers.

A layer computes A (X W) + b, where A is the graph's matrix and only W and b are trained. The ways
differ in what A is to the framework, and so in memory, in speed, and in what compilers can take.

>>> from fewbits.machines.wafer.graphs import named
>>> layer = GraphConvolution(8, 4, FORMULATIONS["csr"](named("karate")))
>>> layer(torch.ones(34, 8)).shape
torch.Size([34, 4])
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fewbits.machines.wafer.graphs import Graph

TILE = 32


class DenseMatmul(nn.Module):
    """A whole, as one of two computed operands: to a compiler it is an activation like X."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(graph.dense()), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """A y, for y of [nodes, features]."""
        return torch.matmul(self.matrix, y)


class DenseLinear(nn.Module):
    """A whole, as the frozen weights of a linear layer on y transposed: it is loaded once."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        # On meta, as nobody wants its nodes x nodes random numbers.
        self.linear = nn.Linear(graph.nodes, graph.nodes, bias=False, device="meta")
        self.linear.weight = nn.Parameter(torch.from_numpy(graph.dense()), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        """A y: (y' A')'."""
        return self.linear(y.t()).t()


class _Symmetric(torch.autograd.Function):
    """A y with A in rows. A is symmetric, so it is its own transpose in the backward pass."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, y: Tensor) -> Tensor:
        context.matrix = matrix
        return torch.sparse.mm(matrix, y)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, torch.sparse.mm(context.matrix, grad.contiguous())


class Csr(nn.Module):
    """The entries that are not zero, row by row (CSR)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        # Half the bytes of int64, where there are not too many entries.
        index = torch.int32 if graph.entries < 2**31 else torch.int64
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            self.matrix = torch.sparse_csr_tensor(
                torch.from_numpy(graph.starts).to(index),
                torch.from_numpy(graph.columns).to(index),
                torch.from_numpy(graph.values),
                size=(graph.nodes, graph.nodes),
                check_invariants=True,
            )

    def _apply(self, fn: Any, recurse: bool = True) -> "Csr":
        super()._apply(fn, recurse)
        self.matrix = fn(self.matrix)
        return self

    def forward(self, y: Tensor) -> Tensor:
        """A y."""
        return _Symmetric.apply(self.matrix, y)


class Blocked(nn.Module):
    """Square tiles that are not all zero, each dense: batched products, which any compiler has."""

    def __init__(self, graph: Graph, tile: int = TILE) -> None:
        super().__init__()
        rows, columns, tiles = graph.tiled(tile)
        self.tile, self.nodes = tile, graph.nodes
        for name, values in (("rows", rows), ("columns", columns), ("tiles", tiles)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """A y, with zero rows up to a whole number of tiles."""
        across = -(-self.nodes // self.tile)
        padded = nn.functional.pad(y, (0, 0, 0, across * self.tile - self.nodes))
        strips = padded.reshape(across, self.tile, -1)
        products = torch.bmm(self.tiles, strips[self.columns])
        summed = torch.zeros_like(strips).index_add(0, self.rows, products)
        return summed.reshape(padded.shape)[: self.nodes]


class Gather(nn.Module):
    """Entry by entry: fetch the neighbour's row, scale it, add it where it belongs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        for name, values in (
            ("rows", graph.rows),
            ("columns", graph.columns),
            ("values", graph.values),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """A y."""
        messages = y[self.columns] * self.values[:, None]
        return torch.zeros_like(y).index_add(0, self.rows, messages)


FORMULATIONS: dict[str, type[nn.Module]] = {
    "dense-matmul": DenseMatmul,
    "dense-linear": DenseLinear,
    "csr": Csr,
    "blocked": Blocked,
    "gather": Gather,
}


class GraphConvolution(nn.Module):
    """One layer: A (X W) + b. ``aggregate`` is one of the formulations, shared by all layers."""

    def __init__(self, inputs: int, outputs: int, aggregate: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.aggregate = aggregate

    def forward(self, x: Tensor) -> Tensor:
        """[nodes, inputs] to [nodes, outputs]."""
        return self.aggregate(x @ self.weight) + self.bias


class GraphNetwork(nn.Module):
    """Two layers with a ReLU between: Kipf and Welling's network for classes of nodes."""

    def __init__(self, inputs: int, hidden: int, classes: int, aggregate: nn.Module) -> None:
        super().__init__()
        self.first = GraphConvolution(inputs, hidden, aggregate)
        self.second = GraphConvolution(hidden, classes, aggregate)

    def forward(self, x: Tensor) -> Tensor:
        """[nodes, inputs] to [nodes, classes]."""
        return self.second(torch.relu(self.first(x)))
