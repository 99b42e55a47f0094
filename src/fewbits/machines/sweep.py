"""Running a machine over many settings: axes, the table they give, and files for it.

>>> from fewbits.machines.constants import Constant
>>> axis("engines=16..64*2")
('engines', array([16., 32., 64.]))
>>> table = sweep(
...     lambda constants: {"": _square(constants)},
...     Constants(Constant("side_m", 1, "m", "doctest", "assumed")),
...     {"side_m": np.array([1.0, 2.0, 3.0])},
... )
>>> table["energy_j"]
array([1., 4., 9.])
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constants
from fewbits.machines.result import Result, compare

#: Results by variant (``plain``, ``apack``, ...); the first is what the others are compared with.
Run = Callable[[Constants], Mapping[str, Result]]
Table = dict[str, NDArray[Any]]

MOST_CONFIGURATIONS = 1_000_000
_RANGE = re.compile(
    r"(?P<low>[^.]*(?:\.\d+)?)\.\.(?P<high>[^/*]+)(?:/(?P<count>\d+)|\*(?P<factor>.+))?"
)
_STEPS = 50


def axis(text: str) -> tuple[str, NDArray[np.float64]]:
    """One axis: ``name=1,2,5``, ``name=16..256`` (whole numbers one by one, others in 50 steps),
    ``name=1..2/11`` (11 values), or ``name=16..256*2`` (each twice the one before).

    ``FewbitsError`` for anything else.
    """  # fmt: skip
    name, _, values = text.partition("=")
    wrong = FewbitsError(
        f"{text!r} is no sweep such as engines=16..256, engines=16..256*2, engines=16,64 "
        "or weight_ratio=0.4..1/7"
    )
    if not name.strip() or not values.strip():
        raise wrong
    try:
        if ".." not in values:
            return name.strip(), np.array([float(value) for value in values.split(",")])
        match = _RANGE.fullmatch(values.strip())
        if match is None:
            raise wrong
        low, high = float(match["low"]), float(match["high"])
        if not low < high:
            raise FewbitsError(f"{text!r}: the first value must be below the last")
        if match["factor"]:
            return name.strip(), _geometric(low, high, float(match["factor"]), text)
        if match["count"]:
            return name.strip(), np.linspace(low, high, max(int(match["count"]), 2))
    except ValueError:
        raise wrong from None
    if low.is_integer() and high.is_integer() and high - low >= 2:
        if high - low > MOST_CONFIGURATIONS:
            raise FewbitsError(f"{text!r} has more than {MOST_CONFIGURATIONS} values")
        return name.strip(), np.arange(low, high + 1)
    return name.strip(), np.linspace(low, high, _STEPS + 1)


def _geometric(low: float, high: float, factor: float, text: str) -> NDArray[np.float64]:
    if not (factor > 1 and low > 0):
        raise FewbitsError(f"{text!r}: multiply by more than 1, from above 0")
    count = int(np.floor(np.log(high / low) / np.log(factor) + 1e-9)) + 1
    return np.asarray(low * factor ** np.arange(count), np.float64)


def grid(axes: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Every combination of the axes' values, the last axis fastest; each of shape (count,)."""
    count = int(np.prod([values.size for values in axes.values()]))
    if count > MOST_CONFIGURATIONS:
        raise FewbitsError(f"{count} configurations are more than {MOST_CONFIGURATIONS}")
    made = np.meshgrid(*axes.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, made, strict=True)}


def sweep(
    run: Run,
    constants: Constants,
    axes: Mapping[str, NDArray[np.float64]],
    *,
    vectorised: bool = True,
    advance: Callable[[int], None] = lambda count: None,
    chunk: int = 4096,
) -> Table:
    """Run every combination of the axes' values; one row for each configuration and variant.

    A machine whose arithmetic broadcasts is run once for many configurations, another
    (``vectorised=False``) once for each. ``advance`` is told how many configurations are done.
    """
    points = grid(axes)
    count = next(iter(points.values())).size
    step = chunk if vectorised else 1
    parts = []
    for start in range(0, count, step):
        part = {name: values[start : start + step] for name, values in points.items()}
        given: dict[str, Any] = (
            {name: values[:, None] for name, values in part.items()}
            if vectorised
            else {name: float(values[0]) for name, values in part.items()}
        )
        parts.append(_rows(run(constants.with_values(given)), part))
        advance(min(step, count - start))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(results: Mapping[str, Result], points: Mapping[str, NDArray[np.float64]]) -> Table:
    count = next(iter(points.values())).size
    relative = compare(results) if len(results) > 1 else {}
    tables = []
    for variant, result in results.items():
        row: dict[str, Any] = dict(points)
        if relative:
            row["variant"] = variant
        row |= result.totals() | relative.get(variant, {})
        tables.append({name: np.broadcast_to(value, count) for name, value in row.items()})
    columns = list(dict.fromkeys(name for table in tables for name in table))
    missing = np.full(count, np.nan)
    # Row by row, the variants of a configuration stand together.
    return {
        name: np.stack([table.get(name, missing) for table in tables], axis=1).ravel()
        for name in columns
    }


def write(table: Table, path: Path) -> None:
    """Write a table to ``.csv`` or ``.parquet`` (the latter needs pyarrow)."""
    if path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
    elif path.suffix == ".parquet":
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise FewbitsError("Parquet needs pyarrow: pip install 'fewbits[machines]'") from None
        pq.write_table(pa.table({name: column.tolist() for name, column in table.items()}), path)
    else:
        raise FewbitsError(f"{path}: a table must end in .csv or .parquet")


def _square(constants: Constants) -> Result:
    """For the example above."""
    side = np.atleast_1d(constants["side_m"])
    return Result("square", "one", ("all",), side, {"area": side**2}, {}, {"side": side})
