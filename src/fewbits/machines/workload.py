"""What a network asks of a machine: its operations, with their products and their tensors.

>>> net = Workload(
...     "two layers", (linear("up", 1, 4, 16, trained_before=False), linear("down", 1, 16, 4))
... )
>>> net.macs, net.weight_bytes, net.input_bytes
(128, 128, 20)
>>> net.with_batch(8).macs, net.with_batch(8).weight_bytes
(1024, 128)
>>> [operation.name for operation in net.training().operations]
['up', 'down', 'down.d_input', 'down.d_weight', 'up.d_weight']
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Phase = Literal["forward", "backward"]


@dataclass(frozen=True)
class Convolution:
    """The window of a convolution; sizes as (height, width)."""

    channels: int
    filters: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Operation:
    """``groups`` products of (m, k) by (k, n), or a pass over tensors where ``m`` is 0.

    ``kind``: ``convolution``, ``transposed`` (a convolution's transpose), ``linear``, ``product``
    (both operands are computed, as in attention), ``embedding``, or another name for what does no
    products. ``weights``, ``inputs``,
    ``outputs``: elements of the tensors that it reads and writes, each once. For an embedding
    ``weights`` are the rows that are looked up, ``stored`` all there are. ``saved``: elements that
    training keeps until the backward pass because of this operation and of what is fused with it.
    ``needs_input_gradient``: whether anything before it is trained. ``batch``: how many samples the
    numbers are for.
    """

    name: str
    kind: str
    weights: int
    inputs: int
    outputs: int
    groups: int = 1
    m: int = 0
    n: int = 0
    k: int = 0
    stored: int | None = None
    saved: int | None = None
    needs_input_gradient: bool = True
    phase: Phase = "forward"
    batch: int = 1
    weight_bits: int = 8
    activation_bits: int = 8
    window: Convolution | None = None

    def __post_init__(self) -> None:
        for name in ("weights", "inputs", "outputs", "groups", "m", "n", "k"):
            if getattr(self, name) < 0:
                raise ValueError(f"{self.name}: {name} {getattr(self, name)} is negative")

    @property
    def static(self) -> bool:
        """Whether one operand is known before the network runs."""
        return self.weights > 0

    @property
    def macs(self) -> int:
        """Multiplications with an addition each."""
        return self.groups * self.m * self.n * self.k

    @property
    def stored_rows(self) -> int:
        """Rows of an embedding's table."""
        return (self.stored or 0) // max(self.n, 1)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that are read."""
        return -(-self.weights * self.weight_bits // 8)

    @property
    def stored_bytes(self) -> int:
        """Bytes of weights that are kept; more than are read where rows are looked up."""
        count = self.weights if self.stored is None else self.stored
        return -(-count * self.weight_bits // 8)

    @property
    def input_bytes(self) -> int:
        """Bytes of activations that are read."""
        return -(-self.inputs * self.activation_bits // 8)

    @property
    def output_bytes(self) -> int:
        """Bytes of activations that are written."""
        return -(-self.outputs * self.activation_bits // 8)

    @property
    def saved_bytes(self) -> int:
        """Bytes kept for the backward pass: ``saved``, or the inputs where that is not known."""
        count = self.inputs if self.saved is None else self.saved
        return -(-count * self.activation_bits // 8)

    def with_batch(self, batch: int) -> Self:
        """The same for another number of samples."""
        if batch < 1:
            raise ValueError(f"a batch of {batch}")

        def scaled(count: int) -> int:
            return count * batch // self.batch

        return replace(
            self,
            inputs=scaled(self.inputs),
            outputs=scaled(self.outputs),
            weights=scaled(self.weights) if self.kind == "embedding" else self.weights,
            saved=None if self.saved is None else scaled(self.saved),
            batch=batch,
            groups=scaled(self.groups) if self.kind == "product" else self.groups,
            m=self.m if self.kind == "product" else scaled(self.m),
        )

    def backward(self) -> tuple["Operation", ...]:
        """The products of its backward pass: as many MACs again for each operand's gradient."""
        if not self.macs:
            return ()
        found = []
        common: dict[str, Any] = {"saved": 0, "phase": "backward", "window": None}
        if self.static:
            if self.needs_input_gradient:
                found.append(
                    replace(self, name=f"{self.name}.d_input", inputs=self.outputs,
                            outputs=self.inputs, n=self.k, k=self.n, **common)
                )  # fmt: skip
            found.append(
                replace(self, name=f"{self.name}.d_weight", inputs=self.inputs + self.outputs,
                        outputs=self.weights, weights=0, stored=0, m=self.k, k=self.m, **common)
            )  # fmt: skip
            return tuple(found)
        left, right = self.groups * self.m * self.k, self.groups * self.k * self.n
        return (
            replace(self, name=f"{self.name}.d_left", inputs=self.outputs + right, outputs=left,
                    n=self.k, k=self.n, **common),
            replace(self, name=f"{self.name}.d_right", inputs=self.outputs + left, outputs=right,
                    m=self.k, k=self.m, **common),
        )  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """A network's operations in the order they run."""

    name: str
    operations: tuple[Operation, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.operations:
            raise ValueError(f"{self.name}: a workload of no operations")

    def __len__(self) -> int:
        return len(self.operations)

    def column(self, value: str | Callable[[Operation], float]) -> NDArray[np.float64]:
        """One number for each operation: ``net.column("macs")``, or a function of the operation."""
        read = attrgetter(value) if isinstance(value, str) else value
        return np.array([read(operation) for operation in self.operations], np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """The operations' names."""
        return tuple(operation.name for operation in self.operations)

    @property
    def macs(self) -> int:
        """Of all operations, as for the following."""
        return sum(operation.macs for operation in self.operations)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that are read."""
        return sum(operation.weight_bytes for operation in self.operations)

    @property
    def stored_bytes(self) -> int:
        """Bytes of weights that are kept."""
        return sum(operation.stored_bytes for operation in self.operations)

    @property
    def input_bytes(self) -> int:
        """Bytes of activations that are read."""
        return sum(operation.input_bytes for operation in self.operations)

    @property
    def output_bytes(self) -> int:
        """Bytes of activations that are written."""
        return sum(operation.output_bytes for operation in self.operations)

    @property
    def saved_bytes(self) -> int:
        """Bytes that training keeps until the backward pass."""
        return sum(operation.saved_bytes for operation in self.operations)

    def products(self) -> Self:
        """Only the operations that multiply or look up; the others are fused into them."""
        return self._map(op for op in self.operations if op.macs or op.weights)

    def with_batch(self, batch: int) -> Self:
        """The same for another number of samples."""
        return self._map(op.with_batch(batch) for op in self.operations)

    def with_bits(self, weights: int, activations: int) -> Self:
        """The same in other element types."""
        return self._map(
            replace(op, weight_bits=weights, activation_bits=activations) for op in self.operations
        )

    def training(self) -> Self:
        """The forward pass, then the backward pass from the last operation to the first."""
        backward = (step for op in reversed(self.operations) for step in op.backward())
        return self._map([*self.operations, *backward])

    def _map(self, operations: Iterable[Operation]) -> Self:
        return replace(self, operations=tuple(operations))


def linear(
    name: str, rows: int, inputs: int, outputs: int, *, trained_before: bool = True
) -> Operation:
    """``rows`` vectors of ``inputs`` elements times a matrix to ``outputs`` elements."""
    return Operation(
        name, "linear", inputs * outputs, rows * inputs, rows * outputs, 1, rows, outputs, inputs,
        needs_input_gradient=trained_before,
    )  # fmt: skip


def product(name: str, groups: int, m: int, n: int, k: int) -> Operation:
    """``groups`` products of two computed tensors, (m, k) by (k, n)."""
    return Operation(name, "product", 0, groups * (m * k + k * n), groups * m * n, groups, m, n, k)


def embedding(name: str, looked_up: int, rows: int, width: int) -> Operation:
    """``looked_up`` of the ``rows`` rows of a table."""
    count = looked_up * width
    return Operation(name, "embedding", count, 0, count, m=looked_up, n=width, stored=rows * width)


def convolution(name: str, window: Convolution, *, trained_before: bool = True) -> Operation:
    """A convolution of one sample; filters are dealt to the groups evenly."""
    if window.channels % window.groups or window.filters % window.groups:
        raise ValueError(
            f"{name}: {window.channels} channels and {window.filters} filters "
            f"do not divide into {window.groups} groups"
        )
    m, n = window.out[0] * window.out[1], window.filters // window.groups
    k = window.channels // window.groups * window.kernel[0] * window.kernel[1]
    inputs = window.channels * window.size[0] * window.size[1]
    return Operation(
        name, "convolution", window.groups * n * k, inputs, m * window.filters, window.groups,
        m, n, k, needs_input_gradient=trained_before, window=window,
    )  # fmt: skip
