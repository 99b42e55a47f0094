"""Combinational pieces that the units share."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


def named(m: Module, name: str, value: Any) -> Signal:
    """A signal that is always ``value``: computed once, however often it is used."""
    value = Value.cast(value)
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def leading_zeros(m: Module, name: str, value: Value) -> Signal:
    """Zeros above the highest one, by halving; ``value`` must not be all zero."""
    m.submodules[name] = m = Module()  # so that a simulator repeats this tree alone
    size = 1 << (len(value) - 1).bit_length()
    padded = Cat(Const(0, size - len(value)), value)
    counts: list[tuple[Value, Value]] = [(Const(0, 0), ~bit) for bit in padded]
    while len(counts) > 1:
        pairs = zip(counts[::2], counts[1::2], strict=True)
        counts = [
            (Cat(Mux(high_zero, low, high), high_zero), low_zero & high_zero)
            for (low, low_zero), (high, high_zero) in pairs
        ]
        if len(counts) & 0b10101:  # every other level: few enough names, little written twice
            counts = [(named(m, "zeros", a), named(m, "all", b)) for a, b in counts]
    return named(m, name, counts[0][0])


def at_or_below_first_one(m: Module, name: str, value: Value) -> Signal:
    """Ones from the highest one of ``value`` down, by doubling."""
    m.submodules[name] = m = Module()
    seen, step = value, 1
    while step < len(value):
        seen = named(m, name, seen | (seen >> step))
        step *= 2
    return named(m, name, seen)


def select(hot: Sequence[Value], items: Sequence[Value]) -> Value:
    """The item whose ``hot`` bit is set, by AND and OR; 0 if none is."""
    found: Value = Const(0, len(items[0]))
    for bit, item in zip(hot, items, strict=True):
        found = found | (item & bit.replicate(len(item)))
    return found


def last_of(m: Module, name: str, reached: Sequence[Value]) -> list[Value]:
    """Which bit is the last that is set, one-hot, of bits that are set up to some place."""
    following = [*reached[1:], Const(0, 1)]
    return [named(m, name, here & ~after) for here, after in zip(reached, following, strict=True)]


def only(bit: Value, value: Value) -> Value:
    """``value`` if the bit is set, else 0."""
    return value & bit.replicate(len(value))


def ones_below(count: Value, size: int) -> Value:
    """``size`` bits of which the low ``count`` are set."""
    return Cat(count > place for place in range(size))
