"""Verilog of a unit or of an engine, with a testbench that checks itself and its vectors.

The Verilog is plain enough for any tool, and keeps the hierarchy. An engine instantiates one lane
module as often as it has lanes.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from numpy.typing import NDArray

from fewbits.lossless import arithmetic
from fewbits.silicon import testbench, yosys
from fewbits.silicon.activity import SCALE, packed_rows
from fewbits.silicon.engine import DecoderEngine, EncoderEngine
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import Stream

_SCRIPT = "read_rtlil design.il\nproc\npmuxtree\nopt_clean\nwrite_verilog -noattr design.v\n"
# Operands of unequal width are extended as the language says; linters would have it written out.
_LINT = "/* verilator lint_off WIDTH */\n"


def verilog(unit: Any, name: str) -> str:
    """The Verilog of a unit, as module ``name``; ``FewbitsError`` without Yosys."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "design.il").write_text(rtlil.convert(unit, name=name), "utf-8")
        yosys.run(_SCRIPT, path)
        return _LINT + (path / "design.v").read_text("utf-8")


class Outside(wiring.Component):
    """A unit whose Verilog is elsewhere."""

    def __init__(self, signature: Any, name: str) -> None:
        self.name = name
        super().__init__(signature)

    def elaborate(self, platform: Any) -> Module:
        """Instantiate it."""
        m = Module()
        ports = {}
        for path, member, value in self.signature.flatten(self):
            direction = "o" if member.flow == Out else "i"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        m.submodules.unit = Instance(self.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
        return m


def engine(
    settings: Settings,
    lanes: int,
    ports: int | None,
    folder: Path,
    *,
    count: int = 1000,
    tensors: Sequence[NDArray[Any]] | None = None,
) -> list[Path]:
    """Write both engines of so many lanes, their testbenches and vectors; the files.

    ``tensors``: 1-d, one for each of the engine's streams, to feed to the testbenches; by default
    about ``count`` values a stream that look like int8 weights.
    """
    if settings.window_bits != arithmetic.WINDOW_BITS:
        raise ValueError(
            f"silicon: the vectors of an engine are frames', whose window has "
            f"{arithmetic.WINDOW_BITS} bits, not {settings.window_bits}"
        )
    encoder, decoder = EncoderEngine(settings, lanes, ports), DecoderEngine(settings, lanes, ports)
    vectors = _vectors(settings, encoder.streams, count) if tensors is None else tensors
    if len(vectors) != encoder.streams:
        raise ValueError(f"silicon: {len(vectors)} tensors for {encoder.streams} streams")
    table = settings.table_for(np.concatenate(vectors))
    payloads = [arithmetic.encode(vector, table) for vector in vectors]
    streams = [Stream.of_payload(p, v.size, table) for p, v in zip(payloads, vectors, strict=True)]
    files = {
        "encoder_engine.v": _of_lanes(encoder, "encoder"),
        "decoder_engine.v": _of_lanes(decoder, "decoder"),
        "encoder_engine_tb.v": testbench.encoder(encoder, streams),
        "decoder_engine_tb.v": testbench.decoder(decoder, streams),
        "table.hex": _hex(packed_rows(table, settings)),
        "values.hex": _hex(np.concatenate(vectors).tolist()),
        "symbols.hex": _hex([w for s in streams for w in s.symbols]),
        "offsets.hex": _hex([w for s in streams for w in s.offsets] or [0]),
        "streams.hex": _hex(testbench.index(streams)),
        "run.sh": testbench.template("run.sh"),
    }
    return _write(folder, files)


def _vectors(settings: Settings, streams: int, count: int) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    top = 1 << (settings.width - 1)
    made = []
    for stream in range(streams):
        signed = np.round(rng.laplace(0, max(0.7, SCALE * 2 * top), max(1, count - stream % 7)))
        values = signed.astype(np.int64).clip(-top, top - 1) % (2 * top)
        made.append(values.astype(np.uint8 if settings.width <= 8 else np.uint16))
    return made


def _of_lanes(engine: EncoderEngine | DecoderEngine, side: str) -> str:
    """An engine's Verilog after that of its lane, which it instantiates."""
    lane, name = engine.make_lane(engine.settings), f"fewbits_{side}_lane"
    engine.make_lane = lambda settings: Outside(lane.signature, name)
    return verilog(lane, name) + verilog(engine, f"fewbits_{side}_engine")


def unit(unit: Any, name: str, folder: Path) -> list[Path]:
    """Write one unit as Verilog."""
    return _write(folder, {f"{name}.v": verilog(unit, f"fewbits_{name}")})


def _hex(numbers: Sequence[int]) -> str:
    return "".join(f"{number:x}\n" for number in numbers)


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        if name.endswith(".sh"):
            (folder / name).chmod(0o755)
    return [folder / name for name in files]
