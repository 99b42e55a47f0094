"""The operations of a text model, one object each, in a file for each family."""

from fewbits.unroll.operations import (
    attention,
    convolution,
    linear,
    loss,
    norm,
    pointwise,
    pooling,
    reshaping,
    resizing,
)
from fewbits.unroll.operations.base import Operation

FAMILIES: dict[str, tuple[Operation, ...]] = {
    "convolution": convolution.OPERATIONS,
    "linear": linear.OPERATIONS,
    "norm": norm.OPERATIONS,
    "pointwise": pointwise.OPERATIONS,
    "pooling": pooling.OPERATIONS,
    "resizing": resizing.OPERATIONS,
    "shape": reshaping.OPERATIONS,
    "attention": attention.OPERATIONS,
    "loss": loss.OPERATIONS,
}
OPERATIONS: dict[str, Operation] = {
    operation.name: operation for family in FAMILIES.values() for operation in family
}
