"""Testbenches in Verilog: they feed an engine what software wrote, stall it, and compare.

Both read ``table.hex``, ``values.hex``, ``symbols.hex``, ``offsets.hex``, and ``streams.hex``,
which has six numbers a stream: where its values, symbol words and offset words start, and how many
there are. A shift register stalls each side in about a quarter of the cycles unless ``+full`` is
given. The Verilog is in ``verilog/``; here its blanks are filled in.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from fewbits.silicon.engine import DecoderEngine, EncoderEngine
from fewbits.silicon.lanes import COUNT_BITS
from fewbits.silicon.settings import WORD_BITS
from fewbits.silicon.streams import Stream
from fewbits.silicon.tables import row_layout


def template(name: str) -> str:
    """A file of ``verilog/``."""
    return files("fewbits.silicon").joinpath("verilog", name).read_text("utf-8")


def index(streams: Sequence[Stream]) -> list[int]:
    """Six numbers a stream: start and number of its values, symbol words, offset words."""
    found, at = list[int](), [0, 0, 0]
    for stream in streams:
        for kind, size in enumerate((stream.count, len(stream.symbols), len(stream.offsets))):
            found += [at[kind], size]
            at[kind] += size
    return found


def _filled(side: str, engine: Any, streams: Sequence[Stream], connections: str) -> str:
    """The testbench of one side, with its blanks filled in."""
    settings, text = engine.settings, template("head.v") + template(f"{side}.v")
    for blank, filling in {
        "SIDE": side,
        "STREAMS": engine.streams,
        "PORTS": engine.ports,
        "WIDTH": settings.width,
        "ROWS": settings.rows,
        "ROW": row_layout(settings).size,
        "TAG": engine.stream_bits,
        "COUNT": COUNT_BITS,
        "VALUES": sum(s.count for s in streams),
        "SYMBOLS": sum(len(s.symbols) for s in streams),
        "OFFSETS": max(1, sum(len(s.offsets) for s in streams)),
        "CONNECTIONS": connections,
    }.items():
        text = text.replace(f"@{blank}@", str(filling))
    return text


def _connect(array: str, size: int, fields: dict[str, tuple[str, int]]) -> str:
    """Connections of an array of ports: each field to its slice of a vector."""
    lines = []
    for place in range(size):
        for field, (vector, bits) in fields.items():
            at = f"{place * bits} +: {bits}" if bits > 1 else f"{place}"
            lines.append(f",\n    .{array}__{place}__{field}({vector}[{at}])")
    return "".join(lines)


def encoder(engine: EncoderEngine, streams: Sequence[Stream]) -> str:
    """The testbench of an encoder engine."""
    width = engine.settings.width
    values = {"value": ("value", width), "last": ("last", 1), "valid": ("valid", 1)}
    words = {
        "word": ("word", WORD_BITS),
        "stream": ("stream", engine.stream_bits),
        "kind": ("kind", 1),
        "last": ("word_last", 1),
        "empty": ("empty", 1),
        "valid": ("word_valid", 1),
        "ready": ("word_ready", 1),
    }
    connections = _connect("values", engine.streams, {**values, "ready": ("ready", 1)})
    connections += _connect("words", engine.ports, words)
    return _filled("encoder", engine, streams, connections)


def decoder(engine: DecoderEngine, streams: Sequence[Stream]) -> str:
    """The testbench of a decoder engine."""
    values = {
        "value": ("value", engine.settings.width),
        "last": ("last", 1),
        "valid": ("valid", 1),
        "ready": ("ready", 1),
    }
    requests = {
        "stream": ("wanted", engine.stream_bits),
        "kind": ("wanted_kind", 1),
        "valid": ("wanted_valid", 1),
        "ready": ("wanted_ready", 1),
    }
    words = {
        "word": ("word", WORD_BITS),
        "stream": ("stream", engine.stream_bits),
        "kind": ("kind", 1),
        "last": ("word_last", 1),
        "empty": ("empty", 1),
        "valid": ("word_valid", 1),
    }
    connections = _connect("values", engine.streams, values)
    connections += _connect("requests", engine.ports, requests)
    connections += _connect("words", engine.ports, words)
    return _filled("decoder", engine, streams, connections)
