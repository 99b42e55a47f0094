"""The range table in registers: how software's table is laid out, and how it gets there.

A row has three fields. ``base`` is the value before the row's start, so that a value is in the last
row whose base is below it; the offset is ``value + ~base``, which needs no carry. ``length`` is the
offset length. ``count`` is the cumulative count at the row's end, of which 2**count_bits does not
fit and is written as 0. Row 0 needs no comparison, and its base is all ones where it starts at 0.

Rows of count zero are left out. Registers that a table does not need repeat the last row's count,
which no code reaches, and have a base of all ones, which no value exceeds.
"""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from fewbits.lossless.table import RangeTable
from fewbits.silicon.settings import Settings


@dataclass(frozen=True)
class Row:
    """One row as the registers hold it."""

    base: int
    length: int
    count: int


def image(table: RangeTable, settings: Settings) -> tuple[Row, ...]:
    """The registers for ``table``, row 0 first; ``ValueError`` if these units cannot hold it."""
    used = [row for row, count in enumerate(table.counts) if count]
    longest = max(table.offset_lengths[row] for row in used)
    for name, has, takes in (
        ("width", table.width, settings.width),
        ("count_bits", table.count_bits, settings.count_bits),
    ):
        if has != takes:
            raise ValueError(f"silicon: the table's {name} is {has}, the unit's {takes}")
    if len(used) > settings.rows:
        raise ValueError(f"silicon: the table has {len(used)} rows, the unit {settings.rows}")
    if longest >= 1 << settings.offset_length_bits:
        raise ValueError(
            f"silicon: a row has offsets of {longest} bits, which its register cannot hold"
        )
    values, counts = 1 << settings.width, 1 << settings.count_bits
    rows = [
        Row(
            (table.starts[row] - 1) % values,
            table.offset_lengths[row],
            table.cumulative[row + 1] % counts,
        )
        for row in used
    ]
    spare = Row(values - 1, 0, rows[-1].count)
    return (*rows, *[spare] * (settings.rows - len(rows)))


def row_layout(settings: Settings) -> data.StructLayout:
    """One row as bits."""
    return data.StructLayout(
        {
            "base": settings.width,
            "length": settings.offset_length_bits,
            "count": settings.count_bits,
        }
    )


def table_ports(settings: Settings) -> dict[str, Any]:
    """The ports by which a table is loaded.

    ===========  =============  =========================================================
    ``load``     in, 1          take ``row`` as the last row; the others move up by one,
                                so as many cycles load a table as it has rows
    ``row``      in, struct     base, length and count of that row
    ===========  =============  =========================================================
    """
    return {"load": In(1), "row": In(row_layout(settings))}


class Table:
    """The registers within a unit that has ``table_ports``."""

    def __init__(self, m: Module, settings: Settings, ports: wiring.Component) -> None:
        layout = row_layout(settings)
        self.rows = [Signal(layout, name=f"row{i}", reset_less=True) for i in range(settings.rows)]
        with m.If(ports.load):
            for row, following in zip(self.rows, [*self.rows[1:], ports.row], strict=True):
                m.d.sync += row.eq(following)

    @property
    def bases(self) -> list[Any]:
        """The base of each row."""
        return [row.base for row in self.rows]

    @property
    def lengths(self) -> list[Any]:
        """The offset length of each row."""
        return [row.length for row in self.rows]

    @property
    def counts(self) -> list[Any]:
        """The cumulative count at the end of each row, 0 for all."""
        return [row.count for row in self.rows]
