"""Codecs by name, as policies, command lines and TOML files write them.

>>> from fewbits.lossy.names import codec, name_of
>>> codec("int4-stochastic")
Quantize(bits=4, group=256, rounding='stochastic', zeros=False)
>>> codec("mask+int8+lossless")
Mask() + Quantize(bits=8, group=256, rounding='nearest', zeros=False) + Lossless()
>>> name_of(codec("int2-zeros"))
'int2-zeros'

A name is a word, or several joined by ``+`` in the order in which the codecs work. A kind of word
has one entry in `WORDS`: what it looks like, the pattern that reads it, and the function that makes
the codec from the pattern's match.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from fewbits.lossy.bounded import Bounded
from fewbits.lossy.cast import Cast
from fewbits.lossy.chain import Chain, chain
from fewbits.lossy.codec import Codec
from fewbits.lossy.crossbar import CrossbarQuantize
from fewbits.lossy.dct import DCT
from fewbits.lossy.fixedrate import FixedRate
from fewbits.lossy.lossless import Exact, Lossless
from fewbits.lossy.mask import Bits, Mask, Shape
from fewbits.lossy.quantize import Quantize


@dataclass(frozen=True)
class Word:
    """One kind of word in a codec's name."""

    #: For people: what such a word looks like.
    looks: str
    #: What reads the whole word.
    pattern: str
    #: Makes the codec.
    build: Callable[[re.Match[str]], Codec]
    #: The word of a codec of this kind, or None if it is another.
    spell: Callable[[Codec], str | None]


def _fixed(word: str, codec: Codec) -> Word:
    """A word that means one codec."""
    return Word(word, re.escape(word), lambda _: codec, lambda c: word if c == codec else None)


def _quantize(match: re.Match[str]) -> Quantize:
    group = int(match["group"] or Quantize.group)
    rounding = Quantize.rounding if match["stochastic"] is None else "stochastic"
    return Quantize(int(match["bits"]), group, rounding, match["zeros"] is not None)


def _spell_quantize(codec: Codec) -> str | None:
    if not isinstance(codec, Quantize):
        return None
    group = "" if codec.group == Quantize.group else f"g{codec.group}"
    rounding = "" if codec.rounding == Quantize.rounding else "-stochastic"
    return f"int{codec.bits}{group}{rounding}{'-zeros' if codec.zeros else ''}"


def _spell_dct(codec: Codec) -> str | None:
    if not isinstance(codec, DCT):
        return None
    tile = "" if codec.tile is None else f"-tile{codec.tile}"
    return f"dct{codec.chop}{'t' if codec.keep == 'triangle' else ''}{tile}"


def _dct(match: re.Match[str]) -> DCT:
    keep = DCT.keep if match["triangle"] is None else "triangle"
    return DCT(int(match["chop"]), keep, int(match["tile"]) if match["tile"] else None)


def _bounded(match: re.Match[str]) -> Bounded:
    relative_to = match["relative_to"] or Bounded.relative_to
    return Bounded(float(match["bound"]), relative_to, match["dither"] is not None)  # type: ignore[arg-type]


def _spell_bounded(codec: Codec) -> str | None:
    if not isinstance(codec, Bounded):
        return None
    relative_to = "" if codec.relative_to == Bounded.relative_to else f":{codec.relative_to}"
    bound = repr(float(codec.bound)).replace("+", "")  # a plus joins words
    return f"bounded:{bound}{relative_to}{':dither' if codec.dither else ''}"


def _spell_fixed_rate(codec: Codec) -> str | None:
    if not isinstance(codec, FixedRate):
        return None
    return f"fixed{codec.bits}{'' if codec.dims == FixedRate.dims else f'-{codec.dims}d'}"


def _fixed_rate(match: re.Match[str]) -> FixedRate:
    return FixedRate(int(match["bits"]), int(match["dims"] or FixedRate.dims))  # type: ignore[arg-type]


