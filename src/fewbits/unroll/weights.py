"""Weights from elsewhere, by the names and shapes of a model's parameters."""

from collections.abc import Mapping
from typing import Any

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.unroll.graph import Graph
from fewbits.unroll.operations.base import show


def insist(weights: Mapping[str, Any], graph: Graph) -> None:
    """``FewbitsError`` unless these are tensors for all parameters of the model, and no others."""
    for name in weights:
        if name not in graph.parameters:
            hint = did_you_mean(name, graph.parameters)
            raise FewbitsError(f"the model has no parameter {name!r}{hint}")
    for name, parameter in graph.parameters.items():
        if name not in weights:
            raise FewbitsError(f"the weights have no {name!r}")
        if tuple(weights[name].shape) != parameter.shape:
            raise FewbitsError(
                f"{name!r} is {show(tuple(weights[name].shape))} in the weights, and "
                f"{show(parameter.shape)} in the model"
            )


def fits(weights: Mapping[str, Any], graph: Graph) -> bool:
    """Have the weights the shapes of the model's parameters?"""
    return all(tuple(weights[name].shape) == p.shape for name, p in graph.parameters.items())
