"""A rANS decoder of the same interface, to compare what the two coders cost.

Its streams are those of ``fewbits.lossless.ans`` (``docs/format.md``, "rANS"): a state of 32 bits a
lane, words of 16 bits that all lanes share in the order of the values. The lanes are this decoder's
turns: L lanes need L stages. A payload's loaded lanes, whose last states are values, are read from
``state``.

``codes`` says which of the 2**count_bits codes belong to a row. ``alias`` is how frames deal them:
a row and its donor share a bucket, and a position within the row is the place in the bucket plus
what the table says. ``ranges`` gives each row a run of codes, as the arithmetic coder does: no
frame has that, but it needs the same 336 bits of table, and comparators in place of buckets.
"""

from dataclasses import dataclass
from typing import Any, Literal

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from fewbits.lossless import ans
from fewbits.lossless.table import RangeTable
from fewbits.silicon.bits import last_of, named, only, select
from fewbits.silicon.encoder import take_turns
from fewbits.silicon.pipeline import Live, Segment, run
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import Row, image, row_layout

STATE_BITS, WORD_BITS = 32, 16
Codes = Literal["alias", "ranges"]


@dataclass(frozen=True)
class RansSettings:
    """Sizes of a rANS decoder, as in ``Settings``; ``stages`` are the lanes of a payload."""

    width: int = 8
    rows: int = 16
    count_bits: int = 10
    codes: Codes = "ranges"
    stages: int = 1

    def __post_init__(self) -> None:
        self.plain  # noqa: B018 - checks what both coders have
        if self.codes not in ("alias", "ranges"):
            raise ValueError("silicon: codes is one of alias, ranges")
        if self.count_bits > WORD_BITS:
            raise ValueError(f"silicon: rANS takes at most {WORD_BITS} count bits")
        if self.codes == "alias" and self.rows < 16:
            raise ValueError("silicon: codes are dealt to at least 16 buckets: rows=16")

    @property
    def plain(self) -> Settings:
        """The sizes of the arithmetic coder's table."""
        return Settings(
            width=self.width, rows=self.rows, count_bits=self.count_bits, stages=self.stages
        )

    @property
    def bucket_bits(self) -> int:
        """Bits of a place within a bucket."""
        return self.count_bits - (self.rows - 1).bit_length()

    @property
    def layout(self) -> data.StructLayout:
        """One row of the table, and with ``alias`` the bucket of the same number."""
        row = dict(row_layout(self.plain).members)
        if self.codes == "ranges":
            return data.StructLayout(row)
        m = self.count_bits
        return data.StructLayout(
            {
                **row,
                "threshold": self.bucket_bits + 1,
                "donor": (self.rows - 1).bit_length(),
                "own": m,
                "donated": m,
            }
        )

    @property
    def table_bits(self) -> int:
        """Bits of the table's registers."""
        return self.rows * int(self.layout.size)


def rans_image(table: RangeTable, settings: RansSettings) -> list[dict[str, int]]:
    """The registers for ``table``; with ``alias``, ``count`` is a row's own, not cumulative."""
    rows: list[Row] = list(image(table, settings.plain))
    if settings.codes == "ranges":  # the code that the paper's tables leave is the last row's
        last = sum(count > 0 for count in table.counts) - 1
        ends = [row.count if place < last else 0 for place, row in enumerate(rows)]
        return [
            {"base": r.base, "length": r.length, "count": c}
            for r, c in zip(rows, ends, strict=True)
        ]
    if max(16, 1 << (table.rows - 1).bit_length()) != settings.rows:
        raise ValueError(
            f"silicon: the table's codes are dealt to other than {settings.rows} buckets"
        )
    counts = list(table.counts)
    last = max(row for row, count in enumerate(counts) if count)
    counts[last] += table.unused_counts
    codes, size, whole = (
        ans.deal(tuple(counts), settings.count_bits),
        1 << settings.bucket_bits,
        1 << settings.count_bits,
    )
    found = []
    for b in range(settings.rows):
        bucket = codes[b * size : (b + 1) * size]
        threshold = sum(code.row == b for code in bucket)
        own = bucket[0].position if threshold else 0
        donated = bucket[-1] if threshold < size else None
        real = b < table.rows
        found.append(
            {
                "base": (table.starts[b] - 1) % (1 << settings.width) if real else 0,
                "length": table.offset_lengths[b] if real and counts[b] else 0,
                "count": counts[b] % whole if real else 0,
                "threshold": threshold,
                "donor": donated.row if donated else 0,
                "own": own,
                "donated": (donated.position - (size - 1)) % whole if donated else 0,
            }
        )
    return found


