"""How the decoder finds the row that its code falls in: three circuits, one answer.

Wanted is the row with ``s[i - 1] <= ahead < s[i]``, where ``ahead`` is CODE - LO and ``s[i]`` the
count at row i's end, scaled: ``(span * count[i]) >> count_bits``.

* ``parallel``: all boundaries are scaled and compared at once, a multiplier each. Section V reads
  like that.
* ``binary``: log2(rows) steps, one multiplier each; a comparison says which half goes on.
* ``divider``: since ``count <= d`` exactly if ``(span * count) >> m <= ahead`` for ``d = (((ahead +
  1) << m) - 1) // span``, a division finds the code's count, which small comparators look up. (Both
  say ``span * count < (ahead + 1) << m``.) The dividend below ``ahead`` is all ones, and ``ahead <
  span``, so m steps of doubling, plus one, and subtracting do it.

The last boundary needs no multiplier: its count is 2**m, or one less in a table as the paper has
it, and then ``(span * (2**m - 1)) >> m`` is ``span - 1 - ((span - 1) >> m)``.
"""

from amaranth.hdl import Cat, Module, Mux, Value

from fewbits.silicon.bits import last_of, named, only, select
from fewbits.silicon.pipeline import Live, Segment
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import Table
from fewbits.silicon.window import Window


def segments(settings: Settings, table: Table, window: Window) -> list[Segment]:
    """From ``span``, ``ahead`` and ``valid`` to ``s_lo``, ``s_hi``, ``base`` and ``length``."""
    finder = {"parallel": _parallel, "binary": _binary, "divider": _divider}[settings.lookup]
    return finder(settings, table, window)


def _top(m: Module, x: Live, settings: Settings, table: Table) -> Value:
    unused = table.counts[-1][0]
    less = 1 + ((x["span"] - 1) >> settings.count_bits)
    return named(m, "s_top", (x["span"] - Mux(unused, less, 0))[: settings.window_bits + 1])


def _rows_from(m: Module, x: Live, above: list[Value], table: Table) -> list[Value]:
    """Rows as one-hot bits from which boundaries the code is above; what the row's fields are."""
    reached = [x["valid"], *above]
    hot = last_of(m, "hot", reached)
    x["base"] = named(m, "base", select(hot, table.bases))
    x["length"] = named(m, "length", select(hot, table.lengths))
    return hot


def _parallel(settings: Settings, table: Table, window: Window) -> list[Segment]:
    def scale(m: Module, x: Live) -> None:
        for row, count in enumerate(table.counts[:-1]):
            x[f"s{row}"] = named(m, f"s{row}", window.scaled(x["span"], window.whole(count)))
        x["s_top"] = _top(m, x, settings, table)

    def compare(m: Module, x: Live) -> None:
        scaled = [x.pop(f"s{row}") for row in range(settings.rows - 1)]
        above = [named(m, "above", x["valid"] & (x["ahead"] >= bound)) for bound in scaled]
        hot = _rows_from(m, x, above, table)
        x["s_lo"] = named(m, "s_lo", select(hot[1:], scaled))
        # Without a row, nothing must change: the window's whole range.
        x["s_hi"] = named(
            m,
            "s_hi",
            select(hot, [*scaled, x["s_top"]]) | only(~x["valid"], x["span"]),
        )

    return [Segment("scale", scale, 5.0), Segment("compare", compare, 3.0)]


def _binary(settings: Settings, table: Table, window: Window) -> list[Segment]:
    levels = (settings.rows - 1).bit_length()

    def begin(m: Module, x: Live) -> None:
        x["s_lo"] = Value.cast(0)
        x["s_hi"] = Mux(x["valid"], _top(m, x, settings, table), x["span"])
        x["row"] = Value.cast(0)[:0]

    def halve(level: int) -> Segment:
        def work(m: Module, x: Live) -> None:
            if level == 0:
                begin(m, x)
            step = settings.rows >> level
            middles = [table.counts[low + step // 2 - 1] for low in range(0, settings.rows, step)]
            count = named(m, "middle", _chosen(x["row"], middles))
            bound = named(m, "bound", window.scaled(x["span"], window.whole(count)))
            above = named(m, "above", x["valid"] & (x["ahead"] >= bound))
            size = settings.window_bits + 1
            x["s_lo"] = named(m, "s_lo", Mux(above, bound, x["s_lo"])[:size])
            x["s_hi"] = named(m, "s_hi", Mux(above | ~x["valid"], x["s_hi"], bound)[:size])
            x["row"] = named(m, "row", Cat(above, x["row"]))

        return Segment(f"halve{level}", work, 6.0)

    def fields(m: Module, x: Live) -> None:
        row = x.pop("row")
        x["base"] = named(m, "base", _chosen(row, table.bases))
        x["length"] = named(m, "length", only(x["valid"], _chosen(row, table.lengths)))

    return [*(halve(level) for level in range(levels)), Segment("fields", fields, 0.5)]


def _chosen(index: Value, items: list[Value]) -> Value:
    """The item of this number; as many items as the index has values."""
    while len(items) > 1:
        items = [
            Mux(index[0], odd, even) for even, odd in zip(items[::2], items[1::2], strict=True)
        ]
        index = index[1:]
    return items[0]


def _divider(settings: Settings, table: Table, window: Window) -> list[Segment]:
    def divide(step: int) -> Segment:
        def work(m: Module, x: Live) -> None:
            rest = x["ahead"] if step == 0 else x["rest"]
            digits = x["digits"] if step else Value.cast(0)[:0]
            doubled = Cat(1, rest)
            less = named(m, "less", doubled - x["span"])
            fits = named(m, "fits", ~less[-1])
            x["digits"] = named(m, "digits", Cat(fits, digits))
            x["rest"] = named(m, "rest", Mux(fits, less, doubled)[: settings.window_bits])

        return Segment(f"divide{step}", work, 2.0)

    def compare(m: Module, x: Live) -> None:
        digits = x.pop("digits")
        x.pop("rest")
        above = [
            named(m, "above", x["valid"] & (count != 0) & (digits >= count))
            for count in table.counts[:-1]
        ]
        hot = _rows_from(m, x, above, table)
        x["c_lo"] = named(m, "c_lo", select(hot[1:], table.counts[:-1]))
        x["c_hi"] = named(m, "c_hi", select(hot, table.counts))

    def scale(m: Module, x: Live) -> None:
        x["s_lo"] = named(m, "s_lo", window.scaled(x["span"], x.pop("c_lo")))
        x["s_hi"] = named(m, "s_hi", window.scaled(x["span"], window.whole(x.pop("c_hi"))))

    division = [divide(step) for step in range(settings.count_bits)]
    return [*division, Segment("compare", compare, 2.0), Segment("scale", scale, 5.0)]
