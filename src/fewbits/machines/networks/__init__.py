"""Networks that come with the package, as shapes: no weights, no PyTorch.

``benchmarks/network_shapes.py`` writes the files beside this one, from model definitions on
PyTorch's meta device and, where no library has the network, from the papers.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.transformers import Mode, Transformer, of_config, read_config
from fewbits.machines.workload import (
    Convolution,
    Operation,
    Workload,
    convolution,
    embedding,
    linear,
    product,
)

_SUFFIX = ".json"
# What is written of an operation that nothing shorter describes.
_ALL = ("weights", "inputs", "outputs", "groups", "m", "n", "k")


@dataclass(frozen=True)
class About:
    """Where the shapes of a network are from.

    ``made_by``: the library's definition, or the paper it was written from. ``paper_row``: its row
    in APack's Table II as (data set, element type, quantizer), where it has one.
    """

    name: str
    title: str
    made_by: str
    note: str = ""
    paper_row: tuple[str, str, str] | None = None


@lru_cache(1)
def names() -> tuple[str, ...]:
    """What ``load`` knows, in alphabetical order."""
    files = resources.files(__package__).iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files if f.name.endswith(_SUFFIX)))


def of_paper() -> tuple[str, ...]:
    """The networks of APack's Table II."""
    return tuple(name for name in names() if about(name).paper_row)


def about(name: str) -> About:
    """Where a network's shapes are from; ``FewbitsError`` for one that is not here."""
    found = _read(name)
    row = found.get("paper_row")
    return About(
        name, found["title"], found["made_by"], found.get("note", ""), tuple(row) if row else None
    )


def load(
    name: str,
    *,
    batch: int = 1,
    mode: Mode = "prefill",
    tokens: int | None = None,
    context: int | None = None,
) -> Workload:
    """A network for a batch of samples; ``FewbitsError`` for one that is not here.

    ``-`` and ``_`` in names are the same. ``mode`` ``training`` adds the backward pass. ``tokens``,
    ``context`` and ``mode`` ``decode`` are for transformers, see ``transformers.of_config``.
    """
    found = _read(name)
    if batch < 1:
        raise FewbitsError(f"a batch of {batch}")
    if "config" in found:
        tokens = found["tokens"] if tokens is None else tokens
        return of_config(
            found["config"], mode=mode, tokens=tokens, context=context, batch=batch, name=_key(name)
        )
    if mode == "decode" or tokens is not None or context is not None:
        raise FewbitsError(f"{name} is no transformer: it has no tokens")
    workload = Workload(_key(name), from_rows(found["operations"]), found.get("note", ""))
    workload = workload.with_batch(batch) if batch != 1 else workload
    return workload.training() if mode == "training" else workload


def config(name: str) -> Transformer:
    """The fields of a transformer that is here."""
    found = _read(name)
    if "config" not in found:
        raise FewbitsError(f"{name} is no transformer: it has no config")
    return read_config(found["config"])


def _key(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _read(name: str) -> dict[str, Any]:
    return _read_file(_key(name))


@lru_cache(64)
def _read_file(name: str) -> dict[str, Any]:
    if name not in names():
        hint = did_you_mean(name, names())
        raise FewbitsError(f"no network is called {name!r}{hint}; known: {', '.join(names())}")
    text = (resources.files(__package__) / f"{name}{_SUFFIX}").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def from_rows(rows: Iterable[dict[str, Any]]) -> tuple[Operation, ...]:
    """The operations that ``to_row`` wrote."""
    return tuple(map(_operation, rows))


def to_row(operation: Operation) -> dict[str, Any]:
    """An operation as the files hold it: what its tensors cannot be worked out without."""
    row: dict[str, Any] = {"name": operation.name, "kind": operation.kind}
    if operation.window is not None:
        window = operation.window
        row |= {
            "channels": window.channels,
            "filters": window.filters,
            "size": window.size,
            "out": window.out,
            "kernel": window.kernel,
            "stride": window.stride,
            "dilation": window.dilation,
            "groups": window.groups,
        }
        for name, plain in (("stride", (1, 1)), ("dilation", (1, 1)), ("groups", 1)):
            if row[name] == plain:
                del row[name]
    elif operation.kind == "linear":
        row |= {"rows": operation.m, "in": operation.k, "out": operation.n}
    elif operation.kind == "product":
        row |= {key: getattr(operation, key) for key in ("groups", "m", "n", "k")}
    elif operation.kind == "embedding":
        row |= {"looked_up": operation.m, "rows": operation.stored_rows, "width": operation.n}
    else:
        row |= {key: getattr(operation, key) for key in _ALL}
    if operation.saved is not None:
        row["saved"] = operation.saved
    if not operation.needs_input_gradient:
        row["first"] = True
    for name in ("weight_bits", "activation_bits"):
        if getattr(operation, name) != 8:
            row[name] = getattr(operation, name)
    return row


def _operation(row: dict[str, Any]) -> Operation:
    kind, name = row["kind"], row["name"]
    if kind == "convolution":
        keys = ("size", "out", "kernel", "stride", "dilation")
        pairs = {key: tuple(row[key]) for key in keys if key in row}
        window = Convolution(row["channels"], row["filters"], groups=row.get("groups", 1), **pairs)
        made = convolution(name, window)
    elif kind == "linear":
        made = linear(name, row["rows"], row["in"], row["out"])
    elif kind == "product":
        made = product(name, row["groups"], row["m"], row["n"], row["k"])
    elif kind == "embedding":
        made = embedding(name, row["looked_up"], row["rows"], row["width"])
    else:
        made = Operation(name, kind, **{key: row[key] for key in _ALL})
    return replace(
        made,
        saved=row.get("saved"),
        needs_input_gradient=not row.get("first", False),
        weight_bits=row.get("weight_bits", 8),
        activation_bits=row.get("activation_bits", 8),
    )