def _crossbar(match: re.Match[str]) -> CrossbarQuantize:
    given = {name: int(match[name]) for name in ("rows", "columns", "cell_bits") if match[name]}
    return CrossbarQuantize(int(match["bits"]), **given)


def _spell_crossbar(codec: Codec) -> str | None:
    if not isinstance(codec, CrossbarQuantize):
        return None
    size, usual = (codec.rows, codec.columns), (CrossbarQuantize.rows, CrossbarQuantize.columns)
    side = "" if size == usual else f"-{codec.rows}x{codec.columns}"
    cell = "" if codec.cell_bits == CrossbarQuantize.cell_bits else f"-cell{codec.cell_bits}"
    return f"xbar{codec.bits}{side}{cell}"


#: Every kind of word that a name is made of; the first that matches makes the codec.
WORDS: list[Word] = [
    Word(
        "int4 (1 to 8 bits), int4g64 (groups of 64), int4-stochastic, int4-zeros",
        r"int(?P<bits>[1-8])(?:g(?P<group>[0-9]+))?(?P<stochastic>-stochastic)?(?P<zeros>-zeros)?",
        _quantize,
        _spell_quantize,
    ),
    Word(
        "dct4 (chop 1 to 8), dct4t (the triangle), dct4-tile64",
        r"dct(?P<chop>[1-8])(?P<triangle>t)?(?:-tile(?P<tile>[0-9]+))?",
        _dct,
        _spell_dct,
    ),
    Word(
        "bounded:0.01 (at most so far off), bounded:0.01:range, bounded:0.5:std:dither",
        r"bounded:(?P<bound>[0-9]*\.?[0-9]+(?:e-?[0-9]+)?)"
        r"(?::(?P<relative_to>absolute|range|std))?(?P<dither>:dither)?",
        _bounded,
        _spell_bounded,
    ),
    Word(
        "fixed8 (1 to 16 bits), fixed8-1d, fixed8-3d",
        r"fixed(?P<bits>[0-9]+)(?:-(?P<dims>[1-3])d)?",
        _fixed_rate,
        _spell_fixed_rate,
    ),
    Word(
        "xbar4 (2 to 8 bits, a scale for each crossbar), xbar4-64x64 (rows x columns), xbar8-cell4",
        r"xbar(?P<bits>[2-8])(?:-(?P<rows>[0-9]+)x(?P<columns>[0-9]+))?(?:-cell(?P<cell_bits>[1-4]))?",
        _crossbar,
        _spell_crossbar,
    ),
    _fixed("bf16", Cast("bf16")),
    _fixed("fp16", Cast("fp16")),
    _fixed("fp8", Cast("fp8_e4m3")),
    _fixed("fp8-e5m2", Cast("fp8_e5m2")),
    _fixed("mask", Mask()),
    _fixed("bits", Bits()),
    _fixed("shape", Shape()),
    _fixed("lossless", Lossless()),
    _fixed("exact", Exact()),
]


def codec(name: str) -> Codec:
    """The codec of a name; ``ValueError`` that lists the words there are, where it is none."""
    return chain(*(_codec_of_word(word, name) for word in name.split("+")))


def _codec_of_word(word: str, name: str) -> Codec:
    for kind in WORDS:
        match = re.fullmatch(kind.pattern, word.strip())
        if match:
            return kind.build(match)
    known = ", ".join(kind.looks for kind in WORDS)
    raise ValueError(f"unknown codec {word.strip()!r} in {name!r}; there are: {known}; joined by +")


def name_of(codec: Codec) -> str:
    """The name that makes this codec, its repr where there is none."""
    stages = codec.stages if isinstance(codec, Chain) else (codec,)
    words = [next(filter(None, (kind.spell(stage) for kind in WORDS)), None) for stage in stages]
    return "+".join(filter(None, words)) if all(words) else repr(codec)