class RansDecoder(wiring.Component):
    """Decodes the lanes of a rANS payload, one value a cycle.

    =====================  ======  ==============================================================
    ``load``, ``row``      in      the table, see ``RansSettings.layout``
    ``advance``            in      the cycle counts
    ``turn``               out     the lane that may be asked for
    ``start``, ``state``   in      begin a lane with this state
    ``decode``             in      decode a value
    ``turn_out``           out     the lane of all that follows
    ``word``               in      the next 16-bit word
    ``word_taken``         out     it is used up
    ``spill``              in      the next spill bits, the first one lowest
    ``spill_taken``        out     so many of them are used up
    ``value``, ``valid``   out     the value decoded
    ``state_out``          out     the lane's new state
    =====================  ======  ==============================================================
    """

    def __init__(self, settings: RansSettings) -> None:
        self.settings = settings
        plain = settings.plain
        self.inside_most = min(plain.most_offset, WORD_BITS - settings.count_bits)
        self.spill_most = max(1, plain.most_offset - (WORD_BITS - settings.count_bits))
        super().__init__(
            {
                "load": In(1),
                "row": In(settings.layout),
                "advance": In(1),
                "turn": Out(plain.stream_bits),
                "start": In(1),
                "state": In(STATE_BITS),
                "decode": In(1),
                "turn_out": Out(plain.stream_bits),
                "word": In(WORD_BITS),
                "word_taken": Out(1),
                "spill": In(self.spill_most),
                "spill_taken": Out(plain.offset_length_bits),
                "value": Out(settings.width),
                "valid": Out(1),
                "state_out": Out(STATE_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        settings = self.settings
        rows = [
            Signal(settings.layout, name=f"row{i}", reset_less=True) for i in range(settings.rows)
        ]
        with m.If(self.load):
            for row, following in zip(rows, [*rows[1:], self.row], strict=True):
                m.d.sync += row.eq(following)
        take_turns(m, self.turn, settings.stages, self.advance)
        if settings.stages > 1:
            last = settings.stages - 1
            m.d.comb += self.turn_out.eq(Mux(self.turn == last, 0, self.turn + 1))
        register = Signal(STATE_BITS, reset_less=True)
        live: Live = {
            "valid": self.decode & ~self.start,
            "x": named(m, "x", Mux(self.start, self.state, register)),
        }
        find = self._in_bucket if settings.codes == "alias" else self._in_ranges
        steps = [
            Segment("find", lambda m, x: find(m, x, rows), 3.0),
            Segment("multiply", self._multiply, 5.0),
            Segment("split", self._split, 2.0),
            Segment("renew", self._renew, 1.0),
        ]
        live = run(m, steps, settings.stages, live, self.advance)
        with m.If(self.advance):
            m.d.sync += register.eq(live["x"])
        return m

    def _in_ranges(self, m: Module, x: Live, rows: list[Any]) -> None:
        """The row whose run of codes holds this one."""
        code = x["x"][: self.settings.count_bits]
        ends = [row.count for row in rows[:-1]]
        above = [named(m, "above", (end != 0) & (code >= end)) for end in ends]
        hot = last_of(m, "hot", [C(1, 1), *above])
        low = named(m, "low", select(hot[1:], ends))
        high = named(m, "high", select(hot, [row.count for row in rows]))
        x["count"] = named(m, "count", (Cat(high, high == 0) - low)[: self.settings.count_bits + 1])
        x["position"] = named(m, "position", (code - low)[: self.settings.count_bits])
        self._fields(m, x, hot, rows)

    def _in_bucket(self, m: Module, x: Live, rows: list[Any]) -> None:
        """The row or the donor of the code's bucket."""
        settings, bits = self.settings, self.settings.bucket_bits
        within, bucket = x["x"][:bits], x["x"][bits : settings.count_bits]
        at = [named(m, "at", bucket == place) for place in range(settings.rows)]

        def chosen(field: str) -> Signal:
            return named(m, field, select(at, [row[field] for row in rows]))

        own = named(m, "is_own", within < chosen("threshold"))
        row = named(m, "row_of", Mux(own, bucket, chosen("donor")))
        adjust = Mux(own, chosen("own"), chosen("donated"))
        x["position"] = named(m, "position", (within + adjust)[: settings.count_bits])
        hot = [named(m, "hot", row == place) for place in range(settings.rows)]
        count = named(m, "own_count", select(hot, [r.count for r in rows]))
        x["count"] = named(m, "count", Cat(count, count == 0))
        self._fields(m, x, hot, rows)

    def _fields(self, m: Module, x: Live, hot: list[Any], rows: list[Any]) -> None:
        x["base"] = named(m, "base", select(hot, [row.base for row in rows]))
        x["length"] = named(m, "length", select(hot, [row.length for row in rows]))

    def _multiply(self, m: Module, x: Live) -> None:
        quotient = x["x"][self.settings.count_bits :]
        x["next"] = named(m, "next", (x.pop("count") * quotient + x.pop("position"))[:STATE_BITS])

    def _split(self, m: Module, x: Live) -> None:
        """Offset bits: what the state has room for, and the rest from the spill stream."""
        most = self.inside_most
        length = x["length"]
        if most < self.settings.plain.most_offset:
            inside = named(m, "inside", Mux(length > most, most, length))
            x["spilled"] = named(m, "spilled", (length - inside)[: len(length)])
        else:
            inside, x["spilled"] = length, C(0, len(length))
        mask = Cat(inside > place for place in range(most))
        x["offset"] = named(m, "offset", x["next"][:most] & mask)
        x["next"] = named(m, "rest", x["next"] >> inside)

    def _renew(self, m: Module, x: Live) -> None:
        """Take a word if the state is low, and put the value together."""
        low = named(m, "low_state", x["next"][WORD_BITS:] == 0)
        new = Mux(low, Cat(self.word, x["next"][:WORD_BITS]), x["next"])
        spill_mask = Cat(x["spilled"] > place for place in range(self.spill_most))
        spilled = self.spill & spill_mask
        offset = (x["offset"] << x["spilled"]) | spilled
        x["x"] = named(m, "new_x", Mux(x["valid"], new, x["x"]))
        m.d.comb += [
            self.value.eq(x["base"] + 1 + offset),
            self.valid.eq(x["valid"]),
            self.word_taken.eq(x["valid"] & low),
            self.spill_taken.eq(only(x["valid"], x["spilled"])),
            self.state_out.eq(x["x"]),
        ]
